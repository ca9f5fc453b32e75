"""Replay: tapes in, every metric out, in one causal pass."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from toxmid import output
from toxmid.disk import naming
from toxmid.engine import REFERENCE, Engine
from toxmid.errors import DataError, ParameterError
from toxmid.instrument import Instrument
from toxmid.merging import INPUTS, Columns, formats_by_input, input_of, rounds
from toxmid.params import Params
from toxmid.prefetch import beside, prefetched
from toxmid.progress import Progress
from toxmid.readers import Tape, named_entries, open_tape
from toxmid.schema import Kind, canonical, columns, parse_time
from toxmid.tapes import found_instrument

__all__ = ["Replay", "replay"]

# Tables of a few rows cost more than the rows; the core can wait this long, or until it holds so many bars.
_ROWS_BETWEEN_TABLES: Final = 1 << 20
_BARS_BETWEEN_TABLES: Final = 1 << 14
# So many prices off the tick are odd rows; beyond that, and beyond this share of all, the tick is wrong.
_FEW_OFF_TICK: Final = 100
_SHARE_OFF_TICK: Final = 0.01


@dataclass(frozen=True)
class Replay:
    """What a replay gave: three tables and everything needed to say where they come from.

    Attributes
    ----------
    bars : polars.DataFrame
        One row per bar, covering ``(ts - bar, ts]``, without holes from the first to the last event.
        `toxmid.columns.BARS` says what every column is, and in which unit.
    buckets : polars.DataFrame
        One row per closed volume bucket; columns in `toxmid.columns.BUCKETS`.
    events : polars.DataFrame
        One row per closed episode; columns in `toxmid.columns.EVENTS`.
    counts : dict
        ``rows_read``, ``rows_used`` and ``rows_rejected`` (they add up), ``rejected`` by reason, ``duplicates``,
        ``gaps``, ``crossed_books``, ``resets`` and further repairs; ``by_input`` splits the rows.
    params : Params
    instrument : Instrument
    manifest : dict
        All of this but the tables, as it is written beside them.
    state : bytes
        The engine after the last event, before its last bar was closed: where a next replay can go on.
    """

    bars: pl.DataFrame
    buckets: pl.DataFrame
    events: pl.DataFrame
    counts: dict[str, Any]
    params: Params
    instrument: Instrument
    manifest: dict[str, Any] = field(repr=False)
    state: bytes = field(default=b"", repr=False)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """`bars` as an Arrow stream, for anything that takes one without a copy."""
        return self.bars.__arrow_c_stream__(requested_schema)

    def summary(self) -> str:
        """A page of text: what was read, what was seen, what was inferred."""
        from toxmid.summary import summarise

        return summarise(self)

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write ``bars.parquet, buckets.parquet, events.parquet, manifest.json``, whole or not at all.

        Raises
        ------
        FileError
            The directory holds something else, or cannot be written.
        """
        output.save(directory, self.bars, self.buckets, self.events, self.manifest, overwrite=overwrite)
        return Path(directory)

    def report(self, path: str | os.PathLike[str], *, truth: pl.DataFrame | None = None) -> Path:
        """Write the report, one HTML file that needs nothing else."""
        from toxmid.report import write_report

        return write_report(self.bars, self.buckets, self.events, self.manifest, path, truth=truth)

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Replay:
        """Read back what `save` wrote.

        Raises
        ------
        FileError
            The directory is missing, damaged, or holds something else.
        """
        bars, buckets, events, manifest = output.load(directory)
        return cls(
            bars,
            buckets,
            events,
            manifest["counts"],
            Params.from_dict(manifest["params"]),
            Instrument.from_dict(manifest["instrument"]),
            manifest,
        )


