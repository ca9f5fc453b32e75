"""The engine's faces: bars against a plain reckoning, what is read between events, state as a value, refusals."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from feeding import (
    NAN,
    SECOND,
    START,
    Tables,
    events,
    only,
    simulated,
    singly,
    times,
    trade_table,
    uncomfortable,
    whole,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.bars import bars as plain_bars

from toxmid import _core
from toxmid.engine import Engine, ImpliedMid, bars_frame
from toxmid.errors import DataError, FileError, ParameterError
from toxmid.instrument import Instrument
from toxmid.params import Params

PARAMS = Params(bucket_volume=2.0, window=5)


def cut(tables: Tables, seconds: int) -> Tables:
    return {name: table.filter(pl.col("ts").to_physical() < START + seconds * SECOND) for name, table in tables.items()}


# --- bars ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tables",
    [
        cut(only(simulated(), "trades", "quotes"), 200),
        cut(only(simulated(), "trades"), 300),
        only(uncomfortable(5, 1500), "trades", "quotes"),
        only(uncomfortable(6, 1500), "trades"),
    ],
    ids=["trades and quotes", "trades", "bad day", "bad day of trades"],
)
def test_bars_against_a_plain_reckoning(tables: Tables) -> None:
    """Touch, spreads, volumes, order flow and move of each second, computed from all that happened before its end."""
    rows = whole(Engine(Params(gap="365d")), tables)
    bars = bars_frame(rows[0]).with_columns(pl.col("ts").to_physical())
    plain = pl.DataFrame(plain_bars(events(tables)))
    assert bars["ts"].equals(plain["ts"])
    for name in plain.columns:
        got, expected = (frame[name].cast(pl.Float64).fill_null(NAN).to_numpy() for frame in (bars, plain))
        tolerance = {"rtol": 1e-9, "atol": 1e-9} if "bps" in name or name in ("ofi",) else {"rtol": 1e-8, "atol": 1e-8}
        exact = name in ("bid", "ask", "bid_size", "ask_size", "mid", "price", "trades")
        np.testing.assert_allclose(got, expected, **({"rtol": 0} if exact else tolerance), err_msg=name)


def test_order_flow_of_a_side_that_empties() -> None:
    """It takes its size with it and brings its new one: what is quoted nowhere is at the worst of all prices."""
    engine = Engine()
    quotes = [
        (100.0, 5.0, 101.0, 4.0),
        (NAN, NAN, 101.0, 4.0),  # five bids go
        (99.0, 3.0, 101.0, 4.0),  # three come
        (99.0, 3.0, 0.0, 7.0),  # four asks go; the size of no price is none
        (99.0, 3.0, 102.0, 1.0),  # one comes
        (NAN, NAN, NAN, NAN),  # nothing is quoted: that is no flow,
        (98.0, 9.0, 102.0, 9.0),  # nor what comes after it
        (98.0, 10.0, 102.0, 9.0),
    ]
    for i, quote in enumerate(quotes):
        engine.quote(START + i * SECOND, *quote)
    engine.finish()
    bars = engine.take_bars()
    assert bars["ofi"].to_list() == [0.0, -5.0, 3.0, 4.0, -1.0, 0.0, 0.0, 1.0]
    assert bars["bid_size"].to_list() == [5.0, None, 3.0, 3.0, 3.0, None, 9.0, 10.0]
    assert bars["ask_size"].to_list() == [4.0, 4.0, 4.0, None, 1.0, None, 9.0, 9.0]


def test_order_flow_of_a_book_that_breaks() -> None:
    """A side that is deleted is flow, a book that was lost is not."""
    engine = Engine(instrument=Instrument(tick=1.0))

    def message(second: int, rows: list[tuple[int, float, float]], snapshot: bool = False, gap: bool = False) -> None:
        for row in rows:
            engine.book(START + second * SECOND, *row, snapshot, gap)

    message(0, [(1, 100.0, 5.0), (-1, 101.0, 4.0)], snapshot=True)
    message(1, [(1, 100.0, 0.0)])
    message(2, [(1, 99.0, 2.0)])
    message(3, [(1, 99.0, 1.0)], gap=True)
    message(4, [(1, 99.0, 8.0), (-1, 101.0, 8.0)], snapshot=True)
    message(5, [(1, 99.0, 9.0)])
    engine.finish()
    assert engine.take_bars()["ofi"].to_list() == [0.0, -5.0, 2.0, 0.0, 0.0, 1.0]


def test_bar_covers_its_end_and_not_its_beginning() -> None:
    """(ts - bar, ts]: an event at the very end of a bar is in it."""
    engine = Engine()
    for ts in (START, START + 1, START + SECOND, START + SECOND + 1):
        engine.trade(ts, 100.0, 1.0, 1)
    engine.finish()
    bars = engine.take_bars()
    assert bars["ts"].to_physical().to_list() == [START, START + SECOND, START + 2 * SECOND]
    assert bars["trades"].to_list() == [1, 2, 1]


@pytest.mark.parametrize("bar", ["100ms", "1s", "5s", "1m", "1h"])
def test_sums_do_not_depend_on_the_length_of_bars(bar: str) -> None:
    tables = only(simulated(), "trades", "quotes")
    bars = bars_frame(whole(Engine(Params(bar=bar)), tables)[0])
    trades = tables["trades"]
    assert bars["trades"].sum() == trades.height
    for name, side in (("buy_volume", 1), ("sell_volume", -1), ("unknown_volume", 0)):
        assert bars[name].sum() == pytest.approx(trades.filter(side=side)["size"].sum(), rel=1e-12)
    assert bars["ts"].to_physical().diff().drop_nulls().n_unique() <= 1


def test_finish_closes_the_last_bar_once() -> None:
    engine = Engine()
    engine.trade(START + 1, 100.0, 1.0, 1)
    engine.finish()
    engine.finish()
    assert engine.take_bars().height == 1
    Engine().finish()


@pytest.mark.parametrize("width", [1, 3, 4, 5, 18])
@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 255, 256, 257, 1000])
def test_rows_become_columns(n: int, width: int) -> None:
    rows = np.arange(n * width).reshape(n, width)
    columns = np.full((width, n), -1)
    _core.turn(rows, columns)
    assert np.array_equal(columns, rows.T)
    with pytest.raises(ValueError, match="columns for other rows"):
        _core.turn(rows, np.empty((width, n + 1), np.int64))


def test_bars_are_the_same_as_rows_and_as_a_table() -> None:
    tables = simulated("news", 3)
    engines = [Engine(PARAMS), Engine(PARAMS)]
    for engine in engines:
        engine.feed(**tables)
    waiting = engines[0].bars_waiting
    bars = engines[0].take_bars()
    assert bars.height == waiting > 500
    assert bars.equals(bars_frame(engines[1].drain_bars()))
    assert engines[0].bars_waiting == engines[1].bars_waiting == 0


def test_two_times_taken_is_nothing_the_second_time() -> None:
    engine = Engine(PARAMS)
    engine.feed(**simulated())
    assert engine.take_bars().height > 500
    assert engine.take_buckets().height > 100
    assert engine.take_events().height > 0
    for frame in (engine.take_bars(), engine.take_buckets(), engine.take_events()):
        assert frame.height == 0
        assert frame.schema["ts" if "ts" in frame.columns else frame.columns[1]] == pl.Datetime("ns", "UTC")


def test_silence_is_a_halt_and_a_long_one_forgets() -> None:
    """Over a gap no pseudo-quote and no move is carried."""
    engine = Engine(Params(gap="5m", halt="10s"))
    for i in range(30):
        engine.trade(START + i * SECOND, 100.0 + 0.1 * (i % 2), 1.0, 1 if i % 2 else -1)
    engine.trade(START + 400 * SECOND, 200.0, 1.0, 1)
    engine.trade(START + 401 * SECOND, 200.0, 1.0, 1)
    engine.finish()
    bars = engine.take_bars()
    assert set(bars["regime"][42:399]) == {"halted"}
    assert bars["mid"][:2].to_list() == [None, 100.05]
    assert bars["mid"][-2:].to_list() == [None, None]
    assert bars["impact_bps"][-2:].to_list() == [None, None]
    assert engine.tally()["gaps"] == 1


def test_vpin_of_a_bar_is_that_of_the_last_bucket_closed_by_then() -> None:
    engine = Engine(PARAMS)
    engine.feed(**only(simulated(), "trades", "quotes"))
    engine.finish()
    bars, buckets = engine.take_bars(), engine.take_buckets()
    joined = bars.select("ts", "vpin", "vpin_rank").join_asof(
        buckets, left_on="ts", right_on="ts_close", suffix="_closed"
    )
    assert joined["vpin"].equals(joined["vpin_closed"].alias("vpin"), null_equal=True)
    assert joined["vpin_rank"].equals(joined["vpin_rank_closed"].alias("vpin_rank"), null_equal=True)
    assert joined["vpin"].drop_nulls().len() > 500


# --- between events --------------------------------------------------------------------------------------------------


def test_nothing_is_known_at_first() -> None:
    estimator = ImpliedMid()
    assert math.isnan(estimator.value)
    assert math.isnan(estimator.mid)
    assert math.isnan(estimator.toxicity)
    assert all(math.isnan(bound) for bound in estimator.interval)
    assert all(math.isnan(term) for term in estimator.terms.values())
    assert estimator.peek() is None
    assert estimator.now == 0


def test_not_ready_is_not_a_number_for_five_minutes() -> None:
    estimator = ImpliedMid()
    ready = []
    for method, arguments in events(cut(only(simulated(), "trades", "quotes"), 330)):
        getattr(estimator, method)(*arguments)
        if math.isfinite(estimator.value):
            ready.append(arguments[0] - START)
    assert ready
    assert ready[0] >= 239 * SECOND
    assert all(math.isfinite(x) for x in (*estimator.interval, estimator.mid, estimator.toxicity))


@pytest.mark.parametrize("into", [0, 1, 17 * SECOND, 59 * SECOND], ids=["minute", "after", "in it", "before the next"])
@pytest.mark.parametrize("kinds", [("trades",), ("trades", "quotes")])
def test_what_is_usual_is_known_after_five_minutes_wherever_in_a_minute_they_begin(
    kinds: tuple[str, ...], into: int
) -> None:
    """Null before, known within a minute and a bar after; credibility and memory are known where the implied mid is."""
    tables = cut(only(simulated("news", 3), *kinds), 450)
    moved = {name: table.with_columns(pl.col("ts") + pl.duration(nanoseconds=into)) for name, table in tables.items()}
    bars = bars_frame(whole(Engine(PARAMS), moved)[0])
    age = bars["ts"].to_physical() - (START + into)
    for name in ("spread_z", "excess_impact", "implied_mid", "implied_lo", "credibility", "memory", "toxic_mean"):
        assert bars.filter(age <= 300 * SECOND)[name].is_null().all(), name
    for name in ("spread_z", "excess_impact", "implied_mid", "credibility"):
        assert bars.filter(age > 362 * SECOND)[name].is_not_null().all(), name
    for name in ("credibility", "memory"):
        assert bars[name].is_null().equals(bars["implied_mid"].is_null().alias(name))
    ready = bars.drop_nulls("credibility")
    np.testing.assert_allclose(ready["memory"], 60.0 * PARAMS.toxic_half_life / ready["credibility"], rtol=1e-15)


def test_time_before_the_first_mid_is_no_history() -> None:
    """An hour of a mark price, then a market: what is usual in it is known after five minutes of it."""
    engine = Engine(PARAMS)
    engine.mark_price(START - 3600 * SECOND, 100.0)
    engine.feed(**cut(only(simulated("news", 3), "trades", "quotes"), 450))
    engine.finish()
    bars = engine.take_bars()
    alone = bars_frame(whole(Engine(PARAMS), cut(only(simulated("news", 3), "trades", "quotes"), 450))[0])
    names, market = ["ts", "excess_impact", "implied_mid"], bars[-alone.height :]
    assert market.select(names).equals(alone.select(names), null_equal=True)
    assert market["spread_z"].is_null().equals(alone["spread_z"].is_null())
    assert bars[: -alone.height]["spread_z"].is_null().all()
    assert engine.warmth()["calm_minutes"] == 8


def test_terms_add_up() -> None:
    """To the difference between implied and quoted mid, at every moment."""
    estimator = ImpliedMid(PARAMS)
    seen = 0
    for number, (method, arguments) in enumerate(events(simulated())):
        getattr(estimator, method)(*arguments)
        if number % 50 == 0 and math.isfinite(estimator.value):
            difference = estimator.value - estimator.mid
            assert sum(estimator.terms.values()) == pytest.approx(difference, abs=1e-9 * estimator.mid)
            low, high = estimator.interval
            assert low <= estimator.value <= high
            seen += difference != 0
    assert seen > 50


def test_reading_changes_nothing() -> None:
    """Whatever is read, and however often, the state stays as it is, bit for bit."""
    for tables in (simulated("news", 3), uncomfortable(3, 500)):
        engine, estimator = Engine(PARAMS), ImpliedMid(PARAMS)
        for number, (method, arguments) in enumerate(events(tables)):
            getattr(engine, method)(*arguments)
            getattr(estimator, method)(*arguments)
            if number % 997 == 0:
                held = engine.save_state()
                engine.peek(), engine.peek_terms(), engine.tally(), engine.open_bucket(), engine.open_episodes()
                (
                    engine.warmth(),
                    engine.warm_up(),
                    engine.memory(),
                    engine.book_levels(1),
                    repr(engine),
                    engine.snapshot(),
                )
                assert engine.save_state() == held
            if number % 3 == 0:
                _ = estimator.value, estimator.interval, estimator.terms, estimator.toxicity, estimator.mid
        assert engine.save_state() == estimator.save_state()


def test_peek_is_the_bar_that_follows() -> None:
    """Also where the last message of the book has to be repaired first, and where trades of one time are one order."""
    rng = np.random.default_rng(4)
    tables = uncomfortable(9, 800)
    # Many rows that cross.
    tables["book"] = tables["book"].with_columns(
        price=pl.col("price") + pl.Series(rng.choice([0.0, 0.5, -0.5], tables["book"].height))
    )
    engine = Engine(Params(book_without_snapshot=True))
    told: dict[int, dict[str, Any]] = {}
    for method, arguments in events(only(tables, "trades", "book", "liquidations")):
        row = engine.peek()
        if row is not None and arguments[0] > row["ts"]:
            told[row["ts"]] = row
        getattr(engine, method)(*arguments)
    engine.finish()
    bars = np.frombuffer(engine.drain_bars(), np.dtype(_core.BAR_FIELDS))
    checked = 0
    for bar in bars:
        row = told.get(int(bar["ts"]))
        if row is not None:
            checked += 1
            for name in bars.dtype.names:
                np.testing.assert_array_equal(row[name], bar[name], err_msg=f"{name} at {bar['ts']}")
    assert checked > 100


def test_open_bucket_and_warmth() -> None:
    engine = Engine(Params(bucket_volume=1.0, window=2))
    for i in range(14):
        engine.trade(START + i, 100.0, 0.1, 1)
    held = engine.open_bucket()
    assert (held["bucket"], held["ts_open"]) == (1, START + 10)
    assert (held["filled"], held["volume"]) == (pytest.approx(0.4), pytest.approx(0.4))
    assert engine.warm_up()["daily_volume"] == {"has": 0, "needs": 7, "unit": "days"}
    assert {entry["unit"] for entry in engine.warm_up().values()} <= {"days", "minutes"}
    assert engine.memory()["half_life_credible_minutes"] == 1.0


# --- state as a value ------------------------------------------------------------------------------------------------


def test_restored_copied_pickled() -> None:
    """A copy is an engine of its own: what happens to one does not happen to the other."""
    original = Engine(PARAMS, Instrument(tick=0.1))
    first, second = events(simulated())[:20_000], events(simulated())[20_000:30_000]
    for method, arguments in first:
        getattr(original, method)(*arguments)
    held = original.snapshot()
    copies = [
        Engine.restore(held),
        pickle.loads(pickle.dumps(original)),
        copy.copy(original),
        copy.deepcopy(original),
    ]
    for each in copies:
        assert (each.params, each.instrument, each.now) == (PARAMS, Instrument(tick=0.1), original.now)
        assert each.snapshot() == held
        for method, arguments in second:
            getattr(each, method)(*arguments)
    assert original.snapshot() == held
    assert len({each.snapshot() for each in copies}) == 1
    assert isinstance(ImpliedMid.restore(held), ImpliedMid)


def test_fresh_is_the_same_as_reset() -> None:
    """Nothing of an earlier run stays in an object that is set up anew, or in the module."""
    used = Engine(PARAMS)
    used.feed(**simulated())
    used.__init__(PARAMS)  # type: ignore[misc]
    assert used.snapshot() == Engine(PARAMS).snapshot()
    tables = uncomfortable(2, 500)
    assert whole(used, tables) == whole(Engine(PARAMS), tables)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_snapshot_is_refused(data: st.DataObject) -> None:
    engine = Engine(PARAMS)
    for i in range(5):
        engine.trade(START + i, 100.0, 1.0, 1)
    state = bytearray(engine.snapshot())
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(state) - 1) | st.integers(0, 1500))
        state[place] ^= data.draw(st.integers(1, 255))
    else:
        state = state[: data.draw(st.integers(0, len(state) - 1))]
    with pytest.raises(FileError):
        Engine.restore(bytes(state))


@pytest.mark.parametrize("state", [b"", b"{}", b"\xff" * 100, bytes(4000)])
def test_what_is_no_snapshot(state: bytes) -> None:
    with pytest.raises(FileError, match="snapshot"):
        Engine.restore(state)
    with pytest.raises(FileError, match="snapshot"):
        Engine().load_state(state)


def test_refused_state_leaves_the_engine_as_it_was() -> None:
    engine = Engine(PARAMS)
    engine.trade(START, 100.0, 1.0, 1)
    held = engine.snapshot()
    with pytest.raises(FileError):
        engine.load_state(engine.save_state()[:-1])
    assert engine.snapshot() == held


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator of glibc fills what it gives out on request")
def test_snapshot_holds_nothing_but_the_state() -> None:
    """The same events give the same bytes, whatever was in the memory before."""
    script = (
        "import hashlib, toxmid\n"
        "engine = toxmid.Engine()\n"
        f"for i in range(50): engine.trade({START} + i * 10**8, 100.0 + i % 3, 1.0, 1 - 2 * (i % 2))\n"
        f"engine.book({START + 6 * SECOND}, 1, 99.0, 1.0, True)\n"
        "print(hashlib.sha256(engine.snapshot()).hexdigest())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"MALLOC_PERTURB_": filler, "PYTHONPATH": ":".join(sys.path)},
            cwd=Path(__file__).resolve().parent.parent,
            capture_output=True,
            check=True,
        ).stdout
        for filler in ("90", "165")
    }
    assert len(printed) == 1


# --- refusals --------------------------------------------------------------------------------------------------------


def test_time_does_not_go_back() -> None:
    """Neither within a kind nor between kinds; the row is refused and nothing of it has happened."""
    engine = Engine()
    engine.trade(START + 5, 100.0, 1.0, 1)
    held = engine.snapshot()
    for call in (
        lambda: engine.trade(START + 4, 100.0, 1.0, 1),
        lambda: engine.quote(START, 1.0, 1.0, 2.0, 1.0),
        lambda: engine.book(START, 1, 1.0, 1.0, True),
        lambda: engine.liquidation(START, 1, 1.0, 1.0),
        lambda: engine.mark_price(START, 1.0),
        lambda: engine.reference_trade(START, 1.0, 1.0, 1),
    ):
        with pytest.raises(DataError, match="time goes back"):
            call()
    assert engine.snapshot() == held


@pytest.mark.parametrize("ts", [0, 1, 1_760_054_400, 1_760_054_400_000, 2**62, -5])
def test_time_of_a_wrong_unit(ts: int) -> None:
    engine = Engine()
    with pytest.raises(DataError, match="2009 to 2100"):
        engine.trade(ts, 100.0, 1.0, 1)
    assert engine.snapshot() == Engine().snapshot()


@pytest.mark.parametrize("argument", ["100", None, [START]])
def test_arguments_of_a_wrong_type(argument: Any) -> None:
    with pytest.raises(TypeError):
        Engine().trade(argument, 100.0, 1.0, 1)


def test_numpy_scalars_are_numbers() -> None:
    one, two = Engine(), Engine()
    one.trade(np.int64(START), np.float64(100.0), np.float32(0.5), np.int8(-1))
    two.trade(START, 100.0, 0.5, -1)
    assert one.snapshot() == two.snapshot()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((NAN, 1.0, 1), "bad_price"),
        ((-1.0, 1.0, 1), "bad_price"),
        ((0.0, 1.0, 1), "bad_price"),
        ((math.inf, 1.0, 1), "bad_price"),
        ((1.0, NAN, 1), "bad_size"),
        ((1.0, -1.0, 1), "bad_size"),
        ((1.0, math.inf, 1), "bad_size"),
        ((1.0, 1e300, 1), "bad_size"),
        ((1.0, 0.0, 1), "zero_size"),
    ],
)
def test_trades_that_are_none(row: tuple[float, float, int], reason: str) -> None:
    """Counted by reason, and not used."""
    engine = Engine()
    engine.trade(START, *row)
    tally = engine.tally()
    assert tally["used"]["trades"] == 0
    assert tally["rejected"]["trades"] == {name: int(name == reason) for name in _core.REASON_NAMES}
    assert engine.peek() is None


@pytest.mark.parametrize(
    ("quote", "counted"),
    [
        ((100.0, 1.0, 99.0, 1.0), "quotes_crossed"),
        ((100.0, 1.0, 100.0, 1.0), "quotes_crossed"),
        ((NAN, NAN, 100.0, 1.0), "quotes_one_sided"),
        ((99.0, 1.0, 0.0, 0.0), "quotes_one_sided"),
    ],
)
def test_quotes_without_a_mid(quote: tuple[float, ...], counted: str) -> None:
    """Flagged, and no mid while they stand."""
    engine = Engine()
    engine.quote(START + 1, *quote)
    engine.quote(START + SECOND + 1, 99.0, 1.0, 101.0, 1.0)
    engine.finish()
    assert engine.tally()[counted] == 1
    bars = engine.take_bars()
    assert bars["mid"].to_list() == [None, 100.0]
    assert bars["regime"].to_list() == ["one-sided book", "calm"]


@pytest.mark.parametrize(
    "quote", [(-1.0, 1, 2.0, 1), (1.0, -1, 2.0, 1), (1.0, math.inf, 2.0, 1), (1.0, 1, math.inf, 1)]
)
def test_quotes_that_are_none(quote: tuple[float, ...]) -> None:
    engine = Engine()
    engine.quote(START, *quote)
    tally = engine.tally()
    assert tally["used"]["quotes"] == 0
    assert sum(tally["rejected"]["quotes"].values()) == 1


def test_side_beyond_the_known_is_unknown() -> None:
    engine = Engine()
    for side in (0, 5, -2):
        engine.trade(START, 100.0, 1.0, side)
    engine.finish()
    assert engine.take_bars().select("buy_volume", "sell_volume", "unknown_volume").row(0) == (0.0, 0.0, 3.0)


def test_trade_of_too_many_buckets_leaves_no_trace() -> None:
    engine = Engine(Params(bucket_volume=1e-6))
    engine.trade(START, 100.0, 1.0, 1)
    held = engine.tally()
    with pytest.raises(DataError, match="bucket volume is too small"):
        engine.trade(START + 1, 100.0, 1e6, 1)
    assert engine.tally() == held
    engine.finish()
    assert engine.take_bars()["buy_volume"].sum() == 1.0


def test_row_of_an_error_in_a_table() -> None:
    """What came before the row has been taken."""
    tape = trade_table([(0, 100.0, 1.0, 1), (1, 100.0, 1.0, 1), (2, 100.0, 1.0, 1)])
    swapped = pl.concat([tape[:1], tape[2:], tape[1:2]])
    engine = Engine()
    with pytest.raises(DataError) as raised:
        engine.feed(trades=swapped)
    assert (raised.value.row, raised.value.column) == (2, "ts")
    assert engine.tally()["used"]["trades"] == 2


def test_columns_are_checked() -> None:
    ts, one = np.array([START]), np.ones(1)
    good = {"ts": ts, "price": one, "size": one}
    with pytest.raises(DataError, match="different lengths"):
        Engine().run(({**good, "size": np.ones(2)}, None, None, None, None, None))
    with pytest.raises(DataError, match="column is missing"):
        Engine().run((None, None, good, None, None, None))
    with pytest.raises(KeyError):
        Engine().run(({"ts": ts}, None, None, None, None, None))
    with pytest.raises(ValueError, match="dtype"):
        Engine().run(({**good, "price": np.ones(1, np.float32)}, None, None, None, None, None))
    with pytest.raises(ValueError, match="unpack"):
        Engine().run((None,) * 8)


def test_what_an_engine_is_made_of() -> None:
    with pytest.raises(ParameterError, match="params"):
        Engine({"window": 3})  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="instrument"):
        Engine(None, "BTC")  # type: ignore[arg-type]
    assert Engine().params == Params()
    assert ImpliedMid().instrument == Instrument()


# --- liquidations ----------------------------------------------------------------------------------------------------


def test_forced_volume_is_that_of_the_feed() -> None:
    """With a feed nothing is inferred: the bars hold its records, no more and no less."""
    tables = simulated()
    bars = bars_frame(singly(Engine(PARAMS), tables)[0])
    feed = tables["liquidations"]
    begin = pl.lit(times(feed)[0] - SECOND)
    during = bars.filter(pl.col("ts").to_physical() > begin)
    for name, side in (("liq_buy_volume", 1), ("liq_sell_volume", -1)):
        assert during[name].sum() == pytest.approx(feed.filter(side=side)["size"].sum(), rel=1e-9, abs=1e-12)
    assert "stress-labelled" in during["regime"]


def test_toxic_mean_is_a_mean_of_forced_prices() -> None:
    """Null before the first, the price itself after one, and never outside what was forced."""
    engine = Engine(PARAMS)
    for i in range(5):
        engine.trade(START + i * SECOND, 100.0, 1.0, 1)
    engine.trade(START + 5 * SECOND, 97.0, 2.0, -1)
    engine.liquidation(START + 5 * SECOND + 1, -1, 97.0, 2.0)
    engine.trade(START + 7 * SECOND, 103.0, 1.0, 1)
    engine.trade(START + 9 * SECOND, 90.0, 6.0, -1)
    engine.liquidation(START + 9 * SECOND + 1, -1, 90.0, 6.0)
    engine.finish()
    means = engine.take_bars()["toxic_mean"].to_list()
    assert means[:5] == [None] * 5
    assert means[6:9] == pytest.approx([97.0] * 3)
    assert 90.0 < means[-1] < 97.0


def test_forced_prices_bound_their_mean() -> None:
    tables = simulated()
    bars = bars_frame(whole(Engine(PARAMS), tables)[0]).filter(pl.col("toxic_mean").is_not_null())
    begin = times(tables["liquidations"])[0] - 2 * SECOND
    bars = bars.filter(pl.col("ts").to_physical() > begin)
    sold = tables["trades"].filter((pl.col("ts").to_physical() > begin) & (pl.col("side") == -1))
    assert bars.height > 100
    assert (bars["toxic_mean"] >= sold["price"].min()).all()
    assert (bars["toxic_mean"] <= sold["price"].max()).all()


def test_liquidation_without_its_trade_is_counted() -> None:
    engine = Engine()
    engine.trade(START, 100.0, 1.0, 1)
    engine.liquidation(START + 1, -1, 100.0, 5.0)
    engine.trade(START + 10 * SECOND, 100.0, 1.0, -1)
    engine.trade(START + 11 * SECOND, 100.0, 1.0, -1)
    engine.finish()
    assert engine.tally()["liquidations_unmatched"] == 1
    assert engine.take_bars()["liq_sell_volume"].sum() == 5.0


# --- no drift --------------------------------------------------------------------------------------------------------


def test_a_billion_trades_before_leave_no_trace() -> None:
    """Sums since the beginning are only ever used as differences. A first trade as large as a billion usual ones and a
    book that has seen as much go bring them to where a billion events bring them; what is of the last bar or the last
    minute is then still what plain sums say."""
    engine, market = Engine(Params(cost_size=1.0)), []
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 100, 1200) / 100
    engine.book(START, 1, 99.99, 5e8, True)
    engine.book(START, -1, 100.01, 5.0, True)
    engine.trade(START + 1, 99.99, 5e8, -1)
    engine.book(START + 1, 1, 99.99, 5.0)
    for k, size in enumerate(sizes.tolist()):
        ts, side = START + SECOND + k * SECOND // 4 + 1, 1 if k % 3 else -1
        price = 100.01 if side > 0 else 99.99
        engine.trade(ts, price, size, side)
        engine.book(ts, -side, price, 5.0 - size)
        engine.book(ts + 1000, -side, price, 5.0)
        engine.book(ts + 1000, 1, 100.0, float(k // 52 % 2))  # so that the mid moves
        market.append((ts, size, side))
    engine.finish()
    bars = engine.take_bars()
    tape = pl.DataFrame(market, schema=["ts", "size", "side"], orient="row")
    ends = np.array(times(bars))
    assert (bars["impact_bps"].abs() > 0).sum() > 50
    for row in range(90, bars.height):
        inside = tape.filter((pl.col("ts") > ends[row] - SECOND) & (pl.col("ts") <= ends[row]))
        minute = tape.filter((pl.col("ts") > ends[row] - 60 * SECOND) & (pl.col("ts") <= ends[row]))
        bar = bars.row(row, named=True)
        for name, side in (("ask_traded", 1), ("bid_traded", -1)):
            assert bar[name] == pytest.approx(inside.filter(side=side)["size"].sum(), rel=1e-9, abs=1e-9)
        assert bar["buy_volume"] == pytest.approx(inside.filter(side=1)["size"].sum(), rel=1e-15)
        if bar["impact_bps"]:
            expected = abs(bar["impact_bps"]) / minute["size"].sum()
            assert bar["bps_per_volume"] == pytest.approx(expected, rel=1e-8)
