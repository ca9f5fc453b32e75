"""The parts of a market, read back as what they are together: one replay."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from toxmid.disk import naming
from toxmid.errors import FileError
from toxmid.merging import INPUTS
from toxmid.output import MANIFEST
from toxmid.replay import Replay

__all__ = ["load_market"]


def load_market(out: str | os.PathLike[str], market: str) -> Replay:
    """Read the parts of one market as the replay over all of its files that they are.

    Parameters
    ----------
    out : path
        Directory of `run_jobs`.
    market : str
        As `Job.market` names it.

    Returns
    -------
    Replay
        To save, report or go on from like any other; counts are those of all parts, what was open at the end is that of
        the last one.

    Raises
    ------
    FileError
        There are no parts, one is damaged, or one does not go on from the one before it, as when days were added in
        between and not all were run again.

    Examples
    --------
    >>> import tempfile
    >>> from toxmid.jobs import pair_files, run_jobs
    >>> jobs = pair_files("data/tardis/binance-delivery*")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     parts = run_jobs(jobs, folder)
    ...     load_market(folder, "binance-delivery_AVAXUSD_PERP").counts["rows_read"] == parts[0].rows
    True
    """
    folder = Path(out) / market
    parts = [Replay.load(path.parent) for path in sorted(folder.glob(f"*/{MANIFEST}"))]
    if not parts:
        raise FileError("holds no parts", file=str(folder), expected="a market of a run over many symbol-days")
    _check_chain(parts, folder)
    counts = parts[0].counts
    for part in parts[1:]:
        counts = _sum(counts, part.counts)
    last = parts[-1]
    bars, buckets, events = (
        pl.concat([getattr(part, table) for part in parts]) for table in ("bars", "buckets", "events")
    )
    manifest = _manifest(parts, counts)
    state = folder / last.manifest["state"]["file"]
    with naming(state, "cannot be read"):
        kept = state.read_bytes()
    return Replay(bars, buckets, events, counts, last.params, last.instrument, manifest, kept)


def _check_chain(parts: Sequence[Replay], folder: Path) -> None:
    before: str | None = None
    for part in parts:
        state = part.manifest.get("state")
        if not isinstance(state, dict):
            raise FileError("holds an output that is no part of a run over many symbol-days", file=str(folder))
        label = str(state["file"]).removesuffix(".state")
        if part.manifest["request"].get("state") != before:
            raise FileError("does not go on from the part before it; run all jobs again", file=str(folder / label))
        before = state["sha256"]


def _manifest(parts: Sequence[Replay], counts: dict[str, Any]) -> dict[str, Any]:
    """That of the first part, but for what all of them add up to and what the last one ended with."""
    first, last = parts[0].manifest, parts[-1].manifest
    inputs = [entry for part in parts for entry in part.manifest["inputs"]]
    order = list(INPUTS)
    names = ("instrument", "warm_up", "open_bucket", "first_bucket", "open_episodes", "memory", "liquidation_feed")
    ended = {name: last[name] for name in (*names, *(["references"] if "references" in last else []))}
    venues = list(dict.fromkeys(entry.get("venue") for entry in inputs))
    return {
        **{name: value for name, value in first.items() if name not in ("state", "rows")},
        **ended,
        "inputs": sorted(
            inputs, key=lambda entry: (order.index(entry["kind"]), venues.index(entry.get("venue")))
        ),
        "request": {**first["request"], "finish": last["request"]["finish"], "silent_feed": None},
        "counts": counts,
    }


def _sum(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Counts of two parts together; what one of them does not count, it has none of."""
    total = dict(one)
    for name, value in other.items():
        if isinstance(value, dict):
            total[name] = _sum(total.get(name, {}), value)
        else:
            total[name] = total.get(name, 0) + value
    return total