def replay(
    *,
    trades: Any = None,
    book: Any = None,
    quotes: Any = None,
    liquidations: Any = None,
    mark: Any = None,
    reference: Any = None,
    open_interest: Any = None,
    params: Params | None = None,
    instrument: Instrument | None = None,
    out: str | os.PathLike[str] | None = None,
    workers: int = 1,
    progress: bool = False,
    start: Any = None,
    end: Any = None,
    state: bytes | None = None,
    finish: bool = True,
    sort: bool = False,
    allow_partial: bool = False,
    format: str | Mapping[str, str] | None = None,
    silent_feed: bool | None = None,
) -> Replay:
    """Replay tapes through the engine.

    Parameters
    ----------
    trades, book, quotes : path, glob, directory, list, or table
        Files that a reader knows, or canonical tables. At least one of the three.
    liquidations : the same, optional
        None: there is no feed, and the toxicity of trades is inferred. A feed is known from its first record on. A
        table, or files, without any row: there was a feed, and it had no prints, so nothing is toxic from the start. (A
        raw recording without such a row is no feed: nobody knows whether that stream was recorded.)
    mark : table, optional
        ``ts, price``, and ``index`` where it is known: a mark price and the index that it is made from.
    reference : the same as trades, or a mapping of names to such, optional
        Trades of another venue of the same coin, or of several by name. A list of tables is one venue each, a list of
        files is one venue. The venues are weighted by how little toxic flow they carry; their order does not matter.
    open_interest : table or files, optional
        ``ts, open_interest`` in base coin. What fell in a window shifts the weights that are inferred in the next.
    params : Params, optional
        None means the defaults.
    instrument : Instrument, optional
        What you know of it; wins over what the files say.
    out : path, optional
        Directory to write. Where it already holds this very run, nothing is computed and that run is returned.
    workers : int
        More than one: tapes are decoded in threads of their own while the engine computes.
    progress : bool
        Show a line on stderr, where that is a terminal.
    start, end : str, int, datetime, optional
        Replay ``start <= ts < end``.
    state : bytes, optional
        `Replay.state` of an earlier replay of the same market, to go on from.
    finish : bool
        Close the bar that is open at the end. False leaves it open, for a replay that goes on from `Replay.state`.
    sort : bool
        Put rows of files in order of time first (bounded memory). Without it a time that goes back is an error.
    allow_partial : bool
        Accept a file whose last line is cut; the line is dropped and counted.
    format : str or mapping, optional
        Format or family of the files, or a ``.toml`` file that describes them, as in `toxmid.read_trades`; by input,
        ``{"trades": "trades.toml"}``, where not all are meant.
    silent_feed : bool, optional
        Whether the liquidation feed has no row in the whole run of which this replay is a piece. None: the piece is the
        whole, and its own rows say. (`toxmid.jobs` looks through all days of a market.)

    Returns
    -------
    Replay

    Raises
    ------
    FileError, DataError, ParameterError
        What is wrong, in which file and row. Nothing has been written then.

    Examples
    --------
    >>> tape = pl.DataFrame({"ts": [1_760_054_400_000_000_000 + i * 10**9 for i in range(3)],
    ...                      "price": [100.0, 100.1, 100.0], "size": [1.0, 2.0, 1.0], "side": [-1, 1, -1]})
    >>> replay(trades=tape).bars.select("trades", "bid", "ask", "buy_volume").rows()
    [(1, None, None, 0.0), (1, 100.0, 100.1, 2.0), (1, 100.0, 100.1, 0.0)]
    """
    if workers < 1:
        raise ParameterError("out of range", column="workers", found=workers, expected="1 or more")
    for value, kind, name in ((params, Params, "params"), (instrument, Instrument, "instrument")):
        if value is not None and not isinstance(value, kind):
            raise ParameterError(f"{name} must be a toxmid.{kind.__name__}", found=type(value).__name__)
    params = params or Params()
    window = (start, end)
    given = {
        "trades": trades,
        "liquidations": liquidations,
        "book": book,
        "quotes": quotes,
        "mark": mark,
        **_by_venue(reference),
        "open_interest": open_interest,
    }
    tapes = _open(given, instrument, window, sort, allow_partial, format)
    request = _request(window, instrument, state, finish, format, silent_feed, (sort, allow_partial))
    if out is not None:
        planned = output.build_manifest(inputs=_inputs(tapes), params=params, instrument={}, request=request)
        if output.is_same_run(out, planned):
            return Replay.load(out)
    engine = _engine(params, _instrument(tapes, instrument), state)
    before = _tally(engine)
    if silent_feed is None:
        silent_feed = "liquidations" in tapes and is_without_rows(tapes["liquidations"])
    if silent_feed:
        engine.feed_without_prints()
    expected = [tape.expected_rows for tape in tapes.values()]
    total = None if None in expected else sum(count or 0 for count in expected)
    # What files hash to is kept by their tapes, for the manifest.
    with Progress(total, label="replay", quiet=not progress) as bar, beside(lambda: _inputs(tapes)):
        bars = _run(engine, tapes, workers, bar)
    bars.append(engine.take_bars())
    buckets, events = [engine.take_buckets()], [engine.take_events()]
    state_after = engine.snapshot()
    if finish:
        engine.finish()
    bars.append(engine.take_bars())
    counts = _counts(_since(_tally(engine), before), tapes)
    _check_tick(engine.instrument.tick, counts)
    result = _result(engine, tapes, counts, bars, buckets, events, request, state_after)
    if out is not None:
        result.save(out, overwrite=True)
    return result


