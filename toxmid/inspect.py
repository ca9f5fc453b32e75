"""What is this file: format, instrument, rows, period, clock, and what is wrong with it.

The whole file is read, in bounded memory, because what is wrong with a tape is seldom wrong at its beginning.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from toxmid.errors import FileError, ToxmidError
from toxmid.instrument import Instrument, decimal_grid
from toxmid.pairing import Job, pair_files, tapes_of
from toxmid.readers import Source, Tape, TapeWarning, open_tape, recognise
from toxmid.readers.files import Head, read_head
from toxmid.schema import Kind

__all__ = ["Inspection", "KindSummary", "Pairing", "inspect_files", "pair_inspected"]

_KEPT: Final = 1 << 20  # latencies kept for their median


@dataclass(frozen=True)
class KindSummary:
    """What a file holds of one kind. Times are int64 nanoseconds since 1970 UTC, durations nanoseconds."""

    kind: Kind
    counts: dict[str, int]
    rows: int
    first: int | None
    last: int | None
    longest_silence: int | None
    median_latency: int | None
    max_latency: int | None
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; times as ISO 8601 text."""
        return {
            "kind": self.kind,
            "counts": self.counts,
            "rows": self.rows,
            "first": None if self.first is None else _iso(self.first),
            "last": None if self.last is None else _iso(self.last),
            "longest_silence_ns": self.longest_silence,
            "median_latency_ns": self.median_latency,
            "max_latency_ns": self.max_latency,
            "problems": list(self.problems),
        }


@dataclass(frozen=True)
class Inspection:
    """Everything known of one file.

    Attributes
    ----------
    path : Path
        The file.
    formats : tuple of str
        Its format; several where its columns and its name leave a doubt, none where nothing fits.
    clock : str or None
        Which clock `ts` is.
    instrument : Instrument
        What is traded; tick and lot as found in the data.
    kinds : tuple of KindSummary
        What it holds.
    problems : tuple of str
        What a person should know before using it, of the file as a whole.
    error : ToxmidError or None
        Why it cannot be read.
    """

    path: Path
    formats: tuple[str, ...] = ()
    clock: str | None = None
    instrument: Instrument = field(default_factory=Instrument)
    kinds: tuple[KindSummary, ...] = ()
    problems: tuple[str, ...] = ()
    error: ToxmidError | None = None

    @property
    def failed(self) -> bool:
        """Whether the file cannot be read."""
        return self.error is not None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "path": str(self.path),
            "formats": list(self.formats),
            "clock": self.clock,
            "units": _units(self.instrument),
            "instrument": self.instrument.to_dict(),
            "kinds": [kind.to_dict() for kind in self.kinds],
            "problems": list(self.problems),
            "error": None if self.error is None else str(self.error),
        }

    def to_text(self) -> str:
        """The same for a person, a fact per line."""
        lines = [str(self.path)]
        for label, texts in self._facts():
            for index, text in enumerate(texts):
                lines.append(f"  {label if index == 0 else '':<12} {text}")
        return "\n".join(lines)

    def _facts(self) -> Iterator[tuple[str, list[str]]]:
        if self.formats:
            yield "format", [" or ".join(self.formats)]
            yield "instrument", _instrument_lines(self.instrument)
            yield "units", [_units(self.instrument)]
        if self.clock is not None:
            yield "clock", [self.clock]
        for kind in self.kinds:
            yield kind.kind, _kind_lines(kind)
        problems = [*self.problems, *(f"{kind.kind}: {text}" for kind in self.kinds for text in kind.problems)]
        if self.error is not None:
            yield "error", [str(self.error)]
        if problems or self.error is None:
            yield "problems", problems or ["none"]


def inspect_files(paths: Source, *, instrument: Instrument | None = None) -> list[Inspection]:
    """Say what files are.

    Parameters
    ----------
    paths : path, glob, directory, or list of them
        Files, each looked at by itself; folders with all folders below them.
    instrument : Instrument, optional
        What you know of the instrument.

    Returns
    -------
    list of Inspection
        One per file. A file that cannot be read is in the list with its `error`.

    Raises
    ------
    FileError
        There is no file at all.

    Examples
    --------
    >>> (tape,) = inspect_files("data/tardis/coinbase_trades_2025-10-10_AVAX-USD.csv.gz")
    >>> tape.formats, tape.kinds[0].rows, tape.instrument.tick
    (('tardis-trades',), 2, 0.01)
    """
    return [_inspect(path, instrument) for path in tapes_of(paths)]


