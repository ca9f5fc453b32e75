"""Deribit trades: a liquidation is a flag on a trade, and names a side of it."""

from __future__ import annotations

import gzip
import json

import pytest

from toxmid.errors import DataError
from toxmid.readers import TapeWarning, open_tape, read, read_liquidations, read_trades

PATHS = pytest.mark.parametrize("suffix", ["csv", "jsonl.gz"])
NAME = "trades_2020-04-01_BTC-PERPETUAL"


@PATHS
def test_trades(samples, suffix):
    tape = open_tape(samples / "deribit" / f"{NAME}.{suffix}", "trades")
    frame = tape.frame()
    assert frame["side"].to_list() == [1, 1, -1]
    assert frame["size"].to_list() == [640 / 6400, 100 / 6399.5, 10 / 6390]  # dollars in the file, not contracts
    assert frame["lots"].to_list() == [64, 10, 1]
    assert tape.counts == {"rows_read": 5, "rows_used": 3, "combo_legs": 1, "block_trades": 1}
    assert (tape.instrument.venue, tape.instrument.symbol) == ("deribit", "BTC-PERPETUAL")


@PATHS
def test_liquidations_take_the_side_that_the_flag_names(samples, suffix):
    """Of a trade that bought, the maker sold; where both sides were forced, both are there."""
    frame = read_liquidations(samples / "deribit" / f"{NAME}.{suffix}")
    assert frame.select("side", "price").rows() == [(-1, 6399.5), (-1, 6390.0), (1, 6390.0)]


@PATHS
def test_mark_and_index(samples, suffix):
    path = samples / "deribit" / f"{NAME}.{suffix}"
    assert read(path, "mark").select("price", "index").row(0) == (6400.2, 6401.0)
    assert read(path, "index")["price"].to_list() == [6401.0, 6401.0, 6400.5, 6400.5, 6400.5]


def test_a_trade_without_any_of_the_optional_columns(write):
    header = "instrument_name,trade_id,timestamp,price,amount,direction\n"
    path = write("a.csv", header + "ETH-PERPETUAL,1,1585699200100,200,10,sell\n")
    assert read_trades(path)["size"].to_list() == [0.05]
    assert read_liquidations(path).height == 0


def lines(samples) -> list[str]:
    return gzip.decompress((samples / "deribit" / f"{NAME}.jsonl.gz").read_bytes()).decode().splitlines(keepends=True)


@pytest.mark.parametrize(
    "damage",
    [
        {"price": "much"},
        {"price": None},
        {"direction": "up"},
        {"liquidation": "X"},
        {"timestamp": 15},
        {"trade_id": None, "amount": []},
        {"timestamp": 10**30},
        {"mark_price": "x"},
    ],
    ids="-".join,
)
def test_what_cannot_be_is_an_error_that_names_the_file(samples, write, damage):
    text = lines(samples)
    trade = json.loads(text[1]) | damage
    path = write("a.jsonl", "".join([text[0], json.dumps(trade) + "\n", text[2]]))
    with pytest.raises(DataError) as caught:
        read_trades(path)
    assert caught.value.file == str(path)


def test_several_instruments(samples, write):
    text = lines(samples)
    other = text[1].replace("BTC-PERPETUAL", "ETH-PERPETUAL").replace('"902"', '"7"')
    with pytest.raises(DataError, match="two instruments"):
        read_trades(write("a.jsonl", text[0] + other))


def test_cut_capture(samples, write):
    text = "".join(lines(samples))[:-30]
    tape = open_tape(write("a.jsonl", text), "trades", allow_partial=True)
    with pytest.warns(TapeWarning, match="last line is cut"):
        assert tape.frame().height == 2
    assert tape.counts["partial_last_line"] == 1
