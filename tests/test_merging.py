"""Pieces of several inputs, put together in order of time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from feeding import START, times, trade_table
from hypothesis import given, settings
from hypothesis import strategies as st

from toxmid.errors import DataError
from toxmid.merging import INPUTS, Columns, rounds
from toxmid.schema import Kind, canonical

NAMES = tuple(INPUTS)
Offsets = list[int]


def mark_table(offsets: Offsets) -> pl.DataFrame:
    """The simplest input: price says which row it is."""
    ts = pl.Series(offsets, dtype=pl.Int64) + START
    return canonical(pl.DataFrame({"ts": ts, "price": [float(i + 1) for i in range(len(offsets))]}), "mark")


def as_input(offsets: Offsets, kind: Kind) -> pl.DataFrame:
    table = mark_table(offsets)
    if kind in ("trades", "liquidations"):
        return table.with_columns(size=pl.lit(1.0), side=pl.lit(1, pl.Int8))
    if kind == "quotes":
        return table.select("ts", bid="price", bid_size="price", ask="price", ask_size="price")
    if kind == "book":
        return table.with_columns(size=pl.lit(1.0), side=pl.lit(1, pl.Int8), snapshot=pl.lit(False))
    if kind == "open_interest":
        return table.select("ts", open_interest="price")
    return table


def pieces(table: pl.DataFrame, cuts: list[int]) -> Iterator[pl.DataFrame]:
    bounds = [0, *sorted(cut % (table.height + 1) for cut in cuts), table.height]
    return iter([table[a:b] for a, b in pairwise(bounds)])


def in_order(given_rounds: list[tuple[Columns | None, ...]]) -> list[tuple[int, int]]:
    """(time, input) of every row, as the core takes them: round by round, each merged."""
    order = []
    for tables in given_rounds:
        order += sorted((int(ts), kind) for kind, table in enumerate(tables) if table is not None for ts in table["ts"])
    return order


streams = st.dictionaries(
    st.sampled_from(NAMES),
    st.tuples(st.lists(st.integers(0, 12), max_size=30).map(sorted), st.lists(st.integers(0, 30), max_size=5)),
    min_size=1,
)


@settings(max_examples=150, deadline=None)
@given(streams)
def test_all_rows_once_and_in_order(given_streams: dict[str, tuple[Offsets, list[int]]]) -> None:
    """However the pieces are cut, and though many rows share a time."""
    tables = {name: as_input(offsets, INPUTS[name]) for name, (offsets, _) in given_streams.items()}
    sources = {name: pieces(tables[name], given_streams[name][1]) for name in tables}
    told: list[int] = []
    taken = list(rounds(sources, on_rows=told.append))
    expected = sorted((ts, NAMES.index(name)) for name, table in tables.items() for ts in times(table))
    assert in_order(taken) == expected
    assert sum(told) == len(expected)
    for name, table in tables.items():
        column = {"quotes": "bid", "open_interest": "open_interest"}.get(name, "price")
        parts = [part[column] for tables_ in taken if (part := tables_[NAMES.index(name)]) is not None]
        held = np.concatenate(parts) if parts else np.empty(0)
        assert held.tolist() == table[column].to_list()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=12).map(sorted),
    st.integers(0, 12),
    st.integers(0, 12),
    st.booleans(),
)
def test_a_column_that_only_some_pieces_have_is_kept(offsets: Offsets, at: int, gap: int, first: bool) -> None:
    """The rows of one moment may fall into two pieces, of which only one says that updates were lost."""
    book = as_input(offsets, "book").with_row_index().with_columns(gap=pl.col("index") == gap % len(offsets))
    parts = [part.drop("index") for part in (book[: at % len(offsets)], book[at % len(offsets) :])]
    has_gap = [part["gap"].to_list() for part in parts]
    parts[0 if first else 1] = parts[0 if first else 1].drop("gap")
    has_gap[0 if first else 1] = [False] * parts[0 if first else 1].height
    other = as_input([0, 1, 1, 2, 3], "trades")
    feed = rounds({"book": iter(parts), "trades": iter([other[:1], other[1:]])})
    taken = [table for tables in feed if (table := tables[NAMES.index("book")]) is not None]
    told = [flag for table in taken for flag in table.get("gap", np.zeros(table["ts"].size, bool))]
    assert told == [*has_gap[0], *has_gap[1]]


def test_what_only_one_piece_has_is_kept() -> None:
    """What a piece without the column says is what the core takes for unknown."""
    flags = ("book", "snapshot", True, 0), ("book", "gap", True, 0)
    for kind, name, value, unknown in (("trades", "lots", 7, 0), ("mark", "index", 7.0, np.nan), *flags):
        parts = [as_input([0], kind), as_input([0, 5], kind).with_columns(pl.lit(value).alias(name))]
        taken = list(rounds({kind: iter(parts), "quotes": iter([as_input([0], "quotes"), as_input([9], "quotes")])}))
        table = next(tables[NAMES.index(kind)] for tables in taken if tables[NAMES.index(kind)] is not None)
        assert np.array_equal(table[name], [unknown, value], equal_nan=True)


def test_pieces_are_asked_for_when_they_are_needed() -> None:
    """Memory is bounded: no input is read further ahead than one piece beyond the others."""
    asked = {"trades": 0, "mark": 0}

    def source(name: str, kind: Kind, step: int) -> Iterator[pl.DataFrame]:
        for begin in range(0, 100, step):
            asked[name] += 1
            yield as_input(list(range(begin, begin + step)), kind)

    feed = rounds({"trades": source("trades", "trades", 10), "mark": source("mark", "mark", 1)})
    for number, _ in enumerate(feed):
        reached = min(asked["trades"] * 10, asked["mark"])
        assert asked["trades"] * 10 <= reached + 20
        assert asked["mark"] <= reached + 2
        if number == 30:
            break
    assert asked["trades"] < 10


def test_nothing_at_all() -> None:
    assert list(rounds({})) == []
    assert list(rounds({"trades": iter([])})) == []
    assert list(rounds({"trades": iter([trade_table([]), trade_table([])])})) == []


@pytest.mark.parametrize(
    ("offsets", "cuts", "row"),
    [([0, 1, 3, 2, 4], [], 3), ([0, 1, 3, 2, 4], [3], 3), ([0, 1, 3, 3, 2, 4], [2, 3], 4), ([5, 4], [1], 1)],
)
def test_time_that_goes_back(offsets: Offsets, cuts: list[int], row: int) -> None:
    """Inside a piece or between two: the row of the tape, whatever else is going on."""
    for other in ({}, {"mark": iter([mark_table([0, 1, 2, 3, 9])])}):
        feed = rounds({"trades": pieces(as_input(offsets, "trades"), cuts), **other})
        with pytest.raises(DataError, match="time goes back in trades") as raised:
            list(feed)
        assert (raised.value.row, raised.value.column) == (row, "ts")
