"""Files of the Binance archive: headers or none, milliseconds or microseconds, booleans as text, contracts or coin."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from toxmid.errors import DataError, FileError
from toxmid.instrument import Instrument
from toxmid.readers import open_tape, read_liquidations, read_quotes, read_trades

AGG = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
ROW = "{},{},{},1,1,1722816000100,{}\n"


def test_spot_without_header_in_microseconds(samples):
    tape = open_tape(samples / "binance" / "BTCUSDC-aggTrades-2025-10-04.zip", "trades")
    frame = tape.frame()
    assert frame["ts"].to_physical().to_list()[::2] == [1759536000061015000, 1759536001061015000]
    assert frame.select("price", "size", "side", "id").row(1) == (120000.78, 0.5, -1, "184359104")
    assert (tape.instrument.venue, tape.instrument.symbol) == ("binance", "BTCUSDC")


def test_spot_in_milliseconds(samples):
    frame = read_trades(samples / "binance" / "BTCUSDT-trades-2024-08-05.zip")
    assert frame["ts"].to_physical().to_list() == [1722816000012000000, 1722816000013000000]
    assert frame["size"].to_list() == [0.1, 0.2]
    assert frame["side"].to_list() == [-1, 1]


@pytest.mark.parametrize("kind", ["aggTrades", "trades"])
def test_usd_m(samples, kind):
    tape = open_tape(samples / "binance" / f"AVAXUSDT-{kind}-2025-10-10.zip", "trades")
    frame = tape.frame()
    assert frame["side"].to_list() == [1, -1]
    assert frame["size"][1] == 12.0
    assert tape.instrument.venue == "binance-futures"
    assert "lots" not in frame.columns


def test_coin_m_counts_contracts(samples):
    frame = read_trades(samples / "binance" / "BTCUSD_PERP-aggTrades-2024-08-05.zip")
    np.testing.assert_array_equal(frame["size"], [500 / 50000, 100 / 50000.1])
    assert frame["lots"].to_list() == [5, 1]


def test_coin_m_trades_show_the_worth_of_a_contract(samples):
    tape = open_tape(samples / "binance" / "AVAXUSD_PERP-trades-2025-10-10.zip", "trades")
    assert tape.frame()["size"].to_list() == [2.0, 4.0]
    assert (tape.instrument.contract_value, tape.instrument.origin["contract_value"]) == (10.0, "found")


def test_ordered_depth_without_header(samples, write):
    """Number of the transaction in the third column, and nothing that names the update before."""
    header, *rows = (samples / "binance" / "BTCUSDT_T_DEPTH_2022-11-01.csv").read_text().splitlines()
    fields = [dict(zip(header.split(","), row.split(","), strict=True)) | {"trans_id": "5"} for row in rows]
    names = ["symbol", "timestamp", "trans_id", *header.split(",")[2:-1]]
    lines = [",".join(row[name] for name in names) + "\n" for row in fields]
    tape = open_tape(write("BTCUSDT_T_DEPTH_1.csv", "".join(lines)), "book")
    expected = open_tape(samples / "binance" / "BTCUSDT_T_DEPTH_2022-11-01.csv", "book")
    assert tape.frame().equals(expected.frame().drop("gap"))
    assert (tape.instrument.venue, tape.instrument.symbol) == ("binance-futures", "BTCUSDT")


def test_book_ticker(samples):
    frame = read_quotes(samples / "binance" / "AVAXUSDT-bookTicker-2024-03-01.zip")
    assert frame.row(0)[2:] == (40.0, 15.0, 40.001, 7.0)
    assert frame["ts"].to_physical()[0] == 1709251200011000000


def test_liquidations_are_written_twice_and_paid_the_average_price(samples):
    tape = open_tape(samples / "binance" / "BTCUSD_PERP-liquidationSnapshot-2024-08-05.zip", "liquidations")
    frame = tape.frame()
    assert frame.select("side", "price", "size").rows() == [(-1, 50000.0, 0.2), (1, 50000.0, 0.05)]
    assert tape.counts == {"rows_read": 4, "rows_used": 2, "duplicates": 2}


def test_ordered_depth(samples):
    tape = open_tape(samples / "binance" / "BTCUSDT_T_DEPTH_2022-11-01.csv", "book")
    assert tape.frame().select("side", "price", "size", "snapshot").rows() == [
        (1, 20000.0, 1.77, True),
        (-1, 20000.1, 0.001, True),
        (-1, 20000.1, 0.0, False),
    ]
    assert tape.instrument.venue == "binance-futures"


@pytest.mark.parametrize(("name", "snapshot"), [("snap", True), ("update", False)])
def test_real_ordered_depth(shared_data, name, snapshot):
    tape = open_tape(shared_data / "format-samples" / f"btcusdt-depth-{name}.csv", "book")
    assert tape.frame()["snapshot"].to_list() == [snapshot] * 100
    assert tape.counts == {"rows_read": 100, "rows_used": 100}


def test_liquidation_that_was_not_filled(write, samples):
    header, row = (
        zipfile.ZipFile(samples / "binance" / "BTCUSD_PERP-liquidationSnapshot-2024-08-05.zip")
        .read("BTCUSD_PERP-liquidationSnapshot-2024-08-05.csv")
        .decode()
        .splitlines()[:2]
    )
    unfilled = row.rsplit(",", 1)[0] + ",0"
    tape = open_tape(write("BTCUSD_PERP-liquidationSnapshot-1.csv", f"{header}\n{row}\n{unfilled}\n"), "liquidations")
    assert tape.frame().height == 1
    assert tape.counts["not_filled"] == 1


@pytest.mark.parametrize(
    ("word", "side"), [("true", -1), ("True", -1), ("TRUE", -1), ("1", -1), ("false", 1), ("False", 1), ("0", 1)]
)
def test_booleans_are_text(write, word, side):
    frame = read_trades(write("AVAXUSDT-aggTrades-1.csv", AGG + ROW.format(1, 20, 1, word)))
    assert frame["side"].to_list() == [side]


def test_a_boolean_that_is_none(write):
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_trades(write("AVAXUSDT-aggTrades-1.csv", AGG + ROW.format(1, 20, 1, "maker")))
    assert (caught.value.row, caught.value.column) == (2, "is_buyer_maker")


@pytest.mark.parametrize("header", [AGG, ""], ids=["header", "bare"])
def test_futures_with_and_without_header(write, header):
    path = write(
        "AVAXUSDT-aggTrades-2021-01-01.csv", header + ROW.format(1, 20, 3, "true") + ROW.format(2, 20, 4, "false")
    )
    tape = open_tape(path, "trades")
    assert tape.frame()["size"].to_list() == [3.0, 4.0]
    assert tape.instrument.venue == "binance-futures"


@pytest.mark.parametrize("header", [AGG, ""], ids=["header", "bare"])
def test_a_name_without_symbol_leaves_a_doubt(write, header):
    path = write("trades.csv", header + ROW.format(1, 20, 3, "true"))
    with pytest.raises(DataError, match="several formats") as caught:
        read_trades(path)
    assert caught.value.found == "binance-futures-aggTrades, binance-delivery-aggTrades"
    assert read_trades(path, format="binance-futures")["size"].to_list() == [3.0]
    coin = read_trades(path, format="binance-delivery", instrument=Instrument(symbol="BTCUSD_PERP"))
    assert coin["size"].to_list() == [15.0]


def test_quarterly_contract(write):
    tape = open_tape(write("BTCUSD_251226-aggTrades-2025-10-10.csv", AGG + ROW.format(1, 100, 3, "true")), "trades")
    assert tape.instrument.symbol == "BTCUSD_251226"
    assert tape.frame()["size"].to_list() == [3.0]


def test_symbol_of_other_files_is_checked(write):
    paths = [write(f"{name}-aggTrades-1.csv", AGG + ROW.format(1, 20, 3, "true")) for name in ("AVAXUSDT", "DOTUSDT")]
    with pytest.raises(DataError, match="two instruments"):
        open_tape(paths, "trades")


KLINES = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore\n",
    "1760054400000,121662,121737.5,121662,121689.0,0,1760054459999,0,60,0,0,0\n",
)


@pytest.mark.parametrize("text", ["".join(KLINES), KLINES[1]], ids=["header", "bare"])
def test_candles_under_the_name_of_trades(write, text):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("BTCUSD_PERP-trades-2025-10-10.csv", text)
    with pytest.raises(FileError, match="candles"):
        read_trades(write("BTCUSD_PERP-trades-2025-10-10.zip", buffer.getvalue()))


def test_real_spot_file(shared_data):
    tape = open_tape(shared_data / "binance-archive" / "BTCUSDC-aggTrades-2025-10-04.zip", "trades")
    frame = tape.frame()
    assert tape.counts == {"rows_read": 140_489, "rows_used": 140_489}
    assert frame["ts"].is_sorted()
    assert str(frame["ts"].dt.date().unique().item()) == "2025-10-04"


def test_real_candles_are_no_tape(shared_data):
    for read in (read_trades, read_quotes, read_liquidations):
        with pytest.raises(FileError, match="candles"):
            read(shared_data / "binance-archive" / "BTCUSD_PERP-1m-2025-10-10.zip")


def test_where_nobody_says_who_was_the_maker_nobody_knows_who_bought(write):
    rows = "".join(ROW.format(number, 20, 1, flag) for number, flag in enumerate(("true", "", "false")))
    assert read_trades(write("AVAXUSDT-aggTrades-1.csv", AGG + rows))["side"].to_list() == [-1, 0, 1]
