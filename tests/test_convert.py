"""Any tape to canonical Parquet: the same rows, the same instrument, whole or not at all."""

from __future__ import annotations

import errno
import gzip
import json
import os
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from toxmid import convert as module
from toxmid.convert import METADATA_KEY, ROWS_PER_GROUP, convert, stored_facts
from toxmid.errors import DataError, FileError, ParameterError
from toxmid.instrument import Instrument
from toxmid.readers import open_tape, read_liquidations
from toxmid.replay import replay
from toxmid.schema import KINDS, TABLES, Kind, empty

HEADER = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
T0 = 1_760_130_960_000_000


def tape(folder: Path, seconds: list[int], name: str = "trades_AVAXUSDT.csv.gz", first_id: int = 0) -> Path:
    times = ((index, T0 + second * 10**6) for index, second in enumerate(seconds, first_id))
    rows = (f"binance-futures,AVAXUSDT,{time},{time},{index},buy,20,1\n" for index, time in times)
    path = folder / name
    path.write_bytes(gzip.compress((HEADER + "".join(rows)).encode()))
    return path


def samples_of_every_format() -> list[tuple[str, Kind]]:
    return [
        ("tardis/binance-delivery_trades_2025-10-10_AVAXUSD_PERP.csv.gz", "trades"),
        ("tardis/binance-delivery_liquidations_2025-10-10_AVAXUSD_PERP.csv.gz", "liquidations"),
        ("tardis/deribit_incremental_book_L2_2020-04-01_BTC-PERPETUAL.csv.gz", "book"),
        ("tardis/binance-futures_book_snapshot_5_2020-09-01_BTCUSDT.csv.gz", "book"),
        ("tardis/huobi-dm-swap_quotes_2020-05-01_BTC-USD.csv.gz", "quotes"),
        ("tardis/binance-futures_derivative_ticker_2025-10-10_AVAXUSDT.csv.gz", "mark"),
        ("binance/BTCUSDC-aggTrades-2025-10-04.zip", "trades"),
        ("binance/BTCUSD_PERP-liquidationSnapshot-2024-08-05.zip", "liquidations"),
        ("recording/usdm_btcusdt_20230405.gz", "trades"),
    ]


@pytest.mark.parametrize(("name", "kind"), samples_of_every_format())
def test_what_is_read_back_is_what_was_read(samples: Path, tmp_path: Path, name: str, kind: Kind) -> None:
    source = open_tape(samples / name, kind)
    rows = source.frame()
    done = convert(samples / name, tmp_path / f"tape_{kind}.parquet", kind)
    again = open_tape(done.path, kind)
    assert_frame_equal(again.frame(), rows)
    assert again.instrument == source.instrument == done.instrument
    assert again.counts["rows_read"] == done.rows == rows.height
    assert done.counts == source.counts
    assert done.bytes == done.path.stat().st_size


def test_two_liquidations_of_one_moment_stay_two(tmp_path: Path) -> None:
    """What told them apart, an id, does not stand in a canonical table; but it has been looked at."""
    rows = "".join(f"binance-futures,AVAXUSDT,{T0},{T0},{index},buy,20,1\n" for index in (1, 2, 2))
    source = tmp_path / "liquidations.csv"
    source.write_text(HEADER + rows)
    done = convert(source, tmp_path / "out_liquidations.parquet", "liquidations")
    assert done.counts == {"rows_read": 3, "rows_used": 2, "duplicates": 1}
    assert read_liquidations(done.path).height == 2
    source.write_text(source.read_text() + f"binance-futures,AVAXUSDT,{T0 + 1},{T0 + 1},3,buy,20,1\n")
    longer = convert(source, tmp_path / "more_liquidations.parquet", "liquidations")
    both = open_tape([done.path, longer.path], "liquidations", sort=True)
    assert both.frame().height == 3
    assert both.counts == {"rows_read": 5, "rows_used": 3, "duplicates": 2}


def test_the_file_says_where_it_comes_from(samples: Path, tmp_path: Path) -> None:
    name = samples / "tardis" / "binance-delivery_trades_2025-10-10_AVAXUSD_PERP.csv.gz"
    given = Instrument(tick=0.001)
    done = convert(name, tmp_path / "trades.parquet", "trades", instrument=given)
    facts = stored_facts(done.path)
    assert facts is not None
    assert Instrument.from_dict(facts["instrument"]) == done.instrument
    assert done.instrument.tick == 0.001
    assert facts["counts"] == done.counts
    assert facts["counts"]["duplicates"] > 0
    assert facts["inputs"] == done.inputs
    assert facts["kind"] == "trades"
    assert json.loads(pq.read_metadata(done.path).metadata[METADATA_KEY]) == facts


