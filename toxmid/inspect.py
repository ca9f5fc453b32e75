"""What is this file: format, instrument, rows, period, clock, and what is wrong with it.

The whole file is read, in bounded memory, because what is wrong with a tape is seldom wrong at its beginning.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from toxmid.errors import FileError, ParameterError, ToxmidError
from toxmid.grids import Grids, grids_of
from toxmid.instrument import Instrument
from toxmid.merging import formats_by_input
from toxmid.pairing import Job, pair_files, tapes_of
from toxmid.readers import (
    SeveralInstrumentsError,
    Source,
    Tape,
    TapeWarning,
    companions_elsewhere,
    open_tape,
    recognise,
)
from toxmid.readers.base import Format
from toxmid.readers.files import GUNZIP, Head, is_gzip, read_head
from toxmid.readers.tape import Seen
from toxmid.schema import Kind

__all__ = ["Inspection", "KindSummary", "Market", "Pairing", "find_instrument", "inspect_files", "pair_inspected"]

_KEPT: Final = 1 << 20  # latencies kept for their median
_MANY, _MANY_LOTS = 200, 100  # trades among which there should be one of fewer lots than this
_SHOWN: Final = 10  # instruments of a file that are listed for a person
_ALWAYS: Final = frozenset({"rows_read", "rows_used", "other_kinds"})  # counts that are no problem


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
class Market:
    """One of several instruments in a file. Times are int64 nanoseconds since 1970 UTC."""

    venue: str | None
    symbol: str | None
    rows: int
    first: int
    last: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; times as ISO 8601 text."""
        return {**vars(self), "first": _iso(self.first), "last": _iso(self.last)}


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
    unpacked_by : str or None
        What unpacked it, where it is packed with gzip.
    instrument : Instrument
        What is traded; tick and lot as found in the data.
    markets : tuple of Market
        Where it holds several instruments and none was chosen: all of them, those with the most rows first.
    kinds : tuple of KindSummary
        What it holds, of one instrument.
    problems : tuple of str
        What a person should know before using it, of the file as a whole.
    error : ToxmidError or None
        Why it cannot be read.
    """

    path: Path
    formats: tuple[str, ...] = ()
    clock: str | None = None
    unpacked_by: str | None = None
    instrument: Instrument = field(default_factory=Instrument)
    markets: tuple[Market, ...] = ()
    kinds: tuple[KindSummary, ...] = ()
    problems: tuple[str, ...] = ()
    error: ToxmidError | None = None

    @property
    def failed(self) -> bool:
        """Whether the file cannot be read."""
        return self.error is not None

    @property
    def _is_known(self) -> bool:
        """Whether so much was seen of one market that its units can be told."""
        return not self.markets and (bool(self.kinds) or self.instrument.symbol is not None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "path": str(self.path),
            "formats": list(self.formats),
            "clock": self.clock,
            "unpacked_by": self.unpacked_by,
            "units": _units(self.instrument) if self._is_known else None,
            "instrument": self.instrument.to_dict(),
            "markets": [market.to_dict() for market in self.markets],
            "kinds": [kind.to_dict() for kind in self.kinds],
            "problems": list(self.problems),
            "error": None if self.error is None else str(self.error),
        }

    def to_text(self, *, verbose: bool = False) -> str:
        """The same for a person, a fact per line."""
        lines = [str(self.path)]
        for label, texts in self._facts(verbose):
            for index, text in enumerate(texts):
                lines.append(f"  {label if index == 0 else '':<12} {text}")
        return "\n".join(lines)

    def _facts(self, verbose: bool) -> Iterator[tuple[str, list[str]]]:
        if self.formats:
            yield "format", [" or ".join(self.formats)]
        if verbose and self.formats:
            yield "file", [f"{self.path.stat().st_size:,} bytes"]
            yield "unpacked by", [self.unpacked_by] if self.unpacked_by is not None else []
        if self.markets:
            yield "instruments", _market_lines(self.markets)
        elif self._is_known:
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


def inspect_files(
    paths: Source,
    *,
    instrument: Instrument | None = None,
    format: str | None = None,
    allow_partial: bool = False,
) -> list[Inspection]:
    """Say what files are.

    Parameters
    ----------
    paths : path, glob, directory, or list of them
        Files, each looked at by itself; folders with all folders below them.
    instrument : Instrument, optional
        What you know of the instrument.
    format : str, optional
        As in `toxmid.read_trades`.
    allow_partial : bool
        Accept files whose last line is cut; the line is dropped and counted.

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
    files = tapes_of(paths)
    options = {"instrument": instrument, "format": format, "allow_partial": allow_partial}
    return [_inspect(path, files, options) for path in files]


