"""Depth, cost of a round trip, and where depth went: bars against books kept in dicts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from feeding import NAN, SECOND, START, Tables, events, only, simulated, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.book import ASK, BID
from reference.depth import Market, round_trip

from toxmid.engine import Engine, bars_frame
from toxmid.instrument import Instrument
from toxmid.params import Params
from toxmid.readers import read_book, read_trades
from toxmid.schema import canonical

MARKET = Instrument(tick=0.01, lot=0.001)
SPLIT = tuple(f"{side}_{what}" for side in ("bid", "ask") for what in ("added", "traded", "cancelled"))
LADDER = tuple(f"depth_{side}_{bps}bps" for side in ("bid", "ask") for bps in (1, 5, 10, 25, 50))


def plain_bars(tables: Tables, mids: list[float], bps: float, size: float) -> list[dict[str, float]]:
    """Rows of whole seconds; `mids` are those at their ends, from wherever the touch comes."""
    market, rows = Market(bps), []
    listed = events(tables)
    end = -(-listed[0][1][0] // SECOND) * SECOND
    moment = listed[0][1][0]
    for method, (ts, *arguments) in listed:
        if ts > moment:
            market.judge()
        moment = ts
        while ts > end:
            cost = NAN if math.isnan(mids[len(rows)]) else round_trip(market.book, size)
            rows.append(market.end_second(mids[len(rows)]) | {"round_trip_bps": cost})
            end += SECOND
        {"trade": lambda price, coins, side, *_: market.trade(price, coins, side, market.mid()),
         "book": market.row}[method](*arguments)  # fmt: skip
    return rows


def check(tables: Tables, params: Params, instrument: Instrument | None = None) -> pl.DataFrame:
    bars = bars_frame(whole(Engine(params, instrument), tables)[0])
    mids = bars["mid"].fill_null(NAN).to_list()
    assert params.cost_size is not None
    rows = plain_bars(tables, mids, params.depth_bps, params.cost_size)
    for name in (*SPLIT, *LADDER, "round_trip_bps"):
        got = bars[name].fill_null(NAN).to_numpy()[: len(rows)]
        np.testing.assert_allclose(got, [row[name] for row in rows], rtol=1e-9, atol=1e-9, err_msg=name)
    return bars


@pytest.mark.parametrize("bps", [10.0, 3.7])
def test_simulated_market(bps: float) -> None:
    bars = check(only(simulated(), "trades", "book"), Params(depth_bps=bps, cost_size=2.0), Instrument(tick=0.1))
    assert bars["bid_traded"].sum() > 0
    assert bars["ask_cancelled"].sum() > 0
    assert bars["round_trip_bps"].drop_nulls().len() > 300
    if bps == 10.0:
        assert bars["depth_bid"].equals(bars["depth_bid_10bps"].alias("depth_bid"), null_equal=True)


ROWS = st.tuples(
    st.sampled_from([BID, ASK]), st.integers(-60, 60), st.sampled_from([0.0, 0.5, 1.0, 2.5, 7.0]), st.just(False)
)
PRINTS = st.tuples(st.sampled_from([BID, ASK, 0]), st.integers(-40, 40), st.sampled_from([0.5, 1.0, 3.0]))


@settings(max_examples=60, deadline=None)
@given(
    seconds=st.lists(
        st.lists(st.tuples(st.lists(PRINTS, max_size=3), st.lists(ROWS, max_size=6), st.integers(0, 9)), max_size=4),
        min_size=3, max_size=8,
    ),
    bps=st.sampled_from([5.0, 20.0]),
)  # fmt: skip
def test_random_books(seconds: list[Any], bps: float) -> None:
    """Whatever rows come, with snapshots, crossed messages and sides without a level among them."""
    trades, book = [], []
    book += [(START, side, 100.0 - side * 0.01 * k, 1.0, True, False) for side in (BID, ASK) for k in (1, 2, 5)]
    for second, messages in enumerate(seconds):
        for number, (prints, rows, kind) in enumerate(messages):
            ts = START + second * SECOND + (number + 1) * 10**8
            trades += [(ts, 100.0 + tick / 100, size, side) for side, tick, size in prints]
            snapshot = kind == 0
            book += [(ts, side, round(100.0 + (-side * abs(tick) if kind < 9 else tick) / 100, 2), size, snapshot,
                      kind == 8 and i == 0)
                     for i, (side, tick, size, _) in enumerate(rows) if size or not snapshot]  # fmt: skip
    last = START + len(seconds) * SECOND + 1
    book.append((last, BID, 90.0, 1.0, False, False))
    schema = {"ts": pl.Int64, "price": pl.Float64, "size": pl.Float64, "side": pl.Int8}
    tables = {
        "trades": pl.DataFrame([(t, p, s, d) for t, p, s, d in trades], schema=schema, orient="row"),
        "book": pl.DataFrame(
            book, schema=["ts", "side", "price", "size", "snapshot", "gap"], orient="row",
        ),
    }  # fmt: skip
    check(
        {name: canonical(table, name) for name, table in tables.items()},  # type: ignore[arg-type]
        Params(depth_bps=bps, cost_size=2.0, classify="side"),
        MARKET,
    )


def test_depth_changes_by_what_is_added_traded_and_cancelled() -> None:
    """The identity of the definition, where the mid stands still."""
    engine = Engine(Params(depth_bps=10.0), MARKET)
    for side, price in ((BID, 99.99), (BID, 99.98), (ASK, 100.01), (ASK, 100.02)):
        engine.book(START, side, price, 5.0, True)
    engine.book(START + SECOND // 2, BID, 99.0, 1.0)  # 100 bps away
    second = START + SECOND
    engine.trade(second + 1, 100.01, 2.0, 1)
    engine.book(second + 2, ASK, 100.01, 3.0)  # what traded
    engine.book(second + 3, ASK, 100.02, 1.0)  # pulled
    engine.book(second + 4, BID, 99.99, 6.5)  # added
    engine.trade(second + 5, 99.99, 1.0, -1)  # its row comes a second later
    engine.book(second + SECOND + 1, BID, 99.99, 5.5)
    engine.book(second + SECOND + 2, BID, 99.98, 4.0)
    engine.finish()
    bars = engine.take_bars()
    assert bars.select(SPLIT).rows() == [
        (None,) * 6, (0.0,) * 6, (1.5, 0.0, 0.0, 0.0, 2.0, 4.0), (0.0, 1.0, 1.0, 0.0, 0.0, 0.0),
    ]  # fmt: skip
    assert bars["cancel_share"].to_list() == [None, None, 4 / 6, 0.5]
    assert bars["depth_ask"].to_list() == [10.0, 10.0, 4.0, 4.0]


@settings(max_examples=60, deadline=None)
@given(
    levels=st.lists(st.tuples(st.sampled_from([BID, ASK]), st.integers(1, 700_000), st.booleans()), max_size=25),
    changes=st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0.0, 1.0, 4.0])), max_size=8),
    size=st.sampled_from([0.5, 3.0, 9.0]),
)  # fmt: skip
def test_levels_that_are_near_in_bps_and_far_in_ticks(
    levels: list[tuple[int, int, bool]], changes: list[tuple[int, float]], size: float
) -> None:
    """On a tick of 1e-8 of the price 50 bps are half a million ticks: beyond the window of near levels."""
    placed = [(side, round(100.0 - side * 1e-6 * far, 6)) for side, far, _ in levels]
    rows = [(START, side, 100.0 - side * 1e-6, 1.0, True) for side in (BID, ASK)]
    rows += [(START, *level, 1.0, True) for level, row in zip(placed, levels, strict=True) if not row[2]]
    rows += [(START + SECOND // 2, *level, 2.0, False) for level, row in zip(placed, levels, strict=True) if row[2]]
    for number, (which, amount) in enumerate(changes):
        if which < len(placed):
            rows.append((START + (number + 3) * SECOND // 2, *placed[which], amount, False))
    if changes:  # at last a whole new book
        rows += [
            (START + 6 * SECOND, side, 100.0 - side * 1e-6 * far, 3.0, True)
            for side in (BID, ASK)
            for far in (1, 80_000)
        ]
    rows.append((START + 8 * SECOND + 1, BID, 50.0, 1.0, False))
    table = pl.DataFrame(rows, schema=["ts", "side", "price", "size", "snapshot"], orient="row")
    check({"book": canonical(table, "book")}, Params(depth_bps=40.0, cost_size=size), Instrument(tick=1e-6))


@pytest.mark.parametrize("empty", [BID, ASK])
def test_a_book_of_one_side_around_a_quoted_mid(empty: int) -> None:
    """Nothing rests on the empty side, which is a depth of 0, whichever side it is; a round trip has no cost."""
    engine = Engine(Params(cost_size=1.0), MARKET)
    engine.book(START, -empty, 100.0 + 0.01 * empty, 5.0, True)
    engine.quote(START, 99.98, 1.0, 100.02, 1.0)
    engine.quote(START + 2 * SECOND, 99.98, 1.0, 100.02, 1.0)
    engine.finish()
    there, gone = ("ask", "bid") if empty == BID else ("bid", "ask")
    for row in engine.take_bars().iter_rows(named=True):
        for bps in (10, 50):
            assert (row[f"depth_{there}_{bps}bps"], row[f"depth_{gone}_{bps}bps"]) == (5.0, 0.0)
        assert row["round_trip_bps"] is None


def test_no_book_no_depth() -> None:
    bars = bars_frame(whole(Engine(Params(cost_size=1.0)), only(simulated(), "trades", "quotes"))[0])
    for name in (*SPLIT, *LADDER, "round_trip_bps", "cancel_share"):
        assert bars[name].null_count() == bars.height, name


def test_size_of_the_round_trip_is_the_usual_minute_where_none_is_given() -> None:
    """Known when the usual volume is, 300 s after the beginning."""
    tables = only(simulated(), "trades", "book")
    bars = bars_frame(whole(Engine(Params(), Instrument(tick=0.1)), tables)[0])
    known = bars["round_trip_bps"].is_not_null()
    assert not known[:299].any()
    fixed = bars_frame(whole(Engine(Params(cost_size=1e9), Instrument(tick=0.1)), tables)[0])
    assert fixed["round_trip_bps"].null_count() == fixed.height


@pytest.mark.parametrize("name", ["usdm_btcusdt_20240808.gz"])
def test_real_recording(shared_data: Path, name: str) -> None:
    """A minute of a recorded stream: every second against a book in a dict."""
    path = shared_data / "hftbacktest-raw" / name
    begin = int(read_book(path)["ts"].to_physical()[0])
    window = {"start": begin, "end": begin + 60 * SECOND}
    tables = {"trades": read_trades(path, **window).drop("id"), "book": read_book(path, **window)}
    bars = check(tables, Params(cost_size=5.0), Instrument(tick=0.1))
    assert bars["bid_traded"].sum() > 0
