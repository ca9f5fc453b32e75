"""Canonical tables: every form a table may come in, and every way it may be wrong."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxmid.errors import DataError, ParameterError
from toxmid.instrument import Instrument
from toxmid.schema import KINDS, MAX_NS, MIN_NS, TABLES, TIME, canonical, columns, empty, parse_time, probable_unit

NS = 1_760_054_400_000_000_000


@pytest.fixture
def tape() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "note": ["a", "b", "c"],
            "side": [1, -1, 0],
            "size": [1, 2, 3],
            "price": [100, 101, 102],
            "ts": [NS, NS, NS + 1],
        }
    )


class Stream:
    """The least an Arrow producer can be."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    "form",
    [
        lambda frame: frame,
        lambda frame: frame.lazy(),
        lambda frame: frame.to_arrow(),
        lambda frame: pd.DataFrame(frame.to_dict(as_series=False)),
        lambda frame: Stream(frame.to_arrow()),
    ],
    ids=["polars", "lazy", "pyarrow", "pandas", "arrow stream"],
)
def test_every_form_gives_the_same_table(tape, form):
    result = canonical(form(tape), "trades")
    assert result.schema == {"ts": TIME, "price": pl.Float64, "size": pl.Float64, "side": pl.Int8}
    assert result.to_dict(as_series=False) == canonical(tape, "trades").to_dict(as_series=False)
    assert result["ts"].to_physical().to_list() == [NS, NS, NS + 1]


def test_not_a_table():
    with pytest.raises(DataError, match="not a table"):
        canonical([1, 2, 3], "trades")
    with pytest.raises(ParameterError, match="trade'"):
        canonical(pl.DataFrame(), "trade")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_empty_is_canonical(kind):
    table = empty(kind)
    assert canonical(table, kind).schema == table.schema
    assert all(array.size == 0 for array in columns(table, kind).values())


def test_a_flag_that_no_row_raises_is_not_handed_to_the_core():
    book = pl.DataFrame(
        {"ts": [NS, NS], "side": [1, -1], "price": 1.0, "size": 1.0, "snapshot": [True, False], "gap": False}
    )
    arrays = columns(canonical(book, "book"), "book")
    assert "gap" not in arrays
    assert (arrays["snapshot"].dtype, arrays["snapshot"].tolist()) == (np.uint8, [1, 0])
    raised = columns(canonical(book.with_columns(snapshot=False, gap=pl.Series([False, True])), "book"), "book")
    assert "snapshot" not in raised
    assert raised["gap"].tolist() == [0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_untyped_empty_table_is_empty(kind):
    table = pl.DataFrame({field.name: [] for field in TABLES[kind]})
    assert canonical(table, kind).schema == {field.name: field.dtype for field in TABLES[kind]}


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_datetimes_of_any_unit_and_zone(tape, unit, zone):
    moments = pl.Series("ts", [dt.datetime(2025, 10, 10)] * 3, dtype=pl.Datetime(unit))
    moments = moments.dt.replace_time_zone("UTC").dt.convert_time_zone(zone) if zone else moments
    result = canonical(tape.with_columns(moments), "trades")
    assert result["ts"].to_physical().to_list() == [NS] * 3


@given(st.integers(MIN_NS, MAX_NS))
def test_nanoseconds_are_kept_to_the_last_digit(ns):
    table = canonical(pl.DataFrame({"ts": [ns], "price": [1.0]}), "mark")
    assert columns(table, "mark")["ts"].tolist() == [ns]


@pytest.mark.parametrize(
    ("value", "unit"),
    [(1_760_054_400, "seconds"), (1_760_054_400_000, "milliseconds"), (1_760_054_400_000_000, "microseconds")],
)
def test_wrong_unit_is_told(tape, value, unit):
    with pytest.raises(DataError, match=f"looks like {unit}") as caught:
        canonical(tape.with_columns(ts=pl.lit(value)), "trades")
    assert (caught.value.row, caught.value.column, caught.value.found) == (0, "ts", value)


@pytest.mark.parametrize("unit", ["ms", "us"])
def test_time_that_would_wrap_is_refused(tape, unit):
    far = pl.Series("ts", [NS // 10**6 * 10**6 // (10**6 if unit == "ms" else 10**3)] * 2 + [2**62]).cast(
        pl.Datetime(unit)
    )
    with pytest.raises(DataError, match="outside 2009") as caught:
        canonical(tape.with_columns(far), "trades")
    assert caught.value.row == 2


@pytest.mark.parametrize("value", [MIN_NS - 1, MAX_NS + 1, -1, 2**63 - 1])
def test_range_of_time(tape, value):
    with pytest.raises(DataError, match="outside 2009"):
        canonical(tape.with_columns(ts=pl.lit(value, dtype=pl.Int64)), "trades")


def test_missing_time_names_the_row(tape):
    with pytest.raises(DataError, match="time is missing") as caught:
        canonical(tape.with_columns(ts=pl.Series([NS, None, NS])), "trades")
    assert caught.value.row == 1


@pytest.mark.parametrize("series", [pl.Series([1.7e18] * 3), pl.Series(["2025-10-10"] * 3)])
def test_time_of_the_wrong_type(tape, series):
    with pytest.raises(DataError, match="wrong type"):
        canonical(tape.with_columns(ts=series), "trades")


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Enum(["BUY", "Sell", "unknown"])])
def test_sides_in_words(tape, dtype):
    words = pl.Series("side", ["BUY", "Sell", "unknown"], dtype=dtype)
    assert canonical(tape.with_columns(words), "trades")["side"].to_list() == [1, -1, 0]


