"""Signs, Kyle's lambda, branching, open interest, weighted mid: bars against plain references and known answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from feeding import NAN, SECOND, START, Tables, events, only, simulated, singly, trade_table, uncomfortable, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import online

from toxmid.engine import Engine, bars_frame
from toxmid.errors import ParameterError
from toxmid.params import Params
from toxmid.schema import canonical


def bars_of(tables: Tables, params: Params | None = None) -> pl.DataFrame:
    return bars_frame(whole(Engine(params), tables)[0])


def numbers(bars: pl.DataFrame, name: str) -> np.ndarray[Any, Any]:
    return bars[name].cast(pl.Float64).fill_null(NAN).to_numpy()


# --- signs of taker orders -------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rates=st.lists(st.sampled_from([0, 1, 3, 63, 64, 65, 130, 200]), min_size=4, max_size=14),
    persistence=st.sampled_from([0.1, 0.5, 0.9, 1.0]),
)
def test_autocorrelation_of_signs(seed: int, rates: list[int], persistence: float) -> None:
    """Every second against means over the whole list, whatever comes in a second; unknown sides are passed over."""
    rng = np.random.default_rng(seed)
    flips = rng.random(sum(rates) + 1) > persistence
    signs = np.where(np.cumsum(flips) % 2, 1, -1) * (rng.random(flips.size) < 0.95)
    rows, seconds, at = [(0, 100.0, 1.0, int(signs[0]))], [[int(signs[0])]], 1
    for second, rate in enumerate(rates):
        mine = [int(sign) for sign in signs[at : at + rate]]
        rows += [(second * SECOND + (i + 1) * SECOND // 300, 100.0, 1.0, sign) for i, sign in enumerate(mine)]
        seconds.append(mine)
        at += rate
    bars = bars_of({"trades": trade_table(rows)}, Params(sign_half_life=150.0))
    expected = np.array(online.sign_autocorrelations(seconds, 150.0))[: bars.height]
    for k, lag in enumerate(online.LAGS):
        np.testing.assert_allclose(numbers(bars, f"sign_acf_{lag}"), expected[:, k], rtol=1e-9, atol=1e-12)


def test_orders_not_prints_have_a_sign() -> None:
    """Ten prints of one moment and side are one order."""
    rows = [(i * SECOND // 4, 100.0, 1.0, 1 if i % 2 else -1) for i in range(2000)]
    one = bars_of({"trades": trade_table(rows)})
    ten = bars_of({"trades": trade_table([row for row in rows for _ in range(10)])})
    for lag in online.LAGS:
        assert one[f"sign_acf_{lag}"].equals(ten[f"sign_acf_{lag}"], null_equal=True)
    assert one["sign_acf_1"][-1] == pytest.approx(-1.0, abs=1e-3)
    assert one["sign_acf_10"][-1] == pytest.approx(1.0, abs=1e-3)
    assert one["sign_acf_100"].null_count() == pytest.approx(50, abs=1)


# --- Kyle's lambda ---------------------------------------------------------------------------------------------------


def quoted_market(flows: np.ndarray[Any, Any], mids: np.ndarray[Any, Any], seconds: int = 10) -> Tables:
    """A quote at the end of every bar and one trade of the bar's net flow inside it."""
    ends = START + (np.arange(flows.size) + 1) * seconds * SECOND
    side = np.where(flows > 0, 1, -1).astype(np.int8)
    trades = pl.DataFrame({"ts": ends - SECOND, "price": 100.0, "size": np.abs(flows), "side": side})
    quotes = pl.DataFrame({
        "ts": ends, "bid": mids - 0.01, "bid_size": 1.0, "ask": mids + 0.01, "ask_size": 3.0,
    })  # fmt: skip
    return {
        "trades": canonical(trades.filter(pl.col("size") > 0), "trades"),
        "quotes": canonical(quotes.filter(pl.col("bid").is_not_nan()), "quotes"),
    }


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), memory=st.sampled_from([30.0, 360.0]), unit=st.sampled_from([1e-3, 1.0, 1e5]))
def test_kyle_lambda_is_weighted_least_squares(seed: int, memory: float, unit: float) -> None:
    rng = np.random.default_rng(seed)
    flows = np.round(rng.normal(0, 10.0, 80) * (rng.random(80) < 0.8), 1) * unit
    mids = 100.0 * np.exp(1e-4 * np.cumsum(0.7 * flows / unit + rng.normal(0, 3.0, 80)))
    bars = bars_of(quoted_market(flows, mids), Params(lambda_memory=memory))
    at_ends = bars.filter(pl.col("ts").to_physical() % (10 * SECOND) == 0)
    mids = numbers(at_ends, "mid")
    moves = 1e4 * np.diff(np.log(mids))
    kyle = numbers(at_ends, "kyle_lambda")
    assert math.isnan(kyle[29])
    any_flow = int(np.flatnonzero(flows)[0])
    first = max(any_flow, 1)  # the first bar whose move is known and whose flow has a size to be measured by
    for bar in (first + 35, 60, 79):
        slope = online.kyle(moves[first - 1 : bar], flows[first : bar + 1], abs(flows[any_flow]), memory)
        assert kyle[bar] == pytest.approx(slope, rel=1e-5)


