"""Signed imbalance, toxicity and impact of the last minute: bars against plain references, and after long silences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from feeding import NAN, SECOND, START, Tables, only, simulated, trade_table, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.recent import excess_impact, faded_share

from toxmid.engine import Engine, bars_frame
from toxmid.params import Params
from toxmid.schema import canonical

MEMORIES = {"imbalance_short": 10.0, "imbalance": 30.0, "imbalance_long": 60.0}


def bars_of(tables: Tables, params: Params | None = None) -> pl.DataFrame:
    return bars_frame(whole(Engine(params), tables)[0])


def numbers(bars: pl.DataFrame, name: str) -> np.ndarray[Any, Any]:
    return bars[name].cast(pl.Float64).fill_null(NAN).to_numpy()


# --- the taker flow --------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, SECOND // 2, SECOND, 7 * SECOND, 300 * SECOND]),
            st.integers(1, 90),
            st.sampled_from([1, -1, 0]),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_imbalance_with_three_memories(trades: list[tuple[int, int, int]]) -> None:
    ts = np.cumsum([gap for gap, _, _ in trades])
    bars = bars_of(
        {
            "trades": trade_table(
                [(int(t), 100.0, lots / 10, side) for t, (_, lots, side) in zip(ts, trades, strict=True)]
            )
        }
    )
    buy, sell, unknown = (numbers(bars, f"{side}_volume") for side in ("buy", "sell", "unknown"))
    for name, memory in MEMORIES.items():
        expected = faded_share(buy - sell, buy + sell + unknown, memory)
        np.testing.assert_allclose(numbers(bars, name), expected, rtol=1e-9, atol=1e-12, err_msg=name)


def test_memories_of_the_imbalance_are_parameters() -> None:
    tables = only(simulated("news", 3), "trades", "quotes")
    params = Params(imbalance_short="5s", imbalance_memory="20s", imbalance_long="10m")
    bars = bars_of(tables, params)
    buy, sell, unknown = (numbers(bars, f"{side}_volume") for side in ("buy", "sell", "unknown"))
    for name, memory in (("imbalance_short", 5.0), ("imbalance", 20.0), ("imbalance_long", 600.0)):
        np.testing.assert_allclose(
            numbers(bars, name), faded_share(buy - sell, buy + sell + unknown, memory), rtol=1e-9, atol=1e-12
        )
    told = bars.drop("imbalance_short", "imbalance_long")
    other = bars_of(tables, params.replace(imbalance_short="10s", imbalance_long="60s"))
    assert told.equals(other.drop("imbalance_short", "imbalance_long"), null_equal=True)  # of which only bars tell


@pytest.mark.parametrize("steps", [4])
def test_memories_are_seconds_where_bars_are_shorter(steps: int) -> None:
    """Volume fades from the end of each step, and a step is a bar where that is shorter than a second."""
    tables = only(simulated("flush", 15, 375.0), "trades", "quotes", "liquidations")
    bars = bars_of(tables, Params(bar=f"{1000 // steps}ms", toxic_score=1e6))
    buy, sell = (numbers(bars, f"{side}_volume") for side in ("buy", "sell"))
    for name, memory in MEMORIES.items():
        expected = faded_share(buy - sell, buy + sell, steps * memory)
        np.testing.assert_allclose(numbers(bars, name), expected, rtol=1e-9, atol=1e-12)
    mid = numbers(bars, "mid")
    back = 60 * steps
    moves = 1e4 * np.log(mid[back:] / mid[:-back])
    np.testing.assert_allclose(numbers(bars, "impact_bps")[back:], moves, rtol=1e-9, atol=1e-9)
    whole_seconds = bars.filter(pl.col("ts").to_physical() % SECOND == 0)
    slow = bars_of(tables, Params(toxic_score=1e6))
    for name in ("mid", "vpin", "kyle_lambda", "liq_branching", "weighted_mid", "bps_per_volume"):
        np.testing.assert_allclose(numbers(whole_seconds, name), numbers(slow, name), rtol=1e-9, err_msg=name)


def test_no_trade_has_no_imbalance() -> None:
    bars = bars_of(only(simulated("news", 3), "quotes"))
    assert all(bars[name].is_null().all() for name in MEMORIES)


def test_toxicity_is_the_matched_share_of_the_volume() -> None:
    """A liquidation in each of a hundred seconds, a quarter of what trades in them; faded with 30 s."""
    rows, records = [], []
    for second in range(400):
        begin = second * SECOND
        rows += [(begin + SECOND // 4, 100.0, 1.0, -1), (begin + SECOND // 2, 100.0, 3.0, 1 if second % 3 else 0)]
        if 100 <= second < 200:
            records.append((START + begin + SECOND // 4 + 10**6, -1, 100.0, 1.0))
    liquidations = pl.DataFrame(records, schema=["ts", "side", "price", "size"], orient="row")
    bars = bars_of({"trades": trade_table(rows), "liquidations": canonical(liquidations, "liquidations")})
    assert bars["toxicity"][:100].is_null().all()  # nobody could know
    forced = np.nan_to_num(numbers(bars, "liq_sell_volume"))
    assert forced.sum() == 100.0
    volume = numbers(bars, "buy_volume") + numbers(bars, "sell_volume") + numbers(bars, "unknown_volume")
    np.testing.assert_allclose(numbers(bars, "toxicity")[100:], faded_share(forced, volume, 30.0)[100:], rtol=1e-9)


# --- the last minute -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [4.0, 1.6, 1.3, 1.0])
@pytest.mark.parametrize("kinds", [("trades",), ("trades", "quotes")])
def test_excess_impact(kinds: tuple[str, ...], limit: float) -> None:
    """A simulated cascade after twenty minutes: the calm it is measured against, and what is left out of the calm. With
    the low limits most minutes are not quiet, some of the time."""
    tables = only(simulated("flush", 11, 2400.0), *kinds)
    params = Params(history="15m", history_lag="2m", stress_excess=limit)
    bars = bars_of(tables, params)
    ends = (bars["ts"].to_physical() // SECOND).to_list()
    volume = numbers(bars, "buy_volume") + numbers(bars, "sell_volume") + numbers(bars, "unknown_volume")
    mid = numbers(bars, "mid")
    moves = np.full(mid.size, NAN)
    moves[60:] = 1e4 * np.log(mid[60:] / mid[:-60])
    np.testing.assert_allclose(numbers(bars, "impact_bps"), moves, rtol=1e-9, atol=1e-9)
    volumes = np.array([math.fsum(volume[max(i - 59, 0) : i + 1]) for i in range(volume.size)])
    began = ends[int(np.isfinite(mid).argmax())]
    expected = excess_impact(ends, moves, volumes, params.stress_excess, began, window=15, lag=2)
    np.testing.assert_allclose(numbers(bars, "excess_impact"), expected, rtol=1e-6, atol=1e-9)
    assert np.nanmax(expected) > params.stress_excess
    per_volume = np.divide(np.abs(moves), volumes, out=np.full(volumes.size, NAN), where=volumes > 0)
    np.testing.assert_allclose(numbers(bars, "bps_per_volume"), per_volume, rtol=1e-6, atol=1e-12)


def test_excess_impact_of_a_move_without_any_volume() -> None:
    """As if a millionth of the usual had traded: large, and no division by nothing."""
    seconds = np.arange(1000)
    rng = np.random.default_rng(2)
    walk = np.cumsum(rng.normal(0, 0.5, seconds.size)) + np.where(seconds >= 900, 5.0, 0.0)
    mid, ts = 100.0 * np.exp(1e-4 * walk), START + SECOND * seconds + 1
    quotes = {"ts": ts, "bid": mid - 0.01, "bid_size": 1.0, "ask": mid + 0.01, "ask_size": 1.0}
    trades = {"ts": ts[:800] + 1, "price": mid[:800] + 0.01, "size": 2.0, "side": 1}
    bars = bars_of(
        {
            "trades": canonical(pl.DataFrame(trades), "trades"),
            "quotes": canonical(pl.DataFrame(quotes), "quotes"),
        }
    )
    ends = (bars["ts"].to_physical() // SECOND).to_list()
    volume, moves = numbers(bars, "buy_volume"), numbers(bars, "impact_bps")
    volumes = np.array([math.fsum(volume[max(i - 59, 0) : i + 1]) for i in range(volume.size)])
    expected = excess_impact(ends, moves, volumes, Params().stress_excess, ends[0])
    np.testing.assert_allclose(numbers(bars, "excess_impact"), expected, rtol=1e-6, atol=1e-9)
    assert volumes[930] == 0.0
    assert expected[930] > 100.0


# --- what fades ------------------------------------------------------------------------------------------------------


def quoted(seconds: int) -> Tables:
    """A print a second, bought and sold in turn, between quotes that stand still."""
    ts = START + np.arange(seconds) * SECOND
    side = np.where(np.arange(seconds) % 2, -1, 1)
    quotes = {"ts": ts, "bid": 16_999.95, "bid_size": 1.0, "ask": 17_000.05, "ask_size": 1.0}
    trades = {"ts": ts, "price": 17_000.0 + 0.05 * side, "size": 1.0 + np.arange(seconds) % 7 / 10, "side": side}
    return {
        "trades": canonical(pl.DataFrame(trades), "trades"),
        "quotes": canonical(pl.DataFrame(quotes), "quotes"),
        "liquidations": canonical(
            pl.DataFrame({"ts": [START + 601 * SECOND + 5], "side": [-1], "price": [16_999.95], "size": [1.0]}),
            "liquidations",
        ),
    }


def test_a_mean_price_stays_a_price_however_long_ago_the_flow_was() -> None:
    """Its weight halves every minute of calm trading: a day later no double could hold it."""
    bars = bars_of(quoted(90_000)).filter(pl.col("toxic_mean").is_not_null())
    assert bars.height > 89_000
    assert bars["toxic_mean"].to_numpy() == pytest.approx(16_999.95, rel=1e-12)
    assert bars["debiased_mean"].to_numpy() == pytest.approx(17_000.0, rel=1e-12)


def test_shares_of_the_flow_outlive_a_night() -> None:
    """After the last print nothing changes what its minute was like."""
    engine = Engine()
    engine.feed(**quoted(900))
    engine.quote(START + 86_400 * SECOND, 16_999.95, 1.0, 17_000.05, 1.0)
    bars = engine.take_bars()[900:]
    assert bars.height > 80_000
    for name in (*MEMORIES, "toxicity"):
        assert 1e-9 < abs(bars[name][0]) < 0.9
        assert bars[name].to_numpy() == pytest.approx(bars[name][0], rel=1e-9), name
