"""Every column of the output tables is described, in the order in which it stands there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from toxmid import _core, columns


@pytest.mark.parametrize(
    ("described", "fields"),
    [
        (columns.BARS, _core.BAR_FIELDS),
        (columns.BUCKETS, _core.BUCKET_FIELDS),
        (columns.EVENTS, _core.EPISODE_FIELDS),
    ],
)
def test_descriptions(described: tuple[columns.Column, ...], fields: list[tuple[str, str]]) -> None:
    assert [column.name for column in described] == [name for name, _ in fields]
    assert all(column.unit or column.meaning for column in described)


def test_descriptions_are_where_they_are_said_to_be() -> None:
    """In a fresh interpreter, after nothing but ``import toxmid``."""
    code = "import toxmid; print(len(toxmid.columns.BARS), len(toxmid.columns.BUCKETS), len(toxmid.columns.EVENTS))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(table)) for table in (columns.BARS, columns.BUCKETS, columns.EVENTS)]
