"""The z of a spread: against this quarter hour and its neighbours on earlier days, in plain numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from feeding import NAN, SECOND, START, whole

from toxmid.engine import Engine, bars_frame
from toxmid.instrument import Instrument
from toxmid.params import Params
from toxmid.schema import canonical

Floats = npt.NDArray[np.float64]
MINUTE, DAY = 60, 1440


def quotes(spreads: Floats) -> pl.DataFrame:
    """A quote at the beginning of every minute, so many bps wide."""
    ts = START + np.arange(spreads.size) * MINUTE * SECOND + 1
    half = np.exp(0.5e-4 * spreads)
    table = {"ts": ts, "bid": 100.0 / half, "bid_size": 1.0, "ask": 100.0 * half, "ask_size": 1.0}
    return canonical(pl.DataFrame(table), "quotes")


def plain_z(spreads: Floats, minute: int, tick_bps: float = 0.0) -> float:
    """At the end of a minute: ln(spread with 10 s memory) against median and MAD of what was known a second before."""
    usual = np.array(spreads)  # mean over each minute: the quote stands through it
    usual[0] = NAN  # a minute is known once another lies before it
    if minute >= 3 * DAY:
        into = minute % 15
        starts = [minute - into - 15 - day * DAY for day in range(1, 29)]
        known = np.concatenate([usual[max(start, 0) : max(start + 45, 0)] for start in starts])
    else:
        known = usual[:minute]
    x = np.log(known[~np.isnan(known)])
    median = float(np.median(x))
    scale = 1.4826 * float(np.median(np.abs(x - median)))
    smooth = spreads[0]
    for spread in spreads[max(0, minute - 6) : minute + 1]:
        smooth = spread + (smooth - spread) * np.exp(-MINUTE / 10)
    floor = np.log(1 + 0.5 * tick_bps / smooth) if tick_bps else 0.1
    return float((np.log(smooth) - median) / (scale + floor))


@pytest.fixture(scope="module")
def spreads() -> Floats:
    """Five days whose nights are wider than their days."""
    minutes = np.arange(5 * DAY)
    rng = np.random.default_rng(2)
    return np.array(2.0 * np.exp(0.7 * np.sin(2 * np.pi * minutes / DAY) + rng.normal(0, 0.2, minutes.size)))


@pytest.fixture(scope="module")
def z(spreads: Floats) -> Floats:
    bars = bars_frame(whole(Engine(Params(bar="1m")), {"quotes": quotes(spreads)})[0])
    return np.array(bars["spread_z"].fill_null(NAN).to_numpy())


def test_against_plain_numpy(spreads: Floats, z: Floats) -> None:
    assert np.isnan(z[:5]).all()
    for minute in (5, 17, 500, 3 * DAY - 1, 3 * DAY, 3 * DAY + 1, 3 * DAY + 700, 4 * DAY + 44, 5 * DAY - 2):
        assert z[minute] == pytest.approx(plain_z(spreads, minute), rel=1e-4, abs=1e-4), minute


@pytest.mark.parametrize("digits", [0, 1])
def test_spreads_that_come_again_and_again(digits: int) -> None:
    """Many minutes of one spread, half of them perhaps, and an odd and an even number of them."""
    rng = np.random.default_rng(digits)
    young = np.maximum(np.round(2.0 * np.exp(rng.normal(0, 0.4, 420)), digits), 10.0**-digits)
    young[60:240] = young[60]
    bars = bars_frame(whole(Engine(Params(bar="1m")), {"quotes": quotes(young)})[0])
    told = bars["spread_z"].fill_null(NAN).to_numpy()
    for minute in (5, 6, 7, 8, 30, 61, 90, 91, 122, 123, 239, 240, 300, 417, 418):
        assert told[minute] == pytest.approx(plain_z(young, minute), rel=1e-4, abs=1e-4), minute


def test_the_usual_night_is_not_wide(z: Floats, spreads: Floats) -> None:
    """After three days the time of day is known: nothing of its wave is left in z."""
    wave = np.sin(2 * np.pi * np.arange(DAY) / DAY)
    before, after = (np.corrcoef(z[day * DAY : (day + 1) * DAY], wave)[0, 1] for day in (2, 4))
    assert before > 0.9
    assert abs(after) < 0.2


def test_after_a_month_the_oldest_days_are_forgotten() -> None:
    """The first two days were twenty times as wide: on the thirty-first nothing of them is left."""
    minutes = np.arange(30 * DAY + 120)
    spreads = np.exp(np.random.default_rng(3).normal(0, 0.3, minutes.size)) * np.where(minutes < 2 * DAY, 20.0, 1.0)
    bars = bars_frame(whole(Engine(Params(bar="1m")), {"quotes": quotes(spreads)})[0])
    told = np.array(bars["spread_z"].fill_null(NAN).to_numpy())
    for minute in (28 * DAY + 17, 29 * DAY - 1, 29 * DAY + 700, 30 * DAY, 30 * DAY + 44, 30 * DAY + 110):
        assert told[minute] == pytest.approx(plain_z(spreads, minute), rel=1e-4, abs=1e-4), minute


@pytest.mark.parametrize("tick", [0.001, 0.01, 1.0])
def test_where_the_tick_is_known_half_of_it_is_what_a_spread_may_do(spreads: Floats, tick: float) -> None:
    """In logarithm, as it is at the spread of the moment. A tenth stands for it only where no tick is known."""
    young = spreads[:600]
    bars = bars_frame(whole(Engine(Params(bar="1m"), Instrument(tick=tick)), {"quotes": quotes(young)})[0])
    told, mid = bars["spread_z"].fill_null(NAN).to_numpy(), bars["mid"].to_numpy()
    for minute in (5, 17, 300, 598):
        expected = plain_z(young, minute, 1e4 * tick / mid[minute])
        assert told[minute] == pytest.approx(expected, rel=1e-4, abs=1e-4), minute
