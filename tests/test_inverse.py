"""Contracts worth quote currency: what is shown in base coin is base coin, however far the price goes."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from feeding import SECOND, START, times

from toxmid.engine import Engine
from toxmid.instrument import Instrument
from toxmid.params import Params
from toxmid.vpin import vpin

MARKET = Instrument(tick=0.01, contract_value=10.0, inverse=True)


def halving(with_book: bool) -> tuple[Engine, pl.DataFrame]:
    """Ten minutes at 20, then half of the price is gone within a minute, and a contract is worth twice the coin."""
    engine, rows = Engine(Params(move_sigmas=6.0), MARKET), []
    for k in range(720):
        mid = 20.0 if k < 600 else max(10.0, 20.0 - (k - 599) / 5)
        wobble = 0.01 * (k // 7 % 2)
        ts = START + k * SECOND + 1
        price, side = round(mid + wobble - (0.01 if k % 3 else -0.01), 2), -1 if k % 3 else 1
        contracts = 500 if 600 <= k < 650 else 4
        rows.append((ts, price, 10.0 * contracts / price, side))
        engine.trade(*rows[-1])
        if with_book:
            for n in range(1, 30):
                engine.book(ts + 1, 1, round(mid + wobble - 0.01 * n, 2), 50.0, True)
                engine.book(ts + 1, -1, round(mid + wobble + 0.01 * n, 2), 50.0, True)
    engine.finish()
    return engine, pl.DataFrame(rows, schema=["ts", "price", "size", "side"], orient="row")


def test_bps_per_volume_is_per_coin_of_these_sixty_seconds() -> None:
    engine, tape = halving(with_book=False)
    bars = engine.take_bars()
    for row in (600, 630, 650, 700):
        end = times(bars)[row]
        inside = tape.filter((pl.col("ts") > end - 60 * SECOND) & (pl.col("ts") <= end))
        expected = abs(bars["impact_bps"][row]) / inside["size"].sum()
        assert bars["bps_per_volume"][row] == pytest.approx(expected, rel=1e-9)


def test_share_of_the_depth_is_of_coins() -> None:
    """Net flow of an episode counts each trade at its own worth: not all contracts so far at the last one's."""
    engine, tape = halving(with_book=True)
    found, bars = engine.take_events(), engine.take_bars()
    assert found.height > 0
    for row in found.filter(pl.col("move_bps") < 0).iter_rows(named=True):
        begin, end = (round(row[name].timestamp() * SECOND) for name in ("ts_start", "ts_end"))
        inside = tape.filter((pl.col("ts") > begin) & (pl.col("ts") <= end))
        net = abs(float((inside["size"] * inside["side"]).sum()))
        depth = bars.filter(pl.col("ts") == row["ts_start"])["depth_bid"][0]
        assert row["depth_share"] == pytest.approx(net / depth, rel=1e-9)
        assert row["volume"] == pytest.approx(inside["size"].sum(), rel=1e-9)


@pytest.mark.parametrize("price", [50_123.4, 61_234.5])
def test_a_bucket_holds_whole_contracts(price: float) -> None:
    """As many as the bucket volume is worth at the price of the trade that closed the one before."""
    contracts = np.random.default_rng(1).integers(1, 90, 2000)
    prices = np.round(price * np.exp(1e-3 * np.cumsum(np.random.default_rng(2).normal(size=2000))), 1)
    tape = pl.DataFrame({"ts": START + np.arange(2000), "price": prices, "size": 100.0 * contracts / prices, "side": 1})
    buckets = vpin(tape, bucket_volume=2.0, window=5, instrument=Instrument(contract_value=100.0, inverse=True))
    poured, edge, at = np.cumsum(contracts), 0, 0
    assert buckets.height > 50
    for closed in times(buckets.rename({"ts_close": "ts"})):
        edge += round(2.0 * prices[at] / 100.0)
        at = closed - START
        assert np.searchsorted(poured, edge) == at


def test_a_record_before_the_first_trade_is_counted_in_contracts() -> None:
    engine = Engine(instrument=MARKET)
    engine.liquidation(START, -1, 20.0, 50.0)  # a hundred contracts
    engine.trade(START + 10**8, 20.0, 50.0, -1)
    engine.finish()
    assert engine.feed_figures()["matched_volume"] == pytest.approx(50.0)
    assert engine.tally()["liquidations_unmatched"] == 0


@pytest.mark.parametrize(("coins", "contracts"), [(5.1, 10), (4.9, 10), (5.3, 11)])
def test_a_record_is_of_whole_contracts(coins: float, contracts: int) -> None:
    """At the price of a record (often that of bankruptcy) its coin is no whole number of them: the nearest is meant."""
    engine = Engine(instrument=MARKET)
    engine.trade(START, 20.0, 40.0, -1)  # eighty contracts
    engine.liquidation(START + 10**8, -1, 20.0, coins)
    engine.finish()
    assert engine.feed_figures()["matched_volume"] == pytest.approx(contracts * 10.0 / 20.0, rel=1e-12)