def find_instrument(
    sources: Mapping[Kind, Source],
    *,
    instrument: Instrument | None = None,
    allow_partial: bool = False,
    format: str | Mapping[str, str] | None = None,
) -> Instrument:
    """What is traded, with the tick and the lot that the files themselves show: for `toxmid.replay(instrument=...)`.

    A replay finds grids in its pass over the data, and without a tick it judges spreads by another scale. Here the
    files are read once before; those that `toxmid convert` has made hold what it found.

    Parameters
    ----------
    sources : mapping
        Files by kind: ``{"trades": ..., "book": ...}``.
    instrument : Instrument, optional
        What you know of it, which wins.
    allow_partial : bool
        Accept files whose last line is cut.
    format : str or mapping, optional
        As in `toxmid.replay`.

    Returns
    -------
    Instrument
        Tick and lot have the origin ``"found"`` where nobody knew better.

    Raises
    ------
    FileError, DataError
        As `toxmid.read_trades`.

    Examples
    --------
    >>> found = find_instrument({"trades": "data/tardis/coinbase_trades_2025-10-10_AVAX-USD.csv.gz"})
    >>> found.tick, found.origin["tick"]
    (0.01, 'found')
    """
    if not sources:
        raise ParameterError("no files were given", column="sources")
    grids = Grids()
    options: dict[str, Any] = {"instrument": instrument, "allow_partial": allow_partial}
    formats = formats_by_input(format)
    tapes = [open_tape(source, kind, format=formats.get(kind), **options) for kind, source in sources.items()]
    for tape in tapes:
        wanted = grids_of(tape.kind, tape.instrument)
        if all(wanted <= stored.keys() for stored in tape.stored_grids):
            for stored in tape.stored_grids:
                grids.know(stored)
        else:
            for frame in tape.frames():
                grids.add(frame, tape.kind)
    return grids.onto(tapes[0].instrument)


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
        lines = ["together"] if self.jobs or self.problems else []
        for job in self.jobs:
            lines.append(f"  {job.name}")
            lines += [f"    {kind:<14} {path}" for kind, files in job.files.items() for path in files]
        return "\n".join([*lines, *(f"  problem: {text}" for text in self.problems)])


def pair_inspected(
    inspections: Sequence[Inspection],
    *,
    format: str | None = None,
    symbol: str | None = None,
    allow_partial: bool = False,
) -> Pairing:
    """Put the files that can be read together, as `toxmid replay` and `toxmid batch` with these options would.

    Examples
    --------
    >>> pairing = pair_inspected(inspect_files("data/tardis/binance-delivery*"))
    >>> [(job.name, list(job.files)) for job in pairing.jobs]
    [('binance-delivery_AVAXUSD_PERP/2025-10-10', ['trades', 'liquidations'])]
    """
    readable = [inspection.path for inspection in inspections if not (inspection.failed or inspection.markets)]
    if not readable:
        return Pairing()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TapeWarning)
        try:
            jobs = tuple(pair_files(readable, formats=format, symbol=symbol, allow_partial=allow_partial))
        except ToxmidError as error:
            return Pairing(problems=(f"cannot be put together: {error}",))
    return Pairing(jobs, tuple(dict.fromkeys(str(warning.message) for warning in caught)))


def _inspect(path: Path, files: Sequence[Path], options: Mapping[str, Any]) -> Inspection:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TapeWarning)
        try:
            head = read_head(path)
            result = _look(head, files, options)
        except ToxmidError as error:
            result = Inspection(path, error=error)
    told = tuple(str(warning.message).removeprefix(f"{path}: ") for warning in caught)
    return dataclasses.replace(result, problems=tuple(dict.fromkeys((*result.problems, *told))))


