"""Bybit: two kinds of trade files and the book of 500 levels."""

from __future__ import annotations

import gzip

import pytest

from toxmid.errors import DataError, FileError
from toxmid.readers import open_tape, read_book, read_trades


def test_trades_of_an_inverse_contract(samples):
    tape = open_tape(samples / "bybit" / "BTCUSD2025-10-10.csv.gz", "trades")
    frame = tape.frame()
    assert frame["ts"].to_physical().to_list() == [1760130960123400000, 1760130960500000000]
    assert frame.select("size", "lots", "side", "id").rows() == [(0.005, 500, 1, "aa-1"), (0.01, 1000, -1, "aa-2")]
    assert tape.instrument.venue == "bybit"


def test_spot_trades(samples):
    tape = open_tape(samples / "bybit" / "AVAXUSDT_2025-10-10.csv.gz", "trades")
    assert tape.frame().select("price", "size", "side").rows() == [(20.01, 3.5, 1), (20.0, 1.0, -1)]
    assert (tape.instrument.venue, tape.instrument.symbol) == ("bybit-spot", "AVAXUSDT")


def test_seconds_with_a_fraction_are_good_to_the_microsecond(write):
    header = "timestamp,symbol,side,size,price,tickDirection,trdMatchID\n"
    stamps = [f"{1_760_130_960 + i // 1000}.{(i * 7919) % 10**6:06d}" for i in range(1000)]
    text = header + "".join(f"{stamp},BTCUSDT,Buy,1,100,PlusTick,{i}\n" for i, stamp in enumerate(stamps))
    frame = read_trades(write("BTCUSDT2025.csv", text), sort=True)
    expected = sorted(int(stamp.replace(".", "")) * 1000 for stamp in stamps)
    assert frame["ts"].to_physical().to_list() == expected


@pytest.mark.parametrize("time", ["inf", "nan", "1e300"])
def test_seconds_that_are_no_time(write, samples, time):
    text = gzip.decompress((samples / "bybit" / "BTCUSD2025-10-10.csv.gz").read_bytes()).decode()
    header, row, *_ = text.splitlines()
    with pytest.raises(DataError, match="time") as caught:
        read_trades(write("a.csv", f"{header}\n{time},{row.partition(',')[2]}\n"))
    assert (caught.value.row, caught.value.column) == (2, "timestamp")


def test_book(samples):
    tape = open_tape(samples / "bybit" / "2025-10-10_AVAXUSDT_ob500.data.zip", "book")
    assert tape.frame().select("side", "price", "size", "snapshot").rows() == [
        (1, 20.0, 5.0, True),
        (1, 19.99, 7.0, True),
        (-1, 20.01, 4.0, True),
        (1, 20.0, 0.0, False),
    ]
    assert tape.counts == {"rows_read": 3, "rows_used": 2, "empty_messages": 1}
    assert tape.instrument.symbol == "AVAXUSDT"


def test_broken_message(write):
    good = '{"topic":"orderbook.500.A","type":"snapshot","ts":1760130960100,"data":{"s":"A","b":[["1","2"]],"a":[]}}\n'
    with pytest.raises(DataError, match="broken JSON") as caught:
        read_book(write("a.data", good + good[:-9] + "\n"))
    assert caught.value.row == 2


def test_real_book(shared_data):
    tape = open_tape(shared_data / "format-samples" / "xrpusdt-ob500.data.zip", "book")
    frame = tape.frame()
    assert tape.counts == {"rows_read": 50, "rows_used": 50}
    assert frame.filter("snapshot").height == 1000
    assert frame["ts"].is_sorted()


def test_messages_that_are_no_book(write):
    levels = '{"s":"A","b":[["1","2"]],"a":[],"u":1}'
    good = f'{{"topic":"orderbook.500.A","type":"snapshot","ts":1760130960100,"data":{levels}}}\n'
    tape = open_tape(write("a.data", good + good.replace("orderbook.500", "publicTrade")), "book")
    assert tape.frame().height == 1
    assert tape.counts == {"rows_read": 2, "rows_used": 1, "other_kinds": 1}
    with pytest.raises(DataError, match="not a message of a book") as caught:
        read_book(write("b.data", good + good.replace("snapshot", "reset")))
    assert (caught.value.row, caught.value.column, caught.value.found) == (2, "type", "reset")


def test_a_last_message_without_newline_is_whole_if_its_braces_close(write):
    levels = '{"s":"A","b":[["1","2"]],"a":[],"u":1}'
    good = f'{{"topic":"orderbook.500.A","type":"snapshot","ts":1760130960100,"data":{levels}}}'
    last = good.replace("snapshot", "delta").replace('"2"', '"3"').replace('"u":1', '"u":2')
    assert read_book(write("a.data", f"{good}\n{last}"))["size"].to_list() == [2.0, 3.0]
    for cut in range(1, len(last)):
        with pytest.raises(FileError, match="the last line has no end"):
            read_book(write("b.data", f"{good}\n{last[:cut]}"))