@dataclass(frozen=True)
class Pairing:
    """Which files a replay would take together.

    Attributes
    ----------
    jobs : tuple of Job
        Market by market and day by day: the files of each kind.
    problems : tuple of str
        Days on which a kind is missing, files that are left out, or why the files cannot be put together.
    """

    jobs: tuple[Job, ...] = ()
    problems: tuple[str, ...] = ()

    def of(self, path: Path) -> list[dict[str, str]]:
        """What a file is used for: market, day and kind."""
        return [
            {"market": job.market, "day": job.label, "kind": kind}
            for job in self.jobs
            for kind, files in job.files.items()
            if path in files
        ]

    def to_text(self) -> str:
        """A market and day per paragraph, a file per line."""
        lines = ["together"]
        for job in self.jobs:
            lines.append(f"  {job.name}")
            lines += [f"    {kind:<14} {path}" for kind, files in job.files.items() for path in files]
        return "\n".join([*lines, *(f"  problem: {text}" for text in self.problems)])


def pair_inspected(inspections: Sequence[Inspection]) -> Pairing:
    """Put the files that can be read together, as `toxmid replay` and `toxmid batch` would.

    Examples
    --------
    >>> pairing = pair_inspected(inspect_files("data/tardis/binance-delivery*"))
    >>> [(job.name, list(job.files)) for job in pairing.jobs]
    [('binance-delivery_AVAXUSD_PERP/2025-10-10', ['trades', 'liquidations'])]
    """
    readable = [inspection.path for inspection in inspections if not inspection.failed]
    if not readable:
        return Pairing()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TapeWarning)
        try:
            jobs = tuple(pair_files(readable))
        except ToxmidError as error:
            return Pairing(problems=(f"cannot be put together: {error}",))
    return Pairing(jobs, tuple(dict.fromkeys(str(warning.message) for warning in caught)))


def _inspect(path: Path, instrument: Instrument | None) -> Inspection:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TapeWarning)
        try:
            head = read_head(path)
            result = _look(head, instrument)
        except ToxmidError as error:
            result = Inspection(path, error=error)
    told = tuple(str(warning.message).removeprefix(f"{path}: ") for warning in caught)
    return dataclasses.replace(result, problems=tuple(dict.fromkeys((*result.problems, *told))))


def _look(head: Head, instrument: Instrument | None) -> Inspection:
    if head.container == "text" and not head.lines:
        return Inspection(head.path, problems=("the file is empty",))
    formats = recognise(head)
    names = tuple(format_.name for format_ in formats)
    summaries, scans = [], []
    tape: Tape | None = None
    try:
        held = formats[0].kinds(head)
        if not held:
            raise FileError(
                "its columns are those of no table we know", file=str(head.path), expected="trades, book, quotes, ..."
            )
        for kind in held:
            tape = open_tape(head.path, kind, format=names[0], instrument=instrument)
            scan = _Scan(kind)
            for frame in tape.frames():
                scan.add(frame)
            # A recording may hold every kind; those that it does not hold are not worth a line.
            if scan.rows or len(held) == 1:
                summaries.append(scan.summary(tape))
                scans.append(scan)
    except ToxmidError as error:
        return Inspection(head.path, names, formats[0].clock(), kinds=tuple(summaries), error=error)
    resolved = _with_grids(tape.instrument if tape is not None else Instrument(), scans)
    return Inspection(
        head.path,
        names,
        formats[0].clock(),
        resolved,
        tuple(summaries),
        tuple(_file_problems(names, resolved)),
    )


