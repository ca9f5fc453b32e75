"""Rivals: small cases by hand, processes with known parameters, and nothing that looks ahead."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import toxmid
from toxmid.errors import DataError, NotEnoughDataError, ParameterError
from toxmid.evaluate import ESTIMATORS, RIVALS, MicroPrice, Rivals
from toxmid.evaluate.rivals import _level_gain, _mrr_phi, _pressure

from .conftest import Maker

NOTHING = Rivals(
    micro=None, mrr_phi=2.0, level_gain=0.5, propagator=(0.1, 0.0, 0.0), reversal=0.5, depth="volume", state_space=None
)


def estimate(bars: pl.DataFrame, name: str, rivals: Rivals = NOTHING) -> list[float | None]:
    return rivals.estimates(bars)[name].to_list()


def test_weighted_mid_leans_to_the_thin_side(make_bars: Maker) -> None:
    bars = make_bars([100.0, 100.0], bid_size=[3.0, 0.0], ask_size=[1.0, 0.0])
    assert estimate(bars, "weighted_mid") == [(99.5 * 1 + 100.5 * 3) / 4, None]


def test_glosten_milgrom_weighs_the_quotes_with_the_flow(make_bars: Maker) -> None:
    bars = make_bars([100.0, 100.0, 100.0], imbalance=[-1.0, 0.0, 0.5])
    assert estimate(bars, "glosten_milgrom") == [99.5, 100.0, 0.75 * 100.5 + 0.25 * 99.5]


def test_ema_halves_its_weights_every_half_life(make_bars: Maker) -> None:
    mid = np.full(16, 100.0)
    mid[-1] = 110.0
    weights = 2.0 ** (-np.arange(16)[::-1] / 15.0)
    expected = np.exp(weights @ np.log(mid) / weights.sum())
    assert estimate(make_bars(mid), "ema_15")[-1] == pytest.approx(expected, rel=1e-12)


def test_ema_keeps_its_memory_in_time_where_there_is_no_mid(make_bars: Maker) -> None:
    mid = np.array([100.0, np.nan, np.nan, 110.0])
    bars = make_bars(mid).with_columns(pl.col("mid").fill_nan(None))
    old = 2.0 ** (-3 / 15)
    expected = np.exp((old * np.log(100.0) + np.log(110.0)) / (old + 1.0))
    values = estimate(bars, "ema_15")
    assert values[-1] == pytest.approx(expected, rel=1e-12)
    assert values[1] == pytest.approx(100.0)


def test_vwap_forgets_what_has_left_its_window(make_bars: Maker) -> None:
    price, volume = np.full(130, 100.0), np.zeros(130)
    price[0], volume[0] = 90.0, 3.0
    price[59], volume[59] = 110.0, 1.0
    trades = (volume > 0).astype(int)
    bars = make_bars(np.full(130, 100.0), price=price, buy_volume=volume, sell_volume=0.0, trades=trades)
    values = estimate(bars, "vwap_60")
    assert values[0] == pytest.approx(90.0)
    assert values[59] == pytest.approx((3 * 90 + 110) / 4)
    assert values[60] == pytest.approx(110.0)
    assert values[119] is None


def test_toxic_mean_with_a_fixed_memory(make_bars: Maker) -> None:
    price = np.array([100.0, 98.0, 96.0])
    bars = make_bars(np.full(3, 100.0), price=price, liq_sell_volume=[0.0, 2.0, 1.0])
    old = 2.0 * 2.0 ** (-1 / 60)
    values = estimate(bars, "toxic_60")
    assert values[0] is None
    assert values[1] == pytest.approx(98.0)
    assert values[2] == pytest.approx((old * 98.0 + 96.0) / (old + 1.0))


def test_mrr_takes_off_what_the_side_of_the_flow_paid(make_bars: Maker) -> None:
    bars = make_bars([100.0] * 3, buy_volume=[2.0, 0.0, 1.0], sell_volume=[1.0, 3.0, 1.0], price=[100.5, 99.5, 100.0])
    half = np.exp(2.0e-4)
    assert estimate(bars, "mrr") == pytest.approx([100.5 / half, 99.5 * half, 100.0])


def test_mrr_is_carried_over_seconds_without_trades(make_bars: Maker) -> None:
    bars = make_bars([100.0] * 2, trades=[1, 0], buy_volume=[2.0, 0.0], sell_volume=0.0, price=100.5)
    assert estimate(bars, "mrr") == pytest.approx([100.5 * np.exp(-2e-4)] * 2)


def test_mid_before_the_episode_is_held_while_it_lasts(make_bars: Maker) -> None:
    regime = ["calm", "stress-labelled", "stress-inferred", "calm"]
    assert estimate(make_bars([100.0, 90.0, 80.0, 85.0], regime=regime), "mid_before") == [100.0, 100.0, 100.0, 85.0]


def test_reversal_gives_back_its_share(make_bars: Maker) -> None:
    bars = make_bars([100.0, 110.0])
    (_, ema), (_, value) = estimate(bars, "ema_60"), estimate(bars, "reversal")
    assert ema is not None
    assert value == pytest.approx(np.sqrt(110.0 * ema))


def test_local_level_is_the_steady_state_filter(make_bars: Maker) -> None:
    bars = make_bars([100.0] * 3, price=[100.0, 104.0, 90.0], trades=[1, 1, 0])
    assert estimate(bars, "local_level") == pytest.approx([100.0, np.sqrt(100.0 * 104.0), np.sqrt(100.0 * 104.0)])


def test_pressure_is_a_decaying_sum(make_bars: Maker) -> None:
    rng = np.random.default_rng(0)
    bought, sold = rng.exponential(size=(2, 300))
    bars = make_bars(np.full(300, 100.0), buy_volume=bought, sell_volume=sold, bid_size=2.0, ask_size=2.0)
    sums, expected = np.zeros(3), []
    for flow in (bought - sold) / 2.0:
        sums = sums * np.exp(-1.0 / np.array([3.0, 15.0, 60.0])) + flow
        expected.append(sums)
    np.testing.assert_allclose(_pressure(bars, "touch"), expected, rtol=1e-9, atol=1e-12)


def test_micro_price_by_hand(make_bars: Maker) -> None:
    """A heavy bid is followed by a rise of one bps, a heavy ask by a fall; balanced sizes by nothing."""
    up, down = [0.95, 0.5, 0.5], [0.05, 0.5, 0.5]
    imbalance = np.array((up + down) * 100)
    moves = np.where(np.roll(imbalance, 1) > 0.9, 1.0, np.where(np.roll(imbalance, 1) < 0.1, -1.0, 0.0))
    moves[0] = 0.0
    mid = np.exp(np.log(100.0) + np.cumsum(moves) * 1e-4)
    bars = make_bars(mid, bid_size=imbalance, ask_size=1.0 - imbalance, spread_bps=1.0)
    fitted = MicroPrice.fit([bars])
    adjustment = fitted.adjustment[-1]
    assert adjustment == pytest.approx([-1.0, 0.0, 0.0, 0.0, 1.0], abs=1e-6)
    assert fitted.predict(bars)[0] == pytest.approx(mid[0] * np.exp(1e-4))


def test_micro_price_of_a_mirror_market_is_mirrored(calm_bars: pl.DataFrame) -> None:
    fitted = MicroPrice.fit([calm_bars])
    np.testing.assert_allclose(fitted.adjustment, -fitted.adjustment[:, ::-1], atol=1e-9)


def test_parameters_of_known_processes_are_found(make_bars: Maker) -> None:
    rng = np.random.default_rng(4)
    n, phi, theta = 20_000, 3.0, 2.0
    side = np.sign(rng.normal(size=n))
    for i in range(1, n):
        side[i] = side[i - 1] if rng.random() < 0.3 else side[i]
    rho = side[1:] @ side[:-1] / n
    value = np.cumsum(theta * (side - rho * np.roll(side, 1))) + np.cumsum(rng.normal(size=n))
    price = 100.0 * np.exp(1e-4 * (value + phi * side))
    bars = make_bars(np.full(n, 100.0), price=price, buy_volume=(side > 0) * 1.0, sell_volume=(side < 0) * 1.0)
    assert _mrr_phi([bars]) == pytest.approx(phi, rel=0.05)

    walk, noise = np.cumsum(rng.normal(size=n)), 2.0 * rng.normal(size=n)
    level = make_bars(np.full(n, 100.0), price=100.0 * np.exp(1e-4 * (walk + noise)))
    ratio = 1.0 / 4.0
    assert _level_gain([level]) == pytest.approx((np.sqrt(ratio**2 + 4 * ratio) - ratio) / 2.0, rel=0.15)


def test_a_price_without_noise_is_believed_at_once(make_bars: Maker) -> None:
    trend = make_bars(np.full(300, 100.0), price=100.0 * np.exp(1e-4 * np.arange(300.0) ** 2))
    assert _level_gain([trend]) == 1.0


@pytest.fixture(scope="module")
def fitted(calm_bars: pl.DataFrame) -> Rivals:
    from .conftest import replayed

    return Rivals.fit([calm_bars], [replayed("flush", 901)[1].bars, replayed("news", 901)[1].bars])


@pytest.mark.parametrize("rows", [1, 61, 700, 1000, 1500])
def test_bars_cut_short_give_the_same_bits(fitted: Rivals, flush: tuple[object, toxmid.Replay], rows: int) -> None:
    bars = flush[1].bars
    assert fitted.estimates(bars[:rows]).equals(fitted.estimates(bars)[:rows])


def test_every_estimator_has_its_column(fitted: Rivals, calm_bars: pl.DataFrame) -> None:
    assert fitted.estimates(calm_bars).columns == ["ts", *ESTIMATORS, *RIVALS]


def test_impact_that_dies_away_is_found_and_impact_that_stays_is_not(make_bars: Maker) -> None:
    rng = np.random.default_rng(5)
    flow = np.where(rng.random(40_000) < 0.02, rng.normal(size=40_000) * 20.0, 0.0)
    sums = np.zeros(40_000)
    for i, x in enumerate(flow):
        sums[i] = (sums[i - 1] if i else 0.0) * np.exp(-1 / 60) + x

    def fitted_on(mid_bps: np.ndarray) -> Rivals:
        mid, bought, sold = 100.0 * np.exp(1e-4 * mid_bps), np.maximum(flow, 0.0), np.maximum(-flow, 0.0)
        return Rivals.fit([make_bars(mid, buy_volume=bought, sell_volume=sold)], state_space=False)

    noise = np.cumsum(rng.normal(size=40_000)) * 0.05
    passing, lasting = fitted_on(0.3 * sums + noise), fitted_on(0.3 * np.cumsum(flow) + noise)
    assert passing.propagator[2] == pytest.approx(0.3, rel=0.1)
    assert passing.propagator[:2] == pytest.approx((0.0, 0.0), abs=0.1)
    assert max(lasting.propagator) < 0.1


def test_without_sizes_there_is_no_micro_price(calm_bars: pl.DataFrame) -> None:
    bars = calm_bars.with_columns(bid_size=pl.lit(None, pl.Float64), ask_size=pl.lit(None, pl.Float64))
    rivals = Rivals.fit([bars], state_space=False)
    assert rivals.depth == "volume"
    assert rivals.estimates(bars)["micro_price"].null_count() == bars.height


def test_rivals_need_something_to_learn_from(make_bars: Maker) -> None:
    with pytest.raises(ParameterError, match="calm"):
        Rivals.fit([])
    with pytest.raises(NotEnoughDataError):
        Rivals.fit([make_bars(np.full(50, 100.0))])
    with pytest.raises(DataError, match="lack a column"):
        Rivals.fit([make_bars([100.0, 100.0]).drop("regime")])
