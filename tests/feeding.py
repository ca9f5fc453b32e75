"""Tapes for tests of the engine, and every way in which it can be fed with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from reference.book import ASK, BID, Book

from toxmid.engine import Engine
from toxmid.merging import INPUTS
from toxmid.schema import canonical
from toxmid.simulate import simulate

SECOND = 10**9
START = 1_760_054_400 * SECOND  # 2025-10-10 00:00 UTC
NAN = float("nan")

Tables = dict[str, pl.DataFrame]
Rows = tuple[bytes, bytes, bytes]
Event = tuple[str, tuple[Any, ...]]  # method of the engine, its arguments

_CALLS = {
    "trades": ("trade", ("price", "size", "side", "lots")),
    "liquidations": ("liquidation", ("side", "price", "size")),
    "book": ("book", ("side", "price", "size", "snapshot", "gap")),
    "quotes": ("quote", ("bid", "bid_size", "ask", "ask_size")),
    "mark": ("mark_price", ("price",)),
    "reference": ("reference_trade", ("price", "size", "side")),
    "open_interest": ("open_interest", ("open_interest",)),
}


def times(table: pl.DataFrame) -> list[int]:
    return table["ts"].to_physical().to_list()


def order(tables: Tables) -> list[tuple[int, int, int]]:
    """(time, kind, row) of all rows, in the order in which an engine is to take them."""
    return sorted(
        (ts, kind, row)
        for kind, name in enumerate(INPUTS)
        if name in tables
        for row, ts in enumerate(times(tables[name]))
    )


def events(tables: Tables) -> list[Event]:
    """All rows as calls of the engine's methods."""
    rows = {}
    for name, table in tables.items():
        columns = [column for column in _CALLS[name][1] if column in table.columns]
        rows[name] = list(zip(times(table), *(table[column].to_list() for column in columns), strict=True))
    names = tuple(INPUTS)
    return [(_CALLS[names[kind]][0], rows[names[kind]][row]) for _, kind, row in order(tables)]


def chunks(tables: Tables, cuts: Sequence[int]) -> Iterator[Tables]:
    """The tables in consecutive parts; `cuts` counts rows of the merged order."""
    names = tuple(INPUTS)
    kinds = np.array([kind for _, kind, _ in order(tables)], dtype=np.int64)
    taken = dict.fromkeys(tables, 0)
    for begin, end in pairwise([0, *sorted(cuts), len(kinds)]):
        part = {}
        for name in tables:
            count = int(np.count_nonzero(kinds[begin:end] == names.index(name)))
            part[name] = tables[name][taken[name] : taken[name] + count]
            taken[name] += count
        yield part


def drain(engine: Engine) -> Rows:
    """Bytes of bars, buckets and episodes that have gathered."""
    return engine.drain_bars(), engine.drain_buckets(), engine.drain_episodes()


def singly(engine: Engine, tables: Tables) -> Rows:
    """One event at a time."""
    for method, arguments in events(tables):
        getattr(engine, method)(*arguments)
    engine.finish()
    return drain(engine)


def whole(engine: Engine, tables: Tables) -> Rows:
    """All tables at once."""
    engine.feed(**tables)
    engine.finish()
    return drain(engine)


def in_chunks(engine: Engine, tables: Tables, cuts: Sequence[int]) -> Rows:
    """Part by part, rows taken out after each."""
    gathered = [drain(engine)]
    for part in chunks(tables, cuts):
        engine.feed(**part)
        gathered.append(drain(engine))
    engine.finish()
    gathered.append(drain(engine))
    bars, buckets, episodes = (b"".join(column) for column in zip(*gathered, strict=True))
    return bars, buckets, episodes


@cache
def simulated(scenario: str = "flush", seed: int = 11, duration: float = 600.0) -> Tables:
    """A simulated market with everything an engine can take; without lots, as a venue prints it."""
    market = simulate(scenario, seed=seed, duration=duration, levels=10, start=START)  # type: ignore[arg-type]
    truth = market.truth
    return {
        "trades": canonical(market.trades.drop("id", "lots"), "trades"),
        "liquidations": market.liquidations,
        "book": market.book,
        "quotes": market.quotes,
        "mark": canonical(truth[::10].rename({"mid": "price"}), "mark"),
        "reference": canonical(
            market.trades[::3].with_columns(pl.col("ts") + pl.duration(milliseconds=50)).drop("id", "lots"), "trades"
        ),
        "open_interest": interest(market.liquidations, duration),
    }


