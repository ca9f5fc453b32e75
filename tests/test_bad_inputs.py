"""What a replay tool meets in the wild, and what its user may expect.

A file that is wrong is an error that names it, and nothing is left behind; market data that are wrong are repaired or
left out, and counted. Each test here is one way in which files and markets go wrong, in a sentence; many have closer
tests beside the code that deals with them.
"""

from __future__ import annotations

import gzip
import io
import math
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from toxmid.disk import whole
from toxmid.engine import Engine
from toxmid.errors import DataError, FileError, ToxmidError
from toxmid.instrument import Instrument
from toxmid.params import Params
from toxmid.readers import TapeWarning, open_tape, read, read_book, read_liquidations, read_trades
from toxmid.replay import Replay, replay
from toxmid.schema import canonical

TRADES = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
BOOK = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"
T0 = 1_760_130_960_000_000  # microseconds
NS = T0 * 1000

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return _write


def trade(i: int, *, at: int = T0, symbol: str = "BTCUSDT", price: str = "100", amount: str = "1") -> str:
    side = "buy" if i % 2 else "sell"
    return f"binance-futures,{symbol},{at + i * 1_000_000},{at + i * 1_000_000},{i},{side},{price},{amount}\n"


def level(second: float, side: str, price: float | str, size: float | str, *, snapshot: bool = False) -> str:
    at = int(T0 + second * 1_000_000)
    return f"binance-futures,BTCUSDT,{at},{at},{str(snapshot).lower()},{side},{price},{size}\n"


SEED = level(0, "bid", 99, 5, snapshot=True) + level(0, "ask", 101, 5, snapshot=True)


def of_book(write: Write, rows: str) -> Replay:
    return replay(book=write("binance-futures_incremental_book_L2_1.csv", BOOK + rows), instrument=Instrument(tick=0.5))


def accounted(result: Replay) -> None:
    counts = result.counts
    assert counts["rows_read"] == counts["rows_used"] + counts["rows_rejected"]


# --- files that are wrong --------------------------------------------------------------------------------------------

TEXT = (TRADES + "".join(map(trade, range(200)))).encode()
ZIPPED = io.BytesIO()
with zipfile.ZipFile(ZIPPED, "w", zipfile.ZIP_DEFLATED) as _archive:
    _archive.writestr("a_trades.csv", TEXT)


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]


def _npz(rows: int = 1000) -> bytes:
    names = [("ev", "u8"), ("exch_ts", "i8"), ("local_ts", "i8"), ("px", "f8"), ("qty", "f8")]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, data=np.array([((1 << 30) | 2, NS, NS, 1.0, 1.0)] * rows, names))
    return buffer.getvalue()


def _npy(rows: int = 1000) -> bytes:
    with zipfile.ZipFile(io.BytesIO(_npz(rows))) as archive:
        return archive.read("data.npy")