def test_kyle_lambda_of_a_market_without_noise() -> None:
    """Two bps a coin, and a constant that takes the drift."""
    flows = np.random.default_rng(1).integers(-20, 21, 200).astype(float)
    mids = 100.0 * np.exp(1e-4 * np.cumsum(2.0 * flows + 0.5))
    bars = bars_of(quoted_market(flows, mids))
    assert bars["kyle_lambda"][-1] == pytest.approx(2.0, rel=1e-6)


def test_kyle_lambda_passes_over_bars_without_a_mid_at_either_end() -> None:
    """And over the flow of those bars: what traded while nobody bid explains no later move."""
    rng = np.random.default_rng(5)
    flows = rng.integers(-20, 21, 120).astype(float)
    mids = 100.0 * np.exp(1e-4 * np.cumsum(0.7 * flows + rng.normal(0, 3.0, 120)))
    gone = np.isin(np.arange(120), [20, 21, 22, 50, 77, 90, 91])
    tables = quoted_market(flows, mids)
    bid = pl.when(pl.Series(~gone)).then(pl.col("bid")).otherwise(NAN)
    tables["quotes"] = tables["quotes"].with_columns(bid=bid)
    bars = bars_of(tables, Params(lambda_memory=60.0))
    shown = np.where(gone, NAN, numbers(bars.filter(pl.col("ts").to_physical() % (10 * SECOND) == 0), "mid"))
    moves = 1e4 * np.diff(np.log(shown))
    known = ~np.isnan(moves)
    slope = online.kyle(moves[known], flows[1:][known], abs(flows[0]), 60.0)
    assert bars["kyle_lambda"][-1] == pytest.approx(slope, rel=1e-5)


def test_kyle_lambda_while_nothing_trades() -> None:
    """Days without a trade do not let it explode: the first flow after them is taken as it comes."""
    flows = np.random.default_rng(1).integers(-20, 21, 100).astype(float)
    mids = 100.0 * np.exp(1e-4 * np.cumsum(2.0 * flows))
    engine = Engine(Params(gap="365d"))
    for method, arguments in events(quoted_market(flows, mids)):
        getattr(engine, method)(*arguments)
    before = engine.peek()
    engine.mark_price(START + 3 * 86_400 * SECOND, 100.0)
    after = engine.peek()
    assert before is not None
    assert after is not None
    assert after["kyle_lambda"] == pytest.approx(before["kyle_lambda"], rel=1e-3)


def test_kyle_lambda_outlives_days_without_a_trade() -> None:
    """Its covariance grows with what is forgotten, but never out of the doubles: later flow is learnt from."""
    flows = np.random.default_rng(1).integers(-20, 21, 100).astype(float)
    mids = 100.0 * np.exp(1e-4 * np.cumsum(2.0 * flows))
    early = quoted_market(flows, mids)
    late = quoted_market(flows, 100.0 * np.exp(1e-4 * np.cumsum(3.0 * flows)))
    moved = {name: table.with_columns(pl.col("ts").dt.offset_by("4d")) for name, table in late.items()}
    tables = {name: pl.concat([early[name], moved[name]]) for name in early}
    bars = bars_of(tables, Params(gap="365d", lambda_memory=30.0, bar="10s"))
    assert bars["kyle_lambda"][100] == pytest.approx(2.0, rel=1e-6)
    assert bars["kyle_lambda"][-1] == pytest.approx(3.0, rel=1e-3)