def interest(liquidations: pl.DataFrame, duration: float) -> pl.DataFrame:
    """Open interest every five seconds: a walk of voluntary positions, from which the liquidated ones fall off."""
    ts = START + np.arange(1, int(duration / 5)) * 5 * SECOND + 3
    gone = np.array([liquidations.filter(pl.col("ts").to_physical() < moment)["size"].sum() for moment in ts])
    walk = np.cumsum(np.random.default_rng(0).normal(0, 0.3, ts.size))
    return canonical(pl.DataFrame({"ts": ts, "open_interest": 5000.0 + walk - gone}), "open_interest")


def assert_same_book(engine: Engine, book: Book) -> None:
    """Levels near the best, as far as the core shows them, and everything that was counted."""
    for side in (BID, ASK):
        shown, ladder = engine.book_levels(side), book.ladder(side)
        assert shown == ladder[: len(shown)]
        assert bool(shown) == bool(ladder)
    tally = engine.tally()
    assert (tally["used"]["book"], tally["rejected"]["book"]["before_snapshot"]) == (book.used, book.before_snapshot)
    assert tally["book_resets"] == book.resets
    assert tally["deletes_unknown"] == book.unknown_deletes
    assert (tally["books_repaired"], tally["levels_removed"]) == (book.repaired, book.removed)
    assert tally["books_crossed"] == book.left_crossed
    assert tally["sequence_gaps"] == book.gaps


def only(tables: Tables, *names: str) -> Tables:
    return {name: tables[name] for name in names}


def trade_table(rows: Sequence[tuple[int, float, float, int]]) -> pl.DataFrame:
    """Canonical trades from (ns after the start, price, size, side)."""
    schema = {"ts": pl.Int64, "price": pl.Float64, "size": pl.Float64, "side": pl.Int8}
    moved = [(START + ts, price, size, side) for ts, price, size, side in rows]
    return canonical(pl.DataFrame(moved, schema=schema, orient="row"), "trades")


def uncomfortable(seed: int, count: int = 4000) -> Tables:
    """What a bad day brings: nothing where numbers should be, crossed quotes, one time for many rows, huge trades,
    sizes and prices off every grid, unknown sides, rows of no side."""
    rng = np.random.default_rng(seed)
    mid = 100.0 * np.exp(np.cumsum(rng.normal(0, 2e-4, count)))
    half = rng.choice([0.05, 0.05, 0.2, 2.0, -0.1], count)
    bid, ask = np.round(mid - half, 2), np.round(mid + half, 2)
    sizes = rng.choice([0.1, 0.3, 1.0, 2.5, 0.0, NAN, -1.0, 1 / 3, 1234.5, 0.00000001, np.inf], (4, count))
    sizes = np.where(rng.random((4, count)) < 0.9, rng.integers(1, 50, (4, count)) / 10, sizes)

    def clock() -> pl.Series:
        gaps = rng.choice(
            [0, 1, 10**6, SECOND // 3, SECOND, 70 * SECOND], count, p=[0.3, 0.1, 0.3, 0.2, 0.0998, 0.0002]
        )
        return pl.Series(START + np.cumsum(gaps)).cast(pl.Datetime("ns", "UTC"))

    def spoiled(price: np.ndarray[Any, Any], share: float = 0.02) -> np.ndarray[Any, Any]:
        bad = rng.choice([NAN, 0.0, -1.0, np.inf, 1e-3, 99.99999], count)
        return np.where(rng.random(count) < share, bad, price)

    side = rng.choice(np.array([1, -1, 0], np.int8), count, p=[0.47, 0.47, 0.06])
    frames = {
        "trades": {"price": spoiled(np.where(side > 0, ask, bid)), "size": sizes[0], "side": side},
        "liquidations": {"side": side, "price": spoiled(mid), "size": sizes[1]},
        "book": {
            "side": side,
            "price": spoiled(np.round(mid - side * rng.integers(-1, 40, count) / 100, 2)),
            "size": np.where(rng.random(count) < 0.3, 0.0, sizes[2]),
            "snapshot": rng.random(count) < 0.01,
            "gap": np.arange(count) % 1013 == 700,
        },
        "quotes": {"bid": spoiled(bid), "bid_size": sizes[2], "ask": spoiled(ask), "ask_size": sizes[3]},
        "mark": {"price": spoiled(mid)},
        "reference": {"price": spoiled(mid), "size": sizes[1], "side": side},
        "open_interest": {"open_interest": spoiled(1000.0 + 10.0 * (mid - 100.0))},
    }
    return {name: canonical(pl.DataFrame({"ts": clock(), **columns}), INPUTS[name]) for name, columns in frames.items()}
