"""What a bucket says beside its counts: prices, the spread its trades met, impact, forced volume, from plain lists."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from feeding import NAN, SECOND, START, only, simulated, times, uncomfortable
from reference.bars import Tape, is_price, is_size

from toxmid.engine import Engine
from toxmid.instrument import Instrument
from toxmid.params import Params

VOLUME = 3.0
Part = tuple[float, float, float, float]  # size, price, width and mid of the touch that it met


def parts_of(trades: pl.DataFrame, quotes: pl.DataFrame | None) -> list[list[Part]]:
    """The pieces of trades in each full bucket, each with the touch before its trade."""
    tape, buckets, room = Tape(), list[list[Part]]([[]]), VOLUME
    rows: list[tuple[int, int, str, tuple[Any, ...]]] = [
        (row[0], 0, "trade", row)
        for row in trades.select(pl.col("ts").to_physical(), "price", "size", "side").iter_rows()
    ]
    if quotes is not None:
        names = ("bid", "bid_size", "ask", "ask_size")
        rows += [(row[0], 1, "quote", row) for row in quotes.select(pl.col("ts").to_physical(), *names).iter_rows()]
    for _, _, method, row in sorted(rows, key=lambda row: row[:2]):
        met = tape.touches[-1] if tape.touches else None
        getattr(tape, method)(*row)
        if method == "quote" or not (is_price(row[1]) and is_size(row[2]) and row[2] > 0):
            continue
        mid = NAN if met is None else met.mid
        left = row[2]
        while left > 1e-12:
            poured = min(left, room)
            width = NAN if met is None else met.ask - met.bid
            buckets[-1].append((poured, row[1], width, mid))
            left, room = left - poured, room - poured
            if room < 1e-9:
                buckets.append([])
                room = VOLUME
    return buckets[:-1]


def plain(parts: list[Part], before: float) -> dict[str, float]:
    met = [(size, width, mid) for size, _, width, mid in parts if not math.isnan(mid)]
    at_mid = math.fsum(size * mid for size, _, mid in met)
    price = parts[-1][1]
    return {
        "price": price,
        "vwap": math.fsum(size * price for size, price, _, _ in parts) / math.fsum(size for size, *_ in parts),
        "spread_bps": 1e4 * math.fsum(size * width for size, width, _ in met) / at_mid if at_mid else NAN,
        "impact_bps": 1e4 * math.log(price / before),
    }


@pytest.mark.parametrize("kinds", [("trades",), ("trades", "quotes")])
@pytest.mark.parametrize("seed", [None, 1, 2], ids=["simulated", "uncomfortable 1", "uncomfortable 2"])
def test_prices_and_spreads_of_buckets(kinds: tuple[str, ...], seed: int | None) -> None:
    """Trades that met a crossed or one-sided touch tell nothing of the spread, and spoil nothing."""
    tables = only(simulated(duration=300.0) if seed is None else uncomfortable(seed), *kinds)
    keep = pl.col("size").is_between(0.05, 60.0) & (pl.col("size") != 1 / 3)
    tables["trades"] = tables["trades"].filter(keep & pl.col("price").is_between(50, 1e9))
    engine = Engine(Params(bucket_volume=VOLUME, window=5), Instrument(lot=0.001))
    engine.feed(**tables)
    buckets = engine.take_buckets()
    expected = parts_of(tables["trades"], tables.get("quotes"))
    assert buckets.height == len(expected) > 100
    before = expected[0][0][1]
    for number, parts in enumerate(expected):
        for name, value in plain(parts, before).items():
            got = buckets[name][number]
            assert (NAN if got is None else got) == pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True), (
                number,
                name,
            )
        before = parts[-1][1]


def test_forced_volume_of_buckets_is_that_of_the_feed() -> None:
    """A record counts in the bucket that is open when it arrives."""
    tables = only(simulated(), "trades", "liquidations")
    engine = Engine(Params(bucket_volume=VOLUME, window=5))
    engine.feed_without_prints()
    engine.feed(**tables)
    buckets = engine.take_buckets()
    feed, closed = tables["liquidations"], np.array(times(buckets.rename({"ts_close": "ts"})))
    for name, side in (("liq_buy_volume", 1), ("liq_sell_volume", -1)):
        records = feed.filter(side=side)
        # Trades of one time come before its records: a bucket that closes then has closed without them.
        bucket = np.searchsorted(closed, np.array(times(records)), side="right")
        sums = np.bincount(bucket, records["size"].to_numpy(), closed.size + 1)[: closed.size]
        np.testing.assert_allclose(buckets[name].fill_null(0.0).to_numpy(), sums, rtol=1e-9, atol=1e-9)
        assert side > 0 or sums.sum() > 100


def test_what_nobody_could_say_is_null_and_not_nothing() -> None:
    """Without a feed, forced volume is inferred, and in the first five minutes there is nothing to infer it from."""
    tables = only(simulated(), "trades", "quotes")
    engine = Engine(Params(bucket_volume=VOLUME, window=5))
    engine.feed(**tables)
    engine.finish()
    bars, buckets = engine.take_bars(), engine.take_buckets()
    ready = START + 300 * SECOND
    young, old = (
        bars.filter(pl.col("ts").to_physical() <= ready),
        bars.filter(pl.col("ts").to_physical() > ready + SECOND),
    )
    for name in ("liq_buy_volume", "liq_sell_volume"):
        assert young[name].is_null().equals((young["trades"] > 0).alias(name))
        assert old[name].null_count() == 0
        assert buckets.filter(pl.col("ts_open").to_physical() < ready)[name].null_count() > 20
        assert buckets.filter(pl.col("ts_open").to_physical() > ready + SECOND)[name].null_count() == 0
    assert young["toxicity"].null_count() == young.height - young["toxicity"].count() >= 299
    assert old["toxicity"].null_count() == 0


def test_with_a_feed_what_was_not_published_is_nothing() -> None:
    """From the start, where it was said that there is a feed: nobody has to wait until it is known what is usual."""
    tables = only(simulated(), "trades", "quotes")
    engine = Engine(Params(bucket_volume=VOLUME, window=5))
    engine.feed_without_prints()
    engine.feed(**tables)
    engine.finish()
    bars, buckets = engine.take_bars(), engine.take_buckets()
    assert set(bars["liq_sell_volume"]) == set(buckets["liq_sell_volume"]) == {0.0}
    assert set(bars["toxicity"][1:]) == {0.0}