def test_sides_of_a_book(tape):
    book = tape.with_columns(side=pl.Series(["bid", "ask", None]), snapshot=pl.Series([1, 0, None]))
    result = canonical(book, "book")
    assert result["side"].to_list() == [1, -1, 0]
    assert result["snapshot"].to_list() == [True, False, False]
    with pytest.raises(DataError, match="not a side"):
        canonical(book.with_columns(side=pl.lit("buy")), "book")


@pytest.mark.parametrize("sides", [[1, 2, 0], ["buy", "byu", "sell"], [1.0, 0.5, 0.0], [True, True, True]])
def test_what_is_not_a_side(tape, sides):
    with pytest.raises(DataError, match="not a side"):
        canonical(tape.with_columns(side=pl.Series(sides)), "trades")


def test_holes_become_nan_and_zero(tape):
    holes = tape.with_columns(
        price=pl.Series([1.0, None, 3.0]), size=pl.Series([None, 1, 1]), side=pl.Series([1, None, 1])
    )
    result = canonical(holes, "trades")
    np.testing.assert_array_equal(result["price"].to_numpy(), [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(result["size"].to_numpy(), [np.nan, 1.0, 1.0])
    assert result["side"].to_list() == [1, 0, 1]


@pytest.mark.parametrize(
    ("renamed", "hint"),
    [
        ({"size": "amount"}, "'amount' for 'size'"),
        ({"price": "Price"}, "'Price' for 'price'"),
        ({"side": "sied"}, "'sied'"),
    ],
)
def test_missing_column_says_which_was_meant(tape, renamed, hint):
    with pytest.raises(DataError, match=hint) as caught:
        canonical(tape.rename(renamed), "trades")
    assert caught.value.column == next(iter(renamed))
    assert caught.value.found == tape.rename(renamed).columns


def test_missing_columns_are_all_listed(tape):
    with pytest.raises(DataError, match="needs columns bid, bid_size, ask, ask_size"):
        canonical(tape, "quotes")


@pytest.mark.parametrize(
    ("column", "series", "message"),
    [
        ("price", pl.Series(["1", "2", "3"]), "not a column of numbers"),
        ("lots", pl.Series([1.0, 2.0, 3.0]), "lots are counted"),
    ],
)
def test_wrong_types(tape, column, series, message):
    with pytest.raises(DataError, match=message):
        canonical(tape.with_columns(series.alias(column)), "trades")


def test_snapshot_must_be_a_flag(tape):
    with pytest.raises(DataError, match="not a flag"):
        canonical(tape.with_columns(snapshot=pl.lit(2)), "book")


def test_lots_of_an_inverse_market(tape):
    instrument = Instrument(contract_value=10.0, inverse=True, lot=1.0)
    contracts = np.array([1, 7, 100_000])
    sizes = instrument.base_size(contracts, tape["price"].to_numpy())
    result = canonical(tape.with_columns(size=pl.Series(sizes)), "trades", instrument=instrument)
    assert result["lots"].to_list() == contracts.tolist()
    assert "lots" not in canonical(tape, "trades", instrument=Instrument(lot=1.0)).columns
    given_lots = canonical(tape.with_columns(lots=pl.lit(5)), "trades", instrument=instrument)
    assert given_lots["lots"].to_list() == [5, 5, 5]


def test_lots_where_there_is_no_number(tape):
    bad = tape.with_columns(price=pl.Series([np.nan, np.inf, 1.0]), size=pl.Series([1.0, 1.0, None]))
    result = canonical(bad, "trades", instrument=Instrument(inverse=True, contract_value=1.0))
    assert result["lots"].to_list() == [None, None, None]
    assert columns(result, "trades")["lots"].tolist() == [0, 0, 0]


def test_columns_types_and_no_copy(tape):
    table = canonical(tape.with_columns(lots=pl.Series([1, 2, 3]), id=pl.Series([7, 8, 9])), "trades")
    arrays = columns(table, "trades")
    assert {name: array.dtype.str for name, array in arrays.items()} == {
        "ts": "<i8",
        "price": "<f8",
        "size": "<f8",
        "side": "|i1",
        "lots": "<i8",
    }
    assert np.shares_memory(arrays["price"], table["price"].to_numpy(allow_copy=False))
    assert np.shares_memory(arrays["ts"], table["ts"].to_physical().to_numpy(allow_copy=False))
    assert table["id"].to_list() == ["7", "8", "9"]


def test_columns_of_several_chunks_are_contiguous(tape):
    table = canonical(tape, "trades")
    arrays = columns(pl.concat([table, table], rechunk=False), "trades")
    assert all(array.flags["C_CONTIGUOUS"] and array.size == 6 for array in arrays.values())


def test_columns_of_a_book(tape):
    arrays = columns(canonical(tape.with_columns(snapshot=pl.lit(True)), "book"), "book")
    assert arrays["snapshot"].dtype == np.uint8
    assert arrays["snapshot"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "value",
    [
        "2025-10-10",
        "2025-10-10T00:00:00Z",
        " 2025-10-10T02:00:00+02:00 ",
        NS,
        np.int64(NS),
        dt.date(2025, 10, 10),
        dt.datetime(2025, 10, 10),
        dt.datetime(2025, 10, 10, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        np.datetime64("2025-10-10"),
    ],
)
def test_parse_time(value):
    assert parse_time(value) == NS


@pytest.mark.parametrize("value", ["yesterday", 1_760_054_400_000, "1999-01-01", 1.0, True, None, np.datetime64("NaT")])
def test_parse_time_refuses(value):
    with pytest.raises(ParameterError):
        parse_time(value)


@given(st.datetimes(dt.datetime(2009, 1, 1), dt.datetime(2099, 12, 31)))
def test_parse_time_keeps_microseconds(moment):
    assert parse_time(moment) == int(np.datetime64(moment, "us").astype(np.int64)) * 1000
    assert parse_time(moment.isoformat()) == parse_time(moment)


def test_probable_unit():
    assert [probable_unit(NS // 10**k) for k in (0, 3, 6, 9)] == ["ns", "us", "ms", "s"]
    assert probable_unit(0) is None


@pytest.mark.parametrize("index", [["ts"], ["ts", "side"]])
def test_what_pandas_keeps_in_its_index_is_a_column(tape, index):
    assert canonical(tape.to_pandas().set_index(index), "trades").equals(canonical(tape, "trades"))
    assert canonical(tape.to_pandas().set_index(index, drop=False), "trades").equals(canonical(tape, "trades"))


@pytest.mark.parametrize("zone", ["+05:30", "America/New_York", "Mars/Olympus"])
def test_a_time_zone_is_no_part_of_a_time(tape, zone):
    table = tape.to_arrow()
    zoned = table.set_column(4, "ts", table["ts"].cast(pa.timestamp("ns", zone)))
    assert canonical(zoned, "trades").equals(canonical(tape, "trades"))


def test_decimals_of_any_width(tape):
    table = tape.to_arrow()
    wide = table.set_column(3, "price", table["price"].cast(pa.decimal128(30, 4)).cast(pa.decimal256(50, 4)))
    assert canonical(wide, "trades").equals(canonical(tape, "trades"))


def test_a_table_that_is_none_is_an_error_of_ours(tape):
    table = tape.to_arrow()
    with pytest.raises(DataError, match="two columns have one name"):
        canonical(table.append_column("price", table["price"]), "trades")
    with pytest.raises(DataError, match="not a table of typed columns"):
        canonical(tape.to_pandas().assign(price=pd.Series(["x", 1.0, 2.0], dtype=object)), "trades")