def test_bar_of_lambda_is_whole_seconds() -> None:
    with pytest.raises(ParameterError, match="lambda_bar"):
        Params(lambda_bar="1500ms")


# --- branching of liquidation prints ---------------------------------------------------------------------------------


def prints(counts: np.ndarray[Any, Any]) -> Tables:
    """So many liquidation records in each second, and a mark price that closes the last one."""
    second = np.repeat(np.arange(counts.size), counts)
    ts = START + second * SECOND + 1
    feed = pl.DataFrame({"ts": ts, "side": -1, "price": 100.0, "size": 1.0})
    mark = pl.DataFrame({"ts": [START + 1, START + counts.size * SECOND], "price": [100.0, 100.0]})
    return {"liquidations": canonical(feed, "liquidations"), "mark": canonical(mark, "mark")}


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), rate=st.sampled_from([0.0, 0.002, 0.1, 3.0]), memory=st.sampled_from(["10m", "1h"]))
def test_branching_against_the_whole_list(seed: int, rate: float, memory: str) -> None:
    counts = np.random.default_rng(seed).poisson(rate, 900) * np.random.default_rng(seed + 1).integers(0, 3, 900)
    bars = bars_of(prints(counts), Params(branching_memory=memory, gap="365d"))
    got = numbers(bars, "liq_branching")
    seconds = 600.0 if memory == "10m" else 3600.0
    expected = [online.branching(counts[:n].tolist(), seconds) for n in range(1, 901, 37)]
    np.testing.assert_allclose(got[:900:37], expected, rtol=1e-7, atol=1e-7)


def hawkes_counts(rng: np.random.Generator, n: float, seconds: int, rate: float) -> np.ndarray[Any, Any]:
    """Immigrants at `rate` a second, each print with Poisson(n) children an exponential second later."""
    generation = rng.uniform(0, seconds, rng.poisson(rate * seconds))
    times = [generation]
    while generation.size:
        generation = np.repeat(generation, rng.poisson(n, generation.size))
        generation = generation + rng.exponential(1.0, generation.size)
        times.append(generation)
    every = np.concatenate(times)
    return np.bincount(every[every < seconds].astype(int), minlength=seconds)


@pytest.mark.parametrize("n", [0.0, 0.3, 0.6, 0.8])
def test_branching_of_a_known_process(n: float) -> None:
    """Six hours of a Hawkes process with a kernel of one second: what it was made with comes out."""
    counts = hawkes_counts(np.random.default_rng(4), n, 6 * 3600, 0.05)
    bars = bars_of(prints(counts), Params(branching_memory="1d", gap="365d"))
    assert bars["liq_branching"][-2] == pytest.approx(n, abs=0.12)
    usual = bars["liq_branching"] - bars["liq_branching_excess"]
    assert usual[-2] == pytest.approx(numbers(bars[:-60:60], "liq_branching")[6:].mean(), abs=0.2)


def test_what_is_usual_of_branching_is_the_median_of_seven_days() -> None:
    """Of its value at every full minute, up to the one before; the older week is forgotten."""
    rng = np.random.default_rng(6)
    level = np.repeat([0.02, 0.3, 0.1, 0.02, 0.5, 0.02, 0.2, 0.1, 0.4], 86_400)  # bursts a second, by day
    counts = np.zeros(level.size, dtype=np.int64)
    counts[::40] = rng.poisson(level[::40] * 12) * rng.integers(0, 9, level[::40].size)
    bars = bars_of(prints(counts), Params(bar="1m", gap="365d"))
    ts, ratio = bars["ts"].to_physical().to_numpy(), numbers(bars, "liq_branching")
    told = ratio - numbers(bars, "liq_branching_excess")
    for row in (7, 60, 1439, 5000, 7 * 1440 + 1, 8 * 1440, 9 * 1440 - 2):
        counted = ratio[(ts > ts[row] - 7 * 86_400 * SECOND) & (ts <= ts[row] - 60 * SECOND)]
        assert told[row] == pytest.approx(np.nanmedian(counted), rel=1e-9), row
    whole = np.nanmedian(ratio[: 9 * 1440 - 2])
    assert told[9 * 1440 - 2] != pytest.approx(whole, rel=1e-4)


