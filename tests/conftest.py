"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"

# How long an example takes, or making one, is the machine's affair, not the test's. Where nobody can look at a new
# example, always the same ones are tried; elsewhere every run tries others.
settings.register_profile(
    "toxmid", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("toxmid")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real tapes that may not be redistributed; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real tapes are not redistributable and {SHARED_DATA.name!r} is not beside this checkout")
    return SHARED_DATA


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of the tiny hand-made samples that the project ships."""
    return ROOT / "data"
