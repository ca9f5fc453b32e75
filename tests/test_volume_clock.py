"""Buckets and VPIN: against exact fractions, against published levels without informed flow, and by conservation."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from feeding import SECOND, START, simulated, times, trade_table
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.bulk import bulk_bars
from reference.volume_clock import DAY, VolumeClock, daily_volume, range_of_starts
from scipy import integrate, stats

from toxmid import _core
from toxmid.engine import Engine, buckets_frame
from toxmid.errors import DataError, ParameterError, TapeWarning
from toxmid.instrument import Instrument
from toxmid.params import Params
from toxmid.readers import read_trades
from toxmid.schema import TIME, columns
from toxmid.vpin import vpin

SIDES = {1: (Fraction(1), Fraction(0)), -1: (Fraction(0), Fraction(1)), 0: (Fraction(0), Fraction(0))}
Trade = tuple[int, Fraction, int]  # ns after the start, size, side


def table(trades: list[Trade]) -> pl.DataFrame:
    return trade_table([(ts, 100.0, float(size), side) for ts, size, side in trades])


def reference(trades: list[Trade], lot: Fraction = Fraction(1), **options: object) -> VolumeClock:
    clock = VolumeClock(**options)  # type: ignore[arg-type]
    for ts, size, side in trades:
        clock.trade(START + ts, size / lot, *SIDES[side])
    return clock


def assert_same(buckets: pl.DataFrame, clock: VolumeClock, lot: Fraction = Fraction(1)) -> None:
    """Not nearly: each figure is the double nearest to the exact one, or a bit beside it where two roundings meet."""
    exact = clock.closed
    assert buckets["bucket"].to_list() == list(range(len(exact)))
    assert times(buckets.rename({"ts_open": "ts"})) == [bucket.ts_open for bucket in exact]
    assert times(buckets.rename({"ts_close": "ts"})) == [bucket.ts_close for bucket in exact]
    for name, values in (
        ("volume", [bucket.volume * lot for bucket in exact]),
        ("buy_volume", [bucket.buy * lot for bucket in exact]),
        ("sell_volume", [bucket.sell * lot for bucket in exact]),
        ("unknown_volume", [bucket.unknown * lot for bucket in exact]),
        ("imbalance", [bucket.imbalance for bucket in exact]),
    ):
        np.testing.assert_allclose(buckets[name], np.array(values, float), rtol=4e-16, atol=0)
    assert buckets["vpin"].to_list() == [None if b.vpin is None else float(b.vpin) for b in exact]
    assert buckets["vpin_rank"].to_list() == [None if b.rank is None else float(b.rank) for b in exact]


def tapes(*gaps: int) -> st.SearchStrategy[list[Trade]]:
    """Trades so many nanoseconds apart: tenths, seldom hundredths, seldom many buckets at once."""
    sizes = st.integers(1, 60).map(lambda lots: Fraction(lots, 10)) | st.sampled_from([Fraction(1, 100), Fraction(11)])
    rows = st.lists(st.tuples(st.sampled_from(gaps), sizes, st.sampled_from([1, -1, 0])), max_size=40)
    return rows.map(lambda rows: [(sum(row[0] for row in rows[: i + 1]), *row[1:]) for i, row in enumerate(rows)])


@settings(max_examples=40, deadline=None)
@given(
    tapes(0, 1, SECOND, 3600 * SECOND, 20 * DAY),
    st.sampled_from(["1", "0.3", "2.5"]),
    st.sampled_from([2, 3, 7]),
)
def test_given_bucket_volume(trades: list[Trade], volume: str, window: int) -> None:
    """Sizes in tenths, then hundredths: the grid is found in the pass, and was it given, nothing changes."""
    clock = reference(trades, bucket_volume=Fraction(volume), window=window)
    found = vpin(table(trades), bucket_volume=float(volume), window=window)
    given_ = vpin(table(trades), bucket_volume=float(volume), window=window, instrument=Instrument(lot=0.01))
    assert_same(found, clock)
    assert found.equals(given_, null_equal=True)


@settings(max_examples=40, deadline=None)
@given(tapes(0, 1, SECOND, 60 * SECOND), st.sampled_from(["1", "0.3"]))
def test_volume_is_conserved(trades: list[Trade], volume: str) -> None:
    """What traded is in a closed bucket or in the open one."""
    engine = Engine(Params(bucket_volume=float(volume), window=2))
    engine.feed(trades=table(trades))
    closed = engine.take_buckets()
    held = engine.open_bucket()
    total = float(sum(size for _, size, _ in trades))
    assert closed["volume"].sum() + held["volume"] + held["warmup_volume"] == pytest.approx(total, rel=1e-12)
    parts = closed["buy_volume"] + closed["sell_volume"] + closed["unknown_volume"]
    np.testing.assert_allclose(parts, closed["volume"], rtol=1e-15)
    if held["filled"] is not None:
        assert 0 <= held["filled"] < 1
        assert held["volume"] == pytest.approx(held["filled"] * float(volume), rel=1e-12)


def daily_tape(days: int, *, begin: int = 0, every: int = 600, seed: int = 0) -> list[Trade]:
    """A trade every ten minutes, on some days more than on others."""
    rng = np.random.default_rng(seed)
    level = rng.integers(1, 20, days + 1)
    moments = range(begin, days * 86_400, every)
    return [
        (second * SECOND, Fraction(int(level[second // 86_400] * k)), int(side))
        for second, k, side in zip(
            moments, rng.integers(1, 9, len(moments)), rng.choice([1, -1], len(moments)), strict=True
        )
    ]


@pytest.mark.parametrize("begin", [7 * 3600, 42_000, 44_000, 13 * 3600])
def test_bucket_volume_from_the_days_before(begin: int) -> None:
    """Median of the last seven complete days; the first counts, scaled, if most of it was seen."""
    trades = daily_tape(11, begin=begin)
    history = [(START + ts, size) for ts, size, _ in trades]
    buckets = vpin(table(trades), window=3, buckets_per_day=20)
    decided = times(buckets.rename({"ts_close": "ts"}))[:-1]
    checked = 0
    for ts, volume in zip(decided, buckets["volume"][1:], strict=True):
        if ts >= START + 2 * DAY:
            daily = daily_volume([entry for entry in history if entry[0] <= ts], ts)
            assert daily is not None
            assert volume == round(daily / 20)
            checked += 1
    assert checked > 150


@pytest.mark.parametrize("begin", [0, 18 * 3600])
def test_bucket_volume_before_there_is_a_day(begin: int) -> None:
    """The rate so far, from five minutes on, over midnight too."""
    trades = daily_tape(1 + begin // 43_200, begin=begin, every=60)[:1000]
    clock = reference(trades, window=3)
    assert_same(vpin(table(trades), window=3), clock)
    engine = Engine(Params(window=3))
    engine.feed(trades=table(trades))
    assert engine.open_bucket()["warmup_volume"] == float(clock.warm_up) > 0


def test_rank_looks_strictly_back_over_ninety_days() -> None:
    rng = np.random.default_rng(2)
    trades = [
        (int(i) * 6 * 3600 * SECOND, Fraction(int(k)), int(s))
        for i, k, s in zip(range(900), rng.integers(1, 5, 900), rng.choice([1, -1], 900), strict=True)
    ]
    clock = reference(trades, bucket_volume=Fraction(3), window=4)
    buckets = vpin(table(trades), bucket_volume=3.0, window=4)
    assert_same(buckets, clock)
    assert buckets["vpin_rank"].null_count() == 7
    # The old values do leave: over the whole past some ranks would be others.
    values = buckets["vpin"].to_list()
    whole_past = [np.mean(np.array(values[3:i]) < values[i]) for i in range(7, len(values))]
    assert not np.array_equal(whole_past, buckets["vpin_rank"][7:])


def test_rank_of_many_values() -> None:
    """More values than a block of the sorted store holds, many of them equal."""
    rng = np.random.default_rng(3)
    sides = rng.choice([1, -1], 12_000)
    tape = trade_table([(i * SECOND, 1.0, 1.0, int(side)) for i, side in enumerate(sides)])
    buckets = vpin(tape, bucket_volume=4.0, window=6)
    values = buckets["vpin"].to_numpy()
    for i in (11, 12, 100, 517, 1023, 1024, 1025, 2999):
        assert buckets["vpin_rank"][i] == np.mean(values[5:i] < values[i])


def test_rank_of_values_that_come_and_go() -> None:
    """Thousands of values inside, whose level wanders: leaves of the sorted store are split, emptied and given up."""
    rng = np.random.default_rng(5)
    n = 30_000
    bought = rng.random(n) < 0.5 + 0.45 * np.sin(np.arange(n) / 4000)
    gap = 20 * 60 * SECOND
    tape = trade_table([(i * gap, 1.0, 1.0, 1 if buy else -1) for i, buy in enumerate(bought)])
    buckets = vpin(tape, bucket_volume=2.0, window=40)
    values, closed = buckets["vpin"].to_numpy(), buckets["ts_close"].to_physical().to_numpy()
    for i in (79, 80, 200, *range(500, len(values), 487), len(values) - 1):
        past = values[39:i][closed[39:i] > closed[i] - 90 * DAY]
        assert buckets["vpin_rank"][i] == np.mean(past < values[i])


# What no trade may have, and what lies at the bounds of it: of prices, and of sizes on a grid of a tenth.
ODD_PRICES = [np.nan, 0.0, -0.0, -1.0, np.inf, -np.inf, 1e-15, 9e-16, 1e15, 1.1e15]
ODD_PRICES += [-1e-310, -1e-15, -1e15, -1e300, 5e-324]
# ... and at the bounds of what runs take.
ODD_PRICES += [1e-12, 2.0**-32, np.nextafter(2.0**-32, 0), 2.0**32, np.nextafter(2.0**32, 0), 5e9]
ODD_SIZES = [np.nan, 0.0, -0.0, -3.0, np.inf, -np.inf, -1e-310, 1e17, 2e18, 1e300, 0.123, 1 / 3]
# Off the grid by some last bits of a double, which is dust of arithmetic, or by more than that.
DUST = [12.3 * (1 + k * 2.0**-52) for k in (-12, -6, -5, -4, -3, 3, 4, 5, 6, 12)]


def same_in_runs_and_one_by_one(tape: pl.DataFrame, bucket: float | None, lot: float | None = None) -> None:
    params, instrument = Params(bucket_volume=bucket, window=5), Instrument(lot=lot)
    clock, engine = _core.BucketCore(params, instrument), Engine(params, instrument)
    clock.run(columns(tape, "trades"))
    for row in tape.rows():
        engine.trade(*row)
    counts = engine.tally()
    whole = Engine(params, instrument)
    whole.run((columns(tape, "trades"), None, None, None, None, None))
    assert whole.tally() == counts
    rows = engine.drain_buckets()
    assert whole.drain_buckets() == rows
    assert clock.used == counts["used"]["trades"]
    assert clock.rejected == sum(counts["rejected"]["trades"].values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TapeWarning)
        runs = vpin(tape, bucket_volume=bucket, window=5, instrument=instrument)
    assert runs.equals(buckets_frame(rows).select(runs.columns), null_equal=True)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([3.0, 40.0, 700.5, 20_000.0]),
    st.sampled_from([0.0, 0.001, 0.02]),
    st.sampled_from([0.0, 0.0001, 0.05]),
)
def test_runs_of_trades_and_single_trades_agree(seed: int, volume: float, odd: float, unknown: float) -> None:
    """Columns are counted in runs, single events one by one: the same bits, whatever stands between good rows."""
    rng = np.random.default_rng(seed)
    n = 3000
    price = 100 + rng.integers(0, 50, n) / 10
    size = rng.integers(1, 400, n) / 10
    for column, values in ((price, ODD_PRICES), (size, ODD_SIZES + DUST)):
        at = rng.random(n) < odd
        column[at] = rng.choice(values, at.sum())
    side = rng.choice(np.array([1, -1, 0], np.int8), n, p=[0.55 - unknown, 0.45, unknown])
    ts = START + 23 * 3600 * SECOND + np.cumsum(rng.integers(0, 5 * SECOND, n))
    tape = pl.DataFrame({"ts": ts, "price": price, "size": size, "side": side})
    for bucket in (volume, None):
        same_in_runs_and_one_by_one(tape, bucket)


@pytest.mark.parametrize(
    ("column", "odd"),
    [*(("price", value) for value in ODD_PRICES), *(("size", value) for value in ODD_SIZES + DUST)],
)
def test_one_odd_trade_in_a_run(column: str, odd: float) -> None:
    """All others of its run are good, so nothing else sends it to be taken one by one."""
    n = 512
    rows = {"ts": START + np.arange(n) * SECOND, "price": np.full(n, 100.0), "size": np.full(n, 12.3)}
    rows[column][300] = odd
    same_in_runs_and_one_by_one(pl.DataFrame({**rows, "side": np.int8(1)}), 1e5)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1.0, 0.1, 0.001, 1e-8, 0.005, 0.025, 0.3, 0.7, 3.0, 1000.0]),
    st.lists(st.tuples(st.integers(1, 2**40), st.integers(-15, 15)), min_size=1, max_size=4),
)
def test_dust_of_sizes_on_any_grid(lot: float, odd: list[tuple[int, int]]) -> None:
    """What a run takes for dust, single steps take for dust."""
    size = np.full(600, 7 * lot)
    for row, (lots, ulps) in enumerate(odd, 301):
        size[row] = lots * lot * (1 + ulps * 2.0**-52)
    rows = {"ts": START + np.arange(600) * SECOND, "price": 100.0, "size": size, "side": np.int8(1)}
    same_in_runs_and_one_by_one(pl.DataFrame(rows), 2.0**22 * lot, lot=lot)
    same_in_runs_and_one_by_one(pl.DataFrame(rows), 2.0**22 * lot)


def test_trades_that_are_none_are_told() -> None:
    rows = [(0, 1.0, 1.0, 1), (1, np.nan, 1.0, 1), (2, 1.0, -1.0, 1), (3, 1.0, 1.0, 1)]
    with pytest.warns(TapeWarning, match="2 of 4 trades have no positive price or size"):
        buckets = vpin(trade_table(rows), bucket_volume=1.0)
    assert buckets.height == 2


@pytest.mark.parametrize("odd", [4e13, 6e13, 9e13, 1e14, 1.1e14, 9e14, 2e15])
def test_sizes_at_the_bounds_of_what_is_counted(odd: float) -> None:
    """Lots up to 10^15 count; a run tells those of more than 2^49 to be taken one by one, with the same result."""
    n = 1024
    size = np.where(np.arange(n) % 300 == 299, odd, 0.7)
    rows = {"ts": START + np.arange(n) * SECOND, "price": 100.0, "size": size, "side": np.int8(-1)}
    same_in_runs_and_one_by_one(pl.DataFrame(rows), 1e14, lot=0.1)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("bucket", [0.1, 1.6, 1.7, 25.5, 25.6, 25.7, 51.2, 1000.0])
def test_edges_of_buckets_anywhere_in_a_run(bucket: float, known: bool) -> None:
    """Runs are of 256 trades, looked through by 16: buckets close at, before and after those edges."""
    n = 2048
    side = np.where(np.arange(n) % 3 == 0, -1, 1).astype(np.int8)
    side[:: 97 if not known else n + 1] = 0 if not known else side[0]
    tape = pl.DataFrame({"ts": START + np.arange(n) * SECOND, "price": 100.0, "size": 0.1, "side": side})
    same_in_runs_and_one_by_one(tape, bucket, lot=0.1)


@pytest.mark.parametrize("at", [0, 1, 700, 1999])
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("side", 5, "not a side"), ("ts", START + 40_000 * DAY, "2009 to 2100"), ("ts", START - DAY, "goes back")],
)
def test_columns_that_lie_are_found_in_the_pass(at: int, column: str, value: int, message: str) -> None:
    """A column of the right type is not looked at before the core looks at it."""
    side, ts = np.ones(2000, np.int8), START + np.arange(2000) * SECOND
    {"side": side, "ts": ts}[column][at] = value
    tape = pl.DataFrame({"ts": ts, "price": 100.0, "size": 1.0, "side": side}).with_columns(pl.col("ts").cast(TIME))
    if message == "goes back" and at == 0:
        assert vpin(tape, bucket_volume=300.0).height == 6  # an early beginning is no mistake
        return
    with pytest.raises(DataError, match=message) as caught:
        vpin(tape, bucket_volume=300.0)
    assert (caught.value.row, caught.value.column, caught.value.found) == (at, column, value)


def test_ten_trades_of_a_tenth_fill_a_bucket_of_one() -> None:
    """In doubles their sum is 0.9999999999999999."""
    tape = trade_table([(i, 100.0, 0.1, 1) for i in range(20)])
    buckets = vpin(tape, bucket_volume=1.0, window=2)
    assert buckets["volume"].to_list() == [1.0, 1.0]
    assert times(buckets.rename({"ts_close": "ts"})) == [START + 9, START + 19]


@pytest.mark.parametrize("lot", [1e-8, 1e-4, 0.001, 0.05, 1.0, 100.0])
def test_every_lot(lot: float) -> None:
    """Seven lots fill a bucket of seven lots, for every lot that a venue has; and so where the lot is not given."""
    decimals = max(0, -math.floor(math.log10(lot) + 1e-9)) + 1
    sizes = [round(k * lot, decimals) for k in (1, 2, 4, 3, 3, 1, 7)]
    tape = trade_table([(i, 100.0, size, 1) for i, size in enumerate(sizes)])
    volume = round(7 * lot, decimals)
    for instrument in (Instrument(lot=lot), Instrument()):
        buckets = vpin(tape, bucket_volume=volume, window=2, instrument=instrument)
        assert times(buckets.rename({"ts_close": "ts"})) == [START + i for i in (2, 5, 6)]
        assert buckets["volume"].to_list() == [volume] * 3


@pytest.mark.parametrize("first", [19.0, 20.0])
def test_lots_column_counts_contracts(first: float) -> None:
    """Contracts worth 10 dollars: their number in a bucket is fixed, their worth in coin is not."""
    price = np.array([first, 21.0, 17.0, 13.0, 19.0] * 40)
    lots = np.array([3, 1, 4, 1, 5] * 40)
    frame = pl.DataFrame(
        {
            "ts": START + np.arange(200),
            "price": price,
            "size": 10 * lots / price,
            "side": np.tile([1, -1], 100),
            "lots": lots,
        }
    )
    contract = Instrument(inverse=True, contract_value=10.0)
    counted = vpin(frame, bucket_volume=7.0, window=2)
    derived = vpin(frame.drop("lots"), bucket_volume=7.0, window=2, instrument=contract)
    assert counted.equals(derived, null_equal=True)
    assert counted["volume"].sum() <= frame["size"].sum()
    np.testing.assert_allclose(counted["volume"], 7.0, rtol=0.5)
    assert counted["volume"].n_unique() > 5


def test_trade_of_ten_thousand_buckets() -> None:
    tape = trade_table([(0, 100.0, 0.5, -1), (1, 100.0, 10_000.0, 1), (2, 100.0, 0.5, -1)])
    buckets = vpin(tape, bucket_volume=1.0, window=50)
    assert buckets.height == 10_001
    assert buckets["imbalance"].to_list() == [0.0, *[1.0] * 9999, 0.0]
    assert buckets["vpin"][-2] == 1.0


def test_trade_of_more_buckets_than_can_be_meant() -> None:
    """A million buckets of one trade are a slip of the pen, not a market."""
    tape = trade_table([(0, 100.0, 1e9, 1)])
    with pytest.raises(DataError, match="bucket volume is too small"):
        vpin(tape, bucket_volume=0.001)
    assert vpin(trade_table([(0, 100.0, 1e6, 1)]), bucket_volume=1.0).height == 10**6


def test_trade_of_more_buckets_than_can_be_meant_after_the_open_one() -> None:
    """The open bucket may be from a time when volume was large; those that a trade opens are small already."""
    calm = [(second * SECOND, 100.0, 100.0, 1) for second in range(400)]
    late = (20 * DAY, 100.0, 1e9, 1)
    with pytest.raises(DataError, match="bucket volume is too small"):
        vpin(trade_table([*calm, late]))


def test_days_of_which_every_trade_was_refused_are_no_days() -> None:
    """Their volume would be 0, and a bucket of 0 would never end."""
    engine = Engine()
    for second in range(400):
        engine.trade(START + second * SECOND, 100.0, 100.0, 1)
    for day in (1, 2, 3, 4):
        with pytest.raises(DataError, match="bucket volume is too small"):
            engine.trade(START + day * DAY, 100.0, 1e13, 1)
    engine.trade(START + 5 * DAY, 100.0, 2e5, 1)
    assert engine.take_buckets().height == 1 + (2e5 - 162_800) // 800


def test_counts_do_not_drift() -> None:
    """As many lots as a billion trades of two hundred million bring: every bucket is still what exact fractions say."""
    rng = np.random.default_rng(8)
    trades = [(i, Fraction(int(lots)), int(side)) for i, (lots, side) in enumerate(
        zip(rng.integers(1, 10**15, 400), rng.choice([1, -1, 0], 400), strict=True))]  # fmt: skip
    assert sum(size for _, size, _ in trades) > 10**17
    clock = reference(trades, bucket_volume=Fraction(10**14 + 1), window=50)
    buckets = vpin(table(trades), bucket_volume=float(10**14 + 1), window=50, instrument=Instrument(lot=1.0))
    assert buckets.height == len(clock.closed) > 1900
    assert_same(buckets, clock)


def test_fractions_of_bulk_volume_do_not_drift() -> None:
    """They are no whole numbers, so the running sum is renewed: after a hundred thousand buckets it is its window's."""
    rng = np.random.default_rng(9)
    count = 400_000
    price = 1e4 + np.round(np.cumsum(rng.normal(0, 1, count)), 2)
    ts = START + np.arange(count) * SECOND - 1
    frame = pl.DataFrame({"ts": ts, "price": price, "size": rng.integers(1, 90, count) / 10, "side": 0})
    buckets = vpin(frame, bucket_volume=17.7, window=50, classify="bvc_t", bar="1s")
    assert buckets.height > 100_000
    gap = (buckets["buy_volume"] - buckets["sell_volume"]).abs().to_numpy()
    for end in (buckets.height, buckets.height - 1, buckets.height - 27, buckets.height - 49):
        exact = math.fsum(gap[end - 50 : end]) / math.fsum(buckets["volume"][end - 50 : end])
        assert buckets["vpin"][end - 1] == pytest.approx(exact, rel=1e-13)


