"""What replays teach: rows of their bars, events, and what becomes of the mid after them."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid import output
from toxmid.errors import DataError, NotEnoughDataError, ParameterError
from toxmid.estimator.sums import WEIGHTS, Sums
from toxmid.params import Params
from toxmid.replay import Replay
from toxmid.tapes import as_frame

__all__ = ["Events", "Part", "Simultaneous", "Target", "check_alike", "parts_of"]

Simultaneous = Literal["one", "apart"]

_SECOND: Final = 1_000_000_000
_BPS: Final = 1e4
_TERMS: Final = ("asymmetry_bps", "volume_bps", "credibility_bps")
_NEEDED: Final = ("ts", "mid", "spread_bps", *_TERMS, "credibility", "debiased_mean")
_EVENT_GAP: Final = 300 * _SECOND
_FEWEST_CALM_BARS: Final = 60  # of which a variance can be taken
# Parameters that say how bars are cut, ranked and named, or how wide the interval is. All others shape the terms.
_NOT_OF_TERMS: Final = (
    "bar", "bucket", "volume_days", "window", "rank_days", "weight_", "interval_", "stress_", "widening_",
    "move_sigmas", "cascade_rate", "depth_bps", "halt",
)  # fmt: skip

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Target:
    """Where the mid stands later: its mean over `averaging` around the moment `horizon` later, nanoseconds."""

    horizon: int
    averaging: int

    def bars(self, step: int) -> tuple[int, int]:
        """First and last bar of that time, counted from the bar of the moment."""
        first = -(-(self.horizon - self.averaging // 2) // step)
        last = (self.horizon + self.averaging // 2) // step
        if last < max(first, 1):
            raise ParameterError("no bar in the time of the target", found=f"bars of {step / _SECOND:g} s")
        return first, last


# --- replays ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """Bars, and how they came about."""

    bars: pl.DataFrame
    params: Params
    name: str
    feed: tuple[str, ...] = ("unknown",)
    instrument: str = "unknown"
    market: str = ""

    @classmethod
    def of_replay(cls, replay: Replay, name: str | None) -> Source:
        instrument = replay.instrument
        market = " ".join(part for part in (instrument.venue, instrument.symbol) if part)
        return cls(
            bars=replay.bars,
            params=replay.params,
            name=name or market or "a replay in memory",
            feed=tuple(sorted({entry["kind"] for entry in replay.manifest["inputs"]})),
            instrument="inverse" if instrument.inverse else "linear",
            market=market,
        )


def _sources(replays: Any) -> Iterator[Source]:
    """One replay after the other, so that one is in memory at a time."""
    if isinstance(replays, str | os.PathLike):
        for directory in _directories(Path(replays)):
            yield Source.of_replay(Replay.load(directory), str(directory))
    elif isinstance(replays, Replay):
        yield Source.of_replay(replays, None)
    elif isinstance(replays, pl.LazyFrame) or hasattr(replays, "__arrow_c_stream__"):
        yield Source(as_frame(replays), Params(), "a table of bars")
    elif hasattr(replays, "__iter__"):
        for replay in replays:
            yield from _sources(replay)
    else:
        expected = "directories, replays or tables of bars"
        raise DataError("nothing to learn from", found=type(replays).__name__, expected=expected)


def _directories(path: Path) -> list[Path]:
    """An output directory itself, or all those inside."""
    inside = [] if (path / output.MANIFEST).is_file() else sorted(path.rglob(output.MANIFEST))
    return [manifest.parent for manifest in inside] or [path]


# --- rows ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Rows:
    """What one replay says, a row a bar."""

    ts: _Ints
    x: _Floats  # (n, 7), NaN until ready
    y: _Floats  # bps, NaN where the later mid is not known
    spread: _Floats  # bps
    known: _Mask  # all of the above is known
    active: _Mask  # a term is at work
    calm: _Mask  # none is, nor until the time of the target is over


def _rows_of(source: Source, target: Target) -> _Rows:
    bars, step = _checked_bars(source.bars)
    columns = {name: bars[name].to_numpy() for name in _NEEDED}
    weights = [getattr(source.params, name) for name in WEIGHTS[:3]]
    for name, weight in zip(WEIGHTS, weights, strict=False):
        if weight == 0.0:
            raise ParameterError(f"{source.name} was made without this term", column=name, found=weight, expected="> 0")
    terms = np.stack([columns[name] for name in _TERMS], axis=1) / weights
    with np.errstate(invalid="ignore"):
        way = _BPS * np.log(columns["debiased_mean"] / columns["mid"])
    doubt = np.where(np.isfinite(way), 1.0 - columns["credibility"], 0.0)[:, None]
    x = np.concatenate([terms, doubt * terms, doubt * np.nan_to_num(way)[:, None]], axis=1)
    y = _later(columns["mid"], step, target)
    ready = np.isfinite(x).all(axis=1)
    known = ready & np.isfinite(y) & np.isfinite(columns["spread_bps"])
    active = ready & (terms != 0.0).any(axis=1)
    return _Rows(
        ts=columns["ts"],
        x=x,
        y=y,
        spread=columns["spread_bps"],
        known=known,
        active=active,
        calm=known & ~_soon(active, target.bars(step)[1]),
    )


def _checked_bars(table: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The columns needed, as plain numbers, and the step of the bars."""
    missing = [name for name in _NEEDED if name not in table.columns]
    if missing:
        raise DataError("bars lack a column", column=missing[0], expected=", ".join(_NEEDED))
    ts = pl.col("ts").dt.epoch("ns") if isinstance(table.schema["ts"], pl.Datetime) else pl.col("ts").cast(pl.Int64)
    bars = table.select(ts, *(pl.col(name).cast(pl.Float64).fill_null(math.nan) for name in _NEEDED[1:]))
    steps = np.diff(bars["ts"].to_numpy())
    if len(steps) == 0:
        raise NotEnoughDataError("a replay of fewer than two bars", found=bars.height)
    uneven = np.flatnonzero(steps != steps[0])
    if steps[0] <= 0 or len(uneven):
        row = int(uneven[0]) + 1 if len(uneven) else 1
        raise DataError("bars must follow each other without holes", row=row, column="ts")
    return bars, int(steps[0])


