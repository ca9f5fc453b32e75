"""Two engines through whatever may happen: one takes events singly, the other as arrays; they stay the same state, and
what they said is what plain references make of the same events."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from feeding import NAN, SECOND, START, assert_same_book
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from reference.bars import Tape, bar, is_price, is_size
from reference.depth import Market
from reference.matching import Matching
from reference.volume_clock import VolumeClock, range_of_starts

from toxmid import _core
from toxmid.engine import Engine
from toxmid.instrument import Instrument
from toxmid.merging import INPUTS
from toxmid.params import Params
from toxmid.schema import canonical

NAMES = {
    "trade": ("trades", ("price", "size", "side")),
    "liquidation": ("liquidations", ("side", "price", "size")),
    "book": ("book", ("side", "price", "size", "snapshot")),
    "quote": ("quotes", ("bid", "bid_size", "ask", "ask_size")),
    "mark_price": ("mark", ("price",)),
    "reference_trade": ("reference", ("price", "size", "side")),
    "open_interest": ("open_interest", ("open_interest",)),
}
RANK = {method: tuple(INPUTS).index(name) for method, (name, _) in NAMES.items()}
PARAMS = Params(bucket_volume=1.0, window=3, vpin_offsets=5, gap="30s", halt="5s")
LOT = Fraction(1, 1000)
MOST_BARS = 200  # with events in them that are reckoned again
SHARES = {1: (Fraction(1), Fraction(0)), -1: (Fraction(0), Fraction(1)), 0: (Fraction(0), Fraction(0))}

BAD = st.sampled_from([NAN, -1.0, 0.0, float("inf")])
PRICES = st.integers(9_900, 10_100).map(lambda tick: tick / 100) | st.sampled_from([50.0, 99.999, 100.0625]) | BAD
SIZES = st.integers(1, 40).map(lambda lot: lot / 10) | st.sampled_from([0.001, 1 / 3, 500.0]) | BAD
SIDES = st.sampled_from([1, -1, 1, -1, 0])
STEPS = st.sampled_from([0, 0, 0, 1, 10**6, SECOND // 2, SECOND, 2 * SECOND, 40 * SECOND])


class TwoEngines(RuleBasedStateMachine):
    """`single` is always up to date; `arrays` follows when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.single, self.arrays = Engine(PARAMS), Engine(PARAMS)
        self.pending: list[tuple[str, tuple[Any, ...]]] = []
        self.sent: Counter[str] = Counter()
        self.last_bar: int | None = None
        self.ts, self.kind = START, 0
        self.past: list[tuple[str, tuple[Any, ...]]] = []
        self.said: list[tuple[bytes, bytes]] = []

    def send(self, method: str, step: int, *arguments: Any) -> None:
        """Events of one time come in the order of their kinds; who would come too late gets a nanosecond."""
        if step == 0 and RANK[method] < self.kind:
            step = 1
        self.ts += step
        self.kind = RANK[method]
        getattr(self.single, method)(self.ts, *arguments)
        self.pending.append((method, (self.ts, *arguments)))
        self.past.append((method, (self.ts, *arguments)))
        self.sent[NAMES[method][0]] += 1

    @initialize(seed=st.integers(0, 9))
    def five_quiet_minutes(self, seed: int) -> None:
        """So that everything that must warm up is warm."""
        rng = np.random.default_rng(seed)
        for _ in range(310):
            side = int(rng.choice([1, -1]))
            self.send("quote", SECOND - 1, 99.99, 1.0, 100.01, 1.0)
            self.send("trade", 1, 100.0 + side / 100, int(rng.integers(1, 9)) / 10, side)

    @rule(step=STEPS, price=PRICES, size=SIZES, side=SIDES)
    def trade(self, step: int, price: float, size: float, side: int) -> None:
        self.send("trade", step, price, size, side)

    @rule(step=STEPS, price=st.integers(9_500, 10_000), sizes=st.lists(st.integers(1, 50), min_size=1, max_size=8))
    def sweep(self, step: int, price: int, sizes: list[int]) -> None:
        """One taker through many levels, and the record of a liquidation for it."""
        for i, size in enumerate(sizes):
            self.send("trade", step if i == 0 else 0, (price - i) / 100, size / 10, -1)
        self.send("liquidation", 0, -1, price / 100, sum(sizes) / 10)

    @rule(step=STEPS, bid=PRICES, ask=PRICES, sizes=st.tuples(SIZES, SIZES))
    def quote(self, step: int, bid: float, ask: float, sizes: tuple[float, float]) -> None:
        self.send("quote", step, bid, sizes[0], ask, sizes[1])

    @rule(step=STEPS, mid=st.integers(9_900, 10_100), half=st.sampled_from([1, 2, 30, 300]))
    def good_quote(self, step: int, mid: int, half: int) -> None:
        self.send("quote", step, (mid - half) / 100, 1.0, (mid + half) / 100, 2.0)

    @rule(step=STEPS, rows=st.lists(st.tuples(SIDES, PRICES, SIZES | st.just(0.0)), max_size=5), snapshot=st.booleans())
    def book(self, step: int, rows: list[tuple[int, float, float]], snapshot: bool) -> None:
        for i, row in enumerate(rows):
            self.send("book", step if i == 0 else 0, *row, snapshot)

    @rule(step=STEPS, side=SIDES, price=PRICES, size=SIZES)
    def liquidation(self, step: int, side: int, price: float, size: float) -> None:
        self.send("liquidation", step, side, price, size)

    @rule(step=STEPS, price=PRICES)
    def mark(self, step: int, price: float) -> None:
        self.send("mark_price", step, price)

    @rule(step=STEPS, price=PRICES, size=SIZES, side=SIDES)
    def reference(self, step: int, price: float, size: float, side: int) -> None:
        self.send("reference_trade", step, price, size, side)

    @rule(step=STEPS, amount=st.integers(900, 1100).map(float) | BAD)
    def open_interest(self, step: int, amount: float) -> None:
        self.send("open_interest", step, amount)

    @rule(seconds=st.sampled_from([1, 7, 60, 3600]))
    def nothing_happens(self, seconds: int) -> None:
        self.send("mark_price", seconds * SECOND, 100.0)

    @rule(single=st.booleans(), by_pickle=st.booleans())
    def save_and_load(self, single: bool, by_pickle: bool) -> None:
        name = "single" if single else "arrays"
        engine: Engine = getattr(self, name)
        again = pickle.loads(pickle.dumps(engine)) if by_pickle else Engine.restore(engine.snapshot())
        setattr(self, name, again)

    @rule()
    def look(self) -> None:
        self.single.peek()
        self.single.peek_terms()
        self.single.open_bucket()

    @precondition(lambda self: self.pending)
    @rule()
    def follow(self) -> None:
        """The arrays take what has gathered, and say the same."""
        tables = {}
        for name, columns in NAMES.values():
            rows = [arguments for method, arguments in self.pending if NAMES[method][0] == name]
            if rows:
                frame = pl.DataFrame(rows, schema=["ts", *columns], orient="row", infer_schema_length=None)
                tables[name] = canonical(frame.with_columns(pl.col("ts").cast(pl.Int64)), INPUTS[name])
        self.pending.clear()
        self.arrays.feed(**tables)
        assert self.arrays.save_state() == self.single.save_state()
        rows_ = [(engine.drain_bars(), engine.drain_buckets(), engine.drain_episodes()) for engine in self.engines]
        assert rows_[0] == rows_[1]
        self.said.append(rows_[0][:2])
        assert self.arrays.tally() == self.single.tally()
        self.check(*rows_[0])

    @property
    def engines(self) -> tuple[Engine, Engine]:
        return self.single, self.arrays

    def check(self, bars: bytes, buckets: bytes, episodes: bytes) -> None:
        rows = np.frombuffer(bars, np.dtype(_core.BAR_FIELDS))
        for end in rows["ts"]:
            assert self.last_bar is None or end == self.last_bar + SECOND
            self.last_bar = int(end)
        inside(rows["implied_mid"], rows["implied_lo"], rows["implied_hi"])
        inside(rows["mid"], rows["bid"], rows["ask"])
        ranged = rows[~np.isnan(rows["vpin_lo"])]
        inside(ranged["vpin"], ranged["vpin_lo"], ranged["vpin_hi"])
        for name in ("vpin", "vpin_rank", "toxicity", "credibility", "liq_branching", "closing_share", "cancel_share"):
            inside(rows[name], 0.0, 1.0)
        for name in ("imbalance", "imbalance_short", "imbalance_long"):
            inside(rows[name], -1.0, 1.0)
        inside(rows["weighted_mid"], rows["bid"], rows["ask"])
        for side in ("bid", "ask"):
            assert not (rows[f"{side}_added"] < 0).any()
            assert not (rows[f"{side}_traded"] < 0).any()
            assert not (rows[f"{side}_cancelled"] < -1e-9).any()
            for near, far in pairwise((1, 5, 10, 25, 50)):
                inside(rows[f"depth_{side}_{near}bps"], 0.0, rows[f"depth_{side}_{far}bps"])
        for name in ("sign_acf_1", "sign_acf_10", "sign_acf_100"):
            inside(rows[name], -2.0, 1.0)
        for name in ("buy_volume", "sell_volume", "unknown_volume", "trades", "sweeps", "sweep_volume"):
            assert (rows[name] >= 0).all(), name
        for name in ("liq_buy_volume", "liq_sell_volume"):
            assert not (rows[name] < 0).any(), name
        closed = np.frombuffer(buckets, np.dtype(_core.BUCKET_FIELDS))
        inside(closed["vpin"], 0.0, 1.0)
        inside(closed["imbalance"], -1.0, 1.0)
        np.testing.assert_array_equal(closed["volume"], 1.0)
        assert (closed["ts_open"] <= closed["ts_close"]).all()
        known = np.frombuffer(episodes, np.dtype(_core.EPISODE_FIELDS))
        assert (known["ts_start"] <= known["ts_end"]).all()
        assert (known["ts_end"] <= known["ts_known"]).all()

    @invariant()
    def every_row_is_used_or_counted_out(self) -> None:
        tally = self.single.tally()
        for name, sent in self.sent.items():
            assert tally["used"][name] + sum(tally["rejected"][name].values()) == sent

    @rule(in_place=st.booleans())
    def begin_anew(self, in_place: bool) -> None:
        """Another tape, with the old engines or with new ones: nothing of the one before is left."""
        self.end()
        for engine in self.engines:
            engine.__init__(PARAMS)  # type: ignore[misc]
            assert engine.save_state() == Engine(PARAMS).save_state()
        if not in_place:
            self.single, self.arrays = Engine(PARAMS), Engine(PARAMS)
        self.sent.clear()
        self.past.clear()
        self.said.clear()
        self.last_bar = None
        self.five_quiet_minutes(1)

    def teardown(self) -> None:
        self.end()

    def end(self) -> None:
        """The tape ends: the engines are the same, and said what the references say."""
        if self.pending:
            self.follow()
        for engine in self.engines:
            engine.finish()
        assert self.single.save_state() == self.arrays.save_state()
        if not self.past:
            return
        self.said.append((self.single.drain_bars(), self.single.drain_buckets()))
        bars, buckets = (b"".join(rows) for rows in zip(*self.said, strict=True))
        self.compare_bars(np.frombuffer(bars, np.dtype(_core.BAR_FIELDS)))
        self.compare_buckets(np.frombuffer(buckets, np.dtype(_core.BUCKET_FIELDS)))
        self.compare_depth(np.frombuffer(bars, np.dtype(_core.BAR_FIELDS)))
        self.compare_liquidations()

    def compare_bars(self, rows: np.ndarray[Any, Any]) -> None:
        """Quotes have spoken, so the book moves no touch; that no move is carried over a silence they do not know."""
        tape = Tape()
        for method, arguments in self.past:
            if method in ("trade", "quote"):
                getattr(tape, method)(*arguments)
        ends = {-(-arguments[0] // SECOND) * SECOND for _, arguments in self.past}
        ends |= {end + SECOND for end in ends}
        for row in rows[np.isin(rows["ts"], list(ends))][-MOST_BARS:]:
            expected = bar(tape, int(row["ts"]), max(int(row["ts"]) - SECOND, self.past[0][1][0]))
            del expected["impact_bps"]
            for name, value in expected.items():
                assert row[name] == pytest.approx(value, rel=1e-8, abs=1e-8, nan_ok=True), (name, row["ts"])

    def compare_buckets(self, rows: np.ndarray[Any, Any]) -> None:
        """In exact fractions, unless sizes lay on no grid."""
        clocks = [VolumeClock(3, bucket_volume=1 / LOT, skip=Fraction(start, 5)) for start in range(5)]
        for method, arguments in self.past:
            if method == "trade" and self.is_good(*arguments[1:3]):
                lots = Fraction(str(arguments[2])) / LOT
                if lots.denominator > 1:
                    return
                for clock in clocks:
                    clock.trade(arguments[0], lots, *SHARES[arguments[3]])
        exact = clocks[0].closed
        assert rows["ts_close"].tolist() == [bucket.ts_close for bucket in exact]
        for name in ("vpin", "imbalance"):
            expected = [math.nan if (value := getattr(bucket, name)) is None else float(value) for bucket in exact]
            np.testing.assert_array_equal(rows[name], expected)
        ranges = [(math.nan, math.nan) if bounds is None else bounds for bounds in range_of_starts(clocks)]
        told = np.column_stack([rows["vpin_lo"], rows["vpin_hi"]])
        np.testing.assert_allclose(told, np.array(ranges, dtype=float).reshape(-1, 2), rtol=1e-14)

    def compare_depth(self, rows: np.ndarray[Any, Any]) -> None:
        """The book, the ladder of depth around the quoted mid, and where it went, second by second. In a second without
        events nothing changes, and two seconds after the last one nothing waits any more."""
        market, tape = Market(PARAMS.depth_bps), Tape()
        mids = dict(zip(rows["ts"].tolist(), rows["mid"].tolist(), strict=True))
        ends = {-(-arguments[0] // SECOND) * SECOND + late * SECOND for _, arguments in self.past for late in range(3)}
        waiting = iter(sorted(ends & mids.keys()))
        said = {end: row for end, row in zip(rows["ts"].tolist(), rows, strict=True) if end in ends}
        end, moment = next(waiting), self.past[0][1][0]
        for method, arguments in [*self.past, ("finish", (rows["ts"][-1] + 1,))]:
            ts = int(arguments[0])
            if ts > moment:
                market.judge()
            moment = ts
            while end is not None and ts > end:
                some = any(market.book.levels.values()) and not market.book.crossed
                expected = market.end_second(mids[end] if some else math.nan)
                for name, value in expected.items() if market.book.used else ():
                    assert said[end][name] == pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True), (name, end)
                end = next(waiting, None)
            if method == "trade":
                self.hit(market, tape, *arguments[1:])
            if method in ("trade", "quote"):
                getattr(tape, method)(*arguments)
            if method == "book" and arguments[1] and is_price(arguments[2]) and is_size(arguments[3]):
                market.row(*arguments[1:])
        assert_same_book(self.single, market.book)

    def hit(self, market: Market, tape: Tape, price: float, size: float, side: int) -> None:
        if self.is_good(price, size):
            market.trade(price, size, side, tape.touches[-1].mid if tape.touches else math.nan)

    def compare_liquidations(self) -> None:
        """What records claimed of the orders, once nothing is inferred beside them. In lots, where sizes have some."""
        engine = Engine(PARAMS.replace(toxic_score=1e6), Instrument(lot=float(LOT), tick=0.01))
        plain, tape, given = Matching(0.005, 1500 * 10**6, 150 * 10**6), Tape(), 0
        for method, arguments in [*self.past, ("liquidation", (self.ts + 1, 0, 100.0, 1.0))]:
            getattr(engine, method)(*arguments)
            grows = method == "trade" and tape.orders and arguments[0] == tape.orders[-1].ts
            for order in tape.orders[given:] if not grows else ():
                given += 1
                price = math.fsum(price * size for price, size in order.prints) / order.size
                plain.order(order.ts, order.side, round(order.size / LOT), price)
            if method == "trade":
                tape.trade(*arguments)
            if method == "liquidation" and arguments[1] and self.is_good(*arguments[2:]):
                plain.record(arguments[0], arguments[1], round(arguments[3] / LOT), arguments[2])
        sizes = [size for order in tape.orders for _, size in order.prints]
        sizes += [arguments[3] for method, arguments in self.past if method == "liquidation"]
        if any((Fraction(str(size)) / LOT).denominator > 1 for size in sizes if math.isfinite(size)):
            return
        claimed = sum(order.claimed for order in plain.orders) * float(LOT)
        assert engine.feed_figures()["matched_volume"] == pytest.approx(claimed, rel=1e-9)
        assert engine.tally()["liquidations_unmatched"] == plain.unmatched

    @staticmethod
    def is_good(price: float, size: float) -> bool:
        return math.isfinite(price) and price > 0 and math.isfinite(size) and size > 0


def inside(value: Any, low: Any, high: Any) -> None:
    """Between the two wherever it is known; a hair's breadth for what was rounded on the way."""
    known = ~np.isnan(value)
    slack = 1e-12 * np.abs(value[known])
    assert (value[known] >= np.broadcast_to(low, value.shape)[known] - slack).all()
    assert (value[known] <= np.broadcast_to(high, value.shape)[known] + slack).all()


TestTwoEngines = TwoEngines.TestCase
TestTwoEngines.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
