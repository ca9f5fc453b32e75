"""Damaged files and impossible events, a few seconds of them; README.md says how to go on for longer."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toxmid.params import Params

from .mutate import lay_out
from .properties import QUICK, check_events, check_file, check_inspection, events

SAMPLES = sorted(
    path
    for path in (Path(__file__).resolve().parents[2] / "data").rglob("*")
    if path.is_file() and path.parent.name not in ("data", "simulated", "delimited") and path.suffix != ".pyc"
)
EXAMPLES = int(os.environ.get("TOXMID_FUZZ_EXAMPLES", "60"))
slow = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@slow
@given(st.sampled_from(SAMPLES), st.randoms(use_true_random=False))
def test_a_damaged_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, sample: Path, random: Random
) -> None:
    path = lay_out(sample, tmp_path_factory.mktemp("fuzz"), random)
    check_file(path)
    check_inspection(path)


@slow
@given(st.randoms(use_true_random=False), st.integers(1, 120))
def test_impossible_events_leave_figures_in_their_ranges(random: Random, count: int) -> None:
    check_events(events(random, count), random.choice((QUICK, Params(), Params(book_without_snapshot=True))))


@pytest.mark.parametrize("seed", range(6))
def test_long_markets_with_impossible_events(seed: int) -> None:
    random = Random(seed)
    check_events(events(random, 3000), random.choice((QUICK, Params(book_without_snapshot=True))))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_whole_samples_pass(sample: Path) -> None:
    check_file(sample)
    check_inspection(sample)