def plan(
    *,
    params: Params | None = None,
    instrument: Instrument | None = None,
    start: Any = None,
    end: Any = None,
    state: bytes | None = None,
    finish: bool = True,
    sort: bool = False,
    allow_partial: bool = False,
    format: str | Mapping[str, str] | None = None,
    silent_feed: bool | None = None,
    **given: Any,
) -> dict[str, Any]:
    """The manifest that `replay` with these arguments would begin with: inputs, instrument, parameters, request."""
    given = {**given, **_by_venue(given.pop("reference", None))}
    tapes = _open(given, instrument, (start, end), sort, allow_partial, format)
    return output.build_manifest(
        inputs=_inputs(tapes),
        params=params or Params(),
        instrument=_instrument(tapes, instrument).to_dict(),
        request=_request((start, end), instrument, state, finish, format, silent_feed, (sort, allow_partial)),
    )


# --- inputs ----------------------------------------------------------------------------------------------------------


class _FrameTape:
    """A table in memory, with the face of a tape of files."""

    def __init__(self, table: Any, kind: Kind, window: tuple[Any, Any]) -> None:
        frame = canonical(table, kind)
        self._rows = frame.height
        bounds = [None if moment is None else parse_time(moment) for moment in window]
        ts = frame["ts"].to_physical()
        if bounds[0] is not None:
            frame = frame.filter(ts >= bounds[0])
            ts = frame["ts"].to_physical()
        if bounds[1] is not None:
            frame = frame.filter(ts < bounds[1])
        self._frame = frame
        self._kind: Kind = kind
        self.instrument = found_instrument(frame) if kind == "trades" else Instrument()
        self.expected_rows: int | None = frame.height
        self.inputs = [{"path": None, "format": "table", "rows": self._rows, "bytes": None, "sha256": None}]

    @property
    def silence_tells(self) -> bool:
        return True

    @property
    def counts(self) -> dict[str, int]:
        outside = self._rows - self._frame.height
        excluded = {"outside_window": outside} if outside else {}
        return {"rows_read": self._rows, "rows_used": self._frame.height, **excluded}

    def frames(self, *, ordered: bool = False) -> Iterator[pl.DataFrame]:
        del ordered  # whoever takes the frame checks it: a table has no file to name
        yield self._frame

    def columns(self, *, ordered: bool = False) -> Iterator[Columns]:
        del ordered
        yield columns(self._frame, self._kind)


_AnyTape = Tape | _FrameTape