def _later(mid: _Floats, step: int, target: Target) -> _Floats:
    """Mean mid around the horizon less the mid of the moment, bps; NaN where less than half of that time has a mid."""
    first, last = target.bars(step)
    later = np.full(len(mid), math.nan)
    n = len(mid) - last
    if n <= 0:
        return later
    there = np.isfinite(mid)
    sums = np.concatenate([[0.0], np.cumsum(np.where(there, mid, 0.0))])
    counts = np.concatenate([[0], np.cumsum(there)])
    total, count = (a[last + 1 : last + 1 + n] - a[first : first + n] for a in (sums, counts))
    enough = (2 * count >= last - first + 1) & there[:n]
    later[:n][enough] = _BPS * np.log(total[enough] / count[enough] / mid[:n][enough])
    return later


def _soon(active: _Mask, bars: int) -> _Mask:
    """Where a term is at work at the moment or in one of the next `bars`."""
    count = np.concatenate([[0], np.cumsum(active)])
    ends = np.minimum(np.arange(len(active)) + bars + 1, len(active))
    return np.asarray(count[ends] > count[:-1])


# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Spell:
    """A stretch of time in which terms were at work, and the calm after it."""

    start: int
    end: int
    rows: int
    stress: Sums
    calm: Sums


@dataclass(frozen=True, eq=False)
class Part:
    """What one replay contributes; `left_out` spells say nothing."""

    source: Source
    start: int
    end: int
    spells: list[_Spell]
    left_out: int


def parts_of(replays: Any, target: Target) -> list[Part]:
    """What each of the replays contributes; their bars are not kept, as replays may be many."""
    return [_part_of(source, target) for source in _sources(replays)]


def _part_of(source: Source, target: Target) -> Part:
    rows = _rows_of(source, target)
    kept = dataclasses.replace(source, bars=source.bars.clear())
    found = _spells_of(rows)
    spells = [spell for spell in found if spell is not None]
    return Part(kept, int(rows.ts[0]), int(rows.ts[-1]), spells, len(found) - len(spells))


