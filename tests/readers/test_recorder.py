"""Home-made recordings: no header, many symbols, rows written twice."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from toxmid.errors import DataError
from toxmid.instrument import Instrument
from toxmid.readers import open_tape, read_liquidations, read_trades
from toxmid.replay import replay

SECOND = 10**9


def test_liquidations(samples):
    tape = open_tape(samples / "recorder" / "liquidations.csv", "liquidations", instrument=Instrument(symbol="BTCUSDT"))
    assert tape.frame().select("side", "price", "size").rows() == [(-1, 99700.5, 0.01)]
    assert tape.counts == {"rows_read": 3, "rows_used": 1, "other_instruments": 1, "duplicates": 1}
    with pytest.raises(DataError, match="two instruments"):
        read_liquidations(samples / "recorder" / "liquidations.csv")


def test_trades(samples):
    tape = open_tape(samples / "recorder" / "trades.csv", "trades", instrument=Instrument(symbol="BTCUSDT"))
    frame = tape.frame()
    assert frame.select("price", "size", "side").rows() == [(99943.5, 0.25, 1), (99947.2, 1.002, -1)]
    assert frame["ts"].to_physical()[0] - frame["ts_event"].to_physical()[0] == 129 * 10**6
    assert tape.counts == {"rows_read": 3, "rows_used": 2, "other_instruments": 1}


def test_what_such_programs_print_besides_is_counted(samples, write):
    """A header with a name too many, greetings glued to a row, a field too many; and rows without an average price."""
    text = (samples / "recorder" / "trades.csv").read_text() + "\n"
    rows = text.splitlines(keepends=True)
    header = "Event Time, Symbol, Aggregate Trade ID, Price, Quantity, First Trade ID, Trade Time, Is Buyer Maker\n"
    glued, printed = "Hello Arbitrage Trading Bot" + rows[0], "<generator object trades at 0x10>\n"
    lines = [header, rows[0], glued, "\n", printed, *rows[1:], rows[2].replace(", True", ", 1, True")]
    path = write("t.csv", "".join(lines))
    tape = open_tape(path, "trades", instrument=Instrument(symbol="BTCUSDT"))
    clean = open_tape(samples / "recorder" / "trades.csv", "trades", instrument=tape.instrument)
    assert tape.frame().equals(clean.frame())
    assert tape.counts == {"rows_read": 8, "rows_used": 2, "blank_lines": 1, "stray_lines": 4, "other_instruments": 1}

    text = (samples / "recorder" / "liquidations.csv").read_text()
    rows = text.splitlines(keepends=True)
    path = write("l.csv", "".join([rows[0], rows[0].replace("99700.5", "None").replace("829829", "829830")]))
    assert read_liquidations(path)["price"].is_nan().to_list() == [False, True]


def test_real_recordings(shared_data):
    folder = shared_data / "recorder"
    tape = open_tape(folder / "binance.csv", "liquidations", instrument=Instrument(symbol="BTCUSDT"))
    tape.frame()
    assert tape.counts == {"rows_read": 3510, "rows_used": 33, "other_instruments": 3449, "duplicates": 28}
    tape = open_tape(folder / "binance_trades.csv", "trades", instrument=Instrument(symbol="BTCUSDT"))
    frame = tape.frame()
    assert tape.counts == {"rows_read": 16_440, "rows_used": 8153, "other_instruments": 8287}
    assert (frame["price"] * frame["size"]).min() > 14_900


@pytest.mark.parametrize("coin", ["BTC", "ETH", "SOL"])
def test_real_liquidations_lie_on_the_side_that_the_market_went(shared_data, coin):
    """The side is that of the forced order: in the minute before longs were sold, the price had fallen."""
    folder = shared_data / "recorder"
    feed = open_tape(
        folder / "binance.csv", "liquidations", instrument=Instrument(symbol=f"{coin}USDT"), sort=True
    ).frame()
    tape = open_tape(folder / "binance_trades.csv", "trades", instrument=Instrument(symbol=f"{coin}USDT"), sort=True)
    prices = tape.frame().select(pl.col("ts").cast(pl.Int64), "price")
    minute = 60 * 10**9
    then = feed.select(pl.col("ts").cast(pl.Int64), "side").join_asof(prices, on="ts", tolerance=minute)
    before = then.with_columns(pl.col("ts") - minute).join_asof(prices, on="ts", tolerance=minute, suffix="_before")
    moves = before.drop_nulls().select(pl.col("side") * (pl.col("price") - pl.col("price_before"))).to_series()
    assert len(moves) > 15
    assert (moves > 0).mean() > 0.85


def test_both_files_are_of_one_market(samples, shared_data, write):
    """Coins in one file, symbols in the other: they are replayed together."""
    folder = samples / "recorder"
    market = Instrument(symbol="BTCUSDT")
    result = replay(
        trades=folder / "trades.csv", liquidations=folder / "liquidations.csv", instrument=market, sort=True
    )
    assert (result.counts["by_input"]["liquidations"]["rows_used"], result.instrument.symbol) == (1, "BTCUSDT")
    text = (folder / "liquidations.csv").read_text()
    usdc = open_tape(write("c.csv", text.replace("BTC,", "BTCUSDC,")), "liquidations", instrument=market)
    with pytest.raises(DataError, match="BTCUSDC"):
        usdc.frame()
    real = shared_data / "recorder"
    span = {
        "start": "2025-01-27T16:55",
        "end": "2025-01-27T17:20",
        "sort": True,
        "instrument": Instrument(symbol="ETHUSDT"),
    }
    both = replay(trades=real / "binance_trades.csv", liquidations=real / "binance.csv", **span)
    assert both.counts["by_input"]["liquidations"]["rows_used"] > 20
    assert both.counts["rows_read"] == both.counts["rows_used"] + both.counts["rows_rejected"]


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "SOLUSDT", "DOGEUSDT"])
def test_real_prices_fall_where_longs_are_liquidated(shared_data, symbol):
    """A venue's word for a side may be the position's; the tape itself tells. Over the minute before, on average."""
    folder, market = shared_data / "recorder", Instrument(symbol=symbol)
    trades = read_trades(folder / "binance_trades.csv", instrument=market)
    forced = read_liquidations(folder / "binance.csv", instrument=market, sort=True)
    times, at = (frame["ts"].to_physical().to_numpy() for frame in (trades, forced))
    logs = trades["price"].log().to_numpy()
    now, before = (np.searchsorted(times, moments, side="right") - 1 for moments in (at, at - 60 * SECOND))
    known = (before >= 0) & (at - times[now] < 30 * SECOND) & (at - 60 * SECOND - times[before] < 30 * SECOND)
    moves = pl.DataFrame({"side": forced["side"], "bps": 1e4 * (logs[now] - logs[before])}).filter(pl.Series(known))
    means = dict(moves.group_by("side").agg(pl.col("bps").mean()).iter_rows())
    assert means[-1] < -20
    assert means[1] > 10