def test_files_of_others_hold_no_facts(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "other.parquet")
    assert stored_facts(tmp_path / "other.parquet") is None
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(FileError, match=r"broken\.parquet"):
        stored_facts(tmp_path / "broken.parquet")
    with pytest.raises(FileError, match="cannot be read"):
        stored_facts(tmp_path / "missing.parquet")


@given(pieces=st.lists(st.integers(0, 9), max_size=8), rows=st.integers(1, 7))
def test_groups_do_not_depend_on_the_pieces(pieces: list[int], rows: int) -> None:
    numbers = pl.DataFrame({"n": range(sum(pieces))}, schema={"n": pl.Int64})
    begins = [sum(pieces[:index]) for index in range(len(pieces))]
    groups = list(module._groups((numbers.slice(b, n) for b, n in zip(begins, pieces, strict=True)), rows))
    assert [n for group in groups for n in group["n"]] == numbers["n"].to_list()
    assert all(group.height == rows for group in groups[:-1])
    assert all(0 < group.height <= rows for group in groups[-1:])


@pytest.mark.parametrize(("name", "kind"), samples_of_every_format())
def test_columns_without_a_null_say_so(samples: Path, tmp_path: Path, name: str, kind: Kind) -> None:
    """What all rows have, times, prices, sizes and sides, is declared; what a table may do without is not."""
    path = convert(samples / name, tmp_path / f"tape_{kind}.parquet", kind).path
    declared = {field.name: not field.nullable for field in pq.read_schema(path)}
    must = {field.name for field in TABLES[kind] if not field.optional}
    assert all(declared[name] for name in must)
    assert not any(declared.get(name, False) for name in ("id", "lots", "gap", "index"))


def test_row_groups_have_the_size_asked_for(tmp_path: Path) -> None:
    done = convert(tape(tmp_path, list(range(25))), tmp_path / "x_trades.parquet", "trades", rows_per_group=10)
    metadata = pq.read_metadata(done.path)
    assert [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)] == [10, 10, 5]
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert ROWS_PER_GROUP == 1 << 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_tape_without_rows_is_a_table_without_rows(tmp_path: Path, kind: Kind) -> None:
    source = tmp_path / f"nothing_{kind}.parquet"
    empty(kind).write_parquet(source)
    done = convert(source, tmp_path / f"out_{kind}.parquet", kind)
    assert done.rows == 0
    assert_frame_equal(open_tape(done.path, kind).frame(), empty(kind))


def test_windows_leave_rows_out_and_count_them(tmp_path: Path) -> None:
    source = tape(tmp_path, list(range(10)))
    done = convert(source, tmp_path / "x_trades.parquet", "trades", start=(T0 + 3_000_000) * 1000)
    assert (done.rows, done.counts["outside_window"]) == (7, 3)


def test_a_time_that_goes_back_is_an_error_or_sorted(tmp_path: Path) -> None:
    source = tape(tmp_path, [0, 1, 2, 1, 4])
    target = tmp_path / "x_trades.parquet"
    with pytest.raises(DataError, match="time goes back") as caught:
        convert(source, target, "trades")
    assert (caught.value.row, caught.value.file) == (5, str(source))  # as an editor counts, the header is row 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name]
    done = convert(source, target, "trades", sort=True)
    assert open_tape(done.path, "trades").frame()["id"].to_list() == ["0", "1", "3", "2", "4"]


def test_a_time_that_goes_back_between_files_is_an_error(tmp_path: Path) -> None:
    files = [tape(tmp_path, [5, 6], "a_trades.csv.gz"), tape(tmp_path, [1, 2], "b_trades.csv.gz", first_id=2)]
    with pytest.raises(DataError, match="time goes back") as caught:
        convert(files, tmp_path / "x.parquet", "trades")
    assert (caught.value.row, caught.value.file) == (2, str(files[1]))


def test_a_cut_source_leaves_the_old_file(tmp_path: Path) -> None:
    source = tape(tmp_path, list(range(100)))
    target = convert(source, tmp_path / "x_trades.parquet", "trades").path
    before = target.read_bytes()
    source.write_bytes(source.read_bytes()[:-20])
    with pytest.raises(FileError, match="gzip data end"):
        convert(source, target, "trades")
    assert target.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, target.name]


