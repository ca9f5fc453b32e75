"""Plain rows by the compiled decoder: what the way of all formats reads, bit for bit, or not at all."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from toxmid._decode import Decoder, count_lines
from toxmid.errors import DataError, ToxmidError
from toxmid.instrument import Instrument
from toxmid.readers import FORMATS, base, open_tape
from toxmid.readers.base import TextParser

from .conftest import HEADER, T0, trade

BOOK = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"
QUOTES = "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\n"
ROW = "bybit,BTCUSDT,{at},{at},{flag},{side},{price},{amount}\n"


def book(rows: int, **fields: str) -> str:
    words = {"flag": "false", "side": "bid", "price": "6400.5", "amount": "1"} | fields
    return BOOK + "".join(ROW.format(at=T0 + row // 3, **words) for row in range(rows))


@pytest.fixture
def only_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to the way of all formats."""

    def refuse(self: TextParser, block: object) -> None:
        raise AssertionError("the block was not plain")

    monkeypatch.setattr(TextParser, "parse", refuse)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "PLAIN_BLOCK", 300)


def outcome(path, kind, **options):
    """Everything that reading gives: columns as bits, counts; or the error."""
    try:
        tape = open_tape(path, kind, **options)
        frame = tape.frame()
    except ToxmidError as error:
        return type(error), str(error), error.row, error.column, error.found, error.expected
    bits = {name: frame[name].to_list() for name in frame.columns if frame[name].dtype.is_float() is False}
    bits |= {n: frame[n].to_numpy().view(np.uint64).tolist() for n in frame.columns if frame[n].dtype.is_float()}
    return frame.schema, bits, tape.counts, tape.rows


def both_ways(path, kind, monkeypatch, **options):
    """The outcome with the decoder and without."""
    with_decoder = outcome(path, kind, **options)
    formats = tuple(dataclasses.replace(f, plain={}) if isinstance(f, base.Csv) else f for f in FORMATS)
    with monkeypatch.context() as patch:
        patch.setattr("toxmid.readers.FORMATS", formats)
        return with_decoder, outcome(path, kind, **options)


# --- what it reads ---------------------------------------------------------------------------------------------------


def test_plain_files_are_read_by_the_decoder(write, only_plain):
    assert open_tape(write("x.csv", book(10)), "book").frame().height == 10
    text = HEADER + "".join(map(trade, range(10)))
    assert open_tape(write("x_trades.csv", text), "trades").frame()["id"].to_list() == [str(i) for i in range(10)]
    quote = f"bybit,BTCUSDT,{T0},{T0},1.5,100.5,100,\n"
    frame = open_tape(write("y.csv", QUOTES + quote), "quotes").frame()
    assert (frame["bid"][0], frame["ask"][0], frame["ask_size"][0]) == (100.0, 100.5, 1.5)
    assert math.isnan(frame["bid_size"][0])


@pytest.mark.parametrize(
    "field",
    [
        {"price": ""}, {"price": "1e-7"}, {"price": "1E+5"}, {"amount": "0.30000000000000004"},
        {"price": "0.000000012"}, {"price": "123456789012345678901234567890"}, {"amount": "9007199254740993"},
        {"amount": "00012.50"},
        {"price": "99999999"}, {"price": "9999999.9"}, {"price": "0.9999999"}, {"price": "1e400"}, {"amount": "1e-400"},
    ],
)  # fmt: skip
def test_numbers_of_every_length_are_plain(write, monkeypatch, only_plain, field):
    path = write("x.csv", book(20, **field))
    with_decoder = outcome(path, "book")
    monkeypatch.undo()
    assert with_decoder == both_ways(path, "book", monkeypatch)[1]


