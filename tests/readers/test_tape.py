"""A tape: one instrument, a window, duplicates, contracts, and every row accounted for."""

from __future__ import annotations

import gzip
import hashlib
import itertools

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toxmid.errors import DataError
from toxmid.instrument import Instrument
from toxmid.readers import SeveralInstrumentsError, open_tape, read_trades
from toxmid.readers import tape as tape_module

from .conftest import HEADER, T0, trade, trades

COIN_M = f"binance-delivery,AVAXUSD_PERP,{T0},{T0},1,buy,20,{{}}\n"


def accounted(tape) -> bool:
    counts = dict(tape.counts)
    return counts.pop("rows_read") == sum(counts.values())


def test_inputs_describe_the_files(write):
    path = write("a.csv", trades(2))
    tape = open_tape(path, "trades")
    assert tape.inputs == [
        {
            "path": str(path),
            "format": "tardis-trades",
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    ]


def test_reading_again_starts_anew(write):
    tape = open_tape(write("a.csv", trades(3)), "trades")
    assert tape.frame().equals(tape.frame())
    assert tape.counts == {"rows_read": 3, "rows_used": 3}
    assert tape.rows == 3


@pytest.mark.parametrize(
    ("start", "end", "kept"),
    [
        ("2025-10-10T21:16:01Z", None, ["1", "2", "3", "4"]),
        ((T0 + 1_005_000) * 1000, (T0 + 3_005_000) * 1000, ["1", "2"]),
        (None, "2025-10-10T21:16:02", ["0", "1"]),
        ("2025-10-11", None, []),
    ],
)
def test_window_is_half_open_and_counted(write, start, end, kept):
    tape = open_tape(write("a.csv", trades(5)), "trades", start=start, end=end)
    assert tape.frame()["id"].to_list() == kept
    assert tape.counts.get("outside_window", 0) == 5 - len(kept)
    assert accounted(tape)


def test_empty_window_keeps_the_columns(write):
    assert (
        read_trades(write("a.csv", trades(5)), start="2026-01-01").columns
        == read_trades(write("b.csv", trades(5))).columns
    )


def test_empty_window_of_an_inverse_market_keeps_its_lots(write):
    frame = read_trades(write("a.csv", HEADER + COIN_M.format(4)), start="2026-01-01")
    assert (frame.height, frame.schema["lots"]) == (0, pl.Int64)


def test_duplicates_by_id_only(write):
    twins = trade(1).replace(",1,buy", ",,buy")
    text = HEADER + trade(0) + trade(0, price="21") + twins + twins + trade(2)
    tape = open_tape(write("a.csv", text), "trades")
    assert tape.frame()["price"].to_list() == [20.0] * 4
    assert tape.counts == {"rows_read": 5, "rows_used": 4, "duplicates": 1}


def test_duplicates_across_files(write):
    paths = [write("a.csv", trades(4)), write("b.csv", HEADER + trade(3) + trade(4))]
    tape = open_tape(paths, "trades")
    assert tape.frame()["id"].to_list() == ["0", "1", "2", "3", "4"]
    assert tape.counts["duplicates"] == 1


def test_memory_for_duplicates_is_bounded(monkeypatch):
    monkeypatch.setattr(tape_module, "_REMEMBERED", 10)
    seen = tape_module.Seen()
    for start in range(0, 100, 5):
        frame = pl.DataFrame({"id": [str(i) for i in range(start, start + 5)]})
        assert not seen.before(frame, ("id",)).any()
        assert sum(map(len, seen._keys)) <= 15
    assert seen.before(pl.DataFrame({"id": ["99", "0"]}), ("id",)).to_list() == [True, False]


def test_two_instruments_in_one_file(write):
    text = HEADER + trade(0) + trade(1, symbol="DOTUSDT") + trade(2)
    path = write("a.csv", text)
    with pytest.raises(DataError, match="two instruments") as caught:
        read_trades(path)
    assert (caught.value.row, caught.value.column, caught.value.found) == (3, "symbol", ["AVAXUSDT", "DOTUSDT"])
    tape = open_tape(path, "trades", instrument=Instrument(symbol="DOTUSDT"))
    assert tape.frame()["id"].to_list() == ["1"]
    assert tape.counts == {"rows_read": 3, "rows_used": 1, "other_instruments": 2}


def test_two_instruments_in_two_files(write):
    paths = [write("a.csv", trades(2)), write("b.csv", HEADER + trade(5, symbol="DOTUSDT"))]
    with pytest.raises(DataError, match="two instruments"):
        open_tape(paths, "trades")
    assert open_tape(paths, "trades", instrument=Instrument(symbol="DOTUSDT")).frame()["id"].to_list() == ["5"]


def test_two_venues_in_one_file(write):
    with pytest.raises(DataError, match="two instruments") as caught:
        read_trades(write("a.csv", HEADER + trade(0) + trade(1).replace("binance-futures", "bybit")))
    assert caught.value.column == "venue"


def test_instrument_that_is_not_there(write):
    with pytest.raises(DataError, match="no row of the instrument") as caught:
        read_trades(write("a.csv", trades(2)), instrument=Instrument(symbol="BTCUSDT"))
    assert (caught.value.found, caught.value.expected) == ("AVAXUSDT", "BTCUSDT")


def test_contracts_become_coin(write):
    path = write("a.csv", HEADER + COIN_M.format(4))
    row = read_trades(path).row(0, named=True)
    assert (row["size"], row["lots"]) == (2.0, 4)
    row = read_trades(path, instrument=Instrument(contract_value=100.0)).row(0, named=True)
    assert (row["size"], row["lots"]) == (20.0, 4)


def test_user_may_say_that_sizes_are_coin(write):
    instrument = Instrument(contract_value=1.0, origin={"inverse": "given"})
    frame = read_trades(write("a.csv", HEADER + COIN_M.format(4)), instrument=instrument)
    assert frame["size"][0] == 4.0
    assert "lots" not in frame.columns


def test_linear_contracts(write):
    line = f"okex-swap,ETH-USDT-SWAP,{T0},{T0},1,buy,4000,25\n"
    frame = read_trades(write("a.csv", HEADER + line))
    assert frame["size"].to_list() == [2.5]


@pytest.mark.parametrize(("lot", "amount", "lots"), [(None, "7", 7), (10.0, "70", 7)])
def test_lots_of_an_inverse_market(write, lot, amount, lots):
    frame = read_trades(write("a.csv", HEADER + COIN_M.format(amount)), instrument=Instrument(lot=lot))
    assert frame["lots"].to_list() == [lots]


@pytest.mark.parametrize(("lot", "amount"), [(None, "0.5"), (10.0, "75")])
def test_fraction_of_a_contract(write, lot, amount):
    other = COIN_M.replace(",1,buy", ",2,buy")
    with pytest.raises(DataError, match="no whole number of contracts") as caught:
        read_trades(write("a.csv", HEADER + COIN_M.format(40) + other.format(amount)), instrument=Instrument(lot=lot))
    assert (caught.value.row, caught.value.found) == (3, float(amount))


def test_bad_size_of_an_inverse_market_passes_to_the_core(write):
    frame = read_trades(write("a.csv", HEADER + COIN_M.format("") + COIN_M.format("NaN").replace(",1,buy", ",2,buy")))
    assert frame["size"].is_nan().all()
    assert frame["lots"].to_list() == [None, None]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(st.integers(0, 40), max_size=25), min_size=1, max_size=4))
