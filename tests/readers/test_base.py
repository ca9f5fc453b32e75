"""Comma separated text: columns by name, and errors that name row and column."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toxmid.errors import DataError, FileError, TapeWarning
from toxmid.readers import files as files_module
from toxmid.readers import open_tape, read_trades

from .conftest import HEADER, T0, trade, trades


def rows_with(index: int, line: str, count: int = 5) -> str:
    """A file of good rows with another one in place of one of them."""
    lines = [trade(i) for i in range(count)]
    lines[index] = line
    return HEADER + "".join(lines)


def test_columns_in_any_order_and_more_than_needed(write):
    lines = [line.split(",") for line in trades(3).splitlines()]
    shuffled = "".join(",".join(["x", *line[::-1]]) + "\n" for line in lines)
    expected = read_trades(write("a.csv", trades(3)))
    assert read_trades(write("b.csv", shuffled)).equals(expected)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_line_ends(write, newline):
    assert read_trades(write("a.csv", trades(4).replace("\n", newline))).height == 4


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        (2, "17601309600x0000", "integer"),
        (3, "1760130960005000.5", "integer"),
        (5, "byu", "buy, sell, unknown"),
        (6, "2O", "a number"),
        (7, "--", "a number"),
    ],
)
def test_what_cannot_be_read_is_located(write, column, value, expected):
    fields = trade(3).strip().split(",")
    fields[column] = value
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_trades(write("a.csv", rows_with(3, ",".join(fields) + "\n")))
    error = caught.value
    assert (error.row, error.column, error.found) == (5, HEADER.strip().split(",")[column], value)
    assert expected in error.expected
    assert error.file.endswith("a.csv")


def test_located_in_a_later_block(write, monkeypatch):
    monkeypatch.setattr(files_module, "BLOCK", 1000)
    monkeypatch.setitem(files_module.blocks.__kwdefaults__, "size", 1000)
    with pytest.raises(DataError) as caught:
        read_trades(write("a.csv", rows_with(150, trade(150, price="x"), 200)))
    assert caught.value.row == 152


def test_more_fields_than_columns(write):
    with pytest.raises(DataError, match="more fields") as caught:
        read_trades(write("a.csv", rows_with(2, trade(2).strip() + ",7\n")))
    assert (caught.value.row, caught.value.found) == (4, ["7"])


@pytest.mark.parametrize("middle", ["x\ry", "\r" + "z" * 200_000])
def test_what_is_no_row_at_all(write, middle):
    with pytest.raises(DataError, match="no row of text with separators") as caught:
        read_trades(write("a.csv", rows_with(2, trade(2, price=middle))))
    assert caught.value.row == 4


def test_open_quote(write):
    with pytest.raises(DataError):
        read_trades(write("a.csv", rows_with(2, trade(2, side='"buy'))))


def test_short_row_is_not_invented(write):
    frame = read_trades(write("a.csv", rows_with(2, trade(2).rsplit(",", 1)[0] + "\n")))
    assert frame["size"].is_nan().to_list() == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("text", "value"), [("", np.nan), ("NaN", np.nan), ("inf", float("inf")), ("-3", -3.0), ("0", 0.0)]
)
def test_values_that_the_core_must_judge_pass(write, text, value):
    size = read_trades(write("a.csv", rows_with(1, trade(1, amount=text))))["size"][1]
    np.testing.assert_equal(size, value)


def test_missing_time(write):
    fields = trade(1).split(",")
    fields[3] = ""
    with pytest.raises(DataError, match="time is missing") as caught:
        read_trades(write("a.csv", rows_with(1, ",".join(fields))))
    assert (caught.value.row, caught.value.column) == (3, "local_timestamp")


@pytest.mark.parametrize(
    ("factor", "unit"),
    [(1000, "nanoseconds"), (1 / 1000, "milliseconds"), (1 / 10**6, "seconds")],
    ids=["ns", "ms", "s"],
)
def test_wrong_unit_is_told(write, factor, unit):
    line = f"binance-futures,AVAXUSDT,{int(T0 * factor)},{int(T0 * factor)},1,buy,20,1\n"
    with pytest.raises(DataError, match=f"looks like {unit}") as caught:
        read_trades(write("a.csv", HEADER + line))
    assert (caught.value.row, caught.value.expected) == (2, "microseconds since 1970")


def test_unit_that_changes_within_a_file(write):
    late = trade(2).replace(str(T0 + 2_000_000), str((T0 + 2_000_000) * 1000))
    with pytest.raises(DataError, match="looks like nanoseconds") as caught:
        read_trades(write("a.csv", rows_with(2, late)))
    assert caught.value.row == 4


def test_blank_lines_and_repeated_headers_are_counted(write):
    text = HEADER + trade(0) + "\n" + trade(1) + HEADER + trade(2) + "\n\n"
    tape = open_tape(write("a.csv", text), "trades")
    assert tape.frame().height == 3
    assert tape.counts == {"rows_read": 7, "rows_used": 3, "blank_lines": 3, "repeated_headers": 1}
    with pytest.raises(DataError) as caught:
        read_trades(write("b.csv", text + trade(3, price="x")))
    assert caught.value.row == 9


def test_day_files_put_together(write):
    packed = gzip.compress(trades(3).encode()) + gzip.compress((HEADER + trade(3)).encode())
    tape = open_tape(write("a.csv.gz", packed), "trades")
    assert tape.frame()["id"].to_list() == ["0", "1", "2", "3"]
    assert tape.counts == {"rows_read": 5, "rows_used": 4, "repeated_headers": 1}


def test_header_only_is_an_empty_tape(write):
    tape = open_tape(write("a.csv", HEADER), "trades")
    assert tape.frame().height == 0
    assert tape.counts == {"rows_read": 0, "rows_used": 0}


def test_two_columns_of_one_name(write):
    with pytest.raises(DataError, match="two columns have one name"):
        read_trades(write("a.csv", HEADER.strip() + ",price\n" + trade(0)))


def test_missing_column_is_named_with_a_guess(write):
    with pytest.raises(FileError, match="needs amount, did you mean 'amnt' for 'amount'"):
        read_trades(write("a.csv", HEADER.replace("amount", "amnt") + trade(0)))


def test_partial_last_line(write):
    text = trades(3) + trade(3)[:-3]
    with pytest.raises(FileError, match="may be cut") as caught:
        read_trades(write("a.csv", text))
    assert caught.value.row == 5
    tape = open_tape(write("a.csv", text), "trades", allow_partial=True)
    with pytest.warns(TapeWarning):
        assert tape.frame().height == 3
    assert tape.counts == {"rows_read": 4, "rows_used": 3, "partial_last_line": 1}


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["buy", "sell", "unknown"]),
            st.floats(1e-8, 1e9, allow_nan=False),
            st.floats(0, 1e9, allow_nan=False),
        ),
        max_size=20,
    )
)
def test_every_number_comes_out_as_it_went_in(write, rows):
    text = HEADER + "".join(
        trade(i, side=side, price=repr(price), amount=repr(size)) for i, (side, price, size) in enumerate(rows)
    )
    frame = read_trades(write("a.csv.gz", gzip.compress(text.encode())))
    codes = {"buy": 1, "sell": -1, "unknown": 0}
    assert frame.select("side", "price", "size").rows() == [(codes[side], price, size) for side, price, size in rows]
    assert frame["ts"].to_physical().to_list() == [(T0 + i * 1_000_000 + 5000) * 1000 for i in range(len(rows))]