# --- several starts --------------------------------------------------------------------------------------------------


def assert_same_range(buckets: pl.DataFrame, clocks: list[VolumeClock]) -> None:
    expected = range_of_starts(clocks)
    for name, end in (("vpin_lo", 0), ("vpin_hi", 1)):
        values = [None if bounds is None else float(bounds[end]) for bounds in expected]
        assert buckets[name].to_list() == [None if v is None else pytest.approx(v, abs=1e-12) for v in values]


@settings(max_examples=40, deadline=None)
@given(tapes(0, 1, SECOND), st.integers(2, 7), st.integers(2, 5), st.integers(1, 9))
def test_range_of_starts(trades: list[Trade], offsets: int, window: int, volume: int) -> None:
    """Each clock passes over its share of a bucket, whole lots of it, and then counts as the first does."""
    lot = Fraction(1, 100)
    buckets = vpin(
        table(trades), bucket_volume=float(volume), window=window, offsets=offsets, instrument=Instrument(lot=0.01)
    )
    skips = [Fraction(start, offsets) for start in range(offsets)]
    lots = Fraction(100 * volume)
    clocks = [reference(trades, lot, bucket_volume=lots, window=window, skip=skip) for skip in skips]
    assert_same(buckets, clocks[0], lot)
    assert_same_range(buckets, clocks)


