"""The same events give the same bits, however they are handed over."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from feeding import (
    SECOND,
    START,
    Rows,
    Tables,
    chunks,
    drain,
    events,
    in_chunks,
    only,
    order,
    simulated,
    singly,
    uncomfortable,
    whole,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from toxmid.engine import Engine, ImpliedMid, bars_frame, buckets_frame, events_frame
from toxmid.instrument import Instrument
from toxmid.params import Params
from toxmid.readers import read_book, read_quotes, read_trades
from toxmid.replay import replay
from toxmid.schema import canonical, empty

# Small enough buckets, so that there are many in a quarter of an hour.
PARAMS = Params(bucket_volume=3.0, window=10)
KINDS = {
    "trades": ("trades",),
    "trades and quotes": ("trades", "quotes"),
    "trades and book": ("trades", "book"),
    "everything": ("trades", "liquidations", "book", "quotes", "mark", "reference", "open_interest"),
}
COIN_MARGINED = Instrument(inverse=True, contract_value=10.0, lot=1.0)


def replayed(tables: Tables, params: Params, instrument: Instrument | None = None) -> Any:
    return replay(**tables, params=params, instrument=instrument)


def assert_same(rows: Rows, result: Any) -> None:
    """Frames of a replay hold what the bytes of an engine say, not nearly but exactly."""
    frames = bars_frame(rows[0]), buckets_frame(rows[1]), events_frame(rows[2])
    for frame, expected in zip(frames, (result.bars, result.buckets, result.events), strict=True):
        different = [name for name in frame.columns if not frame[name].equals(expected[name], null_equal=True)]
        assert not different, f"columns {different} of {frame.shape}, {expected.shape}"
        assert frame.equals(expected, null_equal=True)


def resumed(tables: Tables, places: list[int], params: Params, instrument: Instrument | None = None) -> Rows:
    """One event at a time, the engine replaced by what its snapshot or pickle gives at some places."""
    engine = Engine(params, instrument)
    for place, (method, arguments) in enumerate(events(tables)):
        if place in places:
            engine = Engine.restore(engine.snapshot()) if place % 2 else pickle.loads(pickle.dumps(engine))
        getattr(engine, method)(*arguments)
    engine.finish()
    return drain(engine)


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
def test_every_way_of_feeding_gives_the_same_bits(kinds: tuple[str, ...]) -> None:
    tables = only(simulated(), *kinds)
    rows = singly(Engine(PARAMS), tables)
    assert all(rows)
    assert whole(Engine(PARAMS), tables) == rows
    rng = np.random.default_rng(5)
    count = len(order(tables))
    for parts in (1, 7, 300):
        assert in_chunks(Engine(PARAMS), tables, rng.integers(0, count, parts).tolist()) == rows
    assert resumed(tables, rng.integers(0, count, 6).tolist(), PARAMS) == rows
    assert_same(rows, replayed(tables, PARAMS))


@pytest.mark.parametrize(
    "params",
    [
        Params(bar="100ms", bucket_volume=1.0, window=5),
        Params(bar="5s", bucket_volume=0.7, window=5, classify="lee_ready"),
        Params(bar="1m", buckets_per_day=5000, window=5, classify="tick"),
        Params(bucket_volume=2.0, window=5, classify="bvc_t", bvc_bar="5s"),
        Params(bucket_volume=2.0, window=5, classify="emo", book_without_snapshot=True),
        Params(bucket_volume=2.0, window=5, vpin_offsets=7),
        Params(buckets_per_day=5000, window=5, vpin_offsets=3, classify="bvc_normal", bvc_bar="5s"),
    ],
    ids=lambda params: f"{params.bar}-{params.classify}-{params.vpin_offsets}",
)
def test_parameters_do_not_matter(params: Params) -> None:
    tables = simulated("news", 3)
    rows = whole(Engine(params), tables)
    assert singly(Engine(params), tables) == rows
    assert in_chunks(Engine(params), tables, [10, 1000, 1001, 20_000]) == rows
    assert resumed(tables, [500, 20_001], params) == rows


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_uncomfortable_tapes(seed: int, data: st.DataObject) -> None:
    tables = uncomfortable(seed, 600)
    chosen = only(tables, *data.draw(st.sets(st.sampled_from(sorted(tables)), min_size=1)))
    count = len(order(chosen))
    cuts = data.draw(st.lists(st.integers(0, count), max_size=20))
    rows = singly(Engine(PARAMS), chosen)
    assert whole(Engine(PARAMS), chosen) == rows
    assert in_chunks(Engine(PARAMS), chosen, cuts) == rows
    assert resumed(chosen, cuts[:3], PARAMS) == rows
    if {"trades", "book", "quotes"} & set(chosen):
        assert_same(rows, replayed(chosen, PARAMS))


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("tape", ["cascade", "bad day"])
def test_no_row_of_any_table_knows_what_comes_after_it(tape: str, kinds: tuple[str, ...]) -> None:
    """A tape that ends early says the same up to there: every column of bars, buckets and episodes."""
    params = PARAMS.replace(vpin_offsets=4, move_sigmas=3.0, widening_alarm=5.0, cascade_rate=0.2)
    tables = only(simulated("flush", 8, 700.0) if tape == "cascade" else uncomfortable(7, 3000), *kinds)
    full = whole(Engine(params), tables)
    for second in (100, 333, 461, 480):
        last = START + second * SECOND
        early = Engine(params)
        early.feed(**{name: table.filter(pl.col("ts").to_physical() <= last) for name, table in tables.items()})
        rows = drain(early)
        assert [len(part) > 0 for part in rows[:2]] == [True, True]
        assert [said.startswith(part) for said, part in zip(full, rows, strict=True)] == [True] * 3


def test_engines_in_threads_do_not_meet() -> None:
    """The core runs without the interpreter lock; engines share nothing."""
    tapes = [simulated(), simulated("news", 3), only(simulated(), "trades"), uncomfortable(1)]
    alone = [whole(Engine(PARAMS), tables) for tables in tapes]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda tables: whole(Engine(PARAMS), tables), tapes * 3))
    assert together == alone * 3


def test_state_does_not_depend_on_the_way() -> None:
    """Not only what was published: the whole state is the same, so whatever comes later is."""
    tables = simulated("news", 3)
    one, two, three = Engine(PARAMS), Engine(PARAMS), Engine(PARAMS)
    for method, arguments in events(tables):
        getattr(one, method)(*arguments)
    two.feed(**tables)
    for part in chunks(tables, [5, 10_000, 10_001, 30_000]):
        three.feed(**part)
    assert one.snapshot() == two.snapshot() == three.snapshot()
    assert Engine.restore(one.snapshot()).snapshot() == one.snapshot()


def test_estimator_between_bars_says_what_the_bar_will_say() -> None:
    """Just before the first event after the end of a bar, with the same bits; reading changes nothing."""
    tables = simulated("news", 3)
    estimator, silent = ImpliedMid(PARAMS), Engine(PARAMS)
    read: dict[int, tuple[float, ...]] = {}
    end = 0
    for method, arguments in events(tables):
        if arguments[0] > end:
            if end:
                read[end] = (estimator.value, estimator.mid, *estimator.interval, estimator.toxicity)
            end = -(-arguments[0] // SECOND) * SECOND
        getattr(estimator, method)(*arguments)
        getattr(silent, method)(*arguments)
    assert estimator.save_state() == silent.save_state()
    silent.finish()
    bars = (
        silent.take_bars().select("ts", "implied_mid", "mid", "implied_lo", "implied_hi", "toxicity").fill_null(np.nan)
    )
    told = {ts: row for ts, *row in bars.with_columns(pl.col("ts").to_physical()).rows()}
    assert len(read) > 500
    for ts, figures in read.items():
        np.testing.assert_array_equal(figures, told[ts])


@pytest.mark.parametrize("coin", ["AAVE", "BCH"])
def test_real_cascade(shared_data: Path, coin: str) -> None:
    """Ten minutes around the fall of 10 October 2025, contracts worth 10 dollars."""
    trades = read_trades(
        shared_data / "crash-2025-10-10" / f"binance-delivery_trades_2025-10-10_{coin}USD_PERP.csv.gz",
        start="2025-10-10T21:10:00",
        end="2025-10-10T21:20:00",
    ).drop("id")
    params = Params(bucket_volume=50.0, window=20)
    tables = {"trades": trades}
    rows = whole(Engine(params, COIN_MARGINED), tables)
    assert len(rows[0]) > 500 * 200
    assert singly(Engine(params, COIN_MARGINED), tables) == rows
    assert singly(Engine(params, COIN_MARGINED), {"trades": trades.drop("lots")}) == rows
    assert in_chunks(Engine(params, COIN_MARGINED), tables, [1, 2000, 2001, 9000]) == rows
    assert resumed(tables, [100, 4001, 8000], params, COIN_MARGINED) == rows
    assert_same(rows, replayed(tables, params, COIN_MARGINED))


@pytest.mark.parametrize("name", ["usdm_btcusdt_20240808.gz", "cm_btcusd_perp_20240808.gz"])
def test_real_recording(shared_data: Path, name: str) -> None:
    """A recorded stream of depth, best quotes and trades."""
    path = shared_data / "hftbacktest-raw" / name
    book = read_book(path)
    begin = int(book["ts"].to_physical()[0])
    window = {"start": begin, "end": begin + 60 * SECOND}
    tables = {
        "trades": read_trades(path, **window).drop("id"),
        "book": read_book(path, **window),
        "quotes": read_quotes(path, **window),
    }
    params = Params(bucket_volume=1.0, window=5)
    rows = whole(Engine(params), tables)
    assert singly(Engine(params), tables) == rows
    assert in_chunks(Engine(params), tables, [7, 5000, 5001, 20_000]) == rows
    assert resumed(tables, [4001, 9000], params) == rows
    assert_same(rows, replayed(tables, params))


def test_empty_feed_of_liquidations() -> None:
    """A table without rows says that there was a feed; one event at a time the same is said in words."""
    tables = only(simulated("news", 3), "trades", "quotes")
    engine = Engine(PARAMS)
    engine.feed_without_prints()
    rows = singly(engine, tables)
    assert_same(rows, replayed({**tables, "liquidations": empty("liquidations")}, PARAMS))
    bars = bars_frame(rows[0])
    assert bars["liq_sell_volume"].sum() == bars["liq_buy_volume"].sum() == 0
    assert bars["toxic_mean"].is_null().all()


def test_contracts_that_begin_like_coins() -> None:
    """Contracts worth 10 dollars at a price of 20 are half a coin each; only the next price shows that this varies."""
    rng = np.random.default_rng(0)
    lots, price = rng.integers(1, 9, 400), rng.integers(13, 25, 400).astype(float)
    price[:3] = 20.0
    trades = pl.DataFrame({"ts": START + np.arange(400) * SECOND // 3, "price": price, "size": 10 * lots / price})
    trades = canonical(trades.with_columns(side=pl.Series(rng.choice([1, -1], 400)), lots=pl.Series(lots)), "trades")
    params, tables = Params(bucket_volume=7.0, window=2), {"trades": trades}
    rows = singly(Engine(params), tables)
    assert in_chunks(Engine(params), tables, [1, 5]) == rows
    assert whole(Engine(params), tables) == rows


def test_lots_of_a_linear_market_say_nothing_new() -> None:
    """A tape that counts its lots and one that does not are the same tape."""
    trades = simulated()["trades"]
    counted = trades.with_columns(lots=(pl.col("size") / 0.001).round().cast(pl.Int64))
    for params in (PARAMS, Params(buckets_per_day=5000.0, window=5)):
        assert whole(Engine(params), {"trades": counted}) == whole(Engine(params), {"trades": trades})
        assert singly(Engine(params), {"trades": counted}) == whole(Engine(params), {"trades": trades})


def test_first_event_does_not_set_the_grid() -> None:
    """Bars lie on the UTC grid wherever the tape begins."""
    engine = Engine()
    engine.trade(START + 1, 100.0, 1.0, 1)
    engine.trade(START + 3 * SECOND, 100.0, 1.0, 1)
    engine.finish()
    assert engine.take_bars()["ts"].to_physical().to_list() == [START + i * SECOND for i in (1, 2, 3)]
