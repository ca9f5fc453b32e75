"""VPIN with whole-sample constants: the package it reproduces, the plain reference, and hand-made tapes."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.whole_sample import days as reference_days
from reference.whole_sample import vpin as reference
from scipy import stats

from toxmid.errors import NotEnoughDataError, ParameterError
from toxmid.whole_sample import vpin_whole_sample

SECOND = 10**9
DAY = 86_400 * SECOND
START = 1_760_054_400 * SECOND  # midnight
NORMAL = NormalDist().cdf
Trade = tuple[int, float, float]  # ts, price, size


def tape_of(trades: list[Trade]) -> pl.DataFrame:
    return pl.DataFrame(trades, schema={"ts": pl.Int64, "price": pl.Float64, "size": pl.Float64}, orient="row")


@pytest.fixture(scope="module")
def hfdata(shared_data: Path) -> pl.DataFrame:
    tape = pl.read_csv(shared_data / "pinstimation" / "hfdata.csv.gz")
    ts = pl.col("timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ns")
    return tape.select(ts=ts, price="price", size=pl.col("volume").cast(pl.Float64))


def test_equals_pinstimation(hfdata: pl.DataFrame, shared_data: Path) -> None:
    ours = vpin_whole_sample(hfdata)
    theirs = pl.read_csv(shared_data / "pinstimation" / "vpin_default_bucketdata.csv", null_values="NA")
    volume = 4058.9559420289856
    assert ours.height == theirs.height == 3450
    assert ours["volume"].to_list() == [volume] * 3450
    bought, sold = theirs["agg.bvol"], theirs["agg.svol"]
    assert (ours["buy_volume"] - bought).abs().max() < 1e-9 * volume
    assert (ours["sell_volume"] - sold).abs().max() < 1e-9 * volume
    assert (ours["imbalance"] - (bought - sold) / volume).abs().max() < 1e-9
    assert ours["unknown_volume"].to_list() == [0.0] * 3450
    assert (ours["vpin"] - theirs["vpin"]).abs().max() < 1e-9
    assert ours["vpin"].null_count() == theirs["vpin"].null_count() == 49
    assert ours["vpin"].mean() == pytest.approx(0.25148992, abs=1e-8)


def test_times_equal_pinstimation_but_for_days_without_trades(hfdata: pl.DataFrame, shared_data: Path) -> None:
    """That package lays buckets end to end as if days without trades had not been; we keep the clock."""
    ours = vpin_whole_sample(hfdata)
    theirs = pl.read_csv(shared_data / "pinstimation" / "vpin_default_bucketdata.csv", null_values="NA")
    closes = theirs["endtime"].str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ns").dt.replace_time_zone("UTC")
    ahead = (ours["ts_close"] - closes).dt.total_nanoseconds()
    in_days = (ahead / DAY).round()
    assert ((ahead - in_days.cast(pl.Int64) * DAY).abs() < 2_000).all()  # their file is written to the microsecond
    traded = hfdata["ts"].dt.date().unique().sort()
    asleep = [(close.date() - traded[0]).days - (traded <= close.date()).sum() + 1 for close in ours["ts_close"]]
    # An edge on a midnight belongs to either day; nowhere else may the two counts differ.
    assert (in_days - pl.Series(asleep)).abs().max() == 0
    assert in_days.max() == 17


@pytest.mark.parametrize(
    ("bar", "buckets_per_day", "window"),
    [("300s", 50, 250), ("1s", 20, 10), ("1h", 50, 50), ("4h", 100, 30), ("7s", 5, 3)],
)
def test_other_parameters_equal_the_plain_reference(
    hfdata: pl.DataFrame, bar: str, buckets_per_day: int, window: int
) -> None:
    tape = hfdata[:6000] if bar in {"1s", "7s"} else hfdata[:30_000]
    trades = [(ts, price, size) for ts, price, size in tape.with_columns(pl.col("ts").dt.epoch("ns")).iter_rows()]
    volume = tape["size"].sum() / reference_days(trades) / buckets_per_day
    length = {"300s": 300, "1s": 1, "1h": 3600, "4h": 14_400, "7s": 7}[bar] * SECOND
    expected = reference(trades, length, volume, window, NORMAL)
    table = vpin_whole_sample(tape, bar=bar, buckets_per_day=buckets_per_day, window=window)
    assert table.height == len(expected) == reference_days(trades) * buckets_per_day
    bought, sold, vpin = zip(*expected, strict=True)
    np.testing.assert_allclose(table["buy_volume"].to_numpy(), bought, rtol=0, atol=1e-9 * volume)
    np.testing.assert_allclose(table["sell_volume"].to_numpy(), sold, rtol=0, atol=1e-9 * volume)
    np.testing.assert_allclose(table["vpin"].to_numpy(), np.array(vpin, dtype=float), rtol=0, atol=1e-9)


@st.composite
def tapes(draw: st.DrawFn) -> list[Trade]:
    n = draw(st.integers(3, 25))
    offsets = sorted(draw(st.lists(st.integers(0, 4 * 1440), min_size=n, max_size=n)))  # minutes, over four days
    prices = draw(st.lists(st.integers(95, 105), min_size=n, max_size=n))
    sizes = draw(st.lists(st.sampled_from([1.0, 2.0, 0.5, 40.0]), min_size=n, max_size=n))
    return [(START + 60 * SECOND * m, float(p), v) for m, p, v in zip(offsets, prices, sizes, strict=True)]


@settings(deadline=None)
@given(tapes(), st.sampled_from([3600, 21_600]), st.integers(1, 7), st.integers(1, 4))
def test_small_tapes_equal_the_plain_reference(trades: list[Trade], seconds: int, per_day: int, window: int) -> None:
    """Bars larger than buckets, days without trades, bars without a change."""
    table = vpin_whole_sample(tape_of(trades), bar=f"{seconds}s", buckets_per_day=per_day, window=window)
    volume = sum(size for *_, size in trades) / reference_days(trades) / per_day
    try:
        expected = reference(trades, seconds * SECOND, volume, window, NORMAL)
    except (ZeroDivisionError, ValueError):  # no volatility: no change, or a single bar
        assert table["unknown_volume"].to_list() == pytest.approx(table["volume"].to_list())
        assert table["vpin"].null_count() == table.height
        return
    assert table.height == len(expected) == reference_days(trades) * per_day
    for row, (bought, sold, vpin) in zip(table.iter_rows(named=True), expected, strict=True):
        assert row["buy_volume"] == pytest.approx(bought, abs=1e-7 * volume)
        assert row["sell_volume"] == pytest.approx(sold, abs=1e-7 * volume)
        assert row["vpin"] == (None if vpin is None else pytest.approx(vpin, abs=1e-7))


@given(tapes())
def test_a_mirrored_tape_swaps_bought_and_sold(trades: list[Trade]) -> None:
    mirror = [(ts, 200.0 - price, size) for ts, price, size in trades]
    for classifier in ("bvc_normal", "bvc_t", "tick"):
        one = vpin_whole_sample(tape_of(trades), classify=classifier, bar="1h", buckets_per_day=3, window=2)
        other = vpin_whole_sample(tape_of(mirror), classify=classifier, bar="1h", buckets_per_day=3, window=2)
        scale = {"abs": 1e-9 * one["volume"][0]}
        assert other["buy_volume"].to_list() == pytest.approx(one["sell_volume"].to_list(), **scale)
        assert other["imbalance"].to_list() == pytest.approx((-one["imbalance"]).to_list(), abs=1e-9)
        assert other["vpin"].fill_null(-1.0).to_list() == pytest.approx(one["vpin"].fill_null(-1.0).to_list(), abs=1e-9)


@given(tapes(), st.sampled_from(["bvc_normal", "bvc_t", "tick"]))
def test_volumes_add_up(trades: list[Trade], classifier: str) -> None:
    table = vpin_whole_sample(tape_of(trades), classify=classifier, bar="1h", buckets_per_day=4, window=2)
    parts = table["buy_volume"] + table["sell_volume"] + table["unknown_volume"]
    assert parts.to_list() == pytest.approx(table["volume"].to_list())
    assert table["volume"].sum() == pytest.approx(sum(size for *_, size in trades))
    assert table["vpin"].drop_nulls().is_between(0.0, 1.0).all()
    assert (table["ts_open"] <= table["ts_close"]).all()


def test_signed_trades_are_cut_at_the_edges_one_by_one() -> None:
    tape = tape_of([(START, 10.0, 1.0), (START + 1, 10.0, 6.0), (START + 2, 10.0, 2.0), (START + 3, 10.0, 2.0)])
    table = vpin_whole_sample(
        tape.with_columns(side=pl.Series([1, -1, 0, 1])), bucket_volume=2.0, window=2, classify="side"
    )
    assert table["bucket"].to_list() == [0, 1, 2, 3, 4]  # the eleventh coin lies in no full bucket
    assert table["buy_volume"].to_list() == [1.0, 0.0, 0.0, 0.0, 1.0]
    assert table["sell_volume"].to_list() == [1.0, 2.0, 2.0, 1.0, 0.0]
    assert table["unknown_volume"].to_list() == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert table["imbalance"].to_list() == [0.0, -1.0, -1.0, -0.5, 0.5]
    assert table["vpin"].to_list() == [None, 0.5, 1.0, 0.75, 0.5]
    assert table["vpin_rank"].to_list() == [None, None, None, 0.5, 0.0]
    assert table["ts_open"].dt.epoch("ns").to_list() == [START + k for k in (0, 1, 1, 1, 2)]
    assert table["ts_close"].dt.epoch("ns").to_list() == [START + k for k in (1, 1, 1, 2, 3)]


def test_unknown_sides_give_no_vpin() -> None:
    tape = tape_of([(START + k, 10.0, 1.0) for k in range(6)])
    table = vpin_whole_sample(tape, bucket_volume=1.0, window=2, classify="side")
    assert table["unknown_volume"].to_list() == [1.0] * 6
    assert table["vpin"].null_count() == 6


def test_student_distribution_by_hand() -> None:
    # Two bars, changes +1 and 0: their standard deviation is the root of one half.
    tape = tape_of([(START, 10.0, 1.0), (START + 1, 11.0, 1.0), (START + 60 * SECOND, 11.0, 2.0)])
    table = vpin_whole_sample(tape, bucket_volume=2.0, window=1, classify="bvc_t", df=0.25)
    share = float(stats.t.cdf(np.sqrt(2.0), 0.25))
    assert table["buy_volume"].to_list() == pytest.approx([2 * share, 1.0])


def test_rules_of_classify_take_their_quotes() -> None:
    tape = tape_of([(START + 2, 11.0, 1.0), (START + 4, 9.0, 1.0)])
    quotes = pl.DataFrame({"ts": [START], "bid": [9.0], "ask": [11.0]})
    table = vpin_whole_sample(tape, bucket_volume=1.0, window=1, classify="emo", quotes=quotes)
    assert table["imbalance"].to_list() == [1.0, -1.0]
    with pytest.raises(ParameterError, match="needs quotes"):
        vpin_whole_sample(tape, classify="emo")


def test_rows_that_are_no_trades_do_not_count() -> None:
    good = [(START + k * SECOND, 10.0 + k % 3, 1.0) for k in range(9)]
    bad = [(START, float("nan"), 1.0), (START, 10.0, 0.0), (START, 10.0, float("inf")), (START, -1.0, 1.0)]
    one = vpin_whole_sample(tape_of(good), bar="2s", window=2, buckets_per_day=4)
    other = vpin_whole_sample(tape_of([*bad, *good]), bar="2s", window=2, buckets_per_day=4)
    assert other.equals(one)


def test_less_than_a_bucket_is_no_row() -> None:
    table = vpin_whole_sample(tape_of([(START, 10.0, 1.0)]), bucket_volume=2.0)
    assert table.height == 0
    assert table.columns[-2:] == ["vpin", "vpin_rank"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"bucket_volume": 0.0},
        {"bucket_volume": float("nan")},
        {"bucket_volume": 1e-12},
        {"buckets_per_day": 0},
        {"window": 0},
        {"window": 2.5},
        {"classify": "guess"},
        {"bar": "60"},
        {"df": -1.0},
    ],
)
def test_wrong_parameters(arguments: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        vpin_whole_sample(tape_of([(START, 10.0, 1.0)]), **arguments)  # type: ignore[arg-type]


def test_no_volume() -> None:
    with pytest.raises(NotEnoughDataError):
        vpin_whole_sample(tape_of([]))
