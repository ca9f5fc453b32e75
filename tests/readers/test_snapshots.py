"""Whole books as changes: the book after every message is the book of that message."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from toxmid.readers.snapshots import Differences

# A message: is it a whole book, and which sizes stand at the four places of a tiny book (0: nothing, or a delete).
MESSAGES = st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 2), min_size=4, max_size=4)), max_size=12)
PLACES = [(1, 99.0), (1, 98.0), (-1, 101.0), (-1, 102.0)]
SCHEMA = {
    "row": pl.UInt32,
    "ts": pl.Int64,
    "side": pl.Int8,
    "price": pl.Float64,
    "size": pl.Float64,
    "snapshot": pl.Boolean,
}


def rows_of(messages) -> pl.DataFrame:
    rows = []
    for number, (whole, sizes) in enumerate(messages):
        levels = [(*place, size) for place, size in zip(PLACES, sizes, strict=True) if size > 0 or not whole]
        rows += [(number, 10 * number, side, price, float(size), whole) for side, price, size in levels]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def books(rows: pl.DataFrame, *, each_whole: bool) -> dict[int, dict[tuple[int, float], float]]:
    """The book after every message; a snapshot clears when it follows updates, or always."""
    book: dict[tuple[int, float], float] = {}
    result = {}
    in_snapshot = False
    for (ts,), message in rows.group_by("ts", maintain_order=True):
        whole = message["snapshot"][0]
        if whole and (each_whole or not in_snapshot):
            book = {}
        in_snapshot = whole
        for side, price, size in message.select("side", "price", "size").iter_rows():
            book[side, price] = size
        result[ts] = {place: size for place, size in book.items() if size > 0}
    return result


@settings(max_examples=80, deadline=None)
@given(MESSAGES, st.integers(1, 12))
def test_same_book_after_every_message(messages, cut):
    rows = rows_of(messages)
    differences = Differences()
    parts = [rows.filter(pl.col("row").is_between(start, start + cut - 1)) for start in range(0, 12, cut)]
    changed = pl.concat([differences.apply(part) for part in parts])
    assert changed.schema == rows.schema
    assert changed.height <= rows.height + sum(size == 0 for _, sizes in messages for size in sizes)
    expected, found = books(rows, each_whole=True), books(changed, each_whole=False)
    standing = {}
    for ts in expected:
        standing = found.get(ts, standing)  # a message that changes nothing has no rows
        assert standing == expected[ts]


def test_updates_pass_untouched():
    rows = rows_of([(True, [1, 1, 1, 1]), (False, [2, 0, 0, 1]), (True, [1, 0, 0, 1]), (False, [2, 2, 2, 2])])
    assert Differences().apply(rows).equals(rows)


def test_whole_books_shrink_to_what_changed():
    rows = rows_of([(True, [1, 1, 1, 1]), (True, [1, 2, 1, 0]), (True, [1, 2, 1, 0])])
    changed = Differences().apply(rows)
    assert changed.filter(pl.col("row") > 0).select("side", "price", "size", "snapshot").rows() == [
        (1, 98.0, 2.0, False),
        (-1, 102.0, 0.0, False),
    ]
