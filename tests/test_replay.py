"""Replay: rows that add up, tables of every kind, windows, states to go on from, truncation, nothing left behind."""

from __future__ import annotations

import dataclasses
import gzip
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from feeding import NAN, SECOND, START, Tables, only, simulated, times, trade_table, uncomfortable

from toxmid.errors import DataError, FileError, ParameterError
from toxmid.instrument import Instrument
from toxmid.params import Params
from toxmid.readers import read_trades
from toxmid.replay import Replay, replay
from toxmid.schema import empty

PARAMS = Params(bucket_volume=2.0, window=5)
CRASH = "crash-2025-10-10/binance-delivery_trades_2025-10-10_{}USD_PERP.csv.gz"


def assert_adds_up(counts: dict[str, Any]) -> None:
    """Rows in = rows used + rows counted out, in all and input by input."""
    assert counts["rows_read"] == counts["rows_used"] + counts["rows_rejected"]
    assert counts["rows_rejected"] == sum(counts["rejected"].values())
    entries = counts["by_input"].values()
    for entry in entries:
        assert entry["rows_read"] == entry["rows_used"] + sum(entry["rejected"].values())
        assert entry["events"] == entry["events_used"] + sum(entry["events_rejected"].values())
    assert counts["rows_read"] == sum(entry["rows_read"] for entry in entries)


def assert_equal(one: Replay, other: Replay) -> None:
    for name in ("bars", "buckets", "events"):
        assert getattr(one, name).equals(getattr(other, name), null_equal=True), name


def tardis(path: Path, trades: pl.DataFrame, first_id: int = 0) -> Path:
    """A file as Tardis sells them."""
    ts = trades["ts"].to_physical() // 1000
    side = trades["side"].replace_strict({1: "buy", -1: "sell", 0: "unknown"}, return_dtype=pl.String)
    frame = pl.DataFrame({
        "exchange": "binance-futures", "symbol": "BTCUSDT", "timestamp": ts, "local_timestamp": ts,
        "id": first_id + np.arange(len(ts)), "side": side, "price": trades["price"], "amount": trades["size"],
    })  # fmt: skip
    frame.write_csv(path)
    return path


# --- truncation ------------------------------------------------------------------------------------------------------


def before(replayed: Replay, moment: int) -> tuple[pl.DataFrame, ...]:
    """The rows that were known before a moment."""
    columns = ("ts", "ts_close", "ts_known")
    return tuple(
        table.filter(pl.col(name).to_physical() < moment)
        for table, name in zip((replayed.bars, replayed.buckets, replayed.events), columns, strict=True)
    )


def assert_truncation(tables: Tables, params: Params, moments: list[int]) -> None:
    """Cut at T, a replay gives the first rows of the whole one, bit for bit."""
    whole = replay(**tables, params=params)  # type: ignore[arg-type]
    for moment in moments:
        cut = {name: table.filter(pl.col("ts").to_physical() < moment) for name, table in tables.items()}
        short = replay(**cut, params=params)  # type: ignore[arg-type]
        ended = int(short.bars["ts"].to_physical()[-1])
        for part, all_ in zip(before(short, moment), before(whole, min(moment, ended + 1)), strict=True):
            assert part.equals(all_[: part.height], null_equal=True)
        if not params.classify.startswith("bvc"):  # which closes buckets in silences, as bars and episodes close
            assert before(short, moment)[1].height == before(whole, moment)[1].height
        windowed = replay(**tables, params=params, end=moment)  # type: ignore[arg-type]
        assert_equal(short, windowed)