@pytest.mark.parametrize("rows_per_group", [1, 100])
def test_files_of_which_only_some_have_a_column(tmp_path: Path, rows_per_group: int) -> None:
    """What was there is kept, whichever comes first; arrival stands in for an exchange time that is not there."""
    bare = pl.DataFrame({"ts": [T0 * 1000] * 2, "price": [20.0, 21.0], "size": [1.0] * 2, "side": [1, -1]})
    tables = [
        bare,
        bare.with_columns(ts=pl.col("ts") + 10, ts_event=pl.col("ts") + 5, id=pl.Series(["a", "b"])),
        bare.with_columns(ts=pl.col("ts") + 20),
        bare.with_columns(ts=pl.col("ts") + 30, id=pl.Series(["c", "d"])),
    ]
    for name, table in zip("abcd", tables, strict=True):
        table.write_parquet(tmp_path / f"{name}_trades.parquet")
    files = [tmp_path / f"{name}_trades.parquet" for name in "abcd"]
    done = convert(files, tmp_path / "x_trades.parquet", "trades", rows_per_group=rows_per_group)
    frame = open_tape(done.path, "trades").frame()
    assert frame["id"].to_list() == [None, None, "a", "b", None, None, "c", "d"]
    assert [ns - T0 * 1000 for ns in frame["ts_event"].to_physical()] == [0, 0, 5, 5, 20, 20, 30, 30]
    assert_frame_equal(frame, open_tape(files, "trades").frame().select(frame.columns))
    assert_frame_equal(frame, open_tape(files, "trades", sort=True).frame().select(frame.columns))
    assert replay(trades=frame).bars.equals(replay(trades=files).bars)


def test_a_book_of_which_only_some_files_have_gaps(tmp_path: Path) -> None:
    book = pl.DataFrame(
        {"ts": [T0 * 1000] * 2, "side": [1, -1], "price": [20.0, 21.0], "size": [1.0] * 2, "snapshot": [True] * 2}
    )
    book.write_parquet(tmp_path / "a_book.parquet")
    later = book.with_columns(ts=pl.col("ts") + 10**9, snapshot=pl.lit(False), gap=pl.Series([True, False]))
    later.write_parquet(tmp_path / "b_book.parquet")
    files = [tmp_path / "a_book.parquet", tmp_path / "b_book.parquet"]
    done = convert(files, tmp_path / "x_book.parquet", "book", rows_per_group=1)
    assert open_tape(done.path, "book").frame()["gap"].to_list() == [False, False, True, False]
    assert replay(book=done.path).counts["sequence_gaps"] == replay(book=files).counts["sequence_gaps"] == 1


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    """Every page has a checksum: what comes back is what was written, or an error."""
    done = convert(tape(tmp_path, list(range(100))), tmp_path / "x_trades.parquet", "trades")
    data, rows = done.path.read_bytes(), open_tape(done.path, "trades").frame()
    found = 0
    for at in range(4, len(data) - 8 - int.from_bytes(data[-8:-4], "little"), 5):
        broken = tmp_path / "broken_trades.parquet"
        broken.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        try:
            frame = open_tape(broken, "trades").frame()
        except FileError:
            found += 1
        else:
            assert_frame_equal(frame, rows)
    assert found > 100


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tape(tmp_path, list(range(100)))
    target = convert(source, tmp_path / "x_trades.parquet", "trades").path
    before = target.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=os.strerror(errno.ENOSPC)):
        convert(source, target, "trades")
    assert target.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, target.name]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full is of Linux")
def test_a_disk_that_takes_nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tape(tmp_path, list(range(100)))
    opened = Path.open

    def on_the_full_device(path: Path, mode: str = "r") -> object:
        return opened(Path("/dev/full") if "w" in mode else path, mode)

    monkeypatch.setattr(Path, "open", on_the_full_device)
    with pytest.raises(FileError, match=rf"x\.parquet: cannot be written: {os.strerror(errno.ENOSPC)}"):
        convert(source, tmp_path / "x.parquet", "trades")


def test_what_cannot_be_converted_is_refused(tmp_path: Path) -> None:
    source = tape(tmp_path, [0, 1])
    with pytest.raises(ParameterError, match="also a source"):
        convert(source, source, "trades")
    with pytest.raises(ParameterError, match="rows_per_group"):
        convert(source, tmp_path / "x.parquet", "trades", rows_per_group=0)
    with pytest.raises(FileError, match="is a directory"):
        convert(source, tmp_path, "trades")
    with pytest.raises(DataError, match="holds no book"):
        convert(source, tmp_path / "x.parquet", "book")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_a_real_day_survives(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "crash-2025-10-10" / "binance-delivery_trades_2025-10-10_AVAXUSD_PERP.csv.gz"
    done = convert(source, tmp_path / "trades.parquet", "trades", rows_per_group=50_000)
    assert_frame_equal(open_tape(done.path, "trades").frame(), open_tape(source, "trades").frame())
    assert open_tape(done.path, "trades").instrument == open_tape(source, "trades").instrument
