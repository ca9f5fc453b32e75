"""Files of a folder, put together by market and day."""

from __future__ import annotations

import datetime as dt
import gzip
import shutil
from pathlib import Path

import polars as pl
import pytest

from toxmid.convert import convert
from toxmid.errors import DataError, FileError, ParameterError
from toxmid.jobs import Job, pair_files
from toxmid.readers import TapeWarning, read_book, read_quotes

from .conftest import DAYS, SYMBOLS, VENUE


def names(jobs: list[Job]) -> list[str]:
    return [job.name for job in jobs]


def test_files_of_one_market_and_day_are_one_job(jobs: list[Job]) -> None:
    assert names(jobs) == [f"{VENUE}_{symbol}/{day}" for symbol in SYMBOLS for day in DAYS]
    for job in jobs:
        assert job.venue == VENUE
        assert {kind: [path.name for path in paths] for kind, paths in job.files.items()} == {
            kind: [f"{VENUE}_{kind}_{job.label}_{job.symbol}.csv.gz"] for kind in ("trades", "quotes", "liquidations")
        }


def test_globs_and_lists_are_sources_too(tapes: Path) -> None:
    from_glob = pair_files(str(tapes / "*AAA*"))
    from_list = pair_files(sorted(tapes.glob("*AAA*"), reverse=True))
    assert from_glob == from_list
    assert names(from_glob) == [f"{VENUE}_AAAUSDT/{day}" for day in DAYS]


def test_kinds_that_are_not_wanted_are_passed_over(tapes: Path) -> None:
    jobs = pair_files(tapes, kinds=("trades",))
    assert {kind for job in jobs for kind in job.files} == {"trades"}


def test_a_mapping_says_what_each_file_is_for(tapes: Path, jobs: list[Job], samples: Path) -> None:
    sources = {kind: tapes / f"*_{kind}_*" for kind in ("trades", "quotes", "liquidations")}
    assert pair_files(sources) == jobs  # type: ignore[arg-type]
    book = samples / "tardis" / "binance-futures_book_snapshot_5_2020-09-01_BTCUSDT.csv.gz"
    (job,) = pair_files({"quotes": book})
    assert set(job.files) == {"quotes"}
    with pytest.raises(ParameterError, match="no such kind"):
        pair_files({"reference": book})  # type: ignore[dict-item]