def _look(head: Head, files: Sequence[Path], options: Mapping[str, Any]) -> Inspection:
    if head.container == "text" and not head.lines:
        return Inspection(head.path, problems=("the file is empty",))
    formats = recognise(head, options["format"])
    known = Inspection(
        head.path,
        tuple(format_.name for format_ in formats),
        formats[0].clock(),
        unpacked_by=GUNZIP if is_gzip(head.path) else None,
    )
    scans: list[_Scan] = []
    grids = Grids()
    tape: Tape | None = None
    try:
        held = formats[0].kinds(head)
        if not held:
            known = dataclasses.replace(known, clock=None)
            raise FileError(
                "its columns are those of no table we know",
                file=str(head.path),
                found=list(formats[0].columns_of(head)),
                expected="trades, book, quotes, ...",
            )
        head = dataclasses.replace(head, companions=companions_elsewhere(head, held[0], files))
        named = {**options, "format": options["format"] or known.formats[0]}
        for kind in held:
            tape = open_tape([head.path, *head.companions], kind, **named)
            scan = _Scan(tape)
            for frame in tape.frames():
                scan.add(frame)
                grids.add(frame, kind)
            scans.append(scan)
    except SeveralInstrumentsError as error:
        markets, left_out = _markets(head, formats[0], held[len(scans)])
        if len(markets) < 2:
            return dataclasses.replace(known, error=error)
        told = f"rows of {len(markets)} instruments; --symbol chooses one (instrument=Instrument(symbol=...))"
        return dataclasses.replace(known, markets=markets, problems=(told, *left_out))
    except ToxmidError as error:
        kinds = tuple(scan.summary() for scan in _telling(scans))
        return dataclasses.replace(
            known, instrument=known.instrument if tape is None else tape.instrument, kinds=kinds, error=error
        )
    resolved = grids.onto(tape.instrument if tape is not None else Instrument())
    return dataclasses.replace(
        known,
        instrument=resolved,
        kinds=tuple(scan.summary(None if resolved.inverse else resolved.lot) for scan in _telling(scans)),
        problems=tuple(_file_problems(known.formats, resolved)),
    )


def _telling(scans: Sequence[_Scan]) -> list[_Scan]:
    """A recording may hold every kind; those that it does not hold are not worth a line, unless it holds none."""
    return [scan for scan in scans if scan.rows or set(scan.tape.counts) - _ALWAYS] or list(scans)


def _markets(head: Head, format_: Format, kind: Kind) -> tuple[tuple[Market, ...], list[str]]:
    """All instruments of a file, by the rows that they have in it; and what was left out of all of them together."""
    parts = []
    excluded, seen, distinct = Counter[str](), Seen(), format_.tables[kind].distinct
    for lines in format_.lines(head, kind, allow_partial=True):
        excluded.update(lines.excluded)
        if distinct is not None:
            repeated = seen.before(lines.frame, distinct, within_file=not lines.unrepeated)
            excluded["duplicates"] += int(repeated.sum())
        said = {label: pl.lit(lines.same.get(label), pl.String) for label in ("venue", "symbol")}
        said |= {label: pl.col(label).cast(pl.String) for label in said if label in lines.frame.columns}
        rows = lines.frame.select(**said, first="ts", last="ts").group_by("venue", "symbol")
        parts.append(rows.agg(pl.len().cast(pl.Int64).alias("rows"), pl.col("first").min(), pl.col("last").max()))
    added = pl.concat(parts).group_by("venue", "symbol")
    markets = added.agg(pl.col("rows").sum(), pl.col("first").min(), pl.col("last").max())
    markets = markets.sort("rows", "venue", "symbol", descending=[True, False, False])
    left_out = [f"{_rows(n)} left out: {reason.replace('_', ' ')}" for reason, n in excluded.items() if n]
    return tuple(Market(**row) for row in markets.iter_rows(named=True)), left_out


