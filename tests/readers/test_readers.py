"""The door: what a source may be, and what a file is taken for."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import polars as pl
import pytest

from toxmid.errors import DataError, FileError, ParameterError
from toxmid.instrument import Instrument
from toxmid.readers import FORMATS, TapeWarning, open_tape, read_trades, recognise
from toxmid.readers.files import read_head

from .conftest import HEADER, trade, trades

FOLDERS = (
    "tardis",
    "binance",
    "bybit",
    "deribit",
    "okx",
    "hyperliquid",
    "lobster",
    "databento",
    "recorder",
    "recording",
    "hftbacktest",
    "canonical",
)
SEVERAL = {"recorder/liquidations.csv": "BTCUSDT", "recorder/trades.csv": "BTCUSDT"}  # samples of more than one symbol


def day(number: int) -> str:
    return HEADER + trade(number)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2, 10):
        (tmp_path / f"x_trades_2025-10-{number}.csv").write_text(day(number))
    return tmp_path


def ids(source, **kwargs) -> list[str]:
    return read_trades(source, **kwargs)["id"].to_list()


def test_sources(folder):
    assert ids(folder / "x_trades_2025-10-2.csv") == ["2"]
    assert ids(str(folder / "x_trades_2025-10-2.csv")) == ["2"]
    assert ids(folder) == ids(str(folder / "*.csv")) == ["1", "2", "10"]
    assert ids([folder / "x_trades_2025-10-2.csv", folder / "x_trades_2025-10-1.csv"]) == ["2", "1"]
    assert ids([str(folder / "*-1*0.csv"), folder / "x_trades_2025-10-2.csv"]) == ["10", "2"]


def test_brackets_in_a_name_are_no_pattern_if_the_file_is_there(folder):
    (folder / "x[1]_trades.csv").write_text(day(7))
    assert ids(folder / "x[1]_trades.csv") == ["7"]


def test_folder_takes_its_kind_and_leaves_the_rest(folder, samples):
    shutil.copy(samples / "tardis" / "binance-futures_book_snapshot_5_2020-09-01_BTCUSDT.csv.gz", folder)
    (folder / "x_trades_2025-10-1.csv.CHECKSUM").write_text("abc")
    (folder / "README.md").write_text("notes")
    (folder / "more").mkdir()
    assert ids(folder) == ["1", "2", "10"]
    assert open_tape(folder, "book").frame()["snapshot"].sum() == 10
    with pytest.raises(FileError, match="no file with liquidations"):
        open_tape(folder, "liquidations")


def test_folder_with_a_file_of_no_format(folder):
    (folder / "what.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FileError, match="no format we know"):
        read_trades(folder)


@pytest.mark.parametrize(
    ("source", "message"),
    [([], "no file was given"), ("nothing.csv", "no such file"), ("nothing*.csv", "no file matches")],
)
def test_nothing_to_read(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match=message):
        read_trades(source)


def test_same_file_twice(folder):
    with pytest.raises(FileError, match="given twice"):
        read_trades([folder, folder / "x_trades_2025-10-1.csv"])


def test_a_link_to_a_file_is_the_file(folder):
    (folder / "again_trades.csv").symlink_to(folder / "x_trades_2025-10-1.csv")
    with pytest.raises(FileError, match="given twice"):
        read_trades([folder / "x_trades_2025-10-1.csv", folder / "again_trades.csv"])


@pytest.mark.parametrize("source", ["", ["x_trades.csv", ""]])
def test_an_empty_name_is_not_the_folder_one_is_in(folder, monkeypatch, source):
    monkeypatch.chdir(folder)
    with pytest.raises(FileError, match="the name of a file is empty"):
        read_trades(source)


def test_a_link_to_nothing_in_a_folder_is_no_gap(folder):
    (folder / "x_trades_2025-10-3.csv").symlink_to(folder / "gone.csv")
    with pytest.raises(FileError, match="no such file") as caught:
        read_trades(folder)
    assert caught.value.file == str(folder / "x_trades_2025-10-3.csv")


def test_endings_in_capitals(folder):
    (folder / "x_trades_2025-10-2.csv").rename(folder / "x_trades_2025-10-2.CSV")
    assert ids(folder) == ["1", "2", "10"]


def test_what_a_folder_holds_besides_tapes_is_told(folder):
    (folder / "x_trades_2025-10-11.txt").write_text(day(11))
    with pytest.warns(TapeWarning, match=r"passed over.*: x_trades_2025-10-11\.txt$"):
        assert ids(folder) == ["1", "2", "10"]


def test_empty_file_is_an_empty_tape(write):
    path = write("x_trades.csv", "")
    with pytest.warns(TapeWarning, match="is empty"):
        assert read_trades(path).height == 0
    with pytest.warns(TapeWarning, match="is empty"):
        assert ids([path, write("y_trades.csv", day(1))]) == ["1"]


@pytest.mark.parametrize("name", ["tardis-trades", "tardis"])
def test_format_by_name(write, name):
    assert read_trades(write("a.csv", trades(2)), format=name).height == 2


def test_a_format_whose_name_begins_another_name(samples):
    path = samples / "okx" / "ETH-USDT-SWAP-trades-2025-10-10.zip"
    assert read_trades(path, format="okx-trades").height == 2
    with pytest.raises(DataError, match="okx-trades, okx-trades-old"):
        read_trades(path, format="okx")


def test_format_that_does_not_fit(write):
    path = write("a.csv", trades(2))
    with pytest.raises(ParameterError, match="unknown format"):
        read_trades(path, format="tardi")
    with pytest.raises(FileError, match="not a file of format hftbacktest-raw"):
        read_trades(path, format="hftbacktest-raw")
    with pytest.raises(FileError, match="not a file of format tardis-quotes"):
        read_trades(path, format="tardis-quotes")
    with pytest.raises(DataError, match="holds no book"):
        open_tape(path, "book", format="tardis-trades")


def test_window_upside_down(write):
    with pytest.raises(ParameterError, match="ends before"):
        open_tape(write("a.csv", trades(2)), "trades", start="2025-10-11", end="2025-10-10")


def test_unknown_kind(write):
    with pytest.raises((DataError, ParameterError)):
        open_tape(write("a.csv", trades(2)), "candles")  # type: ignore[arg-type]


def test_the_more_demanding_format_wins(write):
    spot = (
        "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker,is_best_match\n"
        "1,20,1,1,1,1722816000100,true,true\n"
    )
    head = read_head(write("BTCUSDT-aggTrades-1.csv", spot))
    assert [format_.name for format_ in recognise(head)] == ["binance-aggTrades"]


def test_doubt_without_a_kind(write):
    head = read_head(write("a.csv", trades(2)))
    assert [format_.name for format_ in recognise(head)] == ["tardis-trades", "tardis-liquidations"]


def test_names_are_unique():
    names = [format_.name for format_ in FORMATS]
    assert len(names) == len(set(names))


def test_every_format_has_a_sample_and_every_sample_is_read(samples):
    seen = set()
    for path in (path for folder in FOLDERS for path in (samples / folder).iterdir()):
        head = read_head(path)
        (format_,) = recognise(head)
        seen.add(format_.name)
        symbol = SEVERAL.get(f"{path.parent.name}/{path.name}")
        for kind in format_.kinds(head):
            tape = open_tape(path, kind, instrument=Instrument(symbol=symbol))
            tape.frame()
            assert sum(tape.counts.values()) == 2 * tape.counts["rows_read"], (path, kind)
    missing = {format_.name for format_ in FORMATS} - seen
    assert missing == {"binance-delivery-bookTicker", "binance-futures-liquidationSnapshot"}


def test_samples_are_what_their_program_writes(samples, tmp_path):
    module = runpy.run_path(str(samples / "make_samples.py"))
    module["write"](tmp_path)
    for name in ("trades.txt", "trades.toml"):
        assert (tmp_path / "delimited" / name).read_bytes() == (samples / "delimited" / name).read_bytes()
    shutil.rmtree(tmp_path / "delimited")
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    kept = sorted(path.relative_to(samples) for folder in FOLDERS for path in (samples / folder).iterdir())
    assert made == kept
    for name in made:
        instrument = Instrument(symbol=SEVERAL.get(str(name)))
        for kind in recognise(read_head(tmp_path / name))[0].kinds(read_head(tmp_path / name)):
            frames = [open_tape(at / name, kind, instrument=instrument).frame() for at in (tmp_path, samples)]
            assert frames[0].equals(frames[1]), name


def test_an_instrument_given_is_the_instrument_used(write):
    tape = open_tape(write("a.csv", trades(1)), "trades", instrument=Instrument(tick=0.5, contract_value=2.0))
    assert (tape.instrument.tick, tape.instrument.origin["tick"]) == (0.5, "given")
    assert tape.frame()["size"].to_list() == [2.0]


def test_real_folder_of_ten_instruments(shared_data):
    with (
        pytest.warns(TapeWarning, match="passed over.*: hyperliquid_forced_flow_timeline.json$"),
        pytest.raises(DataError, match="two instruments"),
    ):
        read_trades(shared_data / "crash-2025-10-10")
    chosen = Instrument(venue="coinbase", symbol="UNI-USD")
    tape = open_tape(str(shared_data / "crash-2025-10-10" / "coinbase_*.csv.gz"), "trades", instrument=chosen)
    frame = tape.frame()
    assert frame.height == tape.counts["rows_used"] == 60_047
    assert tape.counts["other_instruments"] == tape.counts["rows_read"] - 60_047
    assert frame.schema["ts"] == pl.Datetime("ns", "UTC")