def test_range_of_starts_where_daily_volume_is_trailing() -> None:
    rng = np.random.default_rng(5)
    ts = np.sort(rng.integers(0, 3 * DAY, 1500))
    trades = [
        (int(t), Fraction(int(size)), int(side))
        for t, size, side in zip(ts, rng.integers(1, 20, 1500), rng.choice([1, -1], 1500), strict=True)
    ]
    options = {"buckets_per_day": 20, "window": 5}
    buckets = vpin(table(trades), offsets=4, instrument=Instrument(lot=1.0), **options)
    clocks = [reference(trades, skip=Fraction(start, 4), **options) for start in range(4)]
    assert_same_range(buckets, clocks)
    width = (buckets["vpin_hi"] - buckets["vpin_lo"]).drop_nulls()
    assert width.len() > 40
    assert width.min() >= 0.0
    assert width.max() > 0.05
    assert (buckets["vpin"] >= buckets["vpin_lo"]).all()
    assert (buckets["vpin"] <= buckets["vpin_hi"]).all()


def test_a_range_leaves_the_other_columns_as_they_are_and_sees_only_the_past() -> None:
    tape = simulated()["trades"]
    plain = vpin(tape, bucket_volume=3.0, window=10)
    ranged = vpin(tape, bucket_volume=3.0, window=10, offsets=10)
    assert ranged.drop("vpin_lo", "vpin_hi").equals(plain, null_equal=True)
    for cut in (tape.height // 3, tape.height // 2):
        part = vpin(tape[:cut], bucket_volume=3.0, window=10, offsets=10)
        assert part.height > 20
        assert part.equals(ranged[: part.height], null_equal=True)


def test_range_on_the_real_cascade(shared_data: Path) -> None:
    path = shared_data / "crash-2025-10-10" / "binance-delivery_trades_2025-10-10_AVAXUSD_PERP.csv.gz"
    buckets = vpin(read_trades(path), buckets_per_day=200, window=50, offsets=10)
    width = (buckets["vpin_hi"] - buckets["vpin_lo"]).drop_nulls()
    assert buckets["vpin"].count() - width.len() <= 3  # they become ready one after the other
    assert 0.0 < width.min() < width.mean() < 0.25  # type: ignore[operator]


@pytest.mark.parametrize("rule", ["side", "tick", "bvc_normal", "bvc_t"])
def test_the_engine_says_the_same_range(rule: str) -> None:
    """In its pass over everything, bucket by bucket; a bar says what the clocks say at its end."""
    tables = simulated("news", 3)
    options = {"bucket_volume": 3.0, "window": 10, "classify": rule}
    params = Params(vpin_offsets=4, bvc_bar="5s", **options)
    engine = Engine(params)
    engine.feed(**tables)
    engine.finish()
    buckets, bars = engine.take_buckets(), engine.take_bars()
    alone = vpin(tables["trades"], offsets=4, bar="5s", **options)  # type: ignore[arg-type]
    last = buckets.height if rule.startswith("bvc") else alone.height  # vpin() leaves the last bar of prices open
    assert 40 < alone.height <= last == buckets.height
    assert buckets.select(alone.columns)[: alone.height].equals(alone, null_equal=True)
    plain = Engine(params.replace(vpin_offsets=1))
    plain.feed(**tables)
    plain.finish()
    assert bars.drop("vpin_lo", "vpin_hi").equals(plain.take_bars(), null_equal=True)
    assert buckets.drop("vpin_lo", "vpin_hi").equals(plain.take_buckets(), null_equal=True)
    known = bars.drop_nulls("vpin_lo")
    assert known.height > 100
    assert known.select((pl.col("vpin") >= pl.col("vpin_lo")) & (pl.col("vpin") <= pl.col("vpin_hi")))["vpin"].all()


def test_a_bar_tells_the_range_at_its_end() -> None:
    """Against exact fractions: what each clock showed last, whatever closed when."""
    rng = np.random.default_rng(8)
    ts = np.cumsum(rng.choice([0, 0, SECOND // 3, SECOND, 5 * SECOND], 400))
    trades = [
        (int(t), Fraction(int(size), 10), int(side))
        for t, size, side in zip(ts, rng.choice([1, 2, 5, 31], 400), rng.choice([1, -1, 0], 400), strict=True)
    ]
    engine = Engine(Params(bucket_volume=1.0, window=4, vpin_offsets=5))
    for t, size, side in trades:
        engine.trade(START + t, 100.0, float(size), side)
    engine.finish()
    clocks = [
        reference(trades, Fraction(1, 10), bucket_volume=Fraction(10), window=4, skip=Fraction(start, 5))
        for start in range(5)
    ]
    bars = engine.take_bars()
    for end, low, high in zip(times(bars), bars["vpin_lo"], bars["vpin_hi"], strict=True):
        shown = [[b.vpin for b in clock.closed if b.ts_close <= end] for clock in clocks]
        known = [values[-1] for values in shown if values and values[-1] is not None]
        assert (low is None) == (len(known) < 5)
        if low is not None:
            assert (low, high) == (float(min(known)), float(max(known)))
    assert bars["vpin_lo"].is_null().sum() < bars.height // 2
    assert (bars["vpin_hi"] > bars["vpin_lo"]).sum() > 50


@pytest.mark.parametrize("offsets", [0, -1, 2.0, True, 10_000])
def test_wrong_number_of_starts(offsets: object) -> None:
    with pytest.raises(ParameterError, match="offsets"):
        vpin(trade_table([]), offsets=offsets)  # type: ignore[arg-type]


def test_a_range_is_causal() -> None:
    with pytest.raises(ParameterError, match="causal"):
        vpin(trade_table([]), offsets=2, convention="pinstimation", classify="bvc_normal")


# --- sides -----------------------------------------------------------------------------------------------------------


def test_unknown_sides_are_neither_bought_nor_sold() -> None:
    """All unknown: nobody can say how toxic it was. Some unknown: they count in the volume only."""
    unknown = vpin(trade_table([(i, 100.0, 1.0, 0) for i in range(10)]), bucket_volume=1.0, window=2)
    assert unknown["vpin"].null_count() == unknown["vpin_rank"].null_count() == 10
    assert unknown["unknown_volume"].to_list() == [1.0] * 10
    mixed = vpin(trade_table([(i, 100.0, 1.0, (0, 1, 1, -1)[i % 4]) for i in range(16)]), bucket_volume=4.0, window=2)
    assert mixed.select("buy_volume", "sell_volume", "unknown_volume", "imbalance", "vpin").row(1) == (
        2.0,
        1.0,
        1.0,
        0.25,
        0.25,
    )


def test_engine_and_function_agree() -> None:
    """The clock inside an engine is the same clock."""
    tape = simulated()["trades"]
    for options in ({"classify": "side"}, {"classify": "tick"}, {"classify": "bvc_normal"}):
        alone = vpin(tape, bucket_volume=2.0, window=10, bar="10s", **options)  # type: ignore[arg-type]
        engine = Engine(Params(bucket_volume=2.0, window=10, bvc_bar="10s", **options))  # type: ignore[arg-type]
        engine.feed(trades=tape)
        assert alone.height > 50
        assert alone.equals(engine.take_buckets().select(alone.columns), null_equal=True)


# --- bulk classification ---------------------------------------------------------------------------------------------


def walk(count: int, seed: int, step: float = 0.05) -> tuple[list[int], list[float], list[float]]:
    """Times, prices on ticks, sizes; with holes of several bars."""
    rng = np.random.default_rng(seed)
    gaps = rng.choice([SECOND // 2, 3 * SECOND, 200 * SECOND], count, p=[0.7, 0.29, 0.01])
    prices = np.round(100 + np.cumsum(rng.normal(0, step, count)), 2)
    return (START + np.cumsum(gaps)).tolist(), prices.tolist(), (rng.integers(1, 50, count) / 10).tolist()


@pytest.mark.parametrize(("rule", "df"), [("bvc_normal", None), ("bvc_t", 0.25), ("bvc_t", 3.0)])
def test_bulk_classification(rule: str, df: float | None) -> None:
    """Shares by scipy, buckets by the plain clock."""
    ts, price, size = walk(3000, seed=8)
    clock = VolumeClock(window=5, bucket_volume=Fraction(400))
    for bar in bulk_bars(ts, price, size, 10 * SECOND, df):
        known = Fraction(bar.bought) if bar.bought is not None else None
        shares = (known, 1 - known) if known is not None else SIDES[0]
        clock.trade(bar.end, Fraction(round(10 * bar.volume)), *shares)
    frame = pl.DataFrame({"ts": ts, "price": price, "size": size, "side": 0})
    buckets = vpin(frame, bucket_volume=40.0, window=5, classify=rule, bar="10s", df=df or 1.0)
    assert times(buckets.rename({"ts_close": "ts"})) == [bucket.ts_close for bucket in clock.closed]
    assert len(clock.closed) > 100
    for name in ("buy", "sell", "unknown"):
        exact = [float(getattr(bucket, name)) / 10 for bucket in clock.closed]
        np.testing.assert_allclose(buckets[f"{name}_volume"], exact, rtol=1e-9, atol=1e-9)
    exact = [np.nan if bucket.vpin is None else float(bucket.vpin) for bucket in clock.closed]
    np.testing.assert_allclose(buckets["vpin"].fill_null(np.nan), exact, rtol=1e-9)


def test_bulk_classification_begins_after_thirty_changes() -> None:
    """A bar that trades every ten seconds, and fills a bucket."""
    ts = START + np.arange(1, 41) * 10 * SECOND
    frame = pl.DataFrame({"ts": ts, "price": 100.0 + np.arange(40) % 3, "size": 1.0, "side": 0})
    buckets = vpin(frame, bucket_volume=1.0, window=5, classify="bvc_normal", bar="10s")
    assert buckets["unknown_volume"].to_list() == [1.0] * 31 + [0.0] * 8


def test_bulk_classification_does_not_look_ahead() -> None:
    """What a bucket says does not change with what comes after it."""
    ts, price, size = walk(2000, seed=9)
    frame = pl.DataFrame({"ts": ts, "price": price, "size": size, "side": 0})
    whole = vpin(frame, bucket_volume=40.0, window=5, classify="bvc_normal", bar="10s")
    for cut in (100, 777, 1500):
        part = vpin(frame[:cut], bucket_volume=40.0, window=5, classify="bvc_normal", bar="10s")
        assert part.height > 0
        assert part.equals(whole[: part.height], null_equal=True)


# --- levels without informed flow ------------------------------------------------------------------------------------


def test_level_of_a_fair_coin() -> None:
    """m equal trades a bucket: E|2 Bin(m, 1/2) - m| / m, close to sqrt(2 / (pi m))."""
    m, buckets = 100, 20_000
    sides = np.random.default_rng(4).choice(np.array([1, -1], np.int8), m * buckets)
    frame = pl.DataFrame({"ts": START + np.arange(m * buckets), "price": 100.0, "size": 1.0, "side": sides})
    level = vpin(frame, bucket_volume=float(m), window=buckets)["vpin"][-1]
    assert level == pytest.approx(math.sqrt(2 / (math.pi * m)), rel=0.02)


def test_level_of_a_fair_coin_with_many_trades_a_bucket() -> None:
    """Ten thousand equal trades: 0.0080. Only their sums by side count, so two prints a bucket stand for them."""
    m, buckets = 10_000, 20_000
    bought = np.random.default_rng(4).binomial(m, 0.5, buckets)
    sizes = np.stack([bought, m - bought], axis=1).ravel().astype(float)
    sides = np.tile(np.array([1, -1], np.int8), buckets)
    frame = pl.DataFrame({"ts": START + np.arange(2 * buckets), "price": 100.0, "size": sizes, "side": sides})
    level = vpin(frame, bucket_volume=float(m), window=buckets)["vpin"][-1]
    assert level == pytest.approx(math.sqrt(2 / (math.pi * m)), rel=0.02)
    assert level == pytest.approx(0.0080, rel=0.02)


def bulk_level(k: int, df: float | None, buckets: int) -> float:
    """VPIN of a Gaussian walk, one trade of one lot a bar, k bars a bucket, after sigma has settled."""
    rng = np.random.default_rng(6)
    count = k * buckets
    price = 1e6 + np.cumsum(rng.normal(0, 1, count))
    frame = pl.DataFrame({"ts": START + np.arange(count) * 60 * SECOND - 1, "price": price, "size": 1.0, "side": 0})
    rule, options = ("bvc_normal", {}) if df is None else ("bvc_t", {"df": df})
    result = vpin(frame, bucket_volume=float(k), window=50, classify=rule, bar="60s", **options)
    parts = result[len(result) // 5 :]
    level = (parts["imbalance"].abs() * parts["volume"]).sum() / parts["volume"].sum()
    return float(level)


@pytest.mark.parametrize(
    ("k", "df", "published"), [(1, None, 0.5), (10, None, 0.1465), (50, None, 0.0650), (50, 0.25, 0.0278)]
)
def test_level_of_bulk_classification(k: int, df: float | None, published: float) -> None:
    """Levels depend on bars and distribution, not on toxicity: heavy tails pull the shares to one half."""
    assert bulk_level(k, df, 12_000 // k * 5) == pytest.approx(published, rel=0.02)


def test_levels_follow_from_the_variance_of_the_share() -> None:
    """E|mean of k of (2W - 1)| is sqrt(2 Var / (pi k)) for large k: the published levels are no accident."""
    for df, published in ((None, 0.0650), (0.25, 0.0278)):
        cdf = (stats.norm() if df is None else stats.t(df)).cdf
        variance = integrate.quad(lambda x, cdf=cdf: (2 * cdf(x) - 1) ** 2 * stats.norm.pdf(x), -9, 9)[0]
        assert math.sqrt(2 * variance / (math.pi * 50)) == pytest.approx(published, rel=0.02)


def test_empty_tape() -> None:
    buckets = vpin(trade_table([]), bucket_volume=1.0)
    assert buckets.height == 0
    assert buckets.columns[:4] == ["bucket", "ts_open", "ts_close", "volume"]
    assert buckets.schema == buckets_frame(Engine().drain_buckets()).select(buckets.columns).schema