@pytest.mark.parametrize(
    "change",
    [
        ("6400.5,1\n", "6400.5,x\n"), (",bid,", ",BID,"), (",false,", ",no,"), (",false,", ",1,"), (",bid,", ",,"),
        ("6400.5", "-5"), ("6400.5", ".5"), ("6400.5", "5."), ("6400.5", " 5"), ("6400.5", "1e"), ("6400.5", "NaN"),
        ("6400.5", "inf"), ("6400.5", '"6400.5"'), ("6400.5", "6400.5,7"), (",6400.5", ""), ("bybit", ""),
        ("BTCUSDT", "ETHUSDT"), ("bybit", "bybitx"), ("\n", "\r\n"), ("\n", "\n\n"), ("\n", "\n" + BOOK),
        (f"{T0 + 3}", f"{(T0 + 3) // 1000}"), (f"{T0 + 3}", f"{T0 + 3}000"), (f"{T0 + 3}", ""), (f"{T0 + 3}", "soon"),
        (f"{T0 + 3}", "99999999999999999999"), (f",{T0 + 3},", f",{T0 + 3}.0,"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("row", [5, 11])
def test_one_awkward_row_is_told_as_ever(write, monkeypatch, small_blocks, change, row):
    lines = book(20).splitlines(keepends=True)
    assert change[0] in "".join(lines)
    at = next(i for i in range(row, 20) if change[0] in lines[i])
    lines[at] = lines[at].replace(*change)
    path = write("x.csv", "".join(lines))
    given_instrument = {"instrument": Instrument(symbol="BTCUSDT")} if change[1] == "ETHUSDT" and row == 11 else {}
    first, second = both_ways(path, "book", monkeypatch, **given_instrument)
    assert first == second


@pytest.mark.parametrize("cut", [1, 5, 40, 100])
def test_a_cut_last_line_is_told_as_ever(write, monkeypatch, small_blocks, cut):
    path = write("x.csv", book(20)[:-cut])
    first, second = both_ways(path, "book", monkeypatch)
    assert first == second
    with pytest.warns(UserWarning, match="was dropped"):
        first, second = both_ways(path, "book", monkeypatch, allow_partial=True)
    assert first == second


def test_tapes_beside_each_other_share_buffers_but_no_rows(write, small_blocks, only_plain):
    paths = [write("one.csv", book(400)), write("other.csv", book(400).replace("6400.5", "77.25"))]
    alone = [open_tape(path, "book").frame() for path in paths]
    pieces = zip(*(open_tape(path, "book").frames() for path in paths), strict=False)
    beside = [pl.concat(frames) for frames in zip(*pieces, strict=True)]
    assert beside[0].height > 300
    for together, by_itself in zip(beside, alone, strict=True):
        assert together.equals(by_itself.head(together.height))


def test_the_row_of_an_error_is_that_of_the_file(write, small_blocks):
    lines = book(100).splitlines(keepends=True)
    lines[77] = lines[77].replace("6400.5", "64oo.5")
    with pytest.raises(DataError, match="cannot be read") as caught:
        open_tape(write("x.csv", "".join(lines)), "book").frame()
    assert (caught.value.row, caught.value.column, caught.value.found) == (78, "price", "64oo.5")


def test_time_that_goes_back_is_told_with_its_row(write, small_blocks):
    lines = book(100).splitlines(keepends=True)
    lines[50] = lines[50].replace(str(T0 + 16), str(T0 + 3))
    with pytest.raises(DataError, match="time goes back") as caught:
        list(open_tape(write("x.csv", "".join(lines)), "book").frames(ordered=True))
    assert caught.value.row == 51


def test_another_instrument_than_the_one_asked_for(write, monkeypatch):
    path = write("x.csv", book(9))
    first, second = both_ways(path, "book", monkeypatch, instrument=Instrument(symbol="ETHUSDT"))
    assert first == second
    assert first[0] is DataError


def test_columns_in_another_order_and_further_columns(write, monkeypatch, only_plain):
    names = BOOK.strip().split(",")
    order = [7, 3, 0, 5, 2, 6, 1, 4]
    rows = [line.split(",") for line in book(10).splitlines()]
    text = "".join(",".join(row[i] for i in order) + "\n" for row in rows)
    assert names[order[0]] == "amount"
    path = write("x.csv", text)
    assert outcome(path, "book") == outcome(write("y.csv", book(10)), "book")
    monkeypatch.undo()
    text = "".join(f"{line},1\n" for line in book(10).splitlines()).replace("amount,1", "amount,more")
    further = write("z.csv", text)
    assert outcome(further, "book") == outcome(path, "book")


@pytest.mark.parametrize("kind", ["trades", "quotes", "book"])
def test_real_and_sample_files_both_ways(samples, shared_data, monkeypatch, kind):
    names = {"trades": "_trades_", "quotes": "_quotes_", "book": "_incremental_book_L2_"}
    folders = [samples / "tardis", shared_data / "format-samples", shared_data / "crash-2025-10-10"]
    paths = [path for folder in folders for path in sorted(folder.glob(f"*{names[kind]}*.csv*"))][:6]
    assert paths
    for path in paths:
        first, second = both_ways(path, kind, monkeypatch)
        assert first == second


# --- rows of any kind ------------------------------------------------------------------------------------------------

numbers = st.one_of(
    st.floats(0, 1e9).map(repr),
    st.decimals(0, 10**6, places=3).map(str),
    st.integers(0, 10**20).map(str),
    st.from_regex(r"[0-9]{1,9}\.[0-9]{1,9}", fullmatch=True),
    st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,2})?", fullmatch=True),
)
no_numbers = ["", "-1", "nan", "inf", "1.", ".1", "1_0", "+1", "0x1", " 1", "1 ", '"1"', "1e", "--1"]
awkward = st.one_of(numbers, st.sampled_from(no_numbers))
fields = st.fixed_dictionaries(
    {
        "at": st.sampled_from([str(T0), str(T0 + 1), str(T0), str(T0 // 1000), "", "12", f"{T0}0", f" {T0}"]),
        "flag": st.sampled_from(["false", "true", "false", "True", "0", "", "f"]),
        "side": st.sampled_from(["bid", "ask", "bid", "ask", "buy", "", "bids"]),
        "price": st.one_of(numbers, awkward),
        "amount": awkward,
    }
)
plain_fields = st.fixed_dictionaries(
    {
        "at": st.integers(T0, T0 + 3).map(str),
        "flag": st.sampled_from(["false", "true"]),
        "side": st.sampled_from(["bid", "ask"]),
        "price": numbers,
        "amount": numbers,
    }
)


@settings(max_examples=150, deadline=None)
@given(st.lists(plain_fields, min_size=1, max_size=12), st.lists(st.tuples(st.integers(0, 12), fields), max_size=1))
def test_any_rows_both_ways(tmp_path_factory, rows, others):
    for at, row in others:
        rows.insert(at, row)
    path = tmp_path_factory.mktemp("any") / "x.csv"
    path.write_text(BOOK + "".join(ROW.format(**row) for row in rows), encoding="ascii")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "PLAIN_BLOCK", 200)
        first, second = both_ways(path, "book", patch)
    assert first == second


# --- the decoder -----------------------------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=20))
@example(["0.1", "9007199254740993", "1.7976931348623157e308", "5e-324", "2.2250738585072011e-308", "0.00000000000001"])
def test_numbers_are_rounded_once(texts):
    data = "".join(f"{text}\n" for text in texts).encode()
    (values,) = Decoder([("number", None)]).decode(data, 0, len(texts))
    expected = np.array([float(text) for text in texts])
    assert values.view(np.uint64).tolist() == expected.view(np.uint64).tolist()


LAST = 9 * 10**15
FLAG = ("word", {"true": 1, "false": 0})
ROLES = [("same", "a"), ("time", (1000, 5, LAST)), FLAG, ("text", None), ("number", None)]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 8))
def test_any_bytes_are_refused_or_fit(data, rows):
    for text in (data, data + b"\n", b"a,7,true,x,1\n" + data + b"\n"):
        columns = Decoder(ROLES).decode(text, 0, rows)
        if columns is not None:
            assert text.count(b"\n") >= rows > 0
            assert [len(column) for column in columns[1:3]] == [rows, rows]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(5, LAST), st.booleans(), st.from_regex(r"[!#-+\--~]{1,9}", fullmatch=True)), min_size=1
    )
)
def test_every_role(rows):
    data = "".join(f"a,{time},{str(flag).lower()},{text},{time}\n" for time, flag, text in rows).encode()
    same, times, flags, (ends, texts), values = Decoder(ROLES).decode(data, 0, len(rows))
    assert same is None
    assert times.tolist() == [time * 1000 for time, _, _ in rows]
    assert flags.tolist() == [flag for _, flag, _ in rows]
    assert [bytes(texts[a:b]).decode() for a, b in itertools.pairwise(ends)] == [text for *_, text in rows]
    assert values.tolist() == [float(time) for time, _, _ in rows]