class _Scan:
    """Facts of one kind, gathered frame by frame."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.kind = tape.kind
        self.rows = 0
        self.first: int | None = None
        self.last: int | None = None
        self.latest: int | None = None  # time of the row before
        self.silence = 0
        self.backward = 0
        self.unusable = 0
        self.crossed = 0
        self.before_snapshot = 0
        self.snapshots = False
        self.gaps = 0
        self.still: dict[tuple[int, float], list[int]] = {}  # by side and percent: rows, first and last time
        self.sides: set[int] = set()
        self.unsigned = 0
        self.smallest = math.inf  # of the trades
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
        if "stale" in frame.columns:
            self._add_bands(frame.filter("stale"))
        if self.kind == "trades":
            sizes = frame["size"]
            self.smallest = min(self.smallest, float(sizes.filter(sizes > 0).to_numpy().min(initial=math.inf)))
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

    def _add_bands(self, stale: pl.DataFrame) -> None:
        times = stale.select("side", "percent", ts=pl.col("ts").to_physical()).group_by("side", "percent")
        spans = times.agg(pl.len(), pl.col("ts").min(), pl.col("ts").max().alias("last"))
        for side, percent, rows, first, last in spans.iter_rows():
            before = self.still.get((side, percent), [0, first, last])
            self.still[side, percent] = [before[0] + rows, before[1], last]

    def _add_times(self, frame: pl.DataFrame) -> None:
        times = frame["ts"].to_physical().to_numpy()
        joined = times if self.latest is None else np.concatenate(([self.latest], times))
        steps = np.diff(joined)
        if steps.size:
            self.silence = max(self.silence, int(steps.max()))
            self.backward += int((steps < 0).sum())
        self.first = int(times.min()) if self.first is None else min(self.first, int(times.min()))
        self.last = int(times.max()) if self.last is None else max(self.last, int(times.max()))
        self.latest = int(times[-1])
        if "ts_event" in frame.columns:
            self.latency.add(times - frame["ts_event"].to_physical().to_numpy())

    def summary(self, lot: float | None = None) -> KindSummary:
        """What was gathered; `lot` is that of the market, where it is known."""
        return KindSummary(
            kind=self.kind,
            counts=self.tape.counts,
            rows=self.rows,
            first=self.first,
            last=self.last,
            longest_silence=self.silence if self.rows > 1 else None,
            median_latency=self.latency.median(),
            max_latency=self.latency.largest,
            problems=tuple(self._problems(lot)),
        )

    def _problems(self, lot: float | None) -> Iterator[str]:
        if self.rows == 0:
            yield "no rows"
        for reason, count in self.tape.counts.items():
            if reason not in _ALWAYS:
                yield f"{_rows(count)} left out: {reason.replace('_', ' ')}"
        if self.rows == 0:
            return
        if self.backward:
            yield f"time goes back at {_rows(self.backward)}; it must be sorted"
        if self.unusable:
            yield f"{_rows(self.unusable)} with a price or size that is no positive number"
        if self.crossed:
            yield f"{_rows(self.crossed)} with a bid not below the ask"
        yield from self._book_problems()
        for (side, percent), (rows, first, last) in sorted(self.still.items()):
            half = "bids" if side > 0 else "asks"
            yield f"{half} within {percent:g} % stand still: {_rows(rows)} from {_iso(first)} to {_iso(last)}"
        if self.unsigned:
            yield f"{_rows(self.unsigned)} of unknown side"
        if self.kind == "trades" and self.rows > 20 and len(self.sides) == 1:
            yield "every trade is on one side"
        if lot is not None and self.rows >= _MANY and _MANY_LOTS * lot <= self.smallest < math.inf:
            yield f"no trade below {self.smallest:.6g}, though the lot is {lot:.6g}: small trades were left out before"
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


def _file_problems(names: tuple[str, ...], instrument: Instrument) -> Iterator[str]:
    if len(names) > 1:
        yield f"may be {' or '.join(names)}; --format chooses (format=)"
    if instrument.origin["contract_value"] == "assumed":
        yield f"contract value {instrument.contract_value:g} is assumed; instrument= sets it"
    if instrument.origin["inverse"] == "unknown":
        yield "unknown whether linear or inverse; sizes are taken as base coin"


def _market_lines(markets: Sequence[Market]) -> list[str]:
    shown = [
        f"{' '.join(filter(None, (market.venue, market.symbol))) or 'unnamed'}: {_rows(market.rows)}, "
        f"{_iso(market.first)} to {_iso(market.last)}"
        for market in markets[:_SHOWN]
    ]
    return shown + ([f"and {len(markets) - _SHOWN} more (--json lists all)"] if len(markets) > _SHOWN else [])


def _units(instrument: Instrument) -> str:
    if instrument.origin["inverse"] == "unknown":
        return "price and size: as the file has them; sizes are taken as base coin"
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
    lines = [f"{_rows(read)} read, {used:,} used" + (f", {kind.rows:,} canonical" if kind.rows != used else "")]
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

    >>> _duration(5_100_000), _duration(86_400 * 10**9), _duration(-1_260_000_000), _duration(999_999_999)
    ('5.1 ms', '24 h', '-1.26 s', '1 s')
    """
    if abs(ns) >= 72 * 3600 * 10**9:
        return f"{ns / (24 * 3600 * 10**9):,.1f} d"
    for unit, size in (("h", 3600 * 10**9), ("min", 60 * 10**9), ("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if abs(ns) >= 0.9995 * size:  # what three figures round to a whole one
            return f"{ns / size:.3g} {unit}"
    return f"{ns} ns"
