"""Trade signing: hand-computed tables, the plain reference, and real tapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from feeding import simulated
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.classify import Quote, is_price
from reference.classify import classify as reference

from toxmid._trades import RULES, sign_trades
from toxmid.engine import Engine
from toxmid.errors import DataError, ParameterError
from toxmid.instrument import Instrument
from toxmid.params import Params
from toxmid.spreads import classify
from toxmid.vpin import vpin

START = 1_760_054_400 * 10**9
RULE_NAMES = ("tick", "quote", "lee_ready", "emo")
NAN = float("nan")


def trades_of(times: list[int], prices: list[float]) -> pl.DataFrame:
    return pl.DataFrame(
        {"ts": [START + ts for ts in times], "price": prices, "size": [1.0] * len(times)},
        schema={"ts": pl.Int64, "price": pl.Float64, "size": pl.Float64},
    )


def quotes_of(quotes: list[Quote]) -> pl.DataFrame:
    rows = [(START + ts, bid, ask) for ts, bid, ask in quotes]
    return pl.DataFrame(rows, schema={"ts": pl.Int64, "bid": pl.Float64, "ask": pl.Float64}, orient="row")


# One tape, every rule by hand. The quote of time 5 meets the trades of 6 and later, not that of 5.
TIMES = [1, 2, 3, 4, 5, 6, 7, 8]
PRICES = [10.0, 10.0, 10.5, 10.5, 10.0, 10.0, 10.0, 10.25]
QUOTES = [(2, 10.0, 11.0), (5, 9.0, 10.0), (6, 9.5, 10.5), (7, 11.0, 10.0)]
BY_HAND = {
    "tick": [0, 0, 1, 1, -1, -1, -1, 1],
    # mids in force:  -  -  10.5  10.5  10.5  9.5  10.0  crossed
    "quote": [0, 0, 0, 0, -1, 1, 0, 0],
    "lee_ready": [0, 0, 1, 1, -1, 1, -1, 0],
    # at:             -  -  none  none  bid  ask  none  crossed
    "emo": [0, 0, 1, 1, -1, 1, -1, 0],
}


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_by_hand(rule: str) -> None:
    signs = classify(trades_of(TIMES, PRICES), quotes_of(QUOTES), rule=rule)
    assert signs.to_list() == BY_HAND[rule]
    assert signs.dtype == pl.Int8
    assert signs.name == "side"


@pytest.mark.parametrize(
    ("bid", "ask"), [(NAN, 10.0), (10.0, NAN), (0.0, 10.0), (-1.0, 10.0), (10.0, float("inf")), (11.0, 10.0)]
)
@pytest.mark.parametrize("rule", ["quote", "lee_ready", "emo"])
def test_a_quote_that_is_none_leaves_the_side_unknown(rule: str, bid: float, ask: float) -> None:
    trades = trades_of([1, 2, 4], [10.0, 9.0, 8.0])
    quotes = quotes_of([(0, 8.0, 8.5), (3, bid, ask)])
    assert classify(trades, quotes, rule=rule).to_list()[2] == 0


def test_a_locked_quote_has_a_midpoint_but_no_sides() -> None:
    trades = trades_of([1, 2, 3], [9.0, 10.0, 11.0])
    quotes = quotes_of([(0, 10.0, 10.0)])
    assert classify(trades, quotes, rule="quote").to_list() == [-1, 0, 1]
    assert classify(trades, quotes, rule="lee_ready").to_list() == [-1, 1, 1]
    assert classify(trades, quotes, rule="emo").to_list() == [0, 1, 1]


@pytest.mark.parametrize("price", [NAN, None, 0.0, -1.0, float("inf")])
@pytest.mark.parametrize("rule", RULE_NAMES)
def test_what_is_no_price_is_not_signed_and_leaves_no_trace(rule: str, price: float | None) -> None:
    quotes = quotes_of([(0, 9.0, 11.0)])
    with_hole = classify(trades_of([1, 2, 3], [10.0, price, 10.5]), quotes, rule=rule)
    without = classify(trades_of([1, 3], [10.0, 10.5]), quotes, rule=rule)
    assert with_hole.to_list() == [without[0], 0, without[1]]


def test_the_tick_decides_whether_rounding_signs_a_trade_at_the_midpoint() -> None:
    assert (157.94 + 158.10) / 2 != 158.02
    trades = trades_of([1, 2], [158.10, 158.02])
    quotes = quotes_of([(0, 157.94, 158.10)])
    assert classify(trades, quotes, rule="quote").to_list()[1] != 0
    exact = classify(trades, quotes, rule="quote", instrument=Instrument(tick=0.01))
    assert exact.to_list() == [1, 0]


def test_empty_tapes() -> None:
    assert classify(trades_of([], []), quotes_of([]), rule="lee_ready").to_list() == []
    assert classify(trades_of([1], [1.0]), quotes_of([]), rule="lee_ready").to_list() == [0]


def test_sides_that_are_there_are_not_looked_at() -> None:
    trades = trades_of([1, 2], [10.0, 11.0])
    assert classify(trades.with_columns(side=pl.lit(-1)), rule="tick").to_list() == [0, 1]


def test_errors_say_what_is_missing() -> None:
    trades = trades_of([2, 1], [10.0, 11.0])
    with pytest.raises(ParameterError, match="needs quotes"):
        classify(trades, rule="emo")
    with pytest.raises(ParameterError, match="no such rule"):
        classify(trades, rule="side")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="time goes back in the trades") as caught:
        classify(trades, rule="tick")
    assert (caught.value.row, caught.value.column) == (1, "ts")


def test_the_array_face_refuses_arrays_of_different_length() -> None:
    ts, price, side = np.zeros(2, np.int64), np.ones(2), np.zeros(2, np.int8)
    none_ts, none = np.zeros(0, np.int64), np.zeros(0)
    with pytest.raises(ValueError, match="one length"):
        sign_trades(ts, price[:1], side, none_ts, none, none, RULES["tick"], 0.0, side.copy())
    with pytest.raises(ValueError, match="one length"):
        sign_trades(ts, price, side, none_ts, price, none, RULES["tick"], 0.0, side.copy())


def test_the_flag_is_taken_as_it_is() -> None:
    side = np.array([1, -1, 0, 7], np.int8)
    ts, price, none = np.arange(4), np.ones(4), np.zeros(0)
    out = np.full(4, 9, np.int8)
    sign_trades(ts, price, side, np.zeros(0, np.int64), none, none, RULES["side"], 0.0, out)
    assert out.tolist() == [1, -1, 0, 0]


# Whole ticks of 1: doubles hold them and their midpoints exactly, so mirrored tapes are exact mirrors.
PRICE = st.integers(96, 104).map(float)
Tape = tuple[list[int], list[float], list[Quote]]
STRANGE = st.sampled_from([NAN, 0.0, -3.0, float("inf")])


@st.composite
def tapes(draw: st.DrawFn) -> Tape:
    n, m = draw(st.integers(0, 12)), draw(st.integers(0, 12))
    times = sorted(draw(st.lists(st.integers(0, 10), min_size=n, max_size=n)))
    prices = draw(st.lists(st.one_of(PRICE, PRICE, PRICE, STRANGE), min_size=n, max_size=n))
    quote_times = sorted(draw(st.lists(st.integers(0, 10), min_size=m, max_size=m)))
    value = st.one_of(PRICE, PRICE, PRICE, STRANGE)
    return times, prices, [(ts, draw(value), draw(value)) for ts in quote_times]


@given(tapes(), st.sampled_from(RULE_NAMES), st.sampled_from([None, 1.0, 4.0]))
def test_equals_the_plain_reference(tape: Tape, rule: str, tick: float | None) -> None:
    times, prices, quotes = tape
    instrument = Instrument(tick=tick) if tick else None
    signs = classify(trades_of(times, prices), quotes_of(quotes), rule=rule, instrument=instrument)
    assert signs.to_list() == reference(rule, prices, times, quotes, slack=(tick or 0.0) / 4)


@given(tapes(), st.sampled_from(RULE_NAMES))
def test_a_mirrored_tape_has_mirrored_signs(tape: Tape, rule: str) -> None:
    times, prices, quotes = tape
    signs = classify(trades_of(times, prices), quotes_of(quotes), rule=rule)

    def mirrored(price: float) -> float:
        return 200.0 - price if 0 < price < 200 else NAN

    mirror = [(ts, mirrored(ask), mirrored(bid)) for ts, bid, ask in quotes]
    other = classify(trades_of(times, [mirrored(price) for price in prices]), quotes_of(mirror), rule=rule)
    assert other.to_list() == [-sign for sign in signs]


@given(tapes(), st.sampled_from(RULE_NAMES), st.integers(0, 10))
def test_signs_use_only_the_past(tape: Tape, rule: str, cut: int) -> None:
    times, prices, quotes = tape
    whole = classify(trades_of(times, prices), quotes_of(quotes), rule=rule)
    kept = sum(ts <= cut for ts in times)
    start = classify(
        trades_of(times[:kept], prices[:kept]), quotes_of([quote for quote in quotes if quote[0] <= cut]), rule=rule
    )
    assert start.to_list() == whole[:kept].to_list()


def test_equals_highfrequency_on_its_tape(shared_data: Path) -> None:
    path = shared_data / "highfrequency" / "B_liquidity_win300.csv.gz"
    tape = pl.read_csv(path, infer_schema_length=None, null_values="NA")
    ts = pl.col("DT").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ns")
    trades = tape.select(ts=ts, price="PRICE", size="SIZE")
    # Its rows come matched with their quotes, so each quote stands just before its trade.
    quotes = tape.select(ts=ts - pl.duration(nanoseconds=1), bid="BID", ask="OFR")
    signs = classify(trades, quotes, rule="lee_ready")
    assert tape.height == 7168
    assert (tape["PRICE"] == 0.5 * (tape["BID"] + tape["OFR"])).sum() == 341  # signed by the tick rule, on both sides
    assert signs.to_list() == tape["direction"].to_list()
    # In 55 rows the package's sign is the rounding of a midpoint. With a price grid they go to the tick rule.
    with_tick = classify(trades, quotes, rule="lee_ready", instrument=Instrument(tick=0.0001))
    assert (with_tick != tape["direction"]).sum() == 55


def test_the_tick_rule_is_mostly_right_on_a_real_tape(shared_data: Path) -> None:
    name = "binance-delivery_trades_2025-10-10_AVAXUSD_PERP.csv.gz"
    tape = pl.read_csv(shared_data / "crash-2025-10-10" / name).filter(pl.col("side") != "unknown")
    trades = tape.select(ts=pl.col("local_timestamp") * 1000, price="price", size="amount")
    taker = tape["side"].replace_strict({"buy": 1, "sell": -1}, return_dtype=pl.Int8)
    signs = classify(trades, rule="tick")
    assert 0.7 < (signs == taker).mean() < 1.0


@settings(deadline=None)
@given(tapes(), st.sampled_from(RULE_NAMES), st.sampled_from([None, 1.0]))
def test_the_engine_signs_as_the_plain_reference_does(tape: Tape, rule: str, tick: float | None) -> None:
    """Second by second, how many trades were bought, sold, and neither."""
    times, prices, quotes = tape
    known = [(ts, *(value if 0 < value < 1e6 else NAN for value in touch)) for ts, *touch in quotes]
    engine = Engine(Params(classify=rule), Instrument(tick=tick, lot=1.0))
    events = [(ts, 0, (price,)) for ts, price in zip(times, prices, strict=True)]
    events += [(ts, 1, (bid, ask)) for ts, bid, ask in known]
    for ts, kind, figures in sorted(events, key=lambda event: event[:2]):
        now = START + ts * 10**9
        if kind == 0:
            engine.trade(now, *figures, 1.0, 0)
        else:
            engine.quote(now, figures[0], 1.0, figures[1], 1.0)
    engine.finish()
    bars = engine.take_bars().with_columns(pl.col("ts").to_physical())
    told = {row["ts"]: row for row in bars.iter_rows(named=True)}
    signs = reference(rule, prices, times, known, slack=(tick or 0.0) / 4)
    for second in set(times):
        here = [sign for sign, ts, price in zip(signs, times, prices, strict=True) if ts == second and is_price(price)]
        for name, side in (("buy", 1), ("sell", -1), ("unknown", 0)):
            got = told[START + second * 10**9][f"{name}_volume"] if here else 0.0
            assert got == here.count(side)


@pytest.mark.parametrize("source", ["quotes", "book"])
@pytest.mark.parametrize("rule", RULE_NAMES)
def test_engine_and_vpin_sign_alike(rule: str, source: str) -> None:
    """The touch that a rule meets comes from quotes or from a book; here they show the same."""
    tables = simulated("flush", 8, 460.0)
    params = Params(classify=rule, bucket_volume=2.0, window=5)
    engine = Engine(params, Instrument(tick=0.1, lot=0.001))
    engine.feed(trades=tables["trades"], **{source: tables[source]})
    buckets = engine.take_buckets()
    alone = vpin(tables["trades"], bucket_volume=2.0, window=5, classify=rule, quotes=tables["quotes"],
                 instrument=Instrument(tick=0.1, lot=0.001))  # fmt: skip
    assert alone.height > 100
    assert buckets.select(alone.columns).equals(alone, null_equal=True)
