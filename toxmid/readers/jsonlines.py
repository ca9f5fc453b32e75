"""What formats with a JSON message per line share: splitting, decoding, and levels of a book in nested lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import polars as pl

from toxmid.errors import DataError
from toxmid.readers.files import Block
from toxmid.schema import one_line

__all__ = ["LEVELS", "decode", "is_whole", "levels", "split"]

LEVELS: Final = pl.List(pl.List(pl.String))  # [[price, size], ...] as text


def split(block: Block) -> pl.Series:
    """Lines of a block."""
    return pl.Series("line", block.data.decode("utf-8", "replace").removesuffix("\n").split("\n"), dtype=pl.String)


def is_whole(line: bytes) -> bool:
    """Whether a last line without newline is whole: where a message was cut, its braces do not close.

    >>> is_whole(b'1723161256419684465 {"a":[1]}'), is_whole(b'{"a":[1]'), is_whole(b"17231612564196844")
    (True, False, False)
    """
    try:
        return isinstance(json.loads(line[line.find(b"{") :]), dict)
    except (ValueError, RecursionError):
        return False


def decode(messages: pl.DataFrame, column: str, dtype: pl.Struct, path: Path) -> pl.DataFrame:
    """Replace a column of JSON text by the fields of its messages; `row` names the lines.

    Raises
    ------
    DataError
        Broken JSON, with its row.
    """
    try:
        return messages.with_columns(pl.col(column).str.json_decode(dtype)).unnest(column)
    except pl.exceptions.PolarsError as error:
        raise _locate(messages.select("row", column), column, dtype, path, error) from None


def _locate(messages: pl.DataFrame, column: str, dtype: pl.Struct, path: Path, error: Exception) -> DataError:
    """Find what polars could not decode: it names no row."""
    for row, text in messages.iter_rows():
        try:
            json.loads(text)
        except RecursionError:
            return DataError("broken JSON: nested without end", file=str(path), row=row, found=text[-60:])
        except ValueError as problem:
            return DataError(f"broken JSON: {problem}", file=str(path), row=row, found=text[-60:])
    row = _first_unreadable(messages, column, dtype)
    return DataError(f"a message cannot be read: {one_line(error)}", file=str(path), row=row)


def _first_unreadable(messages: pl.DataFrame, column: str, dtype: pl.Struct) -> int:
    """Row of the first message that is JSON, but not with fields of these types."""
    low, high = 0, messages.height - 1  # all before the first are readable, and it is one of these
    while low < high:
        middle = (low + high) // 2
        try:
            messages[low : middle + 1].select(pl.col(column).str.json_decode(dtype))
            low = middle + 1
        except pl.exceptions.PolarsError:
            high = middle
    return int(messages["row"][low])


def levels(frame: pl.DataFrame) -> pl.DataFrame:
    """One row per level of messages with bids in `b` and asks in `a`; messages in their order.

    What is no number becomes NaN, and the core counts it.
    """
    kept = ["row", "ts", "ts_event", "snapshot", *(name for name in ("gap",) if name in frame.columns)]
    halves = [
        frame.select(*kept, pl.lit(side, pl.Int8).alias("side"), level=pl.col(column))
        .filter(pl.col("level").list.len() > 0)
        .explode("level")
        for side, column in ((1, "b"), (-1, "a"))
    ]
    return (
        pl.concat(halves)
        .sort("row", maintain_order=True)
        .with_columns(
            price=pl.col("level").list.get(0, null_on_oob=True).cast(pl.Float64, strict=False),
            size=pl.col("level").list.get(1, null_on_oob=True).cast(pl.Float64, strict=False),
        )
    )
