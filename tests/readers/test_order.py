"""Sorting in bounded memory equals sorting at once."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toxmid.readers.order import in_order
from toxmid.schema import TIME

RUNS = st.lists(st.lists(st.integers(0, 30), max_size=20), max_size=6)


def frames(runs: list[list[int]]) -> list[pl.DataFrame]:
    numbered = iter(range(10_000))
    return [
        pl.DataFrame({"ts": run, "n": [next(numbered) for _ in run], "id": [str(value) for value in run]}).with_columns(
            pl.col("ts").cast(pl.Int64).cast(TIME), pl.col("n").cast(pl.Int64), pl.col("id").cast(pl.String)
        )
        for run in runs
    ]


@settings(max_examples=40, deadline=None)
@given(RUNS, st.integers(1, 50))
def test_equals_a_stable_sort(runs, slab):
    parts = frames(runs)
    result = list(in_order(iter(parts), slab=slab))
    if not any(runs):
        assert result == []
        return
    expected = pl.concat(parts).sort("ts", maintain_order=True)
    assert pl.concat(result).equals(expected)


def test_slabs_are_bounded():
    parts = frames([list(range(k, 10_000, 4)) for k in range(4)])
    sizes = [frame.height for frame in in_order(iter(parts), slab=400)]
    assert sum(sizes) == 10_000
    assert max(sizes) <= 500


def test_files_are_removed_even_when_the_reader_stops(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stream = in_order(iter(frames([[3, 1], [2, 0]])), slab=1)
    next(stream)
    assert any(tmp_path.iterdir())
    stream.close()
    assert not any(tmp_path.iterdir())


def test_an_error_of_the_source_passes(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def broken():
        yield from frames([[1]])
        raise ValueError("cut")

    with pytest.raises(ValueError, match="cut"):
        list(in_order(broken()))
    assert not any(tmp_path.iterdir())