BAD_FILES = {
    "a truncated gzip": ("a_trades.csv.gz", gzip.compress(TEXT)[:-20], "gzip data end in the middle"),
    "a gzip with a wrong checksum": ("a_trades.csv.gz", _flipped(gzip.compress(TEXT), -6), "corrupt gzip"),
    "garbage after a gzip": ("a_trades.csv.gz", gzip.compress(TEXT) + b"garbage", "something else after the end"),
    "a web page saved as a tape": ("a_trades.csv.gz", b"<!DOCTYPE html><html>404</html>", "web page"),
    "a packed web page": ("a_trades.csv.gz", gzip.compress(b"<html>denied</html>\n"), "web page"),
    "a last line cut in a number": ("a_trades.csv", TEXT[:-3], "last line"),
    "a cut array": ("a.npy", _npy()[:-4000], "ends in the middle"),
    "a cut archive of arrays": ("a.npz", _npz()[:-30], "cut|corrupt"),
    "a bit flip in an archive of arrays": ("a.npz", _flipped(_npz(), 400), "corrupt|not an array|middle"),
    "a zip of which a piece is missing": ("a_trades.zip", ZIPPED.getvalue()[:40] + ZIPPED.getvalue()[60:], "zip"),
    "a bit flip in a zip": ("a_trades.zip", _flipped(ZIPPED.getvalue(), 300), "corrupt"),
    "columns in another order without a header": ("a_trades.csv", b"100,1,binance,BTCUSDT,1,1,1,buy\n", "no format"),
    "candles in a file named as trades": (
        "BTCUSD_PERP-trades-2025-10-10.csv",
        b"1760054400000,121662,121737.5,121662,121689.0,0,1760054459999,0,60,0,0,0\n",
        "candles",
    ),
    "a renamed column": (
        "a_trades.csv",
        TEXT.replace(b"amount", b"amout"),
        "tardis-trades needs amount, did you mean 'amout' for 'amount'\\? .*found 'exchange, symbol, .*, amout'",
    ),
    "a column that is missing": (
        "a_trades.csv",
        TEXT.replace(b",amount", b"").replace(b",1\n", b"\n"),
        "tardis-trades needs amount .found 'exchange, symbol, timestamp, local_timestamp, id, side, price'",
    ),
    "nanoseconds where microseconds belong": ("a_trades.csv", TRADES + trade(0, at=T0 * 1000), "nanoseconds"),
    "zero bytes among the rows": ("a_trades.csv", TEXT[:200] + bytes(4) + TEXT[200:], "row 3: a zero byte"),
    "text of another alphabet": (
        "a_trades.csv",
        TRADES.encode() + b"binance,BTC\xe9,1,1,1,buy,1,1\n",
        "row 2: not text in",
    ),
    "text of a spreadsheet": ("a_trades.csv", TEXT.decode().encode("utf-16"), "UTF-16"),
    "time going back": ("a_trades.csv", TRADES + trade(1) + trade(0), "time goes back"),
    "two instruments": ("a_trades.csv", TRADES + trade(0) + trade(1, symbol="ETHUSDT"), "two instruments"),
    "milliseconds where microseconds belong": ("a_trades.csv", TRADES + trade(0, at=T0 // 1000), "milliseconds"),
    "a time that is no time": ("a_trades.csv", TRADES + trade(0, at=5), "2009..2100"),
    "a time decades ahead": ("a_trades.csv", TRADES + trade(0) + trade(1, at=T0 + 10**15), "is the time right"),
}


@pytest.mark.parametrize("problem", BAD_FILES)
def test_a_bad_file_is_an_error_and_leaves_nothing(problem: str, write: Write, tmp_path: Path) -> None:
    name, content, message = BAD_FILES[problem]
    path = write(name, content)
    with pytest.raises(ToxmidError, match=message):
        replay(trades=path, out=tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("problem", [name for name in BAD_FILES if name != "a time decades ahead"])
def test_the_error_names_the_file(problem: str, write: Write) -> None:
    name, content, _ = BAD_FILES[problem]
    path = write(name, content)
    with pytest.raises((FileError, DataError)) as caught:
        replay(trades=path)
    assert caught.value.file == str(path)


def test_a_cut_file_says_how_far_it_got(write: Write) -> None:
    with pytest.raises(FileError) as caught:
        read_trades(write("a_trades.csv.gz", gzip.compress(TEXT)[:-20]))
    assert caught.value.row is not None


def test_every_member_of_a_gzip_is_read(write: Write) -> None:
    data = gzip.compress(TEXT) + gzip.compress("".join(map(trade, range(200, 400))).encode())
    assert read_trades(write("a_trades.csv.gz", data)).height == 400


def test_zeros_after_a_gzip_are_passed_over_with_a_warning(write: Write) -> None:
    with pytest.warns(TapeWarning, match="zero bytes"):
        assert read_trades(write("a_trades.csv.gz", gzip.compress(TEXT) + bytes(512))).height == 200


def test_a_cut_last_line_may_be_dropped_and_is_counted(write: Write) -> None:
    with pytest.warns(TapeWarning, match="last line is cut"):
        result = replay(trades=write("a_trades.csv", TEXT[:-3]), allow_partial=True)
    assert result.counts["rejected"] == {"partial_last_line": 1}
    accounted(result)


def test_columns_are_found_by_their_names(write: Write) -> None:
    rows = [line.split(",") for line in TEXT.decode().splitlines()]
    other = "\n".join(",".join(row[i] for i in (7, 3, 0, 1, 2, 4, 6, 5)) for row in rows) + "\n"
    assert read_trades(write("b_trades.csv", other)).equals(read_trades(write("a_trades.csv", TEXT)))


def test_quotes_around_every_field_are_no_part_of_it(write: Write) -> None:
    quoted = "".join('"' + line.replace(",", '","') + '"\n' for line in TEXT.decode().splitlines())
    for text in (quoted, TRADES + quoted.split("\n", 1)[1]):
        assert read_trades(write("b_trades.csv", text)).equals(read_trades(write("a_trades.csv", TEXT)))


@pytest.mark.parametrize("content", ["", TRADES], ids=["of no length", "of a header"])
@pytest.mark.filterwarnings("ignore:.*the file is empty")
def test_an_empty_file_is_an_empty_result(write: Write, content: str) -> None:
    result = replay(trades=write("a_trades.csv", content))
    assert (result.bars.height, result.counts["rows_read"]) == (0, 0)
    assert "none: the files hold no rows" in result.summary()


def test_nothing_but_bad_rows_is_said(write: Write) -> None:
    said = replay(trades=write("a_trades.csv", TRADES + trade(0, amount="-1"))).summary()
    assert "none: every row was left out" in said
    assert "1 read, 0 used; left out: 1 bad size" in said


def test_time_filter_keeps_what_it_should_to_the_nanosecond(write: Write) -> None:
    path = write("a_trades.csv", TEXT)
    assert read_trades(path, start=NS + 3 * 10**9, end="2025-10-10T21:16:05Z")["id"].to_list() == ["3", "4"]
    assert read_trades(path, start=NS + 3 * 10**9 + 1, end=NS + 5 * 10**9)["id"].to_list() == ["4"]


def test_rows_out_of_order_can_be_sorted(write: Write) -> None:
    path = write("a_trades.csv", TRADES + trade(3) + trade(1) + trade(2))
    assert read_trades(path, sort=True)["id"].to_list() == ["1", "2", "3"]


def test_one_of_two_instruments_can_be_chosen(write: Write) -> None:
    path = write("a_trades.csv", TRADES + trade(0) + trade(1, symbol="ETHUSDT"))
    tape = open_tape(path, "trades", instrument=Instrument(symbol="ETHUSDT"))
    assert tape.frame().height == 1
    assert tape.counts["other_instruments"] == 1


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    target.write_bytes(b"old")

    def write() -> None:
        with whole(target) as partial:
            partial.write_bytes(b"ne")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


# --- books that are wrong --------------------------------------------------------------------------------------------


def test_a_second_larger_snapshot_is_kept_whole(write: Write) -> None:
    bids = "".join(level(5, "bid", 90 - i, 1, snapshot=True) for i in range(20))
    large = bids + level(5, "ask", 95, 1, snapshot=True)
    book = read_book(write("a_book.csv", BOOK + SEED + level(1, "bid", 98, 1) + large))
    assert book.filter("snapshot").height == 2 + 21


def test_a_file_that_ends_inside_a_snapshot_is_used(write: Write) -> None:
    result = of_book(write, SEED + level(1, "bid", 98, 1) + level(5, "bid", 90, 1, snapshot=True))
    assert result.counts["resets"] == 2
    assert result.bars["bid"][-1] == 90.0


def test_a_snapshot_clears_both_sides(write: Write) -> None:
    late = level(2, "bid", 80, 1, snapshot=True) + level(2, "ask", 82, 1, snapshot=True)
    result = of_book(write, SEED + level(1, "bid", 100, 1) + late)
    assert result.bars.select("bid", "ask").row(-1) == (80.0, 82.0)


def test_a_side_can_be_cleared_alone(write: Write) -> None:
    result = of_book(write, SEED + level(1, "bid", 99, 0) + level(2, "ask", 102, 1))
    assert result.bars.select("bid", "ask", "mid").row(-1) == (None, 101.0, None)


def test_size_is_not_price(write: Write) -> None:
    result = of_book(write, SEED + level(1, "bid", 99, 7))
    assert result.bars.select("bid_size", "ask_size", "depth_bid").row(-1)[:2] == (7.0, 5.0)


def test_a_book_of_snapshots_only_works(write: Write) -> None:
    rows = "".join(
        level(i, side, price + i, 1, snapshot=True) for i in range(5) for side, price in (("bid", 99), ("ask", 101))
    )
    assert of_book(write, rows).bars["mid"].to_list() == [100.0 + i for i in range(5)]


def test_updates_before_the_first_snapshot_are_no_book(write: Write) -> None:
    result = of_book(write, level(-2, "bid", 50, 1) + level(-2, "ask", 51, 1) + SEED)
    assert result.counts["rejected"]["before_snapshot"] == 2
    assert result.bars["mid"].drop_nulls().to_list() == [100.0]
    accounted(result)


def test_a_book_that_never_starts_is_said(write: Write) -> None:
    """Where a row is a message of many levels, rows are used whose levels the engine refuses: the summary tells."""
    deltas = _ob500([("delta", 8), ("delta", 9)])
    result = replay(book=write("a.data", deltas))
    assert result.counts["by_input"]["book"]["events_rejected"] == {"before_snapshot": 4}
    assert "all of 4 left out: 4 before snapshot" in result.summary()
    # No row is used of which no level is: read is used plus left out, and the reason stands there, too.
    assert (result.counts["rows_read"], result.counts["rows_used"], result.counts["rows_rejected"]) == (2, 0, 2)
    assert result.counts["rejected"] == {"all_levels_refused": 2}
    assert "2 read, 0 used; left out: 2 all levels refused" in result.summary()
    started = replay(book=write("b.data", _ob500([("snapshot", 7), ("delta", 8)])))
    assert "events of book" not in started.summary()
    assert (started.counts["rows_used"], started.counts["rejected"]) == (2, {})
    late = replay(book=write("c.data", _ob500([("delta", 6), ("snapshot", 7)])))
    assert late.counts["by_input"]["book"]["events_rejected"] == {"before_snapshot": 2}
    assert "2 of 4 left out: 2 before snapshot" in late.summary()


def test_a_recording_without_the_kind_asked_for_says_what_it_has(write: Write) -> None:
    line = '1723161256419684465 {"stream":"btcusdt@kline_1m","data":{"e":"kline","s":"BTCUSDT"}}\n'
    assert "no rows of this kind (1 of others)" in replay(trades=write("btcusdt_20240808", line)).summary()


def test_a_missed_delete_is_repaired_and_counted(write: Write) -> None:
    result = of_book(write, SEED + level(1, "bid", 103, 1) + level(1, "ask", 104, 1))
    assert (result.counts["repaired_books"], result.counts["levels_removed"]) == (1, 1)
    assert result.bars["mid"][-1] == 103.5


def test_a_book_is_judged_when_its_message_has_ended(write: Write) -> None:
    result = of_book(write, SEED + level(1, "bid", 102, 1) + level(1, "ask", 101, 0) + level(1, "ask", 103, 1))
    assert result.counts["repaired_books"] == result.counts["crossed_books"] == 0
    assert result.bars["mid"][-1] == 102.5


def test_a_crossed_book_has_no_mid(write: Write) -> None:
    result = of_book(write, level(0, "bid", 102, 5, snapshot=True) + level(0, "ask", 101, 5, snapshot=True))
    assert result.counts["crossed_books"] == 1
    assert result.bars["mid"].to_list() == [None]
    assert result.bars["regime"].to_list() == ["one-sided book"]


@pytest.mark.parametrize(
    ("price", "size", "reason"),
    [("98", "-1", "bad_size"), ("nan", "1", "bad_price"), ("inf", "1", "bad_price"), ("98", "NaN", "bad_size"),
     ("98", "", "bad_size"), ("", "1", "bad_price")],
    ids=["negative size", "price that is none", "infinite price", "size that is none", "empty size", "empty price"],
)  # fmt: skip
def test_a_row_that_can_be_no_level_is_refused_and_counted(write: Write, price: str, size: str, reason: str) -> None:
    result = of_book(write, SEED + level(1, "bid", price, size) + level(2, "ask", 102, 1))
    assert {name: n for name, n in result.counts["rejected"].items() if n} == {reason: 1}
    assert result.bars.select("bid", "ask").row(-1) == (99.0, 101.0)
    accounted(result)


def test_deleting_what_is_not_there_is_counted(write: Write) -> None:
    assert of_book(write, SEED + level(1, "bid", 42, 0)).counts["unknown_deletes"] == 1


def test_prices_far_away_and_off_the_grid(write: Write) -> None:
    result = of_book(write, SEED + level(1, "bid", 0.5, 1) + level(1, "ask", 9_000_000, 1) + level(1, "ask", 100.75, 1))
    assert result.counts["prices_off_tick"] == 1
    assert result.counts["rows_used"] == 5
    assert result.bars.select("bid", "ask").row(-1) == (99.0, 101.0)


def test_a_tick_that_is_not_that_of_the_market_is_an_error(write: Write) -> None:
    """A few prices off the tick are odd rows, and counted; a share of them says that the tick is wrong."""
    rows = "".join(level(1 + i / 100, "bid", f"{98 - i / 10:.1f}", 1) for i in range(300))
    path = write("binance-futures_incremental_book_L2_1.csv", BOOK + SEED + rows)
    assert replay(book=path).counts["prices_off_tick"] == 0
    assert replay(book=path, instrument=Instrument(tick=0.1)).counts["prices_off_tick"] == 0
    with pytest.raises(DataError, match="240 of 302 prices of the book are no multiples of the tick"):
        replay(book=path, instrument=Instrument(tick=0.5))


def _ob500(updates: list[tuple[str, int]]) -> str:
    return "".join(
        f'{{"topic":"orderbook.500.AVAXUSDT","type":"{kind}","ts":{1760130960100 + 1000 * i},"data":{{"s":"AVAXUSDT",'
        f'"b":[["{20 - i}","5"]],"a":[["30","4"]],"u":{u},"seq":{u}}}}}\n'
        for i, (kind, u) in enumerate(updates)
    )


@pytest.mark.parametrize("numbers", [(10, 11), (1, 2)], ids=["numbers missing", "numbers beginning anew"])
def test_after_a_break_of_numbers_there_is_no_book_until_a_snapshot(write: Write, numbers: tuple[int, int]) -> None:
    messages = [("snapshot", 7), ("delta", 8), *(("delta", number) for number in numbers), ("snapshot", 20)]
    result = replay(book=write("a.data", _ob500(messages)))
    assert result.counts["sequence_gaps"] == 1
    assert result.bars["mid"][3] is None
    assert result.bars["mid"][-1] == 23.0
    accounted(result)


def test_a_depth_that_stands_still_is_flagged(samples: Path) -> None:
    bands = read(samples / "binance" / "AVAXUSDT-bookDepth-2025-10-10.zip", "depth_bands")
    assert bands.filter("stale").select("side", "percent").rows() == [(1, 1.0)]


def test_no_buffer_is_too_small() -> None:
    engine = Engine(Params(book_without_snapshot=True), Instrument(tick=0.01))
    for i in range(50_000):
        engine.book(NS, 1 if i % 2 else -1, 500_000 + (-1 if i % 2 else 1) * (i + 1) * 7.77, 1.0)
    assert engine.tally()["used"]["book"] == 50_000


EVENTS = [("ev", "u8"), ("exch_ts", "i8"), ("local_ts", "i8"), ("px", "f8"), ("qty", "f8")]
BUY, SELL, LOCAL = 1 << 29, 1 << 28, 1 << 30
DEPTH, TRADE, CLEAR, SNAPSHOT = 1, 2, 3, 4


def of_events(write: Write, events: list[tuple[int, float, float]], names: list[tuple[str, str]] = EVENTS) -> Path:
    """An array of events, a second apart but for those of one snapshot."""
    rows, at = [], NS
    for flag, price, size in events:
        at += 0 if flag & 7 == SNAPSHOT else 10**9
        row = {"ev": flag | LOCAL, "exch_ts": at, "local_ts": at, "px": price, "qty": size}
        rows.append(tuple(row[name] for name, _ in names))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, data=np.array(rows, names))
    return write("b.npz", buffer.getvalue())


WHOLE_BOOK = [(BUY | SNAPSHOT, 99.0, 5.0), (BUY | SNAPSHOT, 98.0, 5.0), (SELL | SNAPSHOT, 101.0, 5.0)]


def test_one_side_is_cleared_and_the_other_stays(write: Write) -> None:
    """A later look at a price that was cleared finds what came after, not what had been there."""
    events = [*WHOLE_BOOK, (BUY | CLEAR, 98.0, 0.0), (BUY | DEPTH, 97.0, 2.0), (BUY | DEPTH, 98.0, 1.0)]
    bars = replay(book=of_events(write, events), instrument=Instrument(tick=1.0)).bars
    assert bars.select("bid", "bid_size", "ask").rows()[1:] == [
        (None, None, 101.0),
        (97.0, 2.0, 101.0),
        (98.0, 1.0, 101.0),
    ]


def test_fields_of_an_array_are_found_by_their_names(write: Write) -> None:
    events = [*WHOLE_BOOK, (BUY | DEPTH, 99.5, 2.0), (SELL | TRADE, 99.5, 1.0)]
    in_order, reversed_ = (read_book(of_events(write, events, names)) for names in (EVENTS, EVENTS[::-1]))
    assert in_order.equals(reversed_)
    assert in_order["size"].to_list() == [5.0, 5.0, 5.0, 2.0]


# --- trades and liquidations that are wrong --------------------------------------------------------------------------


def test_one_trade_written_twice_is_one_trade(write: Write) -> None:
    result = replay(trades=write("a_trades.csv", TRADES + trade(1) + trade(1) + trade(2)))
    assert (result.counts["rows_used"], result.counts["duplicates"]) == (2, 1)
    accounted(result)


def test_two_equal_trades_without_ids_are_two(write: Write) -> None:
    row = f"binance-futures,BTCUSDT,{T0},{T0},,buy,100,1\n"
    assert read_trades(write("a_trades.csv", TRADES + row + row)).height == 2


def test_a_liquidation_written_twice_is_one(write: Write) -> None:
    row = f"binance-futures,BTCUSDT,{T0},{T0},,sell,100,1\n"
    tape = open_tape(write("a_liquidations.csv", TRADES + row + row), "liquidations")
    assert tape.frame().height == 1
    assert tape.counts["duplicates"] == 1


def test_hidden_executions_have_no_side_and_halts_no_price(samples: Path) -> None:
    tape = open_tape(samples / "lobster" / "ABCD_2012-06-21_34200000_57600000_message_2.csv", "trades")
    frame = tape.frame()
    assert frame.filter(pl.col("price") == 223.9)["side"].to_list() == [0]
    assert frame["price"].min() > 200


def test_a_truth_in_words_is_read_as_words(write: Write) -> None:
    header = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
    words = ("true", "True", "1", "false", "False", "0")
    rows = [f"{i},20,1,1,1,{1722816000100 + i},{word}\n" for i, word in enumerate(words)]
    sides = read_trades(write("AVAXUSDT-aggTrades-1.csv", header + "".join(rows)))["side"].to_list()
    assert sides == [-1, -1, -1, 1, 1, 1]


def test_a_print_of_the_insurance_fund_is_no_market_trade(samples: Path) -> None:
    tape = open_tape(samples / "recording" / "usdm_btcusdt_20230405.gz", "trades")
    assert tape.frame()["price"].max() < 28200
    assert tape.counts["not_market_trades"] == 1


def test_the_side_of_a_liquidation_is_that_of_the_forced_order(samples: Path) -> None:
    """Where longs are liquidated, the tape sells."""
    frame = read_liquidations(samples / "deribit" / "trades_2020-04-01_BTC-PERPETUAL.csv")
    assert frame["side"][0] == -1  # the maker of a buy was liquidated, so the maker sold


def test_a_liquidation_counts_at_the_price_of_its_trades_not_at_its_own() -> None:
    """The price of a record is often the bankruptcy price, far from where the order traded."""
    seconds = list(range(400))
    trades = pl.DataFrame(
        {"ts": [NS + s * 10**9 for s in seconds], "price": [100.0 + 0.01 * (s % 2) for s in seconds],
         "size": [1.0 + (s == 390) * 8.0 for s in seconds], "side": [1 if s % 2 else -1 for s in seconds]}
    )  # fmt: skip
    record = {"ts": [NS + 390 * 10**9 + 1], "side": [-1], "size": [9.0]}
    results = [
        replay(trades=trades, liquidations=pl.DataFrame(record | {"price": [price]})).bars["toxic_mean"][-1]
        for price in (100.0, 60.0)
    ]
    assert results[0] == results[1] == pytest.approx(100.0, abs=0.02)


def test_one_trade_larger_than_thousands_of_buckets_closes_them_all() -> None:
    trades = pl.DataFrame({"ts": [NS, NS + 1], "price": [100.0] * 2, "size": [0.5, 50_000.0], "side": [1, -1]})
    result = replay(trades=trades, params=Params(bucket_volume=1.0, window=2))
    assert result.buckets.height == 50_000
    assert result.buckets["volume"].unique().to_list() == [1.0]


@pytest.mark.parametrize(
    ("price", "amount", "reason"),
    [("nan", "1", "bad_price"), ("inf", "1", "bad_price"), ("", "1", "bad_price"), ("-5", "1", "bad_price"),
     ("100", "NaN", "bad_size"), ("100", "-1", "bad_size"), ("100", "", "bad_size"), ("100", "inf", "bad_size")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["trades", "liquidations"])
def test_a_row_that_can_be_no_trade_is_refused_and_counted(
    write: Write, price: str, amount: str, reason: str, kind: str
) -> None:
    bad = TRADES + trade(0) + trade(1, price=price, amount=amount) + trade(2)
    good = {"trades": write("a_trades.csv", TRADES + trade(0) + trade(3))}
    result = replay(**(good | {kind: write(f"b_{kind}.csv", bad)}))  # type: ignore[arg-type]
    assert {name: n for name, n in result.counts["rejected"].items() if n} == {reason: 1}
    accounted(result)


def test_a_trade_of_nothing_is_counted(write: Write) -> None:
    result = replay(trades=write("a_trades.csv", TRADES + trade(0) + trade(1, amount="0")))
    assert {name: n for name, n in result.counts["rejected"].items() if n} == {"zero_size": 1}
    accounted(result)


def test_times_do_not_wrap() -> None:
    with pytest.raises(DataError, match=r"2009\.\.2100"):
        canonical(pl.DataFrame({"ts": pl.Series([2**62], dtype=pl.Datetime("us")), "price": [1.0]}), "mark")


def test_nothing_of_one_run_shows_in_the_next(write: Write) -> None:
    path = write("a_trades.csv", TEXT)
    runs = [replay(trades=path).bars for _ in range(2)]
    assert runs[0].equals(runs[1])


def test_rows_in_are_rows_used_and_rows_counted_out(write: Write) -> None:
    bad = trade(1, price="nan") + trade(2, amount="-1") + trade(3, amount="0")
    result = replay(trades=write("a_trades.csv", TRADES + trade(0) + trade(0) + bad + "\n" + TRADES + trade(4)))
    accounted(result)
    assert {name: n for name, n in result.counts["rejected"].items() if n} == {
        "duplicates": 1, "bad_price": 1, "bad_size": 1, "zero_size": 1, "blank_lines": 1, "repeated_headers": 1,
    }  # fmt: skip
    assert all(math.isfinite(b - a) for a, b in pairwise(result.bars["mid"].drop_nulls()))