def _open(
    given: Mapping[str, Any],
    instrument: Instrument | None,
    window: tuple[Any, Any],
    sort: bool,
    allow_partial: bool,
    format: str | Mapping[str, str] | None = None,
) -> dict[str, _AnyTape]:
    """The tapes of all inputs that were given, in the order in which the core takes events of one time."""
    known = list(INPUTS)
    there = sorted((name for name in given if given[name] is not None), key=lambda name: known.index(input_of(name)))
    if not {"trades", "book", "quotes"} & set(there):
        raise ParameterError("nothing to replay", expected="trades, book or quotes")
    markets = {name: None if input_of(name) == "reference" else instrument for name in there}
    formats = formats_by_input(format)
    options: dict[str, Any] = {"sort": sort, "allow_partial": allow_partial, "others": _files_of(given.get("trades"))}
    return {
        name: _tape(given[name], name, markets[name], window, formats.get(input_of(name)), options) for name in there
    }


def _by_venue(reference: Any) -> dict[str, Any]:
    """Sources of other venues, ``"reference:<venue>"`` each; one without a name is ``"reference"``."""
    if isinstance(reference, Mapping):
        if "" in reference:
            raise ParameterError("a venue needs a name", column="reference", found="")
        return {f"reference:{name}": source for name, source in reference.items() if source is not None}
    if isinstance(reference, Sequence) and not isinstance(reference, str) and reference and not _is_files(reference):
        return {f"reference:venue_{i}": source for i, source in enumerate(reference, start=1)}
    return {"reference": reference}


def _venue_of(name: str) -> str:
    return name.partition(":")[2] or REFERENCE


def is_without_rows(tape: _AnyTape) -> bool:
    """Has a tape no row at all, whatever window was asked for? What a feed is must not depend on where a run ends.

    A recording without a record is none of a feed: nobody knows whether that stream was listened to.
    """
    if not tape.silence_tells:
        return False
    return not any(tape.counts["rows_read"] - tape.counts.get("other_kinds", 0) for _ in tape.frames())


def _is_files(source: Any) -> bool:
    if isinstance(source, str | os.PathLike):
        return True
    return isinstance(source, Sequence) and all(isinstance(entry, str | os.PathLike) for entry in source)


def _files_of(source: Any) -> list[Path]:
    """Files that a source names one by one."""
    return [path for path in named_entries(source) if path.is_file()] if _is_files(source) else []


def _tape(
    source: Any,
    name: str,
    instrument: Instrument | None,
    window: tuple[Any, Any],
    format: str | None,
    options: Mapping[str, Any],
) -> _AnyTape:
    kind = INPUTS[input_of(name)]
    if not _is_files(source):
        return _FrameTape(source, kind, window)
    start, end = window
    return open_tape(source, kind, format=format, start=start, end=end, instrument=instrument, **options)


def _instrument(tapes: Mapping[str, _AnyTape], given: Instrument | None) -> Instrument:
    """What the user says; else what the first tape that knows its market says."""
    for name in ("trades", "quotes", "book", "liquidations"):
        if isinstance(tapes.get(name), Tape):
            return tapes[name].instrument  # what the user says is in it
    if given is not None or "trades" not in tapes:
        return given or Instrument()
    return tapes["trades"].instrument


def _inputs(tapes: Mapping[str, _AnyTape]) -> list[dict[str, Any]]:
    return [{"kind": input_of(name), **_named(name), **entry} for name, tape in tapes.items() for entry in tape.inputs]


def _named(name: str) -> dict[str, str]:
    return {"venue": _venue_of(name)} if name != input_of(name) else {}


def _request(
    window: tuple[Any, Any],
    instrument: Instrument | None,
    state: bytes | None,
    finish: bool,
    format: str | Mapping[str, str] | None,
    silent_feed: bool | None,
    leniency: tuple[bool, bool],
) -> dict[str, Any]:
    """What was asked for besides inputs and parameters: another request is another run."""
    return {
        "from": None if window[0] is None else parse_time(window[0]),
        "to": None if window[1] is None else parse_time(window[1]),
        "instrument": None if instrument is None else instrument.to_dict(),
        "state": None if state is None else hashlib.sha256(state).hexdigest(),
        "finish": finish,
        "format": {name: _described(text) for name, text in formats_by_input(format).items()} or None,
        "silent_feed": silent_feed,
        "sort": leniency[0],
        "allow_partial": leniency[1],
    }