class _Scan:
    """Facts of one kind, gathered frame by frame."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.rows = 0
        self.first: int | None = None
        self.last: int | None = None
        self.silence = 0
        self.backward = 0
        self.unusable = 0
        self.crossed = 0
        self.before_snapshot = 0
        self.snapshots = False
        self.gaps = 0
        self.stale = 0
        self.sides: set[int] = set()
        self.unsigned = 0
        self.grids: dict[str, _Grid] = {"tick": _Grid(), "lot": _Grid()}
        self.latency = _Latency()

    def add(self, frame: pl.DataFrame) -> None:
        """Take in one more canonical frame."""
        if frame.height == 0:
            return
        self.rows += frame.height
        self._add_times(frame)
        self._add_numbers(frame)
        if "side" in frame.columns:
            self.sides |= set(frame["side"].unique().to_list())
            self.unsigned += int((frame["side"] == 0).sum())
        self.gaps += int(frame["gap"].sum()) if "gap" in frame.columns else 0
        self.stale += int(frame["stale"].sum()) if "stale" in frame.columns else 0
        if self.kind == "quotes":
            self.crossed += int((frame["bid"] >= frame["ask"]).sum())
        if self.kind == "book" and not self.snapshots:
            self.snapshots = bool(frame["snapshot"].any())
            self.before_snapshot += int(frame["snapshot"].arg_max() or 0) if self.snapshots else frame.height

    def _add_numbers(self, frame: pl.DataFrame) -> None:
        if self.kind in ("funding", "options"):  # their figures may be negative, or not there yet
            return
        prices = [name for name in ("price", "bid", "ask") if name in frame.columns]
        figures = [name for name in ("open_interest", "depth", "notional") if name in frame.columns]
        sizes = [name for name in ("size", "bid_size", "ask_size") if name in frame.columns]
        good = [pl.col(name).is_finite() for name in (*prices, *sizes, *figures)]
        good += [pl.col(name) > 0 for name in prices] + [pl.col(name) >= 0 for name in figures]
        # In a book a size of 0 deletes the level.
        good += [pl.col(name) >= 0 if self.kind == "book" else pl.col(name) > 0 for name in sizes]
        self.unusable += frame.height - frame.filter(*good).height
        if self.kind != "liquidations":  # their prices are averages
            for name in prices:
                self.grids["tick"].add(frame[name])
        if "size" in sizes:
            self.grids["lot"].add(frame["size"])

    def _add_times(self, frame: pl.DataFrame) -> None:
        times = frame["ts"].to_physical().to_numpy()
        joined = times if self.last is None else np.concatenate(([self.last], times))
        steps = np.diff(joined)
        if steps.size:
            self.silence = max(self.silence, int(steps.max()))
            self.backward += int((steps < 0).sum())
        self.first = int(times[0]) if self.first is None else self.first
        self.last = int(times[-1])
        if "ts_event" in frame.columns:
            self.latency.add(times - frame["ts_event"].to_physical().to_numpy())

    def summary(self, tape: Tape) -> KindSummary:
        """What was gathered."""
        return KindSummary(
            kind=self.kind,
            counts=tape.counts,
            rows=self.rows,
            first=self.first,
            last=self.last,
            longest_silence=self.silence if self.rows > 1 else None,
            median_latency=self.latency.median(),
            max_latency=self.latency.largest,
            problems=tuple(self._problems(tape)),
        )

    def _problems(self, tape: Tape) -> Iterator[str]:
        if self.rows == 0:
            yield "no rows"
            return
        for reason, count in tape.counts.items():
            if reason not in ("rows_read", "rows_used", "other_kinds"):
                yield f"{_rows(count)} left out: {reason.replace('_', ' ')}"
        if self.backward:
            yield f"time goes back at {_rows(self.backward)}; it must be sorted"
        if self.unusable:
            yield f"{_rows(self.unusable)} with a price or size that is no positive number"
        if self.crossed:
            yield f"{_rows(self.crossed)} with a bid not below the ask"
        yield from self._book_problems()
        if self.stale:
            yield f"{_rows(self.stale)} of bands that stand still"
        if self.unsigned:
            yield f"{_rows(self.unsigned)} of unknown side"
        if self.kind == "trades" and self.rows > 20 and len(self.sides) == 1:
            yield "every trade is on one side"
        median = self.latency.median()
        if median is not None and median < 0:
            yield f"the local clock is behind the exchange by {_duration(-median)} (median)"

    def _book_problems(self) -> Iterator[str]:
        if self.kind == "book" and not self.snapshots:
            yield "no snapshot, so the book never starts"
        elif self.before_snapshot:
            yield f"{_rows(self.before_snapshot)} before the first snapshot"
        if self.gaps:
            yield f"updates are missing before {_rows(self.gaps)}; there is no book until the next snapshot"


class _Grid:
    """Decimal grid of many values, frame by frame; once there is none, there is none."""

    def __init__(self) -> None:
        self._step: float | None = None
        self._lost = False
        self._least, self._most = math.inf, -math.inf

    def add(self, values: pl.Series) -> None:
        positive = values.filter(values.is_finite() & (values > 0))
        if self._lost or positive.is_empty():
            return
        self._least = min(self._least, float(positive.to_numpy().min()))
        self._most = max(self._most, float(positive.to_numpy().max()))
        step = decimal_grid(positive.to_numpy())
        if step is not None and self._step is not None:
            step = decimal_grid([step, self._step])
        self._lost = step is None
        self._step = step

    @property
    def step(self) -> float | None:
        """The grid, if there is one; of a single value nothing can be said."""
        return self._step if self._least < self._most else None


class _Latency:
    """Median and largest difference of the two clocks; of very many values every second is let go, again and again."""

    def __init__(self) -> None:
        self.largest: int | None = None
        self._stride = 1
        self._kept: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        self._differ = False

    def add(self, values: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        self.largest = int(values.max()) if self.largest is None else max(self.largest, int(values.max()))
        self._differ |= bool(values.any())
        self._kept.append(values[:: self._stride])
        while sum(map(len, self._kept)) > _KEPT:
            self._kept = [np.concatenate(self._kept)[::2]]
            self._stride *= 2

    def median(self) -> int | None:
        return int(np.median(np.concatenate(self._kept))) if self._differ else None


def _with_grids(instrument: Instrument, scans: Iterable[_Scan]) -> Instrument:
    """Instrument with the grids that the data show, where nobody knows better."""
    found: dict[str, float] = {}
    for scan in scans:
        for name, grid in scan.grids.items():
            # Coin in an inverse market lies on no grid; what comes out there would be an accident.
            if grid.step is not None and not (name == "lot" and instrument.inverse):
                found[name] = decimal_grid([grid.step, found.get(name, grid.step)]) or grid.step
    unknown = {name: step for name, step in found.items() if instrument.origin[name] == "unknown"}
    return instrument.replace(**unknown, origin=dict.fromkeys(unknown, "found"))


def _file_problems(names: tuple[str, ...], instrument: Instrument) -> Iterator[str]:
    if len(names) > 1:
        yield f"may be {' or '.join(names)}; format= decides"
    if instrument.origin["contract_value"] == "assumed":
        yield f"contract value {instrument.contract_value:g} is assumed; instrument= sets it"
    if instrument.origin["inverse"] == "unknown":
        yield "unknown whether linear or inverse; sizes are taken as base coin"


def _units(instrument: Instrument) -> str:
    if instrument.inverse:
        return f"price: quote currency; size: contracts of {instrument.unit:g} quote, turned into base coin"
    if not instrument.quotes_base_coin:
        return f"price: quote currency; size: contracts of {instrument.unit:g} base coin, turned into base coin"
    return "price: quote currency; size: base coin"


def _instrument_lines(instrument: Instrument) -> list[str]:
    origin = instrument.origin
    name = " ".join(filter(None, (instrument.venue, instrument.symbol))) or "unknown"
    facts = [f"{'inverse' if instrument.inverse else 'linear'} ({origin['inverse']})"]
    for label, value in (
        ("contract value", instrument.contract_value),
        ("lot", instrument.lot),
        ("tick", instrument.tick),
    ):
        source = origin[label.replace(" ", "_")]
        facts.append(f"{label} {value:.12g} ({source})" if value is not None else f"{label} unknown")
    return [name, ", ".join(facts)]


def _kind_lines(kind: KindSummary) -> list[str]:
    read, used = kind.counts["rows_read"], kind.counts["rows_used"]
    lines = [f"{read:,} rows read, {used:,} used" + (f", {kind.rows:,} canonical" if kind.rows != used else "")]
    if kind.first is not None and kind.last is not None:
        lines.append(f"{_iso(kind.first)} to {_iso(kind.last)} ({_duration(kind.last - kind.first)})")
    if kind.longest_silence is not None:
        lines.append(f"longest silence {_duration(kind.longest_silence)}")
    if kind.median_latency is not None and kind.max_latency is not None:
        lines.append(f"latency median {_duration(kind.median_latency)}, largest {_duration(kind.max_latency)}")
    return lines


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _iso(ns: int) -> str:
    return str(np.datetime64(ns, "ns")).rstrip("0").rstrip(".") + "Z"


def _duration(ns: int) -> str:
    """Three figures in the unit that fits.

    >>> _duration(5_100_000), _duration(86_400 * 10**9), _duration(-1_260_000_000)
    ('5.1 ms', '24 h', '-1.26 s')
    """
    for unit, size in (("h", 3600 * 10**9), ("min", 60 * 10**9), ("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if abs(ns) >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns} ns"
