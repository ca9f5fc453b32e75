"""LOBSTER: resting direction turned round, hidden executions unsigned, halts and crosses out, book beside messages."""

from __future__ import annotations

import shutil

import numpy as np
import polars as pl
import pytest

from toxmid.errors import DataError, FileError
from toxmid.readers import TapeWarning, open_tape, read_book, read_quotes, read_trades

NAME = "ABCD_2012-06-21_34200000_57600000_{}_2.csv"
MIDNIGHT = 1_340_251_200_000_000_000  # 2012-06-21 in New York


@pytest.fixture
def pair(samples, tmp_path):
    for part in ("message", "orderbook"):
        shutil.copy(samples / "lobster" / NAME.format(part), tmp_path)
    return tmp_path / NAME.format("message"), tmp_path / NAME.format("orderbook")


def test_trades(samples):
    tape = open_tape(samples / "lobster" / NAME.format("message"), "trades")
    frame = tape.frame()
    assert frame.select("price", "size", "side").rows() == [(223.82, 30.0, -1), (223.9, 10.0, 0)]
    assert frame["ts"].to_physical().to_list() == [MIDNIGHT + 34_200_189_607_670, MIDNIGHT + 34_200_189_607_671]
    assert tape.counts == {"rows_read": 5, "rows_used": 2, "other_kinds": 1, "not_market_trades": 1, "halts": 1}
    assert tape.instrument.symbol == "ABCD"


def test_book_and_quotes_take_their_times_from_the_messages(samples):
    path = samples / "lobster" / NAME.format("orderbook")
    assert read_book(path).select("side", "price", "size", "snapshot").rows() == [
        (-1, 223.95, 100.0, True),
        (1, 223.82, 100.0, True),
        (1, 223.0, 40.0, True),
        (1, 223.82, 70.0, False),
        (-1, 224.0, 5.0, False),
    ]
    quotes = read_quotes(path)
    assert quotes["ts"].to_physical()[0] == MIDNIGHT + 34_200_017_459_617
    assert quotes.select("bid", "bid_size", "ask", "ask_size").row(4) == (223.82, 70.0, 223.95, 100.0)


def test_book_without_messages(pair):
    pair[0].unlink()
    with pytest.raises(FileError, match="no times without its message file"):
        read_book(pair[1])


def test_book_with_an_empty_file_of_messages(pair):
    pair[0].write_text("")
    with pytest.raises(DataError, match="more rows than messages"):
        read_book(pair[1])


def test_a_name_that_says_no_day(pair):
    path = pair[0].rename(pair[0].with_name(pair[0].name.replace("2012-06-21", "2012-06-31")))
    with pytest.raises(FileError, match="says no day"):
        read_trades(path)


@pytest.mark.parametrize(("part", "message"), [(0, "more rows than messages"), (1, "fewer rows than messages")])
def test_files_out_of_step(pair, part, message):
    lines = pair[part].read_text().splitlines(keepends=True)
    pair[part].write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match=message):
        read_book(pair[1])


def test_cut_book(pair):
    pair[1].write_text(pair[1].read_text()[:-3])
    with pytest.raises(FileError, match="may be cut"):
        read_quotes(pair[1])
    with pytest.warns(TapeWarning):
        assert read_quotes(pair[1], allow_partial=True).height == 4


def test_time_out_of_the_day(pair):
    pair[0].write_text(pair[0].read_text().replace("34201.000000001", "86401"))
    with pytest.raises(DataError, match="not a time of the day") as caught:
        read_trades(pair[0])
    assert caught.value.row == 4


def test_every_nanosecond_of_a_day_survives(pair):
    seconds = [f"{34_200 + i * 23.4:.0f}.{(i * 104_729_017) % 10**9:09d}" for i in range(1000)]
    rows = sorted(f"{second},4,1,10,2238200,1" for second in seconds)
    pair[0].write_text("\n".join(rows) + "\n")
    expected = [MIDNIGHT + int(row.split(",")[0].replace(".", "")) for row in rows]
    assert read_trades(pair[0])["ts"].to_physical().to_list() == expected


def test_real_day(shared_data):
    tape = open_tape(shared_data / "lobster" / "AMZN_2012-06-21_34200000_57600000_message_1.csv", "trades")
    frame = tape.frame()
    assert tape.counts == {"rows_read": 57_515, "rows_used": 11_419, "other_kinds": 46_096}
    assert frame["ts"].is_sorted()
    assert frame.group_by("side").len().sort("side")["len"].to_list()[1] == 2445
    cents = frame.filter(pl.col("side") != 0)["price"] * 100
    assert np.allclose(cents, cents.round(), atol=1e-9)


@pytest.mark.parametrize(("name", "levels"), [("AMZN", 1), ("AAPL", 10)])
def test_real_books(shared_data, name, levels):
    path = shared_data / "lobster" / f"{name}_2012-06-21_34200000_57600000_orderbook_{levels}.csv"
    with pytest.raises(FileError, match="may be cut"):
        read_quotes(path)
    tape = open_tape(path, "quotes", allow_partial=True)
    with pytest.warns(TapeWarning):
        quotes = tape.frame()
    assert tape.counts["rows_read"] == tape.counts["rows_used"] + 1
    assert (quotes["bid"] < quotes["ask"]).all()


@pytest.mark.parametrize("number", [-4, 0, 8])
def test_a_type_that_is_none_is_no_halt(pair, number):
    message, _ = pair
    message.write_text(message.read_text().rstrip("\n") + f"\n34300,{number},1,1,2238100,1\n")
    tape = open_tape(message, "trades")
    tape.frame()
    assert (tape.counts["halts"], tape.counts["unknown_types"]) == (1, 1)
