"""OKX trades, new and old."""

from __future__ import annotations

import pytest

from toxmid.readers import open_tape


def test_contracts_become_coin(samples):
    tape = open_tape(samples / "okx" / "ETH-USDT-SWAP-trades-2025-10-10.zip", "trades")
    assert tape.frame().select("price", "size", "side", "id").rows() == [
        (4000.0, 2.5, -1, "31"),
        (4000.1, 0.1, 1, "32"),
    ]
    assert (tape.instrument.venue, tape.instrument.contract_value) == ("okex-swap", 0.1)


def test_old_files_name_the_instrument_in_the_file_name(samples):
    tape = open_tape(samples / "okx" / "BTC-USDT-trades-2023-04-19.zip", "trades")
    assert tape.frame().select("price", "size", "side").rows() == [(30000.0, 0.5, 1), (29999.9, 0.25, -1)]
    assert (tape.instrument.venue, tape.instrument.symbol) == ("okex", "BTC-USDT")


@pytest.mark.parametrize(
    ("symbol", "venue", "inverse"),
    [("BTC-USD-SWAP", "okex-swap", True), ("BTC-USD-251226", "okex-futures", True), ("BTC-USDT", "okex", False)],
)
def test_venue_from_symbol(write, symbol, venue, inverse):
    text = f"instrument_name,trade_id,side,price,size,created_time,source\n{symbol},1,buy,100.0,2,1760130960123,0\n"
    tape = open_tape(write("x.csv", text), "trades")
    assert (tape.instrument.venue, tape.instrument.inverse) == (venue, inverse)
    assert tape.frame().height == 1


def test_decimal_sizes_stay_on_their_grid(write):
    rows = "".join(f"ETH-USDT-SWAP,{i},buy,4000,{i},1760130960123\n" for i in range(1, 100))
    text = "instrument_name,trade_id,side,price,size,created_time\n" + rows
    assert open_tape(write("x.csv", text), "trades").frame()["size"].to_list() == [i / 10 for i in range(1, 100)]