def test_inferred_liquidations_are_counted_where_there_is_no_feed() -> None:
    tables = only(simulated("flush", 11), "trades", "quotes")
    bars = bars_of(tables)
    assert bars["liq_branching"].drop_nulls().len() > 0
    inferred = (bars["liq_buy_volume"] + bars["liq_sell_volume"]) > 0
    assert int(bars["liq_branching"].is_not_null().arg_max() or 0) >= int(inferred.arg_max() or 0)


# --- open interest ---------------------------------------------------------------------------------------------------


def test_closing_share_against_the_tape() -> None:
    """-dOI over the taker volume on the larger side, window by window."""
    tables = only(simulated(), "trades", "quotes", "open_interest")
    bars = bars_of(tables)
    buy, sell = (numbers(bars, name) for name in ("buy_volume", "sell_volume"))
    first = int(bars["ts"].to_physical()[0])
    samples = tables["open_interest"]
    at = (-(-samples["ts"].to_physical().to_numpy() // SECOND) * SECOND - first) // SECOND
    value, shares = samples["open_interest"].to_numpy(), numbers(bars, "closing_share")
    assert np.isnan(shares[: at[1]]).all()
    seen = 0
    for k in range(1, at.size):
        begin, end = at[k - 1], at[k]
        volume = max(buy[begin + 1 : end + 1].sum(), sell[begin + 1 : end + 1].sum())
        expected = min(max(value[k - 1] - value[k], 0.0) / volume, 1.0) if volume else NAN
        np.testing.assert_allclose(shares[end], expected, rtol=1e-9)
        seen += expected > 0
    assert seen > 20
    assert numbers(bars, "open_interest")[-1] == value[-1]


def test_open_interest_shifts_the_next_window_by_what_closed_in_this_one() -> None:
    """Volume inferred to be forced, second by second, against exact weights instead of bins of them."""
    bare = only(simulated("flush", 11), "trades", "quotes")
    tables = {**bare, "open_interest": simulated("flush", 11)["open_interest"]}
    plain, bars = bars_of(bare), bars_of(tables)
    assert plain["implied_mid"].equals(bars["implied_mid"], null_equal=True)
    first = int(plain["ts"].to_physical()[0])
    net = numbers(plain, "buy_volume") - numbers(plain, "sell_volume")
    at = (-(-tables["open_interest"]["ts"].to_physical().to_numpy() // SECOND) * SECOND - first) // SECOND
    value = tables["open_interest"]["open_interest"].to_numpy()
    shifts, furthest = 0, 0.0
    for side, sign in (("buy", 1), ("sell", -1)):
        volume, inferred = numbers(plain, f"{side}_volume"), np.nan_to_num(numbers(plain, f"liq_{side}_volume"))
        got = np.nan_to_num(numbers(bars, f"liq_{side}_volume"))
        weight = np.divide(inferred, volume, out=np.zeros_like(volume), where=volume > 0)
        expected = inferred.copy()
        for k in range(1, at.size):
            window = slice(at[k - 1] + 1, at[k] + 1)
            following = slice(at[k] + 1, (at[k + 1] if k + 1 < at.size else at[k] + 10) + 1)
            factor = 1.0
            if sign * net[window].sum() > 0:
                factor = online.odds_factor(weight[window], volume[window], max(value[k - 1] - value[k], 0.0))
            expected[following] = volume[following] * online.shifted(weight[following], factor)
            shifts += factor != 1.0
        np.testing.assert_allclose(got, expected, rtol=0.03, atol=1e-3)
        furthest = max(furthest, float(np.abs(got - inferred).max()))
    assert shifts > 5
    assert furthest > 1.0


def test_what_a_feed_published_counts_as_closed_where_it_is_more() -> None:
    """Open interest that stands still, for others open as many positions as are forced to close."""
    bare = only(simulated("flush", 8, 560.0), "trades", "quotes")
    feed = simulated("flush", 8, 560.0)["liquidations"]
    plain = bars_of(bare)
    first = int(plain["ts"].to_physical()[0])
    ts = START + np.arange(1, 112) * 5 * SECOND + 3
    still = canonical(pl.DataFrame({"ts": ts, "open_interest": 5000.0}), "open_interest")
    engine = Engine()
    engine.feed(**bare, liquidations=feed, open_interest=still)
    engine.finish()
    net = numbers(plain, "buy_volume") - numbers(plain, "sell_volume")
    at = (-(-ts // SECOND) * SECOND - first) // SECOND
    published = (-(-feed["ts"].to_physical().to_numpy() // SECOND) * SECOND - first) // SECOND
    total = alone = 0.0
    for side, sign in (("buy", 1), ("sell", -1)):
        volume, inferred = numbers(plain, f"{side}_volume"), np.nan_to_num(numbers(plain, f"liq_{side}_volume"))
        weight = np.divide(inferred, volume, out=np.zeros_like(volume), where=volume > 0)
        shifted = inferred.copy()
        for k in range(1, at.size):
            window = slice(at[k - 1] + 1, at[k] + 1)
            following = slice(at[k] + 1, (at[k + 1] if k + 1 < at.size else at[k] + 10) + 1)
            if sign * net[window].sum() > 0:
                inside = (published > at[k - 1]) & (published <= at[k]) & (feed["side"].to_numpy() == sign)
                factor = online.odds_factor(weight[window], volume[window], feed["size"].to_numpy()[inside].sum())
                shifted[following] = volume[following] * online.shifted(weight[following], factor)
        total, alone = total + shifted.sum(), alone + inferred.sum()
    assert engine.feed_figures()["inferred_volume"] == pytest.approx(total, rel=0.03)
    assert abs(total / alone - 1) > 0.1


def test_an_overdue_sample_shifts_nothing() -> None:
    """Two windows after the last sample its factor is no longer used."""
    bare = only(simulated("flush", 11), "trades", "quotes")
    samples = simulated("flush", 11)["open_interest"]
    plain = bars_of(bare)
    busy = int(plain["liq_sell_volume"].arg_max() or 0)
    until = START + (busy + 6) * SECOND
    bars = bars_of({**bare, "open_interest": samples.filter(pl.col("ts").to_physical() < until)})
    later = slice(busy + 6 + 12, None)
    assert bars["liq_sell_volume"][later].equals(plain["liq_sell_volume"][later])
    assert not bars["liq_sell_volume"].equals(plain["liq_sell_volume"])


# --- weighted mid ----------------------------------------------------------------------------------------------------


def test_weighted_mid() -> None:
    """Nearer the side with less on it: (ask x bid size + bid x ask size) / sizes; null without sizes."""
    flows = np.ones(3)
    bars = bars_of(quoted_market(flows, np.array([100.0, 101.0, 102.0])))
    assert bars["weighted_mid"].drop_nulls()[-1] == pytest.approx((102.01 * 1 + 101.99 * 3) / 4, rel=1e-15)
    assert bars_of(only(simulated(), "trades"))["weighted_mid"].null_count() > 500


@pytest.mark.parametrize("seconds", [200, 400])
def test_nothing_of_this_looks_ahead(seconds: int) -> None:
    names = [
        "weighted_mid", "sign_acf_1", "sign_acf_10", "sign_acf_100", "kyle_lambda", "liq_branching",
        "liq_branching_excess", "open_interest", "closing_share",
    ]  # fmt: skip
    for tables in (simulated(), uncomfortable(2, 1500)):
        cut = {
            name: table.filter(pl.col("ts").to_physical() <= START + seconds * SECOND) for name, table in tables.items()
        }
        early, full = bars_frame(singly(Engine(), cut)[0]), bars_of(tables)
        held = early.height - 1
        assert early[:held].select(names).equals(full[:held].select(names), null_equal=True)