def test_folders_are_searched_to_the_bottom_and_hidden_ones_are_not(tapes: Path, tmp_path: Path) -> None:
    name = f"{VENUE}_trades_{DAYS[0]}_AAAUSDT.csv.gz"
    for folder in ("a/b", ".hidden"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(tapes / name, tmp_path / folder / name)
    (job,) = pair_files(tmp_path)
    assert job.files == {"trades": (tmp_path / "a" / "b" / name,)}


def test_archives_of_binance_are_paired_by_the_market_in_the_file(samples: Path) -> None:
    (crash,) = pair_files(samples / "binance" / "BTCUSD_PERP*")
    assert crash.name == "binance-delivery_BTCUSD_PERP/2024-08-05"
    assert set(crash.files) == {"trades", "liquidations"}
    assert names(pair_files(samples / "binance" / "*bookTicker*")) == ["binance-futures_AVAXUSDT/2024-03-01"]


def test_two_formats_for_one_kind_are_an_error_that_names_the_choices(samples: Path, tmp_path: Path) -> None:
    aggregate = tmp_path / "AVAXUSDT-aggTrades-2025-10-10.zip"
    single = tmp_path / "AVAXUSDT-trades-2025-10-10.zip"
    for path in (aggregate, single):
        shutil.copy(samples / "binance" / path.name, path)
    with pytest.raises(DataError, match=r"binance-futures-aggTrades, binance-futures-trades.*formats="):
        pair_files(tmp_path)
    (job,) = pair_files(tmp_path, formats=["binance-futures-trades"])
    assert job.files == {"trades": (single,)}


def test_a_month_takes_its_days_with_it(tapes: Path, tmp_path: Path) -> None:
    shutil.copy(tapes / f"{VENUE}_trades_{DAYS[0]}_AAAUSDT.csv.gz", tmp_path / "AAAUSDT_trades_2025-01.csv.gz")
    for day in DAYS[:2]:
        shutil.copy(tapes / f"{VENUE}_quotes_{day}_AAAUSDT.csv.gz", tmp_path)
    (job,) = pair_files(tmp_path)
    assert job.label == "2025-01"
    assert [len(job.files[kind]) for kind in ("trades", "quotes")] == [1, 2]


def test_a_day_that_is_missing_is_said(tapes: Path) -> None:
    files = [path for path in sorted(tapes.glob("*_trades_*AAA*")) if DAYS[1] not in path.name]
    with pytest.warns(TapeWarning, match=rf"AAAUSDT has no files of {DAYS[1]}: a gap"):
        assert len(pair_files(files)) == len(DAYS) - 1


def test_a_kind_by_month_and_by_day_is_an_error(tapes: Path, tmp_path: Path) -> None:
    name = f"{VENUE}_trades_{DAYS[0]}_AAAUSDT.csv.gz"
    shutil.copy(tapes / name, tmp_path)
    shutil.copy(tapes / name, tmp_path / "AAAUSDT_trades_2025-01.csv.gz")
    with pytest.raises(DataError, match="by day and by month"):
        pair_files(tmp_path)


@pytest.mark.parametrize("name", ["btc.csv.gz", "btc_2025-13-45.csv.gz", "btc_2025-01-01_2025-02-01.csv.gz"])
def test_without_a_date_in_the_name_the_first_row_says_the_day(tapes: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(tapes / f"{VENUE}_quotes_{DAYS[2]}_AAAUSDT.csv.gz", tmp_path / name)
    (job,) = pair_files(tmp_path)
    assert job.label == "2025-01-01"  # all rows of the made tapes are of this day


def test_recordings_have_compact_dates_and_several_kinds(samples: Path) -> None:
    jobs = pair_files(samples / "recording", kinds=("trades", "book", "quotes"))
    assert names(jobs) == ["binance-delivery_BTCUSD_PERP/2024-08-08", "binance-futures_BTCUSDT/2023-04-05"]
    assert all(len(set(job.files.values())) == 1 for job in jobs)


def test_snapshots_of_a_book_are_no_quotes(samples: Path) -> None:
    (job,) = pair_files(samples / "tardis" / "binance-futures_book_snapshot_5_2020-09-01_BTCUSDT.csv.gz")
    assert set(job.files) == {"book"}
    (job,) = pair_files(
        samples / "tardis" / "binance-futures_book_snapshot_5_2020-09-01_BTCUSDT.csv.gz", kinds=("quotes",)
    )
    assert set(job.files) == {"quotes"}


def test_converted_tapes_are_paired_by_what_is_in_them(tapes: Path, tmp_path: Path) -> None:
    for kind in ("trades", "quotes"):
        source = tapes / f"{VENUE}_{kind}_{DAYS[1]}_BBBUSDT.csv.gz"
        convert(source, tmp_path / f"b_{kind}_{DAYS[1]}.parquet", kind)
    (job,) = pair_files(tmp_path)
    assert job.name == f"{VENUE}_BBBUSDT/{DAYS[1]}"
    assert set(job.files) == {"trades", "quotes"}


def test_a_file_without_a_single_byte_is_a_quiet_day(tapes: Path, tmp_path: Path) -> None:
    shutil.copy(tapes / f"{VENUE}_trades_{DAYS[0]}_AAAUSDT.csv.gz", tmp_path)
    quiet = tmp_path / f"{VENUE}_liquidations_{DAYS[0]}_AAAUSDT.csv.gz"
    quiet.write_bytes(gzip.compress(b""))
    (job,) = pair_files(tmp_path)
    assert job.files["liquidations"] == (quiet,)


def test_a_header_without_rows_is_a_quiet_day_too(tapes: Path, tmp_path: Path) -> None:
    shutil.copy(tapes / f"{VENUE}_trades_{DAYS[0]}_AAAUSDT.csv.gz", tmp_path)
    header = gzip.decompress((tmp_path / f"{VENUE}_trades_{DAYS[0]}_AAAUSDT.csv.gz").read_bytes()).split(b"\n")[0]
    quiet = tmp_path / f"{VENUE}_liquidations_{DAYS[0]}_AAAUSDT.csv.gz"
    quiet.write_bytes(gzip.compress(header + b"\n"))
    (job,) = pair_files(tmp_path)
    assert job.files["liquidations"] == (quiet,)


def test_an_empty_file_of_an_unknown_name_is_passed_over_aloud(tapes: Path, tmp_path: Path) -> None:
    shutil.copy(tapes / f"{VENUE}_trades_{DAYS[0]}_AAAUSDT.csv.gz", tmp_path)
    (tmp_path / "what.csv").write_bytes(b"")
    with pytest.warns(TapeWarning, match="what.csv"):
        (job,) = pair_files(tmp_path)
    assert set(job.files) == {"trades"}


def test_a_feed_that_comes_and_goes_is_told(tapes: Path, tmp_path: Path) -> None:
    for kind, days in (("trades", DAYS[:3]), ("quotes", DAYS[:1])):
        for day in days:
            shutil.copy(tapes / f"{VENUE}_{kind}_{day}_AAAUSDT.csv.gz", tmp_path)
    with pytest.warns(TapeWarning, match=f"has no quotes on {DAYS[1]}, {DAYS[2]}"):
        jobs = pair_files(tmp_path)
    assert len(jobs) == 3


def test_liquidations_alone_make_no_job(tapes: Path) -> None:
    with pytest.warns(TapeWarning, match="liquidations only and is left out"):
        assert pair_files(sorted(tapes.glob("*liquidations*AAA*"))) == []


def test_what_cannot_be_paired_is_an_error(tmp_path: Path, tapes: Path) -> None:
    with pytest.raises(FileError, match="no file that may be a tape"):
        pair_files(tmp_path)
    with pytest.raises(FileError, match="no file matches"):
        pair_files(tmp_path / "*.csv.gz")
    with pytest.raises(ParameterError, match="no such kind"):
        pair_files(tapes, kinds=("candles",))  # type: ignore[arg-type]
    with pytest.raises(FileError, match="none of the files"):
        pair_files(tapes, kinds=("mark",))
    (tmp_path / "strange.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(FileError, match=r"strange\.csv"):
        pair_files(tmp_path)


def test_a_table_that_names_no_market_is_an_error(tmp_path: Path, samples: Path) -> None:
    table = pl.read_parquet(samples / "simulated" / "trades.parquet").head(10)
    table.write_parquet(tmp_path / "trades_2025-01-01.parquet")
    with pytest.raises(DataError, match="does not say which instrument"):
        pair_files(tmp_path)
    table.drop("id").with_columns(symbol=pl.lit("X")).write_parquet(tmp_path / "trades_2025-01-01.parquet")
    assert names(pair_files(tmp_path)) == ["X/2025-01-01"]
    (tmp_path / "trades_2025-01-01.parquet").rename(tmp_path / "2025-01-01.parquet")
    with pytest.raises(DataError, match="trades and liquidations"):
        pair_files(tmp_path)


def test_symbols_become_names_of_folders() -> None:
    assert Job("BTC/USD:PERP", "2024-08-05", {}, "okex-swap").market == "okex-swap_BTC-USD-PERP"
    assert Job("BTC", "2024-08", {}).market == "BTC"


def test_the_day_is_that_of_the_first_row_of_any_kind(samples: Path, tmp_path: Path) -> None:
    """A file of records may hold a book and no trade."""
    shutil.copy(samples / "databento" / "mbp-10.csv.gz", tmp_path)
    (job,) = pair_files(tmp_path)
    assert job.label == "2023-12-25"


@pytest.mark.parametrize(("trades", "liquidations"), [("26", "27"), ("27", "26")])
def test_files_without_dates_may_go_on_for_days(tmp_path: Path, trades: str, liquidations: str) -> None:
    """A recorder writes its first liquidation a day after its first trade."""
    for kind, day in (("trades", trades), ("liquidations", liquidations)):
        ts = pl.Series("ts", [f"2025-01-{day}T12:00:00"]).str.to_datetime(time_unit="ns", time_zone="UTC")
        row = pl.DataFrame([ts]).with_columns(price=1.0, size=1.0, side=1, symbol=pl.lit("BTCUSDT"))
        row.write_parquet(tmp_path / f"recorded_{kind}.parquet")
    (job,) = pair_files(tmp_path)
    assert (job.label, sorted(job.files)) == (f"2025-01-{trades}", ["liquidations", "trades"])


def test_files_with_dates_belong_to_their_days(tapes: Path) -> None:
    names = f"*trades_{DAYS[0]}_AAA*", f"*liquidations_{DAYS[1]}_AAA*"
    sources = [next(tapes.glob(name)) for name in names]
    with pytest.warns(TapeWarning, match="liquidations only and is left out"):
        assert [sorted(job.files) for job in pair_files(sources)] == [["trades"]]


def snapshots(levels: int, day: str = "2020-09-01", rows: int = 3) -> str:
    """A file of Tardis with a book of so many levels a second."""
    names = [f"{half}[{n}].{part}" for n in range(levels) for half in ("asks", "bids") for part in ("price", "amount")]
    prices = [str(value) for n in range(levels) for value in (101 + n, 1, 100 - n, 2)]
    start = int(dt.datetime.fromisoformat(f"{day}T00:00+00:00").timestamp()) * 10**6
    lines = [",".join(["exchange,symbol,timestamp,local_timestamp", *names])]
    lines += [f"{VENUE},BTCUSDT,{start + i * 10**6},{start + i * 10**6}," + ",".join(prices) for i in range(rows)]
    return "\n".join(lines) + "\n"


def updates(day: str = "2020-09-01") -> str:
    start = int(dt.datetime.fromisoformat(f"{day}T00:00+00:00").timestamp()) * 10**6
    rows = [("true", "bid", 100), ("true", "ask", 101), ("false", "bid", 99)]
    head = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"
    return head + "".join(f"{VENUE},BTCUSDT,{start},{start},{flag},{side},{price},1\n" for flag, side, price in rows)


@pytest.mark.parametrize("named", [True, False])
def test_one_book_in_several_depths_is_read_once(tmp_path: Path, named: bool) -> None:
    """The richest goes first, whatever the files are called, and the others are told."""
    name = f"{VENUE}_{{}}_2020-09-01_BTCUSDT.csv" if named else "{}-2020-09-01.csv"
    five, deep, every = (
        tmp_path / name.format(kind) for kind in ("book_snapshot_5", "book_snapshot_25", "incremental_book_L2")
    )
    five.write_text(snapshots(5))
    deep.write_text(snapshots(25))
    for kinds in (("book", "quotes"), ("book",), ("quotes",)):
        with pytest.warns(TapeWarning, match=f"{five.name}: passed over .*{deep.name} is richer"):
            (job,) = pair_files(tmp_path, kinds=kinds)
        assert dict(job.files) == {kinds[0]: (deep,)}
    with pytest.warns(TapeWarning, match="passed over as book"):
        assert read_book(tmp_path).filter("snapshot").height == 50
    with pytest.warns(TapeWarning, match="passed over as quotes"):
        assert read_quotes(tmp_path).height == 3
    every.write_text(updates())
    with pytest.warns(TapeWarning) as told:
        (job,) = pair_files(tmp_path)
    assert dict(job.files) == {"book": (every,)}
    assert sorted(str(warning.message).split(":")[0] for warning in told) == sorted([str(five), str(deep)])
    with pytest.warns(TapeWarning) as told:
        assert read_book(tmp_path).height == 3
    assert len(told) == 2


def test_every_day_has_the_depth_that_is_there(tmp_path: Path) -> None:
    days = {("2020-09-01", 5), ("2020-09-01", 25), ("2020-09-02", 5)}
    for day, levels in days:
        (tmp_path / f"{VENUE}_book_snapshot_{levels}_{day}_BTCUSDT.csv").write_text(snapshots(levels, day))
    with pytest.warns(TapeWarning, match="passed over"):
        jobs = pair_files(tmp_path)
    assert [[path.name.split("_")[3] for path in job.files["book"]] for job in jobs] == [["25"], ["5"]]
    with pytest.warns(TapeWarning, match="passed over"):
        assert read_quotes(tmp_path).height == 6


def test_two_files_of_one_depth_are_two_parts(tmp_path: Path) -> None:
    for part, rows in ((1, 2), (2, 3)):
        (tmp_path / f"{VENUE}_book_snapshot_5_2020-09-01_BTCUSDT.{part}.csv").write_text(snapshots(5, rows=rows))
    (job,) = pair_files(tmp_path)
    assert len(job.files["book"]) == 2
