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
EVENT = st.tuples(
    st.integers(0, 400), st.booleans(), st.sampled_from([1, 1, -1]), st.sampled_from([1, 2, 3, 5, 8, 40])
)  # gap, is it an order, side, lots
EVENTS = st.lists(EVENT, min_size=1, max_size=60)


def claims(events: list[tuple[int, bool, int, int]]) -> tuple[list[float], int, Matching]:
    """Claimed lots of every order by the core, records without a trade, and the plain search after the same events."""
    plain, orders, records, ts = Matching(WINDOW, GRACE), [], [], START
    for gap, is_order, side, lots in events:
        ts += gap + 1
        (orders if is_order else records).append((ts, side, lots))
        (plain.order if is_order else plain.record)(ts, side, lots)
    out = np.zeros(len(orders))
    columns = [columns_of(rows) for rows in (orders, records)]
    unmatched = _trades.claim_orders(*columns[0], *columns[1], WINDOW, GRACE, 0.5, out)
    return out.tolist(), unmatched, plain


def columns_of(rows: list[tuple[int, int, int]]) -> tuple[Any, Any, Any]:
    ts, side, lots = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(ts, np.int64), np.array(side, np.int8), np.array(lots, np.float64)


@settings(max_examples=300, deadline=None)
@given(EVENTS)
def test_against_a_plain_search(events: list[tuple[int, bool, int, int]]) -> None:
    got, unmatched, plain = claims(events)
    assert got == [order.claimed for order in plain.orders]
    assert unmatched == plain.unmatched + len([record for record in plain.waiting if record[2]])


@settings(max_examples=200, deadline=None)
@given(EVENTS)
def test_nothing_is_claimed_twice_or_out_of_nothing(events: list[tuple[int, bool, int, int]]) -> None:
    got, _, _ = claims(events)
    orders = [event for event in events if event[1]]
    assert all(0 <= claimed <= order[3] for claimed, order in zip(got, orders, strict=True))
    for side in (1, -1):
        claimed = sum(lots for lots, order in zip(got, orders, strict=True) if order[2] == side)
        assert claimed <= sum(event[3] for event in events if not event[1] and event[2] == side)


@settings(max_examples=100, deadline=None)
@given(EVENTS)
def test_what_comes_later_takes_nothing_back(events: list[tuple[int, bool, int, int]]) -> None:
    early, _, _ = claims(events[: len(events) // 2])
    later, _, _ = claims(events)
    assert all(then <= now for then, now in zip(early, later, strict=False))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 9), st.sampled_from([1, -1])), min_size=1, max_size=20))
def test_a_whole_feed_claims_every_order(orders: list[tuple[int, int, int]]) -> None:
    """A record right behind each order: all of each is claimed, and no record is left."""
    events = [event for gap, lots, side in orders for event in ((gap, True, side, lots), (0, False, side, lots))]
    got, unmatched, _ = claims(events)
    assert got == [lots for _, lots, _ in orders]
    assert unmatched == 0


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_the_engine_matches_as_the_array_face_does(events: list[tuple[int, bool, int, int]]) -> None:
    """Volume that records were matched with, through the whole engine."""
    engine, ts = Engine(instrument=Instrument(lot=1.0)), START
    plain = Matching(1500 * 10**6, 150 * 10**6)
    for gap, is_order, side, lots in events:
        ts += (gap + 1) * 10**6
        if is_order:
            engine.trade(ts, 100.0, float(lots), side)
            plain.order(ts, side, lots)
        else:
            engine.liquidation(ts, side, 100.0, float(lots))
            plain.record(ts, side, lots)
    engine.finish()
    assert engine.feed_figures()["matched_volume"] == sum(order.claimed for order in plain.orders)
    assert engine.tally()["liquidations_unmatched"] == plain.unmatched


def test_a_record_of_another_time_matches_nothing() -> None:
    got, unmatched, _ = claims([(0, True, 1, 5), (WINDOW + 1, False, 1, 5)])
    assert (got, unmatched) == ([0.0], 1)
    got, unmatched, _ = claims([(0, False, 1, 5), (GRACE, True, 1, 5)])
    assert (got, unmatched) == ([0.0], 1)
    got, unmatched, _ = claims([(0, False, 1, 5), (GRACE - 1, True, 1, 5)])
    assert (got, unmatched) == ([5.0], 0)
