"""The means of the toxic flow against whole lists of orders: inferred weights, claims of a feed, what is taken off."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from feeding import NAN, SECOND, START, Tables, only, simulated, times, whole
from reference import online, toxic
from reference.bars import Tape
from reference.implied import Seconds, credible_minutes
from reference.matching import Matching
from reference.recent import faded_share

from toxmid.engine import Engine, bars_frame
from toxmid.instrument import Instrument
from toxmid.params import Params
from toxmid.schema import canonical
from toxmid.simulate import simulate

LOT, TICK = 0.001, 0.1
MARKET = Instrument(lot=LOT, tick=TICK)


def numbers(bars: pl.DataFrame, name: str) -> np.ndarray[Any, Any]:
    return bars[name].cast(pl.Float64).fill_null(NAN).to_numpy()


class Plain:
    """A tape of trades and quotes, and what the plain references make of it on the bars' seconds."""

    def __init__(self, tables: Tables, bars: pl.DataFrame, params: Params) -> None:
        self.tables, self.bars, self.params = tables, bars, params
        tape = Tape()
        rows: list[tuple[int, int, str, tuple[Any, ...]]] = []
        for kind, (name, method, columns) in enumerate((
            ("trades", "trade", ("price", "size", "side")), ("quotes", "quote", ("bid", "bid_size", "ask", "ask_size")),
        )):  # fmt: skip
            table = tables[name]
            rows += [
                (row[0], kind, method, row) for row in zip(times(table), *(table[c] for c in columns), strict=True)
            ]
        for _, _, method, row in sorted(rows, key=lambda row: row[:2]):
            getattr(tape, method)(*row)
        self.orders = tape.orders
        self.first_end = times(bars)[0]
        self.second = np.array([-(-(order.ts - self.first_end) // SECOND) for order in self.orders])
        buy, sell = numbers(bars, "buy_volume"), numbers(bars, "sell_volume")
        log_mid, spread = 1e4 * np.log(numbers(bars, "mid")), numbers(bars, "spread_bps")
        self.rows = Seconds(log_mid, spread, np.zeros(buy.size), buy, sell)
        imbalance = np.nan_to_num(faded_share(buy - sell, buy + sell, 30.0))
        self.weights = toxic.inferred_weights(self.rows, imbalance, params.toxic_score)

    def means(self, parts: list[toxic.Part]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        return toxic.mean_prices(
            self.orders, self.second, parts, credible_minutes(self.rows), numbers(self.bars, "implied_mid"),
            self.params.toxic_half_life,
        )  # fmt: skip

    def claims(self) -> list[toxic.Part]:
        feed = self.tables["liquidations"]
        records = list(zip(times(feed), feed["side"], feed["price"], feed["size"], strict=True))
        windows = (self.params.duration_ns(name) for name in ("match_window", "match_grace"))
        return toxic.matched(
            self.orders, self.second, records, self.weights, LOT, Matching(0.5 * TICK, *windows), self.first_end
        )

    def check(self, parts: list[toxic.Part]) -> None:
        assert len(parts) > 100
        for name, expected in zip(("toxic_mean", "debiased_mean"), self.means(parts), strict=True):
            np.testing.assert_allclose(numbers(self.bars, name), expected, rtol=1e-9, err_msg=name)


def run(tables: Tables, params: Params | None = None) -> tuple[pl.DataFrame, Plain]:
    bars = bars_frame(whole(Engine(params, MARKET), tables)[0])
    return bars, Plain(tables, bars, params or Params())


@pytest.mark.parametrize("scenario", ["flush", "mixed"])
@pytest.mark.parametrize("score", [100.0, 20.0])
def test_inferred_flow(scenario: str, score: float) -> None:
    """Without a feed: by how far the spread is torn, the price runs, and the flow goes one way."""
    tables = only(simulated(scenario, 8, 700.0), "trades", "quotes")
    bars, plain = run(tables, Params(toxic_score=score))
    parts = toxic.inferred(plain.orders, plain.second, plain.weights, LOT)
    plain.check(parts)
    seconds = np.arange(bars.height)
    for name, side in (("liq_buy_volume", 1), ("liq_sell_volume", -1)):
        mine = [part for part in parts if plain.orders[part.order].side == side]
        expected = np.bincount([part.known for part in mine], [part.lots * LOT for part in mine], bars.height)
        told = numbers(bars, name)
        known = ~np.isnan(told)
        assert known[seconds > 302].all()
        np.testing.assert_allclose(told[known], expected[known], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("half_life", [1.0, 7.0])
def test_a_whole_feed(half_life: float) -> None:
    """What records claim counts from their arrival, with the memory that is left of it; nothing else does."""
    tables = only(simulated("flush", 8, 700.0), "trades", "quotes", "liquidations")
    _, plain = run(tables, Params(toxic_half_life=half_life, toxic_score=1e6))
    plain.check(plain.claims())


@pytest.mark.parametrize("late", ["0s", "900ms"])
def test_a_feed_of_one_record_a_second(late: str) -> None:
    """What it leaves out counts as far as it is inferred."""
    market = simulate("flush", seed=8, duration=700.0, start=START)
    feed = market.liquidations_throttled.with_columns(pl.col("ts").dt.offset_by(late)).sort("ts")
    tables = {**only(simulated("flush", 8, 700.0), "trades", "quotes"), "liquidations": feed}
    bars, plain = run(tables, Params(toxic_score=20.0))
    parts = plain.claims()
    plain.check(parts)
    bare = run(tables, Params(toxic_score=1e6))[0]
    assert not bare["toxic_mean"].equals(bars["toxic_mean"])
    assert any(part.lots % 1 for part in parts)


def test_a_feed_that_begins_in_the_middle_counts_nothing_twice() -> None:
    """Orders that were inferred before the first record, and are then claimed by it."""
    tables = only(simulated("flush", 8, 700.0), "trades", "quotes", "liquidations")
    feed = tables["liquidations"]
    tables["liquidations"] = feed[feed.height // 3 :]
    _, plain = run(tables, Params(toxic_score=20.0))
    parts = plain.claims()
    plain.check(parts)
    first = times(tables["liquidations"])[0]
    begun = -(-(first - plain.first_end) // SECOND)
    early = {part.order: part.lots for part in parts if part.known <= begun and plain.orders[part.order].ts < first}
    claimed = [part for part in parts if part.order in early and part.known > begun]
    assert sum(early.values()) > 1000
    assert not any(part.lots + early[part.order] > plain.orders[part.order].size / LOT + 1e-6 for part in claimed)


def test_a_record_that_comes_late_finds_less_memory_left() -> None:
    """A calm market, whose credible clock runs: of an order a second ago, a record counts what is left by now."""
    tables = only(simulated("calm", 3, 700.0), "trades", "quotes")
    sold = tables["trades"].filter((pl.col("side") == -1) & (pl.col("ts").to_physical() > START + 320 * SECOND))
    feed = sold[::5].select(pl.col("ts").dt.offset_by("1200ms"), "side", "price", "size")
    tables["liquidations"] = canonical(feed, "liquidations")
    _, plain = run(tables, Params(toxic_score=1e6, toxic_half_life=0.5))
    parts = plain.claims()
    plain.check(parts)
    assert sum(part.known > plain.second[part.order] for part in parts) > 100


def test_what_was_inferred_of_the_first_record_is_not_told_again() -> None:
    """Forced volume of bars and buckets: the part that stood in a row already is taken off the record."""
    tables = only(simulated("flush", 8, 700.0), "trades", "quotes", "liquidations")
    record = tables["liquidations"][tables["liquidations"].height // 3 :][:1]
    ts, size = times(record)[0], record["size"][0]
    forced = {}
    for name, feed in (("with", record), ("without", record.with_columns(side=-pl.col("side")))):
        engine = Engine(Params(toxic_score=20.0, bucket_volume=2.0), MARKET)
        engine.feed(trades=tables["trades"].filter(pl.col("ts") <= record["ts"][0]),
                    quotes=tables["quotes"].filter(pl.col("ts") < record["ts"][0]), liquidations=feed)  # fmt: skip
        engine.finish()
        bars = engine.take_bars()
        forced[name] = bars["liq_buy_volume"].sum() + bars["liq_sell_volume"].sum()
    near = pl.col("ts").to_physical().is_between(ts - 1500 * 10**6, ts)
    assert tables["trades"].filter(near, side=record["side"][0])["size"].sum() >= size
    inferred = forced["without"] - size  # a record of the other side finds no order
    told_again = inferred + size - forced["with"]
    assert 0.3 * size < told_again < size


def test_branching_counts_orders_that_are_forced_by_half() -> None:
    """Without a feed: taker orders whose inferred weight is a half or more, second by second."""
    tables = only(simulated("flush", 8, 700.0), "trades", "quotes")
    bars, plain = run(tables, Params(toxic_score=20.0))
    parts = toxic.inferred(plain.orders, plain.second, plain.weights, LOT)
    counts = np.zeros(bars.height, dtype=np.int64)
    for part in parts:
        counts[part.known] += part.lots * LOT >= 0.5 * plain.orders[part.order].size
    assert 0 < counts.sum() < len(parts)
    told = numbers(bars, "liq_branching")
    expected = [online.branching(counts[: second + 1].tolist(), 3600.0) for second in range(0, bars.height, 23)]
    np.testing.assert_allclose(told[::23], expected, rtol=1e-7, atol=1e-7)
    assert np.isfinite(expected).sum() > 5


def test_an_order_that_was_inferred_is_no_second_print_when_its_record_comes() -> None:
    """Before the first record nobody knows of the feed: an order is a print by its weight; its record is none then."""
    tables = only(simulated("flush", 8, 700.0), "trades", "quotes")
    params = Params(toxic_score=20.0)
    _, plain = run(tables, params)
    forced = [k for k, order in enumerate(plain.orders)
              if order.side and plain.weights[order.side][plain.second[k]] >= 0.5]  # fmt: skip
    order = plain.orders[forced[len(forced) // 2]]
    at = order.ts + 1000
    record = pl.DataFrame({"ts": [at], "side": [order.side], "price": [order.prints[-1][0]], "size": [order.size]})
    bars, _ = run({**tables, "liquidations": record}, params)
    counts = np.zeros(bars.height, dtype=np.int64)
    for k in forced:
        counts[plain.second[k]] += plain.orders[k].ts < at
    assert 10 < counts.sum() < len(forced)
    expected = [online.branching(counts[: second + 1].tolist(), 3600.0) for second in range(0, bars.height, 23)]
    np.testing.assert_allclose(numbers(bars, "liq_branching")[::23], expected, rtol=1e-7, atol=1e-7)
