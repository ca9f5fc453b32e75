"""Sorting a tape by time in bounded memory: sorted runs on disk, merged slab by slab."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.ipc

from toxmid.schema import together

__all__ = ["in_order"]

_SLAB: Final = 1 << 20  # rows


def in_order(frames: Iterator[pl.DataFrame], *, slab: int = _SLAB) -> Iterator[pl.DataFrame]:
    """The same rows by `ts`; rows with one time keep their order.

    Parameters
    ----------
    frames : iterator of DataFrame
        Frames of one schema with a column `ts`.
    slab : int
        Rows handed out at once, about.
    """
    with tempfile.TemporaryDirectory(prefix="toxmid-", ignore_cleanup_errors=True) as folder:
        runs = []
        for index, frame in enumerate(frames):
            path = Path(folder) / f"{index}.arrow"
            frame.sort("ts", maintain_order=True).write_ipc(path, compression="uncompressed")
            runs.append(path)
        yield from _merged([_mapped(path) for path in runs], slab)


def _mapped(path: Path) -> pl.DataFrame:
    """Frame over a file in memory pages that the system may drop again."""
    frame = pl.from_arrow(pa.ipc.open_file(pa.memory_map(str(path))).read_all())
    assert isinstance(frame, pl.DataFrame)
    return frame


def _merged(runs: list[pl.DataFrame], slab: int) -> Iterator[pl.DataFrame]:
    """Cut all runs at one time after another and sort what lies between two cuts."""
    runs = [run for run in runs if run.height]
    while runs:
        step = max(1, slab // len(runs))
        # Integers: a datetime of Python has no nanoseconds, and a cut rounded down might not move on.
        times = [run["ts"].to_physical() for run in runs]
        cut = min(int(time[min(step, len(time)) - 1]) for time in times)
        ends = [int(time.search_sorted(cut, side="right")) for time in times]
        parts = [run[:end] for run, end in zip(runs, ends, strict=True)]
        yield together(parts).sort("ts", maintain_order=True)
        runs = [run[end:] for run, end in zip(runs, ends, strict=True) if end < run.height]
