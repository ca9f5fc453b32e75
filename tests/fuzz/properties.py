"""What must hold whatever comes in: no exception that is not ours, no lost row, no figure out of its range."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import polars as pl

from toxmid.engine import Engine, bars_frame, buckets_frame, events_frame
from toxmid.errors import ToxmidError
from toxmid.inspect import inspect_files
from toxmid.merging import INPUTS
from toxmid.pairing import pair_files
from toxmid.params import Params
from toxmid.readers import TapeWarning, open_tape, recognise
from toxmid.readers.files import read_head
from toxmid.replay import replay

SECOND = 10**9
START = 1_760_054_400 * SECOND
QUICK = Params(bucket_volume=10.0, window=5)


# --- readers ---------------------------------------------------------------------------------------------------------


def check_file(path: Path) -> int:
    """Whatever a file holds: it is read, or refused in words; 1 where rows of it came through to a replay."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TapeWarning)
        try:
            formats = recognise(read_head(path))
        except ToxmidError:
            return 0
        kinds = {kind for format_ in formats for kind in format_.tables}
        return max((_check_kind(path, kind) for kind in sorted(kinds)), default=0)


def _check_kind(path: Path, kind: Any) -> int:
    for allow_partial, sort in ((False, False), (True, True)):
        try:
            tape = open_tape(path, kind, allow_partial=allow_partial, sort=sort)
            frame = tape.frame()
        except ToxmidError:
            continue
        counts = dict(tape.counts)
        assert counts.pop("rows_read") == sum(counts.values())
        assert min(counts.values(), default=0) >= 0
        if sort:
            assert frame["ts"].is_sorted()
        if kind in ("trades", "quotes", "book") and frame.height:
            return check_replay(path, kind)
    return 0


def check_replay(path: Path, kind: str) -> int:
    try:
        result = replay(**{kind: path}, params=QUICK, sort=True, allow_partial=True)
    except ToxmidError:
        return 0
    counts = result.counts
    assert counts["rows_read"] == counts["rows_used"] + counts["rows_rejected"], counts
    check_tables(result.bars, result.buckets, result.events)
    return 1


def check_inspection(path: Path) -> None:
    """Saying what a file is never fails; saying what it belongs to fails in words."""
    (inspection,) = inspect_files(path)
    assert inspection.to_text()
    inspection.to_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TapeWarning)
        for symbol in (None, inspection.instrument.symbol, "NONE"):
            try:
                pair_files([path], symbol=symbol)
            except ToxmidError:
                continue


# --- the core --------------------------------------------------------------------------------------------------------


def check_events(events: Iterable[tuple[str, tuple[Any, ...]]], params: Params) -> Engine:
    """Feed an engine one event at a time; it may refuse one in words, and goes on as if that had not come."""
    engine = Engine(params)
    offered = dict.fromkeys(INPUTS, 0)
    for number, (method, arguments) in enumerate(events):
        try:
            getattr(engine, method)(*arguments)
        except ToxmidError:
            continue
        offered[_INPUT[method]] += 1
        if number % 97 == 0:
            check_row(engine.peek())
    engine.finish()
    tally = engine.tally()
    for name, count in offered.items():
        assert tally["used"][name] + sum(tally["rejected"][name].values()) == count, (name, count, tally)
    check_tables(
        bars_frame(engine.drain_bars()), buckets_frame(engine.drain_buckets()), events_frame(engine.drain_episodes())
    )
    return engine


_INPUT = {
    "trade": "trades",
    "liquidation": "liquidations",
    "book": "book",
    "quote": "quotes",
    "mark_price": "mark",
    "reference_trade": "reference",
    "open_interest": "open_interest",
}


def check_tables(bars: pl.DataFrame, buckets: pl.DataFrame, events: pl.DataFrame) -> None:
    check_bars(bars)
    for table in (bars, buckets):
        for name in ("vpin", "vpin_rank"):
            outside = table.filter(~pl.col(name).fill_nan(None).is_between(0, 1))
            assert outside.is_empty(), outside
    outside = buckets.filter(~pl.col("imbalance").fill_nan(None).is_between(-1 - 1e-9, 1 + 1e-9))
    assert outside.is_empty(), outside
    assert bars["ts"].is_sorted()
    assert events.filter(pl.col("ts_end") < pl.col("ts_start")).is_empty()
    assert events.filter(pl.col("ts_known") < pl.col("ts_end")).is_empty()