@pytest.mark.parametrize(
    "params",
    [PARAMS, Params(bar="5s"), Params(bar="500ms", bucket_volume=1.0, window=3, classify="lee_ready")],
    ids=["1s", "5s", "500ms"],
)
def test_replay_cut_at_any_moment(params: Params) -> None:
    tables = simulated()
    first, last = times(tables["liquidations"])[0], times(tables["trades"])[-1]
    moments = np.random.default_rng(1).integers(first + 1, last, 8).tolist()
    assert_truncation(tables, params, [*moments, first + 1, (last // SECOND) * SECOND])


def test_trades_cut_at_any_moment() -> None:
    """From the very first second on: cold start, warm-up, bulk classification, a silence in the middle of its bars."""
    trades = simulated()["trades"]
    silence = START + 211 * SECOND, START + 238 * SECOND
    sparse = trades.filter(~pl.col("ts").to_physical().is_between(*silence))
    for params in (PARAMS, Params(bucket_volume=2.0, window=5, classify="bvc_normal", bvc_bar="5s")):
        moments = np.random.default_rng(2).integers(START + SECOND, times(sparse)[-1], 10).tolist()
        assert_truncation({"trades": sparse}, params, [*moments, silence[0], silence[0] + 10 * SECOND])


def test_end_before_the_first_liquidation() -> None:
    """A feed that begins late: until its first record flow is inferred, and nothing shows before that it will come."""
    tables = only(simulated(), "trades", "quotes")
    inferred = replay(**tables, params=PARAMS).bars.filter(pl.col("toxicity") > 0)  # type: ignore[arg-type]
    late = times(inferred)[0] + 5 * SECOND
    tables["liquidations"] = simulated()["liquidations"].filter(pl.col("ts").to_physical() > late)
    first = times(tables["liquidations"])[0]
    whole = replay(**tables, params=PARAMS)  # type: ignore[arg-type]
    short = replay(**tables, params=PARAMS, end=first)  # type: ignore[arg-type]
    assert short.bars["toxicity"].max() > 0  # type: ignore[operator]
    assert short.bars[:-1].equals(whole.bars[: short.bars.height - 1], null_equal=True)


@pytest.mark.parametrize("seed", [1, 2])
def test_bad_day_cut_at_any_moment(seed: int) -> None:
    tables = {name: table for name, table in uncomfortable(seed, 1500).items() if name != "liquidations"}
    start, end = times(tables["trades"])[0], times(tables["trades"])[-1]
    assert_truncation(tables, PARAMS, np.random.default_rng(seed).integers(start + 1, end, 6).tolist())


# --- counts ----------------------------------------------------------------------------------------------------------


def test_counts_of_a_bad_day() -> None:
    """Every row of every table is used or counted out, for the reason that one finds by looking at it."""
    tables = uncomfortable(7)
    result = replay(**tables, params=PARAMS)  # type: ignore[arg-type]
    assert_adds_up(result.counts)
    trades = tables["trades"]
    price, size = trades["price"].to_numpy(), trades["size"].to_numpy()
    bad_price = ~(np.isfinite(price) & (price > 0))
    bad_size = ~bad_price & ~(np.isfinite(size) & (size >= 0))
    zero = ~bad_price & ~bad_size & (size == 0)
    rejected = result.counts["by_input"]["trades"]["rejected"]
    assert rejected == {"bad_price": bad_price.sum(), "bad_size": bad_size.sum(), "zero_size": zero.sum()}
    assert result.bars["trades"].sum() == trades.height - sum(rejected.values())


@pytest.mark.parametrize("coin", ["AAVE", "BCH"])
def test_counts_of_a_real_day(shared_data: Path, coin: str) -> None:
    """All that was read is in the bars: as many trades, as much volume."""
    path = shared_data / CRASH.format(coin)
    result = replay(trades=path)
    assert_adds_up(result.counts)
    table = read_trades(path)
    assert result.counts["rows_read"] == len(pl.read_csv(path, columns=[0]))
    assert result.bars["trades"].sum() == result.counts["rows_used"] == table.height
    volume = result.bars.select(pl.sum_horizontal("buy_volume", "sell_volume", "unknown_volume").sum()).item()
    assert volume == pytest.approx(table["size"].sum(), rel=1e-10)
    bucketed = result.buckets["volume"].sum() + result.manifest["open_bucket"]["volume"]
    assert bucketed + result.manifest["open_bucket"]["warmup_volume"] == pytest.approx(volume, rel=1e-10)


@pytest.mark.parametrize("name", ["cm_btcusd_perp_20240809", "usdm_btcusdt_20240808", "spot_btcusdt_20240808"])
def test_counts_of_a_real_recording(shared_data: Path, name: str) -> None:
    """One file, three inputs: each of its lines is a row of one of them."""
    path = shared_data / "hftbacktest-raw" / f"{name}.gz"
    result = replay(trades=path, book=path, quotes=path)
    assert_adds_up(result.counts)
    with gzip.open(path) as lines:
        assert result.counts["rows_read"] == sum(1 for _ in lines)
    assert result.bars["trades"].sum() == result.counts["by_input"]["trades"]["events_used"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("trades", "binance-archive/BTCUSDC-aggTrades-2025-10-04.zip"),
        ("trades", "lobster/AMZN_2012-06-21_34200000_57600000_message_1.csv"),
        ("trades", "format-samples/bitmex_trades_XBTUSD.csv"),
        ("book", "format-samples/deribit_incremental_book_L2_BTC-PERPETUAL.csv"),
        ("book", "format-samples/binance-futures_book_snapshot_25_BTCUSDT.csv"),
        ("quotes", "format-samples/huobi-dm-swap_quotes_BTC-USD.csv"),
    ],
)
def test_counts_of_other_real_files(shared_data: Path, kind: str, name: str) -> None:
    result = replay(**{kind: shared_data / name})
    assert_adds_up(result.counts)
    assert result.counts["rows_used"] > 0
    assert result.bars.height > 0


# --- inputs ----------------------------------------------------------------------------------------------------------


def test_tables_of_every_kind() -> None:
    """polars, lazy polars, pyarrow, pandas, anything that streams Arrow; times as datetimes or whole nanoseconds."""
    trades = simulated()["trades"][:3000]
    expected = replay(trades=trades, params=PARAMS)

    class Stranger:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return trades.__arrow_c_stream__(requested_schema)

    plain = trades.with_columns(pl.col("ts").to_physical())
    for table in (
        trades.lazy(), trades.to_arrow(), trades.to_pandas(), plain, plain.to_arrow(), plain.to_pandas(), Stranger(),
        trades.with_columns(pl.col("side").cast(pl.Int64)),
    ):  # fmt: skip
        assert_equal(replay(trades=table, params=PARAMS), expected)


def test_bars_are_an_arrow_stream() -> None:
    result = replay(trades=simulated()["trades"][:500])
    assert pl.DataFrame(pa.table(result)).equals(result.bars, null_equal=True)
    assert isinstance(result.bars.to_pandas(), pd.DataFrame)


def test_window() -> None:
    """`start` is in, `end` is not; what lies outside is counted."""
    trades = simulated()["trades"]
    ts = times(trades)
    inside = trades[1000:2000]
    part = replay(trades=trades, start=ts[1000], end=ts[2000], params=PARAMS)
    assert_equal(part, replay(trades=inside, params=PARAMS))
    assert_adds_up(part.counts)
    assert part.counts["rejected"] == {"outside_window": trades.height - 1000}
    as_text = replay(trades=trades, start="2025-10-10T00:01:00", end="2025-10-10T00:02:00Z", params=PARAMS)
    assert as_text.bars["ts"].to_physical().to_list() == [START + s * SECOND for s in range(61, 121)]


def test_nothing_in_the_window() -> None:
    result = replay(trades=simulated()["trades"], start="2026-01-01")
    assert (result.bars.height, result.buckets.height, result.events.height) == (0, 0, 0)
    assert_adds_up(result.counts)
    full = replay(trades=simulated()["trades"], params=PARAMS)
    assert (result.bars.schema, result.buckets.schema) == (full.bars.schema, full.buckets.schema)
    assert result.events.schema == full.events.schema


def test_empty_table() -> None:
    result = replay(trades=empty("trades"))
    assert result.bars.height == 0
    assert result.counts["rows_read"] == 0
    assert "none: the files hold no rows" in result.summary()


def test_no_feed_and_a_feed_without_prints() -> None:
    """Nothing said: inferred. An empty table: there was a feed, and nobody was liquidated."""
    tables = only(simulated(), "trades", "quotes")
    inferred = replay(**tables)  # type: ignore[arg-type]
    silent = replay(**tables, liquidations=empty("liquidations"))  # type: ignore[arg-type]
    assert inferred.bars["toxicity"].max() > 0  # type: ignore[operator]
    assert silent.bars["toxicity"].max() == 0
    assert silent.bars["toxic_mean"].null_count() == silent.bars.height
    assert "stress-inferred" in inferred.bars["regime"]
    assert not set(silent.bars["regime"]) & {"stress-inferred", "stress-labelled"}


def test_a_recording_without_liquidations_is_no_feed(samples: Path) -> None:
    """Streams are recorded as somebody chose them: a file that holds none of these may never have listened to them."""
    raw = samples / "recording" / "cm_btcusd_perp_20240808.gz"
    given, left_out = (replay(trades=raw, quotes=raw, **more) for more in ({"liquidations": raw}, {}))
    assert given.bars.equals(left_out.bars, null_equal=True)
    assert given.bars["toxicity"].null_count() == given.bars.height  # too short to infer anything
    both = samples / "recording" / "usdm_btcusdt_20230405.gz"
    assert replay(trades=both, liquidations=both).counts["by_input"]["liquidations"]["rows_used"] == 1


def test_reference_alone_is_no_market() -> None:
    with pytest.raises(ParameterError, match="nothing to replay"):
        replay(reference=simulated()["trades"])
    with pytest.raises(ParameterError, match="nothing to replay"):
        replay()


# --- in pieces -------------------------------------------------------------------------------------------------------


def test_two_days_one_after_the_other(tmp_path: Path) -> None:
    """Two files at once, or the second from where the first left off: one run."""
    trades = simulated()["trades"]
    days = [tardis(tmp_path / "a.csv", trades[:7000]), tardis(tmp_path / "b.csv", trades[7000:], 7000)]
    at_once = replay(trades=[str(day) for day in days], params=PARAMS)
    first = replay(trades=days[0], params=PARAMS, finish=False)
    second = replay(trades=days[1], params=PARAMS, state=first.state)
    for name in ("bars", "buckets", "events"):
        both = pl.concat([getattr(first, name), getattr(second, name)])
        assert both.equals(getattr(at_once, name), null_equal=True)
    assert second.counts["rows_used"] == len(trades) - 7000
    for counts in (first.counts, second.counts, at_once.counts):
        assert_adds_up(counts)
    assert first.counts["rows_read"] + second.counts["rows_read"] == at_once.counts["rows_read"]


def test_state_is_that_before_the_end() -> None:
    """Even of a finished run: its last bar was closed for the reader, not for the engine."""
    tables = simulated()
    moment = times(tables["trades"])[9000] + 1
    early = {name: table.filter(pl.col("ts").to_physical() < moment) for name, table in tables.items()}
    late = {name: table.filter(pl.col("ts").to_physical() >= moment) for name, table in tables.items()}
    first = replay(**early, params=PARAMS)  # type: ignore[arg-type]
    second = replay(**late, params=PARAMS, state=first.state)  # type: ignore[arg-type]
    whole = replay(**tables, params=PARAMS)  # type: ignore[arg-type]
    bars = pl.concat([first.bars[:-1], second.bars])
    assert bars.equals(whole.bars, null_equal=True)


def test_state_of_other_parameters_is_refused() -> None:
    first = replay(trades=simulated()["trades"][:100], params=PARAMS)
    with pytest.raises(ParameterError, match="other parameters"):
        replay(trades=simulated()["trades"][100:200], state=first.state)
    with pytest.raises(FileError, match="not a snapshot"):
        replay(trades=simulated()["trades"][100:200], state=b"nonsense")


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_change_nothing(tmp_path: Path, workers: int) -> None:
    tables = simulated()
    path = tardis(tmp_path / "trades.csv", tables["trades"])
    others = only(tables, "quotes", "book", "liquidations")
    one = replay(trades=path, **others, params=PARAMS)  # type: ignore[arg-type]
    many = replay(trades=path, **others, params=PARAMS, workers=workers)  # type: ignore[arg-type]
    assert_equal(one, many)
    assert one.counts == many.counts
    assert one.state == many.state


# --- directories -----------------------------------------------------------------------------------------------------


def test_second_run_does_nothing(tmp_path: Path) -> None:
    path = tardis(tmp_path / "trades.csv", simulated()["trades"][:2000])
    out = tmp_path / "run"
    first = replay(trades=path, params=PARAMS, out=out)
    written = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    assert {"bars.parquet", "buckets.parquet", "events.parquet", "manifest.json"} <= set(written)
    again = replay(trades=path, params=PARAMS, out=out)
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == written
    assert_equal(first, again)
    assert again.counts == first.counts
    other = replay(trades=path, params=PARAMS.replace(window=7), out=out)
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} != written
    assert not other.buckets.equals(first.buckets, null_equal=True)


def test_tables_in_memory_are_never_the_same_run(tmp_path: Path) -> None:
    """Two tables of one shape may hold different things."""
    for price in (100.0, 200.0):
        tape = trade_table([(i * SECOND, price, 1.0, 1) for i in range(5)])
        assert replay(trades=tape, out=tmp_path / "run").bars["price"].to_list() == [price] * 5
    assert Replay.load(tmp_path / "run").bars["price"].to_list() == [200.0] * 5


def test_saved_and_loaded(tmp_path: Path) -> None:
    result = replay(**simulated(), params=PARAMS, instrument=Instrument(tick=0.1))  # type: ignore[arg-type]
    loaded = Replay.load(result.save(tmp_path / "run"))
    assert_equal(result, loaded)
    assert (loaded.counts, loaded.params, loaded.instrument) == (result.counts, result.params, result.instrument)
    assert result.report(tmp_path / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("kind", ["order", "cut", "strange", "two markets"])
def test_error_leaves_nothing_behind(tmp_path: Path, kind: str) -> None:
    """Out of order deep in a file, cut in the middle, something else, two instruments: named, and no directory."""
    path = tardis(tmp_path / "trades.csv", simulated()["trades"][:2000])
    lines = path.read_text().splitlines(keepends=True)
    if kind == "order":
        lines[1500], lines[1499] = lines[1499], lines[1500]
    elif kind == "cut":
        lines[-1] = lines[-1][:-9]
    elif kind == "strange":
        lines[0] = "what,is,this\n"
    else:
        lines[700] = lines[700].replace("BTCUSDT", "ETHUSDT")
    path.write_text("".join(lines))
    alive = threading.active_count()
    with pytest.raises((DataError, FileError)) as raised:
        replay(trades=path, out=tmp_path / "run", workers=2)
    assert "trades.csv" in str(raised.value)
    if kind in ("order", "two markets"):
        assert raised.value.row == {"order": 1501, "two markets": 701}[kind]  # of the file: the header is row 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["trades.csv"]
    del raised
    assert threading.active_count() == alive


def test_sorting_repairs_order(tmp_path: Path) -> None:
    trades = simulated()["trades"][:2000].unique("ts", keep="first", maintain_order=True)
    path = tardis(tmp_path / "trades.csv", trades)
    expected = replay(trades=path, params=PARAMS)
    lines = path.read_text().splitlines(keepends=True)
    lines[1000:1010] = reversed(lines[1000:1010])
    path.write_text("".join(lines))
    sorted_ = replay(trades=path, params=PARAMS, sort=True)
    assert_equal(sorted_, expected)
    assert_adds_up(sorted_.counts)


def test_table_out_of_order_is_named_by_row() -> None:
    trades = simulated()["trades"][:100]
    swapped = pl.concat([trades[:50], trades[51:52], trades[50:51], trades[52:]])
    with pytest.raises(DataError, match="time goes back in trades") as raised:
        replay(trades=swapped)
    assert (raised.value.row, raised.value.column) == (51, "ts")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 0}, "workers"),
        ({"params": {"window": 3}}, "params"),
        ({"instrument": "BTC"}, "instrument"),
        ({"start": "yesterday"}, "not a moment"),
        ({"end": 5}, "outside 2009"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        replay(trades=simulated()["trades"][:10], **arguments)


@pytest.mark.parametrize("table", [3, {"ts": [1]}, pl.DataFrame({"ts": [START], "price": [1.0]})])
def test_bad_tables(table: Any) -> None:
    with pytest.raises(DataError):
        replay(trades=table)


def test_missing_file() -> None:
    with pytest.raises(FileError, match=r"nowhere\.csv"):
        replay(trades="nowhere.csv")


# --- the result ------------------------------------------------------------------------------------------------------


def test_bars_have_no_holes_and_nothing_is_zero_before_it_is_known() -> None:
    bars = replay(**only(simulated(), "trades", "quotes"), params=PARAMS).bars  # type: ignore[arg-type]
    ts = bars["ts"].to_physical()
    assert (ts.diff().drop_nulls() == SECOND).all()
    assert (ts % SECOND == 0).all()
    early = bars.filter(pl.col("ts").to_physical() < START + 200 * SECOND)
    for name in ("spread_z", "excess_impact", "implied_mid", "implied_lo", "implied_hi", "toxic_mean"):
        assert early[name].null_count() == early.height, name
    assert bars["implied_mid"].drop_nulls().len() > 200
    assert not any(bars[name].is_nan().any() for name, kind in bars.schema.items() if kind == pl.Float64)


def test_pseudo_quotes_of_a_tape_without_quotes() -> None:
    """Of the last taker sell and the last taker buy the lower is the bid; they may have crossed."""
    tape = trade_table([(0, 100.0, 1.0, -1), (SECOND, 101.0, 1.0, 1), (2 * SECOND, 102.0, 1.0, -1)])
    bars = replay(trades=tape).bars
    assert bars.select("bid", "ask", "mid").rows() == [(None, None, None), (100.0, 101.0, 100.5), (101.0, 102.0, 101.5)]
    assert replay(trades=tape).counts["crossed_books"] == 0


def test_results_do_not_depend_on_rows_that_are_refused() -> None:
    """A row that cannot be a trade changes the counts and nothing else."""
    trades = simulated()["trades"][:3000]
    bad = trades[1500:1501].with_columns(price=pl.lit(NAN))
    spoiled = pl.concat([trades[:1500], bad, trades[1500:]])
    clean, dirty = replay(trades=trades, params=PARAMS), replay(trades=spoiled, params=PARAMS)
    assert_equal(clean, dirty)
    assert dirty.counts["rejected"] == {"bad_price": 1}


def test_replay_is_a_value() -> None:
    result = replay(trades=simulated()["trades"][:100])
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.bars = result.buckets  # type: ignore[misc]
    assert result.manifest["counts"] == result.counts
    assert result.manifest["open_bucket"]["warmup_volume"] > 0