def test_a_file_of_words_only():
    data = b"true\ntrue\nfalse\ntrue\n"
    (flags,) = Decoder([("word", {"true": 1, "false": 0})]).decode(data, 0, 4)
    assert flags.tolist() == [1, 1, 0, 1]


def test_a_wrong_number_of_rows_is_no_answer():
    decoder = Decoder([("number", None)])
    assert decoder.decode(b"1\n2\n", 0, 1) is None
    assert decoder.decode(b"1\n2\n", 0, 3) is None
    assert decoder.decode(b"1\n2", 0, 2) is None
    assert decoder.decode(b"", 0, 0) is None


def test_what_the_decoder_does_not_take():
    with pytest.raises(ValueError, match="1 to 16 fields"):
        Decoder([])
    with pytest.raises(ValueError, match="1 to 16 fields"):
        Decoder([("number", None)], b"\n")
    with pytest.raises(ValueError, match="1 to 12 words"):
        Decoder([("word", {})])
    with pytest.raises(ValueError, match="too long"):
        Decoder([("same", "x" * 64)])
    with pytest.raises(ValueError, match="64 bits"):
        Decoder([("time", (1000, 0, 2**62))])
    with pytest.raises(KeyError):
        Decoder([("colour", None)])
    with pytest.raises(ValueError, match="outside"):
        Decoder([("number", None)]).decode(b"1\n", 3, 1)
    with pytest.raises(ValueError, match="outside"):
        count_lines(b"", 1)


@given(st.binary(max_size=1000), st.integers(0, 1000))
def test_line_ends_are_counted(data, end):
    assert count_lines(data, min(end, len(data))) == data[: min(end, len(data))].count(b"\n")
    assert count_lines(b"\n" * 1000, 1000) == 1000


def test_a_long_label_is_read_all_the_same(write):
    text = book(5).replace("BTCUSDT", "B" * 70)
    assert open_tape(write("x.csv", text), "book").frame().height == 5


def test_words_are_words_whole():
    assert Decoder([("word", {"bid": 1, "ask": -1}), ("number", None)]).decode(b"bids,1\n", 0, 1) is None
