"""The book of the core against two dicts: the same levels and counts after every message, whatever comes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from feeding import SECOND, START, assert_same_book, simulated, singly, times, whole
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference.book import ASK, BID, Book

from toxmid._core import BookCore
from toxmid.engine import Engine, bars_frame
from toxmid.errors import DataError
from toxmid.instrument import Instrument
from toxmid.params import Params

Row = tuple[int, float, float, bool] | tuple[int, float, float, bool, bool]  # side, price, size, snapshot, gap
Message = Sequence[Row]

TRUSTING = Params(book_without_snapshot=True)


def all_levels(engine: Engine, side: int) -> list[tuple[float, float]]:
    """Every level of a side, far ones too: they come into sight as the nearer ones are deleted."""
    engine = Engine.restore(engine.snapshot())
    found: list[tuple[float, float]] = []
    while levels := engine.book_levels(side):
        found += levels
        for price, _ in levels:
            engine.book(engine.now, side, price, 0.0)
        engine.mark_price(engine.now + 1, 1.0)
    return found


def compare_alone(alone: BookCore, engine: Engine) -> None:
    """The book without an engine around it is the same book."""
    for side in (BID, ASK):
        assert alone.levels(side) == engine.book_levels(side)
    ours, theirs = alone.tally(), engine.tally()
    for name in ("books_crossed", "books_repaired", "levels_removed", "book_resets", "deletes_unknown"):
        assert ours[name] == theirs[name]
    for name in ("used", "rejected"):
        assert ours[name]["book"] == theirs[name]["book"]


def columns_of(ts: int, message: Message) -> dict[str, np.ndarray]:
    """A message as the array face takes it."""
    rows = [(*row, False)[:5] for row in message]
    side, price, size, snapshot, gap = zip(*rows, strict=True) if rows else [()] * 5
    figures = {"price": np.array(price, float), "size": np.array(size, float)}
    flags = {"snapshot": np.array(snapshot, np.uint8), "gap": np.array(gap, np.uint8)}
    return {"ts": np.full(len(message), ts), "side": np.array(side, np.int8), **figures, **flags}


def play(messages: Sequence[Message], params: Params = TRUSTING, tick: float | None = None) -> tuple[Engine, Book]:
    """Feed both, compare after each message."""
    engine = Engine(params, Instrument(tick=tick))
    alone = BookCore(tick or 0.0, not params.book_without_snapshot)
    book = Book(need_snapshot=not params.book_without_snapshot)
    for number, message in enumerate(messages):
        ts = START + number * 1000
        for row in message:
            engine.book(ts, *row)
            book.row(*row)
        alone.run(columns_of(ts, message))
        alone.settle()
        engine.mark_price(ts + 1, 1.0)  # a later moment: the message has ended
        book.judge()
        assert_same_book(engine, book)
        compare_alone(alone, engine)
    for side in (BID, ASK):
        assert all_levels(engine, side) == book.ladder(side)
    return engine, book


def rows(prices: st.SearchStrategy[float], snapshot: st.SearchStrategy[bool]) -> st.SearchStrategy[list[Row]]:
    sizes = st.sampled_from([0.0, 0.0, 1.0, 2.5])
    return st.lists(st.tuples(st.sampled_from([BID, ASK]), prices, sizes, snapshot), min_size=1, max_size=6)


# Close prices, so that deletes meet levels and sides cross; far ones, ten times as high or low.
NEAR = st.integers(9_990, 10_010).map(lambda tick: tick / 100)
FAR = st.sampled_from([1.0, 9.99, 10.0, 30.0, 50.0, 83.63, 116.37, 200.0, 999.0, 1000.0])
FINE = st.sampled_from([99.0, 100.0, 101.0, 99.5, 100.5, 100.25, 100.01, 99.999, 100.001])
SELDOM = st.sampled_from([False] * 9 + [True])


@settings(max_examples=60, deadline=None)
@given(st.lists(rows(NEAR, SELDOM), max_size=25), st.booleans())
def test_near_prices(messages: list[list[Row]], trusting: bool) -> None:
    play(messages, Params(book_without_snapshot=trusting), tick=0.01)


@settings(max_examples=80, deadline=None)
@given(st.lists(rows(FAR | NEAR, st.just(False) | SELDOM), max_size=25))
@example(
    [
        [(BID, 1000.0, 1.0, False), (BID, 500.0, 1.0, False)],
        [(BID, 1000.0, 0.0, False), (BID, 300.0, 1.0, False)],
    ]
)
def test_far_prices(messages: list[list[Row]]) -> None:
    """A tick of a tenth of a cent: prices ten times as far lie well outside the window of near levels."""
    play(messages, tick=0.001)


@settings(max_examples=60, deadline=None)
@given(st.lists(rows(FINE | FAR, SELDOM), max_size=20))
def test_tick_is_found_while_the_book_stands(messages: list[list[Row]]) -> None:
    """1, then 0.5 (counted in tenths), then 0.01, then 0.001: levels that stand keep their prices."""
    play(messages)


@settings(max_examples=60, deadline=None)
@given(st.lists(rows(NEAR, SELDOM), max_size=25), st.lists(st.integers(0, 60), max_size=4), st.booleans())
def test_lost_updates(messages: list[list[Row]], lost: list[int], trusting: bool) -> None:
    """Any row, even of the middle of a message or of a snapshot, may say that something before it is missing."""
    numbers = iter(range(10**6))
    marked = [[(*row, next(numbers) in lost) for row in message] for message in messages]
    play(marked, Params(book_without_snapshot=trusting), tick=0.01)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_long_random_walk(seed: int) -> None:
    """Thousands of levels around a price that wanders over several windows."""
    import random

    random_ = random.Random(seed)
    centre, messages = 20_000, []
    standing: dict[int, set[int]] = {BID: set(), ASK: set()}
    for _ in range(150):
        centre += random_.choice([-9000, -30, -5, 0, 5, 30, 9000] if random_.random() < 0.1 else [-3, 0, 3])
        centre = max(centre, 500)
        message: list[Row] = []
        for _ in range(random_.randrange(1, 12)):
            side = random_.choice([BID, ASK])
            if standing[side] and random_.random() < 0.45:
                tick = random_.choice(sorted(standing[side]))
                message.append((side, tick / 100, 0.0, False))
                standing[side].discard(tick)
            else:
                tick = max(1, centre - side * int(random_.expovariate(0.02)))
                message.append((side, tick / 100, random_.randrange(1, 9) / 4, False))
                standing[side].add(tick)
        messages.append(message)
    play(messages, tick=0.01)


def test_missed_delete_is_repaired() -> None:
    """A bid above an ask that stood: the ask is the older one, and goes."""
    engine, book = play(
        [
            [(BID, 99.0, 1.0, True), (ASK, 100.0, 1.0, True), (ASK, 101.0, 2.0, True)],
            [(BID, 100.5, 3.0, False)],
        ]
    )
    assert engine.book_levels(BID) == [(100.5, 3.0), (99.0, 1.0)]
    assert engine.book_levels(ASK) == [(101.0, 2.0)]
    assert (book.repaired, book.removed, book.left_crossed) == (1, 1, 0)


def test_crossed_inside_a_message_is_judged_at_its_end() -> None:
    """Set the new bid first, delete the old ask afterwards: nothing was ever wrong."""
    _, book = play(
        [
            [(BID, 99.0, 1.0, True), (ASK, 100.0, 1.0, True), (ASK, 101.0, 2.0, True)],
            [(BID, 100.0, 3.0, False), (ASK, 100.0, 0.0, False)],
        ]
    )
    assert (book.repaired, book.left_crossed) == (0, 0)


def test_crossed_snapshot_stands_and_has_no_mid() -> None:
    """Two sides of one message that cross: nothing says which is right."""
    engine = Engine()
    for side, price in ((BID, 100.0), (ASK, 99.0)):
        engine.book(START + 1, side, price, 1.0, True)
    engine.mark_price(START + 2, 99.5)
    engine.finish()
    bar = engine.take_bars()
    assert bar.select("bid", "ask", "mid", "regime").rows() == [(None, None, None, "one-sided book")]
    assert engine.tally()["books_crossed"] == 1


def test_snapshot_clears_both_sides() -> None:
    engine, _ = play(
        [
            [(BID, 99.0, 1.0, True), (ASK, 100.0, 1.0, True)],
            [(BID, 98.0, 1.0, False)],
            [(ASK, 105.0, 4.0, True)],
        ],
        Params(),
    )
    assert engine.book_levels(BID) == []
    assert engine.book_levels(ASK) == [(105.0, 4.0)]


def test_one_side_can_be_emptied() -> None:
    """Every ask deleted: no best ask, no mid, and the bid as it stands."""
    engine = Engine()
    for side, price in ((BID, 99.0), (ASK, 100.0)):
        engine.book(START + 1, side, price, 1.0, True)
    engine.book(START + SECOND + 1, ASK, 100.0, 0.0)
    engine.finish()
    assert engine.take_bars().select("bid", "bid_size", "ask", "ask_size", "mid").rows() == [
        (99.0, 1.0, 100.0, 1.0, 99.5),
        (99.0, 1.0, None, None, None),
    ]


def test_rows_that_cannot_be_levels() -> None:
    """Refused and counted; the book stays as it was."""
    engine = Engine()
    engine.book(START, BID, 99.0, 1.0, True)
    engine.book(START, ASK, 100.0, 1.0, True)
    for row in ((BID, math.nan, 1.0), (BID, -1.0, 1.0), (BID, 0.0, 1.0), (ASK, math.inf, 1.0)):
        engine.book(START, *row)
    for row in ((BID, 99.0, math.nan), (BID, 99.0, -1.0), (BID, 99.0, math.inf)):
        engine.book(START, *row)
    engine.book(START, 0, 99.0, 5.0)
    refused = engine.tally()["rejected"]["book"]
    assert refused == {"bad_price": 4, "bad_size": 3, "zero_size": 0, "bad_side": 1, "before_snapshot": 0}
    assert (engine.book_levels(BID), engine.book_levels(ASK)) == ([(99.0, 1.0)], [(100.0, 1.0)])


def test_price_off_the_given_tick_is_rounded_and_counted() -> None:
    engine = Engine(TRUSTING, Instrument(tick=0.5))
    for price in (100.0, 100.5, 100.6):
        engine.book(START, BID, price, 1.0)
    assert engine.tally()["prices_off_tick"] == 1
    assert engine.book_levels(BID) == [(100.5, 1.0), (100.0, 1.0)]


def test_after_lost_updates_there_is_no_mid_until_the_next_snapshot() -> None:
    def second(number: int) -> int:
        return START + number * SECOND + SECOND // 2

    engine = Engine(Params(), Instrument(tick=0.5))
    for at, size, snapshot, gap in ((0, 1.0, True, False), (2, 2.0, False, True), (3, 3.0, False, False)):
        engine.book(second(at), BID, 99.5, size, snapshot, gap)
        engine.book(second(at), ASK, 100.5, size, snapshot)
    engine.book(second(5), BID, 99.5, 4.0, True)
    engine.book(second(5), ASK, 100.5, 4.0, True)
    engine.finish()
    bars = bars_frame(engine.drain_bars())
    assert bars["mid"].to_list() == [100.0, 100.0, None, None, None, 100.0]
    assert bars["regime"].to_list()[2:5] == ["one-sided book"] * 3
    tally = engine.tally()
    assert (tally["sequence_gaps"], tally["book_resets"]) == (1, 2)
    assert tally["rejected"]["book"]["before_snapshot"] == 4


def test_a_gap_counts_even_on_a_row_that_is_refused() -> None:
    engine = Engine(Params(), Instrument(tick=0.5))
    engine.book(START, BID, 99.5, 1.0, True)
    engine.book(START + 1, BID, math.nan, 1.0, False, True)
    assert engine.book_levels(BID) == []
    assert engine.tally()["sequence_gaps"] == 1


def test_gaps_in_columns_are_gaps_one_by_one() -> None:
    table = simulated()["book"].head(4000).with_columns(gap=pl.int_range(pl.len()) % 977 == 500)
    one, many = Engine(), Engine()
    assert singly(one, {"book": table}) == whole(many, {"book": table})
    assert one.tally()["sequence_gaps"] == 4


@pytest.mark.parametrize("size", [0.0, 3.0])
def test_rows_before_a_snapshot(size: float) -> None:
    """Half a book is no book: skipped and counted, unless one says that it is to be believed."""
    cautious, trusting = Engine(), Engine(TRUSTING)
    for engine in (cautious, trusting):
        engine.book(START, BID, 99.0, size)
    assert cautious.book_levels(BID) == []
    assert cautious.tally()["rejected"]["book"]["before_snapshot"] == 1
    assert trusting.book_levels(BID) == ([(99.0, size)] if size else [])


def test_simulated_book_at_every_bar() -> None:
    """Touch, spread and depth of the bars are those of the plain book at the end of each second."""
    table = simulated()["book"]
    engine = Engine(instrument=Instrument(tick=0.1))
    engine.feed(book=table)
    engine.finish()
    bars = iter(bars_frame(engine.drain_bars()).to_dicts())
    book, end = Book(), 0
    rows_ = list(
        zip(times(table), *(table[name].to_list() for name in ("side", "price", "size", "snapshot")), strict=True)
    )
    checked = 0
    for number, (ts, side, price, size, snapshot) in enumerate(rows_):
        end = end or -(-ts // SECOND) * SECOND
        if number and ts != rows_[number - 1][0]:
            book.judge()
        while ts > end:
            check_bar(next(bars), book)
            checked += 1
            end += SECOND
        book.row(side, price, size, snapshot)
    assert checked > 590


def check_bar(bar: dict[str, float], book: Book) -> None:
    bid, ask = book.best(BID), book.best(ASK)
    assert bid is not None
    assert ask is not None
    mid = 0.5 * (bid + ask)
    assert (bar["bid"], bar["ask"], bar["mid"]) == (bid, ask, mid)
    assert (bar["bid_size"], bar["ask_size"]) == (book.levels[BID][bid], book.levels[ASK][ask])
    assert math.isclose(bar["spread_bps"], 1e4 * math.log(ask / bid), rel_tol=1e-11)
    assert math.isclose(bar["depth_bid"], book.depth(BID, mid, 10.0), rel_tol=1e-9)
    assert math.isclose(bar["depth_ask"], book.depth(ASK, mid, 10.0), rel_tol=1e-9)


# --- rows that are looked at together --------------------------------------------------------------------------------

BLOCK = 256  # rows whose ticks the core finds together
Columns = dict[str, np.ndarray]


def walk(n: int, seed: int = 0) -> Columns:
    """Rows around a wandering mid, a few to a message; what the mid runs into is stale, and some levels are far."""
    rng = np.random.default_rng(seed)
    side = rng.choice(np.array([-1, 1], np.int8), n)
    tick = 100_000 + np.cumsum(rng.integers(-1, 2, n)) - side * np.minimum(rng.geometric(0.05, n), 90)
    tick = np.where(rng.random(n) < 0.01, tick - 20_000 * side.astype(int), tick)
    snapshot, gap = np.zeros(n, np.uint8), np.zeros(n, np.uint8)
    size = np.where(rng.random(n) < 0.4, 0.0, rng.integers(1, 50, n) / 10)
    snapshot[:2], side[:2], tick[:2], size[:2] = 1, (1, -1), (99_990, 100_010), 1.0
    ts = START + np.cumsum(rng.random(n) < 0.3) * 20_000_000
    figures = {"ts": ts, "side": side, "price": tick / 100, "size": size, "snapshot": snapshot, "gap": gap}
    return {name: np.ascontiguousarray(column) for name, column in figures.items()}


def one_by_one(columns: Columns, engine: Engine, prints: set[int] = frozenset()) -> None:  # type: ignore[assignment]
    rows_ = zip(*(columns[name].tolist() for name in ("ts", "side", "price", "size", "snapshot", "gap")), strict=True)
    for number, row in enumerate(rows_):
        if number in prints:
            engine.trade(row[0], 1000.0, 1.0, 1)
        engine.book(*row)


def at_once(columns: Columns, engine: Engine, alone: BookCore | None = None, cuts: Sequence[int] = ()) -> None:
    edges = [0, *cuts, len(columns["ts"])]
    for begin, end in pairwise(edges):
        part = {name: column[begin:end] for name, column in columns.items()}
        engine.run((None, None, part))
        if alone is not None:
            alone.run(part)


def check_same(columns: Columns, params: Params, tick: float | None, cuts: Sequence[int] = ()) -> None:
    """One by one, as arrays, and the book alone: the same state to the last bit, and the same book."""
    one, many = (Engine(params, Instrument(tick=tick)) for _ in range(2))
    alone = BookCore(tick or 0.0, not params.book_without_snapshot)
    one_by_one(columns, one)
    at_once(columns, many, alone, cuts)
    assert one.snapshot() == many.snapshot()
    compare_alone(alone, many)
    end = int(columns["ts"].max()) + 1
    for engine in (one, many):
        engine.mark_price(end, 1.0)
    alone.settle()
    compare_alone(alone, many)


@pytest.mark.parametrize("length", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 1, 1111])
def test_chunks_of_all_lengths(length: int) -> None:
    for seed in range(3):
        columns = walk(2500, seed)
        check_same(columns, TRUSTING, 0.01, range(length, 2500, length))
        check_same(columns, Params(), None, range(3, 2500, length))


def restless(seed: int) -> Columns:
    """Rows at every distance from a mid that wanders and jumps, in messages of all lengths: sides that touch, cross,
    run empty and come back elsewhere, far levels, snapshots inside a block, sides that one message clears."""
    rng = np.random.default_rng(seed)
    n, kind = 1500, seed % 5
    side = rng.choice(np.array([-1, 1], np.int8), n)
    steps = rng.integers(-1, 2, n) * (rng.random(n) < (0.02, 0.3, 0.05, 0.03, 0.02)[kind])
    jumps = rng.choice([0, 200_000, -200_000, 500], n, p=[0.991, 0.003, 0.003, 0.003]) if kind in (1, 4) else 0
    mid = 5_000_000 + np.cumsum(steps + jumps)
    apart = 2_000_000 if kind == 4 else 0  # jumps then move the window of a side, and nothing crosses
    tick = mid - side * (apart + rng.geometric((0.02, 0.2, 0.5, 0.3, 0.05)[kind], n) - rng.integers(0, 2))
    tick = np.where(rng.random(n) < (0, 0.005, 0.001, 0, 0.02)[kind], tick - 15_000 * side.astype(int), tick)
    size = np.where(rng.random(n) < (0.35, 0.45, 0.5, 0.45, 0.3)[kind], 0.0, rng.integers(1, 50, n) / 10)
    ts = START + np.cumsum(rng.random(n) < (0.25, 0.5, 1.0, 0.02, 0.2)[kind]) * 1000
    snapshot = np.isin(ts, rng.choice(ts, 2)) if kind < 2 else np.zeros(n, np.bool_)
    for at in rng.integers(100, n, 2):  # what was set last on one side goes
        recent = np.arange(max(0, at - 40), at)
        of_side = recent[side[recent] == side[at]][: n - at]
        where = slice(at, at + len(of_side))
        side[where], tick[where], size[where] = side[at], tick[of_side], 0.0
        ts[where] = ts[at]
    ts = np.maximum.accumulate(ts)
    columns = {"ts": ts, "side": side, "price": tick / 100, "size": size, "snapshot": snapshot.astype(np.uint8)}
    return {name: np.ascontiguousarray(column) for name, column in columns.items()}


@pytest.mark.parametrize("seed", range(60))
def test_whole_blocks_against_two_dicts(seed: int) -> None:
    """Most messages are taken without a look at each: the same levels and counts as when each is judged."""
    columns, rng = restless(seed), np.random.default_rng(seed)
    ends = np.flatnonzero(np.diff(columns["ts"])) + 1
    shown = {*rng.choice(ends, min(12, len(ends)), replace=False).tolist(), len(columns["ts"])}
    cuts = sorted(shown | set(rng.integers(0, 1500, 4).tolist()))
    alone, book = BookCore(0.01, seed % 3 == 0), Book(need_snapshot=seed % 3 == 0)
    table = list(zip(*(columns[name].tolist() for name in ("ts", "side", "price", "size", "snapshot")), strict=True))
    now = 0
    for begin, end in pairwise([0, *cuts]):
        for ts, *row in table[begin:end]:
            if ts != now:
                book.judge()
            now = ts
            book.row(row[0], row[1], row[2], bool(row[3]))
        alone.run({name: column[begin:end] for name, column in columns.items()})
        if end not in shown:
            continue
        alone.settle()
        book.judge()
        for side in (BID, ASK):
            levels, ladder = alone.levels(side), book.ladder(side)
            assert levels == ladder[: len(levels)]
            assert bool(levels) == bool(ladder)
        tally = alone.tally()
        assert (tally["books_repaired"], tally["levels_removed"]) == (book.repaired, book.removed)
        assert (tally["books_crossed"], tally["book_resets"]) == (book.left_crossed, book.resets)
        assert (tally["deletes_unknown"], tally["used"]["book"]) == (book.unknown_deletes, book.used)


@pytest.mark.parametrize("start", [1, 15, 16, 17, 100, 250, 256, 300])
@pytest.mark.parametrize("length", [3, 40, 300, 600])
def test_a_long_message_remembers_what_it_set(start: int, length: int) -> None:
    """Its last row crosses what its first one set: nothing says which is right, so both stand. Older levels go."""
    n = start + length
    side, price, size = np.where(np.arange(n) % 2, ASK, BID).astype(np.int8), np.full(n, 95.0), np.ones(n)
    price[side == ASK] = 105.0
    side[0], price[0] = BID, 100.5
    side[start], price[start] = BID, 100.0
    side[-1], price[-1] = ASK, 99.0
    columns = {"ts": START + np.where(np.arange(n) < start, np.arange(n), start), "side": side, "price": price}
    alone = BookCore(0.5, False)
    alone.run(columns | {"size": size})
    alone.settle()
    assert alone.levels(BID) == [(100.0, 1.0), (95.0, 1.0)]
    assert alone.levels(ASK)[0] == (99.0, 1.0)
    assert (alone.tally()["books_crossed"], alone.tally()["levels_removed"]) == (1, 1)


def spoil(columns: Columns, at: int, kind: str) -> None:
    """Make one row what cannot be taken together with its neighbours."""
    single = {
        "no price": ("price", math.nan), "price too high": ("price", 1e16), "price beyond counting": ("price", 1e12),
        "no side": ("side", 0), "side that is none": ("side", 127), "no size": ("size", math.nan),
        "size too big": ("size", 2e18), "minus nothing": ("size", -0.0), "off the grid": ("price", 999.9975),
        "on no grid": ("price", 1000 / 3), "far away": ("price", 5.0), "lost before": ("gap", 1),
        "begins a snapshot": ("snapshot", 1),
    }  # fmt: skip
    if kind == "is a snapshot":
        columns["snapshot"][at : at + 300] = 1
    elif kind == "empties a side":
        columns["price"][at], columns["size"][at] = 1.0, 1.0
        columns["snapshot"][at] = 1
        columns["size"][at + 1 : at + 40] = 0.0
    else:
        name, value = single[kind]
        columns[name][at] = value


KINDS = ["no price", "price too high", "price beyond counting", "no side", "side that is none", "no size",
         "size too big", "minus nothing", "off the grid", "on no grid", "far away", "lost before", "begins a snapshot",
         "is a snapshot", "empties a side"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_unusual_row_at_every_place(kind: str) -> None:
    whole_, cut = walk(2 * BLOCK + 20, 7), (BLOCK // 2,)
    for at in [0, 1, 2, *range(3, BLOCK, 5), *range(BLOCK - 4, BLOCK + 5), 2 * BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 19]:
        columns = {name: column.copy() for name, column in whole_.items()}
        spoil(columns, at, kind)
        check_same(columns, TRUSTING if at % 2 else Params(), 0.01 if at % 3 else None, cut if at % 4 == 0 else ())


@pytest.mark.parametrize("at", [1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 500])
@pytest.mark.parametrize("ts", [-1, 0, START - 1, START + 10**18])
def test_a_wrong_time_is_told_with_its_row(at: int, ts: int) -> None:
    columns = walk(600)
    columns["ts"][at] = ts
    one, many, alone = Engine(TRUSTING), Engine(TRUSTING), BookCore()
    with pytest.raises(DataError) as single:
        one_by_one(columns, one)
    with pytest.raises(DataError) as together:
        many.run((None, None, columns))
    assert (together.value.row, together.value.found) == (at, single.value.found)
    assert one.snapshot() == many.snapshot()
    if ts < START:
        with pytest.raises(DataError) as lonely:
            alone.run(columns)
        assert lonely.value.row == at


def test_other_events_between_rows() -> None:
    """Trades at the times of rows and between them: rows are taken together only as far as nothing else comes first."""
    columns = walk(1500, 3)
    rng = np.random.default_rng(4)
    before = np.sort(rng.choice(np.flatnonzero(np.diff(columns["ts"]) > 0)[1:] + 1, 120, replace=False))
    ts = columns["ts"][before]
    trades = {"ts": ts, "price": np.full(ts.size, 1000.0), "size": np.ones(ts.size), "side": np.ones(ts.size, np.int8)}
    one, many = Engine(TRUSTING), Engine(TRUSTING)
    one_by_one(columns, one, set(before.tolist()))
    many.run((trades, None, columns))
    assert one.snapshot() == many.snapshot()
