"""Price impact: known coefficients recovered, plain least squares by hand, states, and what is refused."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st

from toxmid.errors import DataError, NotEnoughDataError, ParameterError
from toxmid.impact import TERMS, amihud, impact, stress_over_calm

SECOND = 10**9
START = 1_760_054_400 * SECOND


def market(
    n: int = 6000, *, flow: float = 2.0, stress: float = 0.0, root: float = 0.0, noise: float = 1.0, seed: int = 0
) -> pl.DataFrame:
    """Bars of one second; the regime is stress in every third block of 600 bars, and the mid moves as told."""
    rng = np.random.default_rng(seed)
    bought, sold = rng.exponential(size=(2, n))
    net = bought - sold
    stressed = np.arange(n) // 600 % 3 == 2
    moves = (flow + stress * stressed) * net + root * np.sign(net) * np.sqrt(np.abs(net)) + noise * rng.normal(size=n)
    return pl.DataFrame(
        {
            "ts": pl.Series(START + SECOND * np.arange(1, n + 1)).cast(pl.Datetime("ns", "UTC")),
            "mid": 100.0 * np.exp(1e-4 * np.cumsum(moves)),
            "buy_volume": bought,
            "sell_volume": sold,
            "regime": np.where(stressed, "stress-labelled", "calm"),
        }
    )


def test_ratio_alone_is_that_of_the_regression() -> None:
    bars = market(1800, stress=3.0)
    assert stress_over_calm(bars) == pytest.approx(impact(bars).ratio, rel=1e-9)
    assert stress_over_calm(bars.drop("regime")) is None
    assert stress_over_calm(bars[:1]) is None


def test_recovers_what_it_was_given() -> None:
    bars = market(flow=2.0, stress=3.0, root=4.0)
    result = impact(bars, bar="1s", terms=TERMS)
    truth = {"const": 0.0, "flow": 2.0, "stress_flow": 3.0, "sqrt_flow": 4.0}
    assert list(result.params.index) == list(truth)
    for name, value in truth.items():
        assert abs(result.params[name] - value) < 4 * result.bse[name] < 0.5
        low, high = result.conf_int(0.0001).loc[name]
        assert low < value < high


def test_slopes_by_state() -> None:
    result = impact(market(flow=2.0, stress=3.0), bar="1s", terms=["flow", "stress_flow"])
    assert result.stress is not None
    assert result.calm.bps == pytest.approx(result.params["flow"])
    assert result.calm.bse == pytest.approx(result.bse["flow"])
    assert result.stress.bps == pytest.approx(result.params["flow"] + result.params["stress_flow"])
    assert result.ratio == pytest.approx(result.stress.bps / result.calm.bps)
    assert abs(result.ratio - 2.5) < 4 * result.ratio_bse < 0.5
    assert result.calm.bps < result.kyle.bps < result.stress.bps
    wider = impact(market(flow=2.0, stress=3.0), bar="1s")
    assert wider.terms == TERMS
    assert (wider.calm, wider.stress, wider.ratio) == (result.calm, result.stress, result.ratio)


def test_the_ratio_has_the_error_it_shows() -> None:
    """Delta method against the spread of the estimate over samples."""
    markets = [market(1800, flow=2.0, stress=2.0, noise=4.0, seed=seed) for seed in range(60)]
    samples = [impact(bars, bar="1s", terms=["flow"]) for bars in markets]
    ratios = np.array([sample.ratio for sample in samples])
    assert ratios.mean() == pytest.approx(2.0, abs=3 * ratios.std() / np.sqrt(60))
    assert np.mean([sample.ratio_bse for sample in samples]) == pytest.approx(ratios.std(), rel=0.35)


def test_is_the_regression_it_says() -> None:
    """The same numbers from the sums, the matrix and the HAC call written out."""
    bars = market()
    result = impact(bars, bar="10s", terms=["flow"])
    mid = bars["mid"].to_numpy().reshape(-1, 10)[:, -1]
    net = (bars["buy_volume"] - bars["sell_volume"]).to_numpy().reshape(-1, 10).sum(axis=1)
    y, x = 1e4 * np.diff(np.log(mid)), sm.add_constant(net[1:])
    lags = int(np.floor(4 * (y.size / 100) ** (2 / 9)))
    expected = sm.OLS(y, x).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": True})
    assert (result.lags, result.observations, result.dropped) == (lags, 599, 1) == (5, 599, 1)
    np.testing.assert_allclose(result.params, expected.params, rtol=1e-10)
    np.testing.assert_allclose(result.bse, expected.bse, rtol=1e-10)
    np.testing.assert_allclose(result.tvalues, expected.tvalues, rtol=1e-8)
    np.testing.assert_allclose(result.conf_int(), expected.conf_int(), rtol=1e-8)
    np.testing.assert_allclose(result.params, np.linalg.lstsq(x, y)[0], rtol=1e-8)
    price = mid[1:].mean()
    assert (result.kyle.bps, result.kyle.bse) == (result.params["flow"], pytest.approx(result.bse["flow"]))
    assert result.kyle.bps_per_10m == pytest.approx(result.params["flow"] * 1e7 / price)
    turnover = (bars["mid"] * (bars["buy_volume"] + bars["sell_volume"]))[10:].sum()
    assert result.amihud == pytest.approx(np.abs(y).sum() / turnover * 1e6)


def test_default_terms_are_those_that_the_bars_can_tell_apart() -> None:
    bars = market(1200 + 600, stress=3.0)
    assert impact(bars, bar="1s").terms == TERMS
    assert impact(bars.drop("regime"), bar="1s").terms == ("flow", "sqrt_flow")
    calm = impact(bars[:1000], bar="1s")
    assert (calm.terms, calm.stress, calm.stress_observations) == (("flow", "sqrt_flow"), None, 0)
    assert calm.calm == calm.kyle
    assert np.isnan(calm.ratio)
    one_size = bars.with_columns(pl.col("buy_volume").round() % 2, sell_volume=1 - pl.col("buy_volume").round() % 2)
    assert impact(one_size.drop("regime"), bar="1s").terms == ("flow",)  # its root is the same regressor
    with pytest.raises(NotEnoughDataError, match="cannot tell stress_flow apart"):
        impact(bars[:1000], terms=["flow", "stress_flow"])
    with pytest.raises(NotEnoughDataError, match="cannot tell sqrt_flow apart"):
        impact(one_size, bar="1s", terms=["flow", "sqrt_flow"])


def test_a_bar_counts_for_the_regime_in_which_it_opens() -> None:
    bars = market(1800, stress=50.0, noise=0.01)
    result = impact(bars, bar="10s", terms=["flow", "stress_flow"])
    assert result.stress_observations == 59  # the bar in which stress begins opened before it
    assert impact(bars, bar="10s", terms=["flow", "stress_flow"], regime_at="any").stress_observations == 60


def test_stress_is_any_regime_of_that_name() -> None:
    bars = market(1800, stress=3.0).with_columns(pl.col("regime").cast(pl.Categorical))
    other = bars.with_columns(pl.col("regime").cast(pl.String).replace("stress-labelled", "stress-inferred"))
    halted = bars.with_columns(pl.col("regime").cast(pl.String).replace("stress-labelled", "halted"))
    assert impact(bars).ratio == impact(other).ratio
    assert "stress_flow" not in impact(halted).terms


def test_bars_without_a_mid_and_holes_are_left_out_and_counted() -> None:
    bars = market(600)
    assert impact(bars, bar="1s", terms=["flow"]).dropped == 1  # the first has nothing before it
    blind = bars.with_columns(mid=pl.when(pl.int_range(pl.len()).is_in([50, 90])).then(None).otherwise("mid"))
    assert impact(blind, bar="1s", terms=["flow"]).dropped == 5
    nan = bars.with_columns(mid=pl.when(pl.int_range(pl.len()).is_in([50, 90])).then(float("nan")).otherwise("mid"))
    assert impact(nan, bar="1s", terms=["flow"]).params.equals(impact(blind, bar="1s", terms=["flow"]).params)
    hole = pl.concat([bars[:300], bars[310:]])
    assert impact(hole, bar="1s", terms=["flow"]).dropped == 2


def test_takes_a_replay_or_any_frame() -> None:
    bars = market(900)
    expected = impact(bars).params
    for same in (SimpleNamespace(bars=bars), bars.lazy(), bars.to_arrow(), bars.to_pandas()):
        assert impact(same).params.equals(expected)
    micro = bars.with_columns(pl.col("ts").dt.cast_time_unit("us"))
    integer = bars.with_columns(pl.col("ts").dt.epoch("ns"))
    assert impact(micro).params.equals(expected)
    assert impact(integer).params.equals(expected)
    assert impact(bars.with_columns(bars=pl.lit(1)).to_pandas()).params.equals(expected)


def test_summary_says_it_in_words() -> None:
    text = str(impact(market(1800, stress=3.0)).summary())
    for words in ("10s bars, HAC with 4 lags", "stress_flow", "stress / calm =", "Kyle's lambda", "Amihud ratio"):
        assert words in text
    assert "stress / calm" not in str(impact(market(1800).drop("regime")).summary())


def test_the_result_is_a_value() -> None:
    result = impact(market(900))
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.bar = "1s"  # type: ignore[misc]
    copy = pickle.loads(pickle.dumps(result))
    assert copy.params.equals(result.params)
    assert (copy.calm, copy.kyle) == (result.calm, result.kyle)


def test_amihud_is_a_ratio_of_weighted_means() -> None:
    """By a loop over the bars; causal, null until ready, and where nobody knows the move."""
    blind = pl.int_range(pl.len()).is_between(495, 515)
    bars = market(900).with_columns(mid=pl.when(blind).then(None).otherwise("mid"))
    table = amihud(bars, bar="10s", half_life="100s")
    mid = bars["mid"].to_numpy().reshape(-1, 10)[:, -1]
    turnover = np.nan_to_num((bars["mid"] * (bars["buy_volume"] + bars["sell_volume"])).to_numpy())
    moved = above = below = 0.0
    for k, (price, money) in enumerate(zip(mid, turnover.reshape(-1, 10).sum(axis=1), strict=True)):
        above, below = above * 2**-0.1, below * 2**-0.1
        move = 1e4 * abs(np.log(price / mid[k - 1])) if k else np.nan
        if np.isfinite(move):
            moved, above, below = moved + 1, above + move, below + money
        shown = table["amihud"][k]
        assert shown == (pytest.approx(above / below * 1e6) if moved >= 30 and np.isfinite(move) else None)
    assert table["ts"].dt.epoch("ns").to_list() == [START + (k + 1) * 10 * SECOND for k in range(90)]
    assert amihud(bars[:600], half_life="100s").equals(amihud(bars, half_life="100s")[:60])
    with pytest.raises(ParameterError, match="half_life"):
        amihud(bars, half_life="long")


@given(st.integers(0, 10_000))
def test_mirror_symmetry(seed: int) -> None:
    """Buys for sells and up for down: the same impact. The constant turns its sign."""
    bars = market(300, seed=seed)
    mirror = bars.with_columns(mid=10_000.0 / pl.col("mid"), buy_volume="sell_volume", sell_volume="buy_volume")
    one, other = (impact(frame, bar="5s", terms=["flow", "sqrt_flow"]) for frame in (bars, mirror))
    np.testing.assert_allclose(other.params, one.params * [-1, 1, 1], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(other.bse, one.bse, rtol=1e-6)
    assert other.amihud == pytest.approx(one.amihud, rel=0.1)  # its turnover is in money, and that is not mirrored


@given(st.floats(0.001, 1000.0), st.integers(0, 100))
def test_units(scale: float, seed: int) -> None:
    """Coins a thousand times smaller move the mid a thousand times less each; per money nothing changes."""
    bars = market(300, seed=seed)
    scaled = bars.with_columns(pl.col("buy_volume", "sell_volume") * scale, mid=pl.col("mid") / scale)
    one, other = (impact(frame, bar="1s", terms=["flow"]) for frame in (bars, scaled))
    assert other.calm.bps * scale == pytest.approx(one.calm.bps, rel=1e-6)
    assert other.calm.bps_per_10m == pytest.approx(one.calm.bps_per_10m, rel=1e-6)
    assert other.amihud == pytest.approx(one.amihud, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"bar": "1500ms"}, ParameterError, "no multiple"),
        ({"bar": "soon"}, ParameterError, "bar is not a length of time"),
        ({"terms": ["vpin"]}, ParameterError, "no such term"),
        ({"terms": []}, ParameterError, "no such term"),
        ({"lags": -1}, ParameterError, "lags"),
        ({"lags": 10_000}, ParameterError, "lags"),
        ({"regime_at": "end"}, ParameterError, "regime_at"),
        ({"bar": "5m"}, NotEnoughDataError, "too few 5m bars"),
    ],
)
def test_wrong_parameters(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        impact(market(900), **arguments)


def test_bars_that_cannot_be_used() -> None:
    bars = market(900)
    with pytest.raises(DataError, match="lack columns") as caught:
        impact(bars.drop("mid"))
    assert caught.value.column == "mid"
    with pytest.raises(DataError, match="time does not advance") as caught:
        impact(bars[::-1])
    assert caught.value.row == 1
    with pytest.raises(NotEnoughDataError, match="too few"):
        impact(bars[:0])
    with pytest.raises(NotEnoughDataError, match="never moves"):
        impact(bars.with_columns(mid=pl.lit(100.0)))
    with pytest.raises(NotEnoughDataError, match="sides known"):
        impact(bars.with_columns(buy_volume=pl.lit(0.0), sell_volume=pl.lit(0.0)))
    with pytest.raises(DataError, match="not a table"):
        impact(17)


def test_the_cascade_of_october_2025_moved_more_per_money(shared_data: Path) -> None:
    """AVAX perp, mid from the last taker buy and sell: ten million of net flow moved it more in the cascade."""
    bought = pl.col("side") == "buy"
    tape = pl.read_csv(shared_data / "crash-2025-10-10" / "binance-delivery_trades_2025-10-10_AVAXUSD_PERP.csv.gz")
    seconds = (
        tape.with_columns(
            ts=-(pl.col("local_timestamp") * -1000 // SECOND) * SECOND,
            coins=pl.col("amount") * 10 / pl.col("price"),  # contracts of ten dollars
            last_buy=pl.when(bought).then("price").forward_fill(),
            last_sell=pl.when(~bought).then("price").forward_fill(),
        )
        .group_by("ts", maintain_order=True)
        .agg(
            mid=(pl.col("last_buy").last() + pl.col("last_sell").last()) / 2,
            buy_volume=pl.col("coins").filter(bought).sum(),
            sell_volume=pl.col("coins").filter(~bought).sum(),
        )
    )
    clock = pl.DataFrame({"ts": np.arange(seconds["ts"][0], seconds["ts"][-1] + 1, SECOND)})
    cascade = pl.col("ts").is_between(START + 76_380 * SECOND, START + 78_600 * SECOND)  # 21:13 to 21:50
    bars = clock.join(seconds, on="ts", how="left", maintain_order="left").with_columns(
        pl.col("mid").forward_fill(),
        pl.col("buy_volume", "sell_volume").fill_null(0.0),
        regime=pl.when(cascade).then(pl.lit("stress")).otherwise(pl.lit("calm")),
    )
    result = impact(bars)
    assert result.stress is not None
    assert result.ratio > 1
    assert result.stress.bps_per_10m > 3 * result.calm.bps_per_10m
    assert result.kyle.bps / result.kyle.bse > 3


def test_order_flow_imbalance_is_a_term_where_it_is_asked_for() -> None:
    """The slope of Cont, Kukanov and Stoikov; bars in which it is not known are left out."""
    bars = market(flow=2.0, noise=1.0)
    rng = np.random.default_rng(4)
    ofi = rng.normal(size=bars.height)
    moved = bars.with_columns(mid=pl.col("mid") * np.exp(1e-4 * np.cumsum(5.0 * ofi)), ofi=ofi)
    both = impact(moved, bar="1s", terms=["flow", "ofi"])
    assert abs(both.params["ofi"] - 5.0) < 4 * both.bse["ofi"] < 0.5
    assert abs(both.params["flow"] - 2.0) < 4 * both.bse["flow"] < 0.5
    alone = impact(moved, bar="10s", terms=["ofi"])
    sums = ofi.reshape(-1, 10).sum(axis=1)[1:]
    moves = 1e4 * np.diff(np.log(moved["mid"].to_numpy()[9::10]))
    slope = np.linalg.lstsq(np.stack([np.ones(sums.size), sums], axis=1), moves, rcond=None)[0][1]
    assert alone.params["ofi"] == pytest.approx(slope, rel=1e-9)
    holes = moved.with_columns(ofi=pl.when(pl.int_range(pl.len()) % 100 == 7).then(None).otherwise("ofi"))
    assert impact(holes, bar="1s", terms=["ofi"]).dropped == 1 + 60
    assert impact(moved, bar="1s").terms == TERMS  # only where it is asked for
    with pytest.raises(DataError, match="ofi"):
        impact(bars, terms=["ofi"])


def test_turnover_is_of_all_that_traded() -> None:
    """Trades of unknown side are turnover, too; and so is what traded while there was no mid."""
    bars = market(600)
    half = pl.col("buy_volume", "sell_volume") / 2
    hidden = bars.with_columns(unknown_volume=(pl.col("buy_volume") + pl.col("sell_volume")) / 2).with_columns(half)
    assert impact(hidden, terms=["flow"]).amihud == pytest.approx(impact(bars, terms=["flow"]).amihud, rel=1e-12)
    gone = pl.int_range(pl.len()) % 10 == 3
    torn = bars.with_columns(price=pl.col("mid"), mid=pl.when(~gone).then("mid"))
    assert impact(torn, terms=["flow"]).amihud == pytest.approx(impact(bars, terms=["flow"]).amihud, rel=1e-12)
    assert amihud(torn)["amihud"].equals(amihud(bars)["amihud"], null_equal=True)