def _described(format: str) -> str:
    """A format by name; one that a TOML file describes by the name and content of that file."""
    if not format.endswith(".toml"):
        return format
    path = Path(format).expanduser()
    with naming(path, "cannot be read"):
        return f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"


# --- running ---------------------------------------------------------------------------------------------------------


def _engine(params: Params, instrument: Instrument, state: bytes | None) -> Engine:
    if state is None:
        return Engine(params, instrument)
    engine = Engine.restore(state)
    if engine.params != params:
        raise ParameterError("the state to go on from was made with other parameters")
    ours, theirs = ((market.venue, market.symbol) for market in (instrument, engine.instrument))
    if None not in (*ours, *theirs) and ours != theirs:
        raise ParameterError("the state to go on from is that of another market", found=theirs, expected=str(ours))
    return engine


def _run(engine: Engine, tapes: Mapping[str, _AnyTape], workers: int, bar: Progress) -> list[pl.DataFrame]:
    """Feed the engine round by round and collect its bars; of buckets and events there are few, which wait in it."""
    sources: dict[str, Iterator[Columns]] = {name: tape.columns(ordered=True) for name, tape in tapes.items()}
    if workers > 1:
        sources = {name: prefetched(pieces) for name, pieces in sources.items()}
    bars: list[pl.DataFrame] = []
    fed, taken_at = 0, engine.now
    venues = {name: engine.venue_number(_venue_of(name)) for name in tapes if input_of(name) == "reference"}
    longest = _BARS_BETWEEN_TABLES * engine.params.duration_ns("bar")
    ended = engine.now
    checked = [name for name, tape in tapes.items() if isinstance(tape, Tape)]
    for tables in rounds(sources, venues=venues, checked=checked, on_rows=bar.advance):
        if ended:
            _check_goes_on(ended, tables, tapes)
            ended = 0
        engine.run(tables)
        taken_at = taken_at or engine.now
        fed += sum(table["ts"].size for table in tables if table is not None)
        if fed >= _ROWS_BETWEEN_TABLES or engine.now - taken_at >= longest:
            bars.append(engine.take_bars())
            fed, taken_at = 0, engine.now
    return bars


def _check_goes_on(ended: int, tables: Sequence[Columns | None], tapes: Mapping[str, _AnyTape]) -> None:
    """The first rows of a replay that goes on from a state lie after it."""
    for name, table in zip(INPUTS, tables, strict=True):
        if table is not None and int(table["ts"][0]) < ended:
            tape = next(tape for source, tape in tapes.items() if input_of(source) == name)
            raise DataError(
                f"the {name} begin before the state ends that they should go on from",
                file=str(tape.paths[0]) if isinstance(tape, Tape) else None,
                column="ts",
                found=str(np.datetime64(int(table["ts"][0]), "ns")),
                expected=f"{np.datetime64(ended, 'ns')} or later",
            )


def _check_tick(tick: float | None, counts: Mapping[str, Any]) -> None:
    """A few prices off the tick are odd rows; a share of them says that the tick is not that of this market."""
    if tick is None or "book" not in counts["by_input"]:
        return
    off, used = counts["prices_off_tick"], counts["by_input"]["book"]["events_used"]
    if off > max(_FEW_OFF_TICK, _SHARE_OFF_TICK * used):
        raise DataError(
            f"{off:,} of {used:,} prices of the book are no multiples of the tick",
            column="price",
            expected=f"multiples of {tick:.12g}; instrument= or [instrument] of --config sets another tick",
        )


def _result(
    engine: Engine,
    tapes: Mapping[str, _AnyTape],
    counts: dict[str, Any],
    bars: list[pl.DataFrame],
    buckets: list[pl.DataFrame],
    events: list[pl.DataFrame],
    request: Mapping[str, Any],
    state: bytes,
) -> Replay:
    buckets.append(engine.take_buckets())
    events.append(engine.take_events())
    manifest = output.build_manifest(
        inputs=_inputs(tapes),
        params=engine.params,
        instrument=engine.instrument.to_dict(),
        counts=counts,
        request=request,
        warm_up=engine.warm_up(),
        open_bucket=engine.open_bucket(),
        first_bucket=engine.first_bucket(),
        liquidation_feed=engine.feed_completeness(),
        open_episodes=[{"kind": kind, "ts_start": ns} for kind, ns in engine.open_episodes().items()],
        memory=engine.memory(),
        extra={"references": engine.references} if engine.references else None,
    )
    return Replay(
        bars=pl.concat(bars),
        buckets=pl.concat(buckets),
        events=pl.concat(events),
        counts=counts,
        params=engine.params,
        instrument=engine.instrument,
        manifest=manifest,
        state=state,
    )