def _shaping(params: Params) -> dict[str, Any]:
    """The parameters on which the terms depend."""
    return {name: value for name, value in params.to_dict().items() if not name.startswith(_NOT_OF_TERMS)}


def check_alike(parts: Sequence[Part]) -> None:
    """Terms that were made with other constants are other terms."""
    if not parts:
        raise NotEnoughDataError("no replays to learn from")
    first = _shaping(parts[0].source.params)
    for part in parts[1:]:
        other = _shaping(part.source.params)
        differing = [name for name in first if first[name] != other[name]]
        if differing:
            raise ParameterError(
                f"{part.source.name} was made with other parameters than {parts[0].source.name}",
                column=differing[0], found=other[differing[0]], expected=first[differing[0]],
            )  # fmt: skip


def _spells_of(rows: _Rows) -> list[_Spell | None]:
    """Events of one replay; None for one that says nothing."""
    places, calm = np.flatnonzero(rows.active), np.flatnonzero(rows.calm)
    if not len(places):
        return []
    chosen = np.split(places, np.flatnonzero(np.diff(rows.ts[places]) >= _EVENT_GAP) + 1)
    variance = float(np.mean(rows.y[calm] ** 2)) if len(calm) >= _FEWEST_CALM_BARS else 0.0
    if variance == 0.0:  # no calm to measure events by
        return [None] * len(chosen)
    usual = float(np.median(rows.spread[calm]))
    telling = [_is_telling(rows, each, usual) for each in chosen]
    starts = [each[0] for each, tells in zip(chosen, telling, strict=True) if tells]
    # A calm bar belongs to the event before it, one before all events to the first.
    owner = np.maximum(np.searchsorted(starts, calm, side="right") - 1, 0)
    after = iter([calm[owner == i] for i in range(len(starts))])
    return [
        _spell(rows, each, next(after), variance) if tells else None
        for each, tells in zip(chosen, telling, strict=True)
    ]


def _is_telling(rows: _Rows, places: _Ints, usual: float) -> bool:
    """Whether the terms ever exceed the usual spread, and the later mid is known."""
    return bool(rows.known[places].any() and np.abs(rows.x[places, :3]).sum(axis=1).max() >= usual)


def _spell(rows: _Rows, places: _Ints, after: _Ints, variance: float) -> _Spell:
    used = places[rows.known[places]]
    stress, calm = (Sums.of(rows.x[i], rows.y[i], variance) for i in (used, after))
    return _Spell(int(rows.ts[places[0]]), int(rows.ts[places[-1]]), len(used), stress, calm)


@dataclass(frozen=True, eq=False)
class Events:
    """Independent events: their bars, and the bars between them, as sums of the same length."""

    stress: Sums
    calm: Sums

    def __len__(self) -> int:
        return len(self.stress)

    @classmethod
    def of(cls, spells: Sequence[_Spell], simultaneous: Simultaneous) -> Events:
        """Spells of all replays, those at the same time taken together or not."""
        # In an order of their own, so that it does not matter in which order replays came.
        ordered = sorted(spells, key=lambda s: (s.start, s.end, s.rows, float(s.stress.yy[0]), float(s.calm.yy[0])))
        groups: list[list[_Spell]] = []
        end = 0
        for spell in ordered:
            if groups and simultaneous == "one" and spell.start < end + _EVENT_GAP:
                groups[-1].append(spell)
            else:
                groups.append([spell])
            end = max(end, spell.end)
        return cls(
            Sums.stacked([_mean([spell.stress for spell in group]) for group in groups]),
            Sums.stacked([_mean([spell.calm for spell in group]) for group in groups]),
        )

    def take(self, chosen: _Mask | _Ints) -> Events:
        """Some of the events."""
        return Events(self.stress.take(chosen), self.calm.take(chosen))


def _mean(sums: Sequence[Sums]) -> Sums:
    return Sums.stacked(sums).weighted(np.full(len(sums), 1.0 / len(sums)))