_TERMS = ("asymmetry_bps", "volume_bps", "credibility_bps", "toxic_bps", "reference_bps")


def check_row(row: dict[str, Any] | None) -> None:
    """The same of the bar that is open."""
    if row is not None:
        check_bars(pl.DataFrame([row]))


def check_bars(bars: pl.DataFrame) -> None:
    """Figures of bars: in their ranges, and consistent with each other."""
    numbers = bars.select(pl.col(*_RANGES, *_TERMS, "bid", "ask", "mid").cast(pl.Float64).fill_nan(None))
    told = 1e4 * (pl.col("implied_mid") / pl.col("mid")).log() - pl.sum_horizontal(_TERMS)
    holds = {f"{name} in its range": pl.col(name).is_between(*bounds) for name, bounds in _RANGES.items()} | {
        "mid between bid and ask": pl.col("mid").is_between(pl.col("bid"), pl.col("ask")),
        "implied mid in its interval": pl.col("implied_mid").is_between(pl.col("implied_lo"), pl.col("implied_hi")),
        "implied mid as far away as its terms say": told.abs() <= 1e-5 + 1e-6 * pl.sum_horizontal(pl.col(_TERMS).abs()),
    }
    for name, condition in holds.items():
        failing = numbers.filter(~condition.fill_null(True))
        assert failing.is_empty(), (name, failing.head(1).to_dicts())


_RANGES = {
    "vpin": (0.0, 1.0),
    "vpin_rank": (0.0, 1.0),
    "toxicity": (0.0, 1.0),
    "imbalance": (-1.0, 1.0),
    "buy_volume": (0.0, math.inf),
    "sell_volume": (0.0, math.inf),
    "unknown_volume": (0.0, math.inf),
    "liq_buy_volume": (0.0, math.inf),
    "liq_sell_volume": (0.0, math.inf),
    "sweep_volume": (0.0, math.inf),
    "spread_mean_bps": (0.0, math.inf),
    "excess_impact": (0.0, math.inf),
    "implied_mid": (0.0, math.inf),
    "implied_lo": (0.0, math.inf),
    "implied_hi": (0.0, math.inf),
    "toxic_mean": (0.0, math.inf),
    "debiased_mean": (0.0, math.inf),
}


# --- events that nobody would send -----------------------------------------------------------------------------------

_ODD = (math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 5e-324, 1e-300, 1e-12, 1e12, 1e300, 1.7976931348623157e308)


def events(random: Random, count: int) -> list[tuple[str, tuple[Any, ...]]]:
    """A market that wanders, with things in between that no market does."""
    now, price, made = START, 10.0 ** random.randrange(-6, 7), []
    tick = price * random.choice((1e-5, 1e-4, 1e-2))
    for _ in range(count):
        now += random.choice((0, 0, 1, 10**6, 10**8, SECOND, SECOND, 7 * SECOND, 400 * SECOND, -1))
        price *= math.exp(random.choice((0.0, 0.0, 1e-5, -1e-5, 1e-3, -1e-3, 0.05, -0.05)))
        made.append(_event(random, now, max(tick, round(price / tick) * tick), tick))
    return made


def _event(random: Random, now: int, price: float, tick: float) -> tuple[str, tuple[Any, ...]]:
    def number(usual: float) -> float:
        return random.choice(_ODD) if random.random() < 0.02 else usual

    def size() -> float:
        return number(random.choice((0.001, 0.1, 1.0, 2.5, 3.0, 40.0, 1e4)))

    side = random.choice((1, 1, -1, -1, 0, 7 if random.random() < 0.1 else 1))
    method = random.choice(("trade",) * 5 + ("book",) * 5 + ("quote",) * 3 + tuple(_INPUT))
    if method in ("mark_price", "open_interest"):
        return method, (now, number(price))
    if method == "quote":
        half = tick * random.choice((0.5, 1, 1, 3, 50, -1, 0))
        return method, (now, number(price - half), size(), number(price + half), size())
    if method == "liquidation":
        return method, (now, side, number(price), size())
    if method == "book":
        level = price - side * tick * random.choice((1, 2, 3, 10, 30000, -2))
        flags = (random.random() < 0.05, random.random() < 0.02)
        return method, (now, side, number(level), 0.0 if random.random() < 0.3 else size(), *flags)
    lots = (random.choice((0, 0, 0, 1, 5, -3, 2**62)),) if method == "trade" and random.random() < 0.1 else ()
    return method, (now, number(price), size(), side, *lots)