def test_sorted_tape_has_every_trade_once(write, runs):
    paths = [
        write(f"{index}.csv.gz", gzip.compress((HEADER + "".join(map(trade, run))).encode()))
        for index, run in enumerate(runs)
    ]
    tape = open_tape(paths, "trades", sort=True)
    assert tape.frame()["id"].to_list() == [str(i) for i in sorted({i for run in runs for i in run})]
    assert tape.counts["rows_read"] == sum(map(len, runs))
    assert accounted(tape)


def test_sorting_finds_duplicates_beyond_the_memory_of_the_pass(write, monkeypatch):
    monkeypatch.setattr(tape_module, "_REMEMBERED", 3)
    paths = [write(f"{n}.csv", HEADER + "".join(trade(i) for i in range(n, n + 10))) for n in (0, 10, 20)]
    tape = open_tape([*paths, write("again.csv", trades(5))], "trades", sort=True)
    assert tape.frame().height == 30
    assert tape.counts == {"rows_read": 35, "rows_used": 30, "duplicates": 5}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.lists(st.one_of(st.integers(0, 30).map(str), st.sampled_from(["a", "b", "07", None])), max_size=8),
        max_size=6,
    ),
    st.booleans(),
)
def test_duplicates_are_those_of_a_set(pieces, rising):
    """Numbers that only rise are seen to be new at a glance; all else is looked up."""
    if rising:
        count = itertools.count(0)
        pieces = [[word if word in ("7", "a") else str(next(count)) for word in piece] for piece in pieces]
    found, seen, known = [], tape_module.Seen(), set()
    for piece in pieces:
        frame = pl.DataFrame({"id": pl.Series(piece, dtype=pl.String)})
        found += seen.before(frame, ("id",)).to_list()
    expected = []
    for word in itertools.chain(*pieces):
        expected.append(word is not None and word in known)
        known.add(word)
    assert found == expected