def _tally(engine: Engine) -> dict[str, Any]:
    """What the engine counts, with the rows of each other venue by themselves."""
    told = {name: {key: venue[key] for key in ("used", "rejected")} for name, venue in engine.references.items()}
    return {**engine.tally(), "venues": told}


def _since(now: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Counts of this run: an engine that goes on from a state has counted before."""
    return {
        name: _since(value, before.get(name, {})) if isinstance(value, dict) else value - before.get(name, 0)
        for name, value in now.items()
    }


def _input_counts(tape: _AnyTape, used: int, refused: dict[str, int]) -> dict[str, Any]:
    """What became of the rows of one input. Where a row of a file makes several events (levels of a book snapshot), the
    engine's refusals are events and stand beside the rows, not among them: a row is used if one of its levels is. The
    engine does not know rows; where it took no event at all, it is certain that it took none of them."""
    counts = dict(tape.counts)
    # A recording holds rows of several kinds; those of the others are read as what they are, or not asked for.
    others = counts.pop("other_kinds", 0)
    read, kept = counts.pop("rows_read") - others, counts.pop("rows_used")
    refused = {reason: n for reason, n in refused.items() if n}
    events = used + sum(refused.values())
    rows = {"all_levels_refused": kept} if events and not used else {}
    rows = refused if events == kept else rows
    return {
        "rows_read": read,
        "rows_of_other_kinds": others,
        "rows_used": kept - sum(rows.values()),
        "rejected": {**counts, **rows},
        "events": events,
        "events_used": used,
        "events_rejected": refused,
    }


def _events_of(name: str, tally: dict[str, Any]) -> tuple[int, dict[str, int]]:
    """Events of one input that the engine used, and those that it refused by reason."""
    if input_of(name) != "reference":
        return tally["used"][name], tally["rejected"][name]
    venue = tally["venues"].get(_venue_of(name), {"used": 0, "rejected": {}})
    return venue["used"], venue["rejected"]


def _counts(tally: dict[str, Any], tapes: Mapping[str, _AnyTape]) -> dict[str, Any]:
    """Every row of every input: read, used, or rejected for a reason that is named; and what was repaired."""
    by_input = {name: _input_counts(tape, *_events_of(name, tally)) for name, tape in tapes.items()}
    rejected: dict[str, int] = {}
    for entry in by_input.values():
        for reason, n in entry["rejected"].items():
            rejected[reason] = rejected.get(reason, 0) + n
    return {
        "rows_read": sum(entry["rows_read"] for entry in by_input.values()),
        "rows_used": sum(entry["rows_used"] for entry in by_input.values()),
        "rows_rejected": sum(rejected.values()),
        "rows_of_other_kinds": sum(entry["rows_of_other_kinds"] for entry in by_input.values()),
        "rejected": rejected,
        "duplicates": rejected.get("duplicates", 0),
        "gaps": tally["gaps"],
        "crossed_books": tally["books_crossed"],
        "crossed_quotes": tally["quotes_crossed"],
        "one_sided_quotes": tally["quotes_one_sided"],
        "repaired_books": tally["books_repaired"],
        "levels_removed": tally["levels_removed"],
        "resets": tally["book_resets"],
        "sequence_gaps": tally["sequence_gaps"],
        "unknown_deletes": tally["deletes_unknown"],
        "prices_off_tick": tally["prices_off_tick"],
        "sizes_rounded": tally["sizes_rounded"],
        "liquidations_unmatched": tally["liquidations_unmatched"],
        "by_input": by_input,
    }
