"""Episodes against what a plain look at the finished bars finds, and on markets made to show one thing."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import polars as pl
import pytest
from feeding import SECOND, START, Tables, only, simulated, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.episodes import episodes

from toxmid.engine import Engine, bars_frame, events_frame
from toxmid.instrument import Instrument
from toxmid.params import Params
from toxmid.replay import replay

# Low enough that a quarter of an hour shows many.
EAGER = Params(move_sigmas=3.0, widening_alarm=5.0, cascade_rate=0.2)


def both(tables: Tables, params: Params) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = whole(Engine(params, Instrument(tick=0.1)), tables)
    return bars_frame(rows[0]), events_frame(rows[2])


def check(tables: Tables, params: Params) -> pl.DataFrame:
    bars, found = both(tables, params)
    expected = sorted(episodes(bars, params), key=lambda row: (row["ts_known"], row["kind"]))
    assert found.height == len(expected)
    for row, plain in zip(found.sort("ts_known", "kind").iter_rows(named=True), expected, strict=True):
        for name, value in plain.items():
            if isinstance(value, float):
                got = math.nan if row[name] is None else row[name]
                assert got == pytest.approx(value, rel=1e-7, abs=1e-9, nan_ok=True), (name, row, plain)
            else:
                assert row[name] == value, (name, row, plain)
    return found


@pytest.mark.parametrize("kinds", [("trades", "quotes"), ("trades", "quotes", "book")], ids=["quotes", "book"])
@pytest.mark.parametrize("scenario", ["flush", "news", "mixed"])
def test_every_episode_and_every_figure(scenario: str, kinds: tuple[str, ...]) -> None:
    found = check(only(simulated(scenario, 6, 900.0), *kinds), EAGER)
    assert found["kind"].n_unique() >= 3


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 50), sigmas=st.sampled_from([2.0, 3.0, 12.0]), share=st.sampled_from([0.0, 0.7, 0.95]))
def test_thresholds(seed: int, sigmas: float, share: float) -> None:
    params = EAGER.replace(move_sigmas=sigmas, vacuum_cancelled=share)
    check(only(simulated("news", seed, 600.0), "trades", "quotes", "book"), params)


def quiet_market(seconds: int = 900) -> Engine:
    """A book that breathes a little, with a trade a second."""
    engine = Engine(Params(move_sigmas=6.0), Instrument(tick=0.01))
    for k in range(seconds):
        ts, wobble = START + k * SECOND + 1, 0.01 * (k // 7 % 2)
        if k == 0:
            set_book(engine, ts, 100.0, snapshot=True)
        else:
            engine.book(ts, 1, 99.99, 5.0 + 10 * wobble)
            engine.book(ts, 1, 100.0, 1.0 if wobble else 0.0)
        engine.trade(ts + 1, 100.01 if k % 2 else 99.99, 0.1, 1 if k % 2 else -1)
    return engine


def set_book(engine: Engine, ts: int, mid: float, *, snapshot: bool = False) -> None:
    for k in range(1, 60):
        engine.book(ts, 1, round(mid - 0.01 * k, 2), 5.0, snapshot)
        engine.book(ts, -1, round(mid + 0.01 * k, 2), 5.0, snapshot)


def fall(engine: Engine, *, by_trades: bool) -> dict[str, Any]:
    """Thirty bps down within a second: sold through the bids, or the bids just go; then a quiet minute."""
    second = START + 900 * SECOND
    for k in range(30):
        price = round(100.0 - 0.01 * k, 2)
        if by_trades and k:
            engine.trade(second + 2 + 2 * k, price, 5.0, -1)
        engine.book(second + 3 + 2 * k, 1, price, 0.0)
        engine.book(second + 3 + 2 * k, -1, round(price + 0.01, 2), 5.0)
    for k in range(1, 90):
        engine.book(second + k * SECOND, 1, 99.0, 5.0 + k % 2)
    engine.finish()
    found = engine.take_events().filter(pl.col("kind").is_in(["sweep", "vacuum"]))
    assert found.height == 1
    return found.row(0, named=True)


def test_makers_who_leave_make_a_vacuum_with_a_gap() -> None:
    event = fall(quiet_market(), by_trades=False)
    assert (event["kind"], event["side"], event["gap"]) == ("vacuum", -1, True)
    assert event["cancelled_share"] == 1.0
    assert event["depth_share"] == 0.0


def test_takers_who_sell_through_make_a_sweep() -> None:
    event = fall(quiet_market(), by_trades=True)
    assert (event["kind"], event["side"], event["gap"]) == ("sweep", -1, False)
    assert event["depth_share"] > 0.5
    assert event["cancelled_share"] < 0.5


def test_a_widening_says_when_it_tightened() -> None:
    """A spread of 2 cents is a dollar wide for two minutes: its cumulated excess outlasts it, its end does not."""
    engine = Engine()
    for k in range(1300):
        half = 0.5 if 500 <= k < 620 else 0.01 + 0.001 * (k % 3)
        engine.quote(START + k * SECOND + 1, 100.0 - half, 1.0, 100.0 + half, 1.0)
    engine.finish()
    (event,) = engine.take_events().filter(kind="widening").iter_rows(named=True)
    bars = engine.take_bars()
    assert bars.height == 1300
    start, tight, end = ((event[name].timestamp() - START / SECOND) for name in ("ts_start", "ts_tightened", "ts_end"))
    assert 498 <= start <= 502
    assert 620 <= tight <= 690
    assert tight < end


def test_where_there_was_no_mid_nobody_knows_how_far_it_moved() -> None:
    """A cascade while nobody bids: forced sells have a side and a volume, but no displacement, and that is not 0."""
    seconds = START + SECOND * np.arange(900) + 1
    bid = np.where(np.arange(900) < 400, 99.99, math.nan)
    quotes = pl.DataFrame({"ts": seconds, "bid": bid, "bid_size": 1.0, "ask": 100.01, "ask_size": 1.0})
    side = np.where(np.arange(900) % 2, 1, -1)
    calm = pl.DataFrame({"ts": seconds + 1, "price": 100.0 + 0.01 * side, "size": 1.0, "side": side})
    forced = pl.DataFrame({"ts": seconds[450:460] + 2, "price": 99.0, "size": 40.0, "side": -1})
    trades = pl.concat([calm, forced], how="vertical_relaxed").sort("ts")
    result = replay(trades=trades, quotes=quotes, liquidations=forced)
    cascade = result.events.filter(kind="liquidation_cascade").row(0, named=True)
    assert (cascade["side"], cascade["liq_volume"]) == (-1, 400.0)
    assert cascade["volume"] > 400.0
    for name in ("move_bps", "bps_per_volume", "mid_before", "mid_after", "implied_mid", "depth_share"):
        assert cascade[name] is None, name
    assert any(re.match(r"liquidation cascade.* -  ", line) for line in result.summary().splitlines())


@pytest.mark.parametrize(("jump", "seen"), [(3.0, 0), (4.9, 0), (5.2, 1), (9.0, 1)])
def test_a_move_within_the_usual_spread_is_no_episode(jump: float, seen: int) -> None:
    """However small the moves of calm are: here a fifth of a bp a minute, around a spread of 5 bps."""
    seconds = np.arange(1000)
    mid = 100.0 * np.exp(1e-4 * (0.1 * (seconds // 60 % 2) + np.where(seconds >= 900, jump, 0.0)))
    half = np.exp(2.5e-4)
    ts = START + SECOND * seconds + 1
    quotes = pl.DataFrame({"ts": ts, "bid": mid / half, "bid_size": 1.0, "ask": mid * half, "ask_size": 1.0})
    side = np.where(seconds % 2, 1, -1)
    trades = pl.DataFrame({"ts": ts + 1, "price": mid * half**side, "size": 1.0, "side": side})
    events = replay(trades=trades, quotes=quotes).events
    assert events.filter(pl.col("kind").is_in(["sweep", "vacuum"])).height == seen