@pytest.mark.parametrize("unnamed", [0, 1])
def test_a_row_that_names_no_instrument_may_be_anybodys(write, unnamed):
    rows = [trade(index, symbol="" if index == unnamed else "AVAXUSDT") for index in range(3)]
    path = write("a_trades.csv", HEADER + "".join(rows))
    with pytest.raises(SeveralInstrumentsError, match="two instruments"):
        read_trades(path)
    tape = open_tape(path, "trades", instrument=Instrument(symbol="AVAXUSDT"))
    assert tape.frame().height == 2
    assert tape.counts["other_instruments"] == 1


def test_a_file_that_names_nothing_is_of_whomever_one_says(write):
    path = write("a_trades.csv", HEADER + "".join(trade(index, symbol="") for index in range(3)))
    assert read_trades(path).height == 3
    assert read_trades(path, instrument=Instrument(symbol="AVAXUSDT")).height == 3


def test_words_in_quotes_and_numbers_without(write):
    """As R and spreadsheets write tables."""
    header = "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\n"
    rows = "".join(f'"binance-futures","AVAXUSDT",{T0 + i},{T0 + i},1,101,100,2\n' for i in range(3))
    tape = open_tape(write("a_quotes.csv", header + rows), "quotes")
    assert tape.frame().height == 3
    assert (tape.instrument.venue, tape.instrument.symbol) == ("binance-futures", "AVAXUSDT")


@pytest.mark.parametrize(
    ("bad", "row", "column", "message"),
    [
        (trade(2, price='"1,000.5"'), 4, "price", "cannot be read .found '1,000.5', expected a number"),
        (trade(2, price="1_000.5"), 4, "price", "cannot be read .found '1_000.5'"),
        (trade(2, side=" buy"), 4, "side", "cannot be read .found ' buy', expected buy, sell"),
        (trade(2, price='"20'), 4, None, "a quote is not closed on its line"),
        (trade(2, price='2"0'), 4, None, "a quote is not closed on its line"),
        (trade(2, price='"20\n"'), 4, None, "a quote is not closed on its line"),
        (trade(2, price="1,000.5"), 4, None, "more fields than columns"),
    ],
)
def test_what_cannot_be_read_is_found_where_it_stands(write, bad, row, column, message):
    path = write("a_trades.csv", HEADER + trade(0) + trade(1) + bad + trade(3))
    with pytest.raises(DataError, match=message) as caught:
        read_trades(path)
    assert (caught.value.file, caught.value.row, caught.value.column) == (str(path), row, column)
