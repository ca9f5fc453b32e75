"""Liquidation records find the taker orders they speak of: against a plain search, and what must hold of any."""

from __future__ import annotations

from typing import Any

import numpy as np
from feeding import START
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.matching import Matching

from toxmid import _trades
from toxmid.engine import Engine
from toxmid.instrument import Instrument

WINDOW, GRACE = 1500, 150
TICK = 0.011
PRICES = st.sampled_from([100.0, 100.01, 100.028, 100.07, 95.0])  # within two ticks, three, and far
EVENT = st.tuples(
    st.integers(0, 400), st.booleans(), st.sampled_from([1, 1, -1]), st.sampled_from([1, 2, 3, 5, 8, 40]), PRICES
)  # gap, is it an order, side, lots, price
EVENTS = st.lists(EVENT, min_size=1, max_size=60)


Event = tuple[int, bool, int, int, float]


def claims(events: list[Event]) -> tuple[list[float], int, Matching]:
    """Claimed lots of every order by the core, records without a trade, and the plain search after the same events."""
    plain, orders, records, ts = Matching(0.5 * TICK, WINDOW, GRACE), [], [], START
    for gap, is_order, side, lots, price in events:
        ts += gap + 1
        (orders if is_order else records).append((ts, side, lots, price))
        (plain.order if is_order else plain.record)(ts, side, lots, price)
    out = np.zeros(len(orders))
    columns = [columns_of(rows) for rows in (orders, records)]
    unmatched = _trades.claim_orders(*columns[0], *columns[1], WINDOW, GRACE, 0.5, 0.5 * TICK, out)
    return out.tolist(), unmatched, plain


def columns_of(rows: list[tuple[int, int, int, float]]) -> tuple[Any, Any, Any, Any]:
    ts, side, lots, price = zip(*rows, strict=True) if rows else ((), (), (), ())
    return np.array(ts, np.int64), np.array(side, np.int8), np.array(lots, np.float64), np.array(price, np.float64)


@settings(max_examples=300, deadline=None)
@given(EVENTS)
def test_against_a_plain_search(events: list[Event]) -> None:
    got, unmatched, plain = claims(events)
    assert got == [order.claimed for order in plain.orders]
    assert unmatched == plain.unmatched + len([record for record in plain.waiting if record[2]])


@settings(max_examples=200, deadline=None)
@given(EVENTS)
def test_nothing_is_claimed_twice_or_out_of_nothing(events: list[Event]) -> None:
    got, _, _ = claims(events)
    orders = [event for event in events if event[1]]
    assert all(0 <= claimed <= order[3] for claimed, order in zip(got, orders, strict=True))
    for side in (1, -1):
        claimed = sum(lots for lots, order in zip(got, orders, strict=True) if order[2] == side)
        assert claimed <= sum(event[3] for event in events if not event[1] and event[2] == side)


@settings(max_examples=100, deadline=None)
@given(EVENTS)
def test_what_comes_later_takes_nothing_back(events: list[Event]) -> None:
    early, _, _ = claims(events[: len(events) // 2])
    later, _, _ = claims(events)
    assert all(then <= now for then, now in zip(early, later, strict=False))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 9), st.sampled_from([1, -1])), min_size=1, max_size=20))
def test_a_whole_feed_claims_every_order(orders: list[tuple[int, int, int]]) -> None:
    """A record right behind each order: all of each is claimed, and no record is left."""
    events = [
        (gap, is_order, side, lots, 100.0) for gap, lots, side in orders for gap, is_order in ((gap, True), (0, False))
    ]
    got, unmatched, _ = claims(events)
    assert got == [lots for _, lots, _ in orders]
    assert unmatched == 0


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_the_engine_matches_as_the_array_face_does(events: list[Event]) -> None:
    """Volume that records were matched with, through the whole engine."""
    engine, ts = Engine(instrument=Instrument(lot=1.0, tick=TICK)), START
    plain = Matching(0.5 * TICK, 1500 * 10**6, 150 * 10**6)
    for gap, is_order, side, lots, price in events:
        ts += (gap + 1) * 10**6
        if is_order:
            engine.trade(ts, price, float(lots), side)
            plain.order(ts, side, lots, price)
        else:
            engine.liquidation(ts, side, price, float(lots))
            plain.record(ts, side, lots, price)
    engine.finish()
    assert engine.feed_figures()["matched_volume"] == sum(order.claimed for order in plain.orders)
    assert engine.tally()["liquidations_unmatched"] == plain.unmatched


def test_a_record_of_another_time_matches_nothing() -> None:
    got, unmatched, _ = claims([(0, True, 1, 5, 100.0), (WINDOW + 1, False, 1, 5, 100.0)])
    assert (got, unmatched) == ([0.0], 1)
    got, unmatched, _ = claims([(0, False, 1, 5, 100.0), (GRACE, True, 1, 5, 100.0)])
    assert (got, unmatched) == ([0.0], 1)
    got, unmatched, _ = claims([(0, False, 1, 5, 100.0), (GRACE - 1, True, 1, 5, 100.0)])
    assert (got, unmatched) == ([5.0], 0)


def test_a_price_tells_orders_of_one_size_apart() -> None:
    """Three orders of five: the record's own is neither the latest nor at the latest price."""
    orders = [(0, True, -1, 5, price) for price in (100.0, 100.07, 95.0)]
    assert claims([*orders, (0, False, -1, 5, 100.07)])[0] == [0.0, 5.0, 0.0]
    assert claims([*orders, (0, False, -1, 5, 99.0)])[0] == [0.0, 0.0, 5.0]  # a bankruptcy price: nothing traded there
    assert claims([*orders, (0, False, -1, 3, 100.0)])[0] == [3.0, 0.0, 0.0]
    assert claims([*orders, (0, False, -1, 7, 100.07)])[0] == [0.0, 5.0, 2.0]


def test_a_run_has_the_mean_price_of_its_record() -> None:
    orders = [(0, True, 1, lots, price) for lots, price in ((1, 100.0), (1, 100.2), (2, 95.0))]
    assert claims([*orders, (0, False, 1, 2, 100.1)])[0] == [1.0, 1.0, 0.0]
    assert claims([*orders, (0, False, 1, 2, 100.2)])[0] == [0.0, 0.0, 2.0]
