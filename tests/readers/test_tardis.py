"""Tardis files: the hand-made samples, checked by eye, and the real ones, accounted for."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from toxmid.errors import DataError
from toxmid.readers import base, open_tape, read, read_book, read_liquidations, read_quotes, read_trades
from toxmid.replay import replay

from .conftest import HEADER, T0, trade, trades


def ns(*microseconds: int) -> list[int]:
    return [value * 1000 for value in microseconds]


def test_trades(samples):
    tape = open_tape(samples / "tardis" / "binance-delivery_trades_2025-10-10_AVAXUSD_PERP.csv.gz", "trades")
    frame = tape.frame()
    arrival = ns(1760130960005100, 1760130960005103, 1760130961505800, 1760130962006000)
    assert frame["ts"].to_physical().to_list() == arrival
    assert frame["ts_event"].to_physical().to_list()[:2] == ns(1760130960000000, 1760130960000000)
    assert frame["side"].to_list() == [1, 1, -1, 0]
    assert frame["id"].to_list() == ["1001", "1002", "1003", "1004"]
    assert frame["lots"].to_list() == [4, 10, 250, 1]
    np.testing.assert_array_equal(frame["size"], [2.0, 100 / 20.01, 2500 / 19.98, 10 / 19.99])
    assert tape.counts == {"rows_read": 5, "rows_used": 4, "duplicates": 1}
    assert (tape.instrument.venue, tape.instrument.symbol) == ("binance-delivery", "AVAXUSD_PERP")


def test_liquidations(samples):
    tape = open_tape(
        samples / "tardis" / "binance-delivery_liquidations_2025-10-10_AVAXUSD_PERP.csv.gz", "liquidations"
    )
    frame = tape.frame()
    assert frame.columns == ["ts", "ts_event", "side", "price", "size"]
    assert frame["side"].to_list() == [-1, 1]
    np.testing.assert_array_equal(frame["size"], [2000 / 19.9, 300 / 20.1])
    assert tape.counts == {"rows_read": 3, "rows_used": 2, "duplicates": 1}


def test_book(samples):
    frame = read_book(samples / "tardis" / "deribit_incremental_book_L2_2020-04-01_BTC-PERPETUAL.csv.gz")
    assert frame["snapshot"].to_list() == [True] * 4 + [False] * 2
    assert frame["side"].to_list() == [1, 1, -1, -1, -1, -1]
    np.testing.assert_array_equal(frame["size"], [1.0, 120 / 6399.5, 2.0, 1190 / 6402, 0.0, 640 / 6401])


def test_quotes_have_ask_first_and_amounts_outside(samples):
    frame = read_quotes(samples / "tardis" / "huobi-dm-swap_quotes_2020-05-01_BTC-USD.csv.gz")
    assert frame.row(0)[2:] == (8000.0, 5.0, 8000.1, 5000 * 100 / 8000.1)
    assert frame["bid"].to_list() == [8000.0, 8000.0]
    assert np.isnan(frame["ask"][1])
    assert np.isnan(frame["ask_size"][1])


def test_book_snapshot_gives_levels_and_best_prices(samples):
    path = samples / "tardis" / "binance-futures_book_snapshot_5_2020-09-01_BTCUSDT.csv.gz"
    tape = open_tape(path, "book")
    book = tape.frame()
    assert book.filter("snapshot").filter(pl.col("side") == 1)["price"].to_list() == [100, 99, 98, 97, 96]
    assert book.filter("snapshot").height == 10
    # The second row changed the best ask and lost the last one; nothing else is said again.
    assert book[10:].select("side", "price", "size").rows() == [(-1, 101.0, 1.5), (-1, 105.0, 0.0)]
    assert tape.counts == {"rows_read": 2, "rows_used": 2}
    assert tape.rows == 12
    quotes = read_quotes(path)
    assert quotes.select("bid", "bid_size", "ask", "ask_size").rows() == [(100, 2, 101, 1), (100, 2, 101, 1.5)]


def test_derivative_ticker_is_a_mark(samples):
    frame = open_tape(
        samples / "tardis" / "binance-futures_derivative_ticker_2025-10-10_AVAXUSDT.csv.gz", "mark"
    ).frame()
    assert frame["price"].to_list() == [20.01, 20.0]


def test_name_tells_trades_from_liquidations(write):
    as_trades, as_liquidations = (write(f"x_{kind}_2025-10-10_A.csv", trades(2)) for kind in ("trades", "liquidations"))
    assert read_trades(as_trades).height == 2
    assert read_liquidations(as_liquidations).height == 2
    with pytest.raises(DataError, match="holds no liquidations"):
        read_liquidations(as_trades)
    with pytest.raises(DataError, match="holds no trades"):
        read_trades(as_liquidations)


def test_kind_tells_them_apart_where_the_name_does_not(write):
    path = write("x.csv", trades(2))
    assert read_trades(path).height == read_liquidations(path).height == 2


def test_equal_liquidations_of_different_moments_stay(write):
    text = HEADER + "".join(trade(i).replace(f",{i},buy", ",,sell") for i in (0, 1))
    assert read_liquidations(write("x_liquidations.csv", text)).height == 2


def test_contracts_beyond_counting_are_for_the_core_to_refuse(write):
    header = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
    rows = [f"binance-delivery,AVAXUSD_PERP,{T0},{T0},{i},buy,20,{size}\n" for i, size in enumerate((1, "1e29"))]
    path = write("a_trades.csv", header + "".join(rows))
    assert read_trades(path)["lots"].to_list() == [1, None]
    assert replay(trades=path).counts["rejected"]["bad_size"] == 1


def test_flag_in_words(write):
    header = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"
    rows = [
        f"bybit,BTCUSDT,1585699200245000,1585699200355684,{flag},bid,6400,1\n"
        for flag in ("true", "false", "True", "0")
    ]
    assert read_book(write("x.csv", header + "".join(rows)))["snapshot"].to_list() == [True, False, True, False]
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_book(write("y.csv", header + rows[0].replace("true", "yes")))
    assert caught.value.column == "is_snapshot"


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("binance-delivery_trades_2025-10-10_AAVEUSD_PERP", 153_481),
        ("binance-delivery_trades_2025-10-10_UNIUSD_PERP", 274_457),
        ("coinbase_trades_2025-10-10_BCH-USD", 58_681),
    ],
)
def test_real_trades(shared_data, name, rows):
    tape = open_tape(shared_data / "crash-2025-10-10" / f"{name}.csv.gz", "trades")
    frame = tape.frame()
    assert tape.counts == {"rows_read": rows, "rows_used": rows}
    assert frame.height == rows
    assert frame["ts"].is_sorted()
    latency = (frame["ts"] - frame["ts_event"]).dt.total_nanoseconds()
    assert latency.min() > 0
    if "delivery" in name:
        coin = frame["lots"] * 10 / frame["price"]
        assert (coin - frame["size"]).abs().max() == 0


@pytest.mark.parametrize(
    ("name", "kind", "rows"),
    [
        ("binance-futures_book_snapshot_25_BTCUSDT.csv", "quotes", 10),
        ("bitmex_trades_XBTUSD.csv", "trades", 10),
        ("deribit_incremental_book_L2_BTC-PERPETUAL.csv", "book", 15),
        ("huobi-dm-swap_quotes_BTC-USD.csv", "quotes", 10),
    ],
)
def test_real_samples(shared_data, name, kind, rows):
    tape = open_tape(shared_data / "format-samples" / name, kind)
    assert tape.frame().height == rows
    assert tape.counts["rows_read"] == tape.counts["rows_used"]
    assert tape.instrument.origin["inverse"] == "known"


@pytest.mark.parametrize("levels", [5, 25])
def test_real_snapshots_agree_with_their_best_prices(shared_data, levels):
    path = shared_data / "format-samples" / f"binance-futures_book_snapshot_{levels}_BTCUSDT.csv"
    book, quotes = read_book(path), read_quotes(path)
    assert book.filter("snapshot").height == 2 * levels
    standing: dict[tuple[int, float], float] = {}
    for row in quotes.iter_rows(named=True):
        for side, price, size in book.filter(pl.col("ts") == row["ts"]).select("side", "price", "size").iter_rows():
            standing[side, price] = size
        prices = {
            side: [price for (at, price), size in standing.items() if at == side and size > 0] for side in (1, -1)
        }
        assert (max(prices[1]), min(prices[-1])) == (row["bid"], row["ask"])
        assert [len(prices[1]), len(prices[-1])] == [levels, levels]


def test_ticker_has_four_tables(samples):
    path = samples / "tardis" / "binance-futures_derivative_ticker_2025-10-10_AVAXUSDT.csv.gz"
    assert read(path, "mark")["index"].to_list() == [20.02, 20.01]
    assert read(path, "index")["price"].to_list() == [20.02, 20.01]
    tape = open_tape(path, "open_interest")
    assert tape.frame()["open_interest"].to_list() == [120000.0]
    assert tape.counts == {"rows_read": 2, "rows_used": 1, "unchanged": 1}
    funding = read(path, "funding")
    assert funding["rate"].to_list() == [0.0001]
    assert str(funding["due"][0]) == "2025-10-11 00:00:00+00:00"


TICKER = (
    "exchange,symbol,timestamp,local_timestamp,funding_timestamp,funding_rate,predicted_funding_rate,open_interest,"
    "last_price,index_price,mark_price\n"
)


def test_figures_that_are_not_there_yet_are_counted_out(write):
    rows = [",,,,20,,", "1760140800000000,0.01,,5,20,,", "1760140800000000,0.01,,5,20,19,", ",,,,20,,", ",,,5,,,21"]
    text = "".join(f"binance-futures,AVAXUSDT,{T0 + i},{T0 + i},{row}\n" for i, row in enumerate(rows))
    path = write("a.csv", TICKER + text)
    for kind, counts in {
        "open_interest": {"rows_used": 1, "no_value": 2, "unchanged": 2},
        "funding": {"rows_used": 1, "no_value": 3, "unchanged": 1},
        "index": {"rows_used": 1, "no_value": 4},
    }.items():
        tape = open_tape(path, kind)
        tape.frame()
        assert tape.counts == {"rows_read": 5, **counts}, kind


def test_a_rate_that_is_only_expected(write):
    rows = ["1760140800000000,0.01,0.02,,20,,", "1760140800000000,0.01,0.03,,20,,", "1760140800000000,0.01,0.03,,21,,"]
    text = "".join(f"bitmex,XBTUSD,{T0 + i},{T0 + i},{row}\n" for i, row in enumerate(rows))
    funding = read(write("a.csv", TICKER + text), "funding")
    assert funding.select("rate", "predicted").rows() == [(0.01, 0.02), (0.01, 0.03)]


def test_unchanged_rows_are_found_across_pieces(write, monkeypatch):
    rows = [f"binance-futures,AVAXUSDT,{T0 + i},{T0 + i},,,,{7 + i // 40},20,,\n" for i in range(120)]
    path = write("a.csv", TICKER + "".join(rows))
    monkeypatch.setattr(base, "BLOCK", 400)
    assert read(path, "open_interest")["open_interest"].to_list() == [7.0, 8.0, 9.0]


def test_open_interest_of_an_inverse_market_becomes_coin(write):
    row = f"binance-delivery,BTCUSD_PERP,{T0},{T0},,,,500,49000,,50000\n"
    assert read(write("a.csv", TICKER + row), "open_interest")["open_interest"].to_list() == [1.0]


def test_options(samples):
    frame = read(samples / "tardis" / "deribit_options_chain_2020-04-01_OPTIONS.csv.gz", "options")
    assert frame["symbol"].to_list() == ["BTC-26JUN20-6000-C", "BTC-26JUN20-7000-P"]
    assert frame["option"].to_list() == [1, -1]
    assert frame["mark_iv"].to_list() == [0.625, 0.6225]  # percent in the file
    best = frame.select("bid", "bid_size", "bid_iv", "ask", "ask_size", "ask_iv")
    assert best.row(1) == (0.19, 5, 0.6, 0.21, 7, 0.65)
    assert str(frame["expiry"][0]) == "2020-06-26 08:00:00+00:00"
    assert frame["open_interest"].is_nan().to_list() == [True, False]
    assert frame["underlying_index"].to_list() == ["SYN.BTC-26JUN20"] * 2


@pytest.mark.parametrize("name", ["251031-80000-C", "251031-80000-P", "251128-102000-C"])
def test_real_options(shared_data, name):
    path = shared_data / "context" / f"okex-options_options_chain_2025-10-10_BTC-USD-{name}.csv.gz"
    tape = open_tape(path, "options")
    frame = tape.frame()
    assert tape.counts["rows_read"] == tape.counts["rows_used"] == frame.height > 70_000
    assert frame["symbol"].unique().to_list() == [f"BTC-USD-{name}"]
    assert frame["option"].unique().to_list() == [1 if name.endswith("C") else -1]
    assert 0.2 < frame["mark_iv"].drop_nans().median() < 1.5  # a fraction in the file
    with pytest.raises(DataError, match="holds no quotes"):
        read_quotes(path)
