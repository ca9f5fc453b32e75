"""All jobs: the chains they form, who runs them, and what became of them."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import polars as pl

from toxmid import output
from toxmid.errors import FileError, ParameterError, ToxmidError
from toxmid.instrument import Instrument
from toxmid.jobs.cluster import run_on_cluster
from toxmid.jobs.part import Part, Settings
from toxmid.jobs.pool import run_here, run_in_processes
from toxmid.merging import INPUTS, formats_by_input, input_of
from toxmid.pairing import Job
from toxmid.params import Params
from toxmid.progress import Progress, format_count, format_seconds
from toxmid.readers import Moment, TapeWarning, open_tape
from toxmid.replay import is_without_rows

__all__ = ["run_jobs", "scan_parts", "summarise"]

_FOLDER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


def run_jobs(
    jobs: Iterable[Job],
    out: str | os.PathLike[str],
    *,
    workers: int = 1,
    params: Params | None = None,
    instruments: Mapping[str, Instrument] | None = None,
    dask: Any = None,
    start: Moment | None = None,
    end: Moment | None = None,
    sort: bool = False,
    allow_partial: bool = False,
    format: str | Mapping[str, str] | None = None,
    on_error: Literal["raise", "keep"] = "raise",
    progress: bool = False,
) -> list[Part]:
    """Replay many symbol-days into one directory.

    Parameters
    ----------
    jobs : iterable of Job
        As `pair_files` gives them.
    out : path
        Directory to write, ``<market>/<label>/`` for each job and ``<market>/<label>.state`` beside it. What an earlier
        run, killed or not, has finished from the same inputs and parameters is kept and not computed again.
    workers : int
        Processes. Different markets run beside each other, the days of one market one after the other. On Linux each
        keeps to its share of the cores that this process may use, until there are fewer markets left than processes.
    params : Params, optional
        None means the defaults.
    instruments : mapping of str to Instrument, optional
        What you know of an instrument, by symbol or by `Job.market`.
    dask : str or distributed.Client, optional
        A Dask cluster to run on instead, by the address of its scheduler or by a client of yours; its workers must see
        inputs and `out` under the same paths.
    start, end, sort, allow_partial, format
        As in `toxmid.replay`.
    on_error : {"raise", "keep"}
        A market whose file is bad ends at that day, the others go on. Then raise the first error, or keep it in its
        part.
    progress : bool
        Show a line on stderr, where that is a terminal.

    Returns
    -------
    list of Part
        One for each job, by market and label.

    Raises
    ------
    FileError, DataError
        The first error that a part met, after all others are done; unless `on_error` is "keep".
    ParameterError
        No jobs, two jobs for one part, a number of workers that cannot be, an extra that is not installed.

    Notes
    -----
    The bars of a market's parts, one below the other, are those of one replay over all of its files, bit for bit; so
    are buckets and events. The last bar of a day stays open and is closed in the next part. Where later days are added
    to a market, its last part is done again for that reason, and no other.

    That goes for what a liquidation feed is, too: it is known from its first record on, and where no day of a market
    has one, from the start. A first day without a liquidation is a piece of the run, not a feed by itself; all days are
    looked through for it, and done again where the first record of a market comes with a day that was added.

    Scripts that use more than one worker need the usual guard ``if __name__ == "__main__":``.

    Examples
    --------
    >>> import tempfile
    >>> from toxmid.jobs import pair_files
    >>> jobs = pair_files("data/tardis/binance-delivery*")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [part.status for part in run_jobs(jobs, folder)], [part.status for part in run_jobs(jobs, folder)]
    (['done'], ['there'])
    """
    if workers < 1:
        raise ParameterError("out of range", column="workers", found=workers, expected="1 or more")
    if on_error not in ("raise", "keep"):
        raise ParameterError("unknown", column="on_error", found=on_error, expected="raise, keep")
    chains = _chains(jobs)
    root = Path(out).resolve()
    _refuse_other_output(root)
    settings = Settings(params or Params(), dict(instruments or {}), start, end, sort, allow_partial, format)
    settings = dataclasses.replace(settings, silent_feeds=_silent_feeds(chains, settings))
    parts: list[Part] = []
    total = sum(map(len, chains))
    with Progress(total, label="symbol-days", unit="parts", quiet=not progress) as bar:

        def on_part(part: Part) -> None:
            parts.append(part)
            bar.advance()

        if dask is not None:
            run_on_cluster(chains, root, settings, on_part, dask)
        elif workers == 1:
            run_here(chains, root, settings, on_part)
        else:
            run_in_processes(chains, root, settings, on_part, workers)
    parts.sort(key=lambda part: (part.job.market, part.job.label))
    _tell(parts)
    failed = [part for part in parts if part.error is not None]
    if failed and on_error == "raise":
        assert failed[0].error is not None
        raise failed[0].error
    return parts


def summarise(parts: Sequence[Part]) -> str:
    """What became of a run, in a few lines: how much was done, and what went wrong where.

    Examples
    --------
    >>> from toxmid.jobs import Job
    >>> job = Job("BTCUSDT", "2024-08-05", {}, "binance-futures")
    >>> print(summarise([Part(job, Path("out"), "done", rows=1_200_000, seconds=2.0)]))
    1 symbol-day of 1 market: 1 done
    1.20M rows computed in 2.0 s of one worker (600k rows/s)
    """
    counts = {status: sum(part.status == status for part in parts) for status in ("done", "there", "failed", "skipped")}
    markets = len({part.job.market for part in parts})
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    lines = [f"{_plural(len(parts), 'symbol-day')} of {_plural(markets, 'market')}: {told}"]
    done = [part for part in parts if part.status == "done"]
    if done:
        rows, seconds = sum(part.rows for part in done), sum(part.seconds for part in done)
        rate = f" ({format_count(rows / seconds)} rows/s)" if seconds else ""
        lines.append(f"{format_count(rows)} rows computed in {format_seconds(seconds)} of one worker{rate}")
    lines += [f"failed: {part.job.name}: {part.error}" for part in parts if part.error is not None]
    return "\n".join(lines)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def scan_parts(
    out: str | os.PathLike[str], table: Literal["bars", "buckets", "events"] = "bars", *, market: str | None = None
) -> pl.LazyFrame:
    """All parts of a run as one lazy table, with the columns ``market`` and ``label`` in front.

    Parameters
    ----------
    out : path
        Directory of `run_jobs`.
    table : {"bars", "buckets", "events"}
    market : str, optional
        Only this market, as `Job.market` names it.

    Raises
    ------
    FileError
        There are no parts.
    """
    if table not in output.TABLES:
        raise ParameterError("no such table", column="table", found=table, expected=", ".join(output.TABLES))
    root = Path(out)
    folders = [path.parent for path in sorted(root.glob(f"{market or '*'}/*/{output.MANIFEST}"))]
    if not folders:
        raise FileError("holds no parts", file=str(root), expected="the directory of a run over many symbol-days")
    return pl.concat(
        [
            pl.scan_parquet(folder / f"{table}.parquet").select(
                pl.lit(folder.parent.name).alias("market"), pl.lit(folder.name).alias("label"), pl.all()
            )
            for folder in folders
        ]
    )


def _chains(jobs: Iterable[Job]) -> list[list[Job]]:
    """Jobs by market, each in the order of its labels."""
    chains: dict[str, list[Job]] = {}
    for job in jobs:
        unknown = sorted({name for name in job.files if input_of(name) not in INPUTS})
        if unknown:
            raise ParameterError("no such input", column=job.name, found=unknown, expected=", ".join(INPUTS))
        if not _FOLDER.fullmatch(job.market) or not _FOLDER.fullmatch(job.label):
            raise ParameterError("cannot be the name of a folder", column="label", found=job.name)
        chains.setdefault(job.market, []).append(job)
    if not chains:
        raise ParameterError("no jobs were given")
    for chain in chains.values():
        chain.sort(key=lambda job: job.label)
        for job, following in itertools.pairwise(chain):
            if job.label == following.label:
                raise ParameterError("two jobs for one part", found=job.name)
            if following.label.startswith(f"{job.label}-"):
                raise ParameterError("a month and a day in it", found=[job.name, following.label])
    return list(chains.values())


def _silent_feeds(chains: Iterable[Sequence[Job]], settings: Settings) -> dict[str, bool]:
    """For each market with files of liquidations, whether they are all without a row."""
    fed = {chain[0].market: [job for job in chain if job.files.get("liquidations")] for chain in chains}
    return {market: _is_silent(jobs, settings) for market, jobs in fed.items() if jobs}


def _is_silent(jobs: Sequence[Job], settings: Settings) -> bool:
    files = [path for job in jobs for path in job.files["liquidations"]]
    format = formats_by_input(settings.format).get("liquidations")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TapeWarning)  # the part that uses the file will say it
        try:
            tape = open_tape(
                files,
                "liquidations",
                format=format,
                instrument=settings.instrument(jobs[0]),
                allow_partial=settings.allow_partial,
            )
            return is_without_rows(tape)
        except ToxmidError:
            return False  # and so will the part that this file belongs to


def _refuse_other_output(root: Path) -> None:
    if root.is_file():
        raise FileError("is a file, not a directory to write into", file=str(root))
    if output.is_output(root):
        raise FileError("holds the output of a single replay; choose another directory", file=str(root))


def _tell(parts: list[Part]) -> None:
    """Repeat here what readers had to say in other processes."""
    for note in dict.fromkeys(note for part in parts for note in part.notes):
        warnings.warn(note, TapeWarning, stacklevel=3)
