"""Hyperliquid: each trade once, on the taker's side, and liquidations of the user who was forced."""

from __future__ import annotations

import gzip
import re

import pytest

from toxmid.errors import DataError, FileError
from toxmid.instrument import Instrument
from toxmid.readers import open_tape, read_liquidations, read_trades


def test_fills_of_2023(samples):
    tape = open_tape(samples / "hyperliquid" / "trades_2023.csv", "trades")
    assert tape.frame().select("price", "size", "side").rows() == [(1600.5, 2.0, -1), (1600.6, 0.5, 1)]
    assert tape.counts == {"rows_read": 3, "rows_used": 2, "fills_of_makers": 1}


def test_node_fills(samples):
    tape = open_tape(samples / "hyperliquid" / "node_fills_20251010.gz", "trades")
    frame = tape.frame()
    assert frame.select("side", "id", "size").rows() == [(-1, "1", 1.5), (-1, "3", 1.5)]
    assert frame["ts"].to_physical().to_list() == [1760130960250000001] * 2
    assert frame["ts_event"].to_physical().to_list() == [1760130960100000000] * 2
    assert tape.counts == {"rows_read": 5, "rows_used": 2, "fills_of_makers": 2, "not_market_trades": 1}


def test_only_the_user_whom_a_liquidation_names_was_forced(samples):
    tape = open_tape(samples / "hyperliquid" / "node_fills_20251010.gz", "liquidations")
    assert tape.frame().select("side", "price", "size").rows() == [(-1, 4000.0, 1.5)]
    assert tape.counts == {"rows_read": 5, "rows_used": 1, "other_kinds": 4}


def test_several_coins_share_the_stream(write, samples):
    text = gzip.decompress((samples / "hyperliquid" / "node_fills_20251010.gz").read_bytes()).decode()
    both = write("node_fills", text + text.replace('"ETH"', '"@107"').replace('"tid": ', '"tid": 9'))
    with pytest.raises(DataError, match="two instruments"):
        read_trades(both)
    assert read_trades(both, instrument=Instrument(symbol="@107"))["id"].to_list() == ["91", "93"]


def test_line_that_is_no_block(write, samples):
    text = gzip.decompress((samples / "hyperliquid" / "node_fills_20251010.gz").read_bytes()).decode()
    for line in ("[]\n", '{"events": []}\n', text.splitlines()[0].replace('"px"', '"xp"') + "\n"):
        with pytest.raises(DataError, match="not a block of fills") as caught:
            read_trades(write("node_fills", text + line))
        assert caught.value.row == 4


@pytest.mark.parametrize("time", ["1" + "0" * 400, "-1", "1e999", '"soon"'])
def test_a_fill_at_no_time(write, samples, time):
    text = gzip.decompress((samples / "hyperliquid" / "node_fills_20251010.gz").read_bytes()).decode()
    with pytest.raises(DataError, match="not a block of fills") as caught:
        read_trades(write("node_fills", re.sub(r'"time": ?\d+', f'"time":{time}', text, count=1)))
    assert caught.value.row == 1


def test_a_first_row_that_is_too_short(write, samples):
    header = (samples / "hyperliquid" / "trades_2023.csv").read_text().splitlines()[0]
    with pytest.raises(DataError):
        read_trades(write("a.csv", f"{header}\nx,y\n"))


def test_last_word_tells_a_whole_line(write, samples):
    text = (samples / "hyperliquid" / "trades_2023.csv").read_text()
    assert read_trades(write("a.csv", text.removesuffix("\n"))).height == 2
    with pytest.raises(FileError, match="may be cut"):
        read_trades(write("a.csv", text.removesuffix("e\n")))


def test_time_that_is_none(write, samples):
    text = (samples / "hyperliquid" / "trades_2023.csv").read_text().replace("2023-03-01T00:00:07Z", "yesterday")
    with pytest.raises(DataError, match="not a time") as caught:
        read_trades(write("a.csv", text))
    assert (caught.value.row, caught.value.column) == (4, "time")


def test_real_fills(shared_data):
    path = shared_data / "hyperliquid" / "non_mm_trades.csv"
    tape = open_tape(path, "trades", instrument=Instrument(symbol="ETH"))
    frame = tape.frame()
    assert tape.counts == {"rows_read": 35_691, "rows_used": 3627, "other_instruments": 30_020, "fills_of_makers": 2044}
    assert frame["ts"].is_sorted()
    with pytest.raises(FileError, match="name no coin"):
        read_liquidations(shared_data / "hyperliquid" / "liquidations.csv")
