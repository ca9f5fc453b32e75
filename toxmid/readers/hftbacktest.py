"""Event arrays of hftbacktest 2 (``.npz`` with the array ``data``, or ``.npy``), in nanoseconds.

One array holds depth, snapshots, clears and trades; flags say which, on which side, and whether an event is for the
local clock, the exchange's, or both. Rows of the local clock are read, in their order.
"""

from __future__ import annotations

import contextlib
import tokenize
import warnings
import zipfile
from collections.abc import Iterator
from typing import IO, Any, Final

import numpy as np
import polars as pl

from toxmid.errors import DataError, FileError
from toxmid.readers.base import Clock, Format, Identity, Lines, Table
from toxmid.readers.files import Head, unzipping
from toxmid.schema import Kind

__all__ = ["FORMATS"]

_ROWS: Final = 1 << 18
_NEEDED: Final = {"ev": "whole", "exch_ts": "whole", "local_ts": "whole", "px": "any", "qty": "any"}  # numbers
_NUMBERS: Final = {"whole": "iu", "any": "iuf"}  # letters that numpy has for them
# A header is a line of Python, and numpy raises of a damaged one whatever its parsers do.
_NO_HEADER: Final = (
    ValueError, SyntaxError, tokenize.TokenError, TypeError, KeyError, IndexError, AttributeError, RecursionError
)  # fmt: skip
_KIND: Final = 0xFF
_DEPTH, _TRADE, _CLEAR, _SNAPSHOT = 1, 2, 3, 4
_BUY: Final = 1 << 29
_SELL: Final = 1 << 28
_LOCAL: Final = 1 << 30


class _Levels:
    """Knows what stands in the book, because a clear names a side and a price but no levels."""

    def __init__(self) -> None:
        self._standing = pl.DataFrame(schema={"side": pl.Int8, "price": pl.Float64, "size": pl.Float64})

    def apply(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Replace each clear by deletes of what it clears."""
        parts, start = [], 0
        for index in rows["clear"].arg_true():
            parts += [self._followed(rows[start:index]), self._cleared(rows[index])]
            start = index + 1
        parts.append(self._followed(rows[start:]))
        return pl.concat(parts).drop("clear")

    def _followed(self, rows: pl.DataFrame) -> pl.DataFrame:
        changed = rows.filter(pl.col("price").is_finite()).select("side", "price", "size")
        latest = pl.concat([self._standing, changed]).unique(["side", "price"], keep="last", maintain_order=True)
        self._standing = latest.filter(pl.col("size") > 0)
        return rows

    def _cleared(self, row: pl.DataFrame) -> pl.DataFrame:
        """From the best price up to the one named; all of a side where none is named, both sides where no side is."""
        side, price = row["side"][0], row["price"][0]
        within = (
            pl.col("price") * pl.col("side") >= price * pl.col("side") if np.isfinite(price) and price > 0 else True
        )
        gone = self._standing.filter(pl.lit(side == 0) | (pl.col("side") == side), within)
        self._standing = self._standing.join(gone, on=["side", "price"], how="anti", maintain_order="left")
        levels = gone.select("side", "price", size=pl.lit(0.0))
        return row.drop("side", "price", "size").join(levels, how="cross").select(row.columns)


class Events(Format):
    """Array of events."""

    name = "hftbacktest-npz"
    tables = {  # noqa: RUF012 (constant of the class)
        "trades": Table(
            {name: pl.col(name) for name in ("price", "size", "side")},
            excluded={"exchange_only": ~pl.col("local"), "other_kinds": pl.col("kind") != _TRADE},
        ),
        "book": Table(
            {name: pl.col(name) for name in ("side", "price", "size", "snapshot")},
            excluded={
                "exchange_only": ~pl.col("local"),
                "other_kinds": ~pl.col("kind").is_in([_DEPTH, _CLEAR, _SNAPSHOT]),
            },
            make_expand=lambda: _Levels().apply,
        ),
    }

    def matches(self, head: Head) -> bool:
        return head.container == "numpy"

    def clock(self) -> str:
        return "arrival (local_ts)"

    def identify(self, head: Head) -> Identity:
        return Identity()

    def lines(self, head: Head, kind: Kind, *, allow_partial: bool) -> Iterator[Lines]:
        clock = Clock(("ns",), head.path)
        row = 0
        for events in _arrays(head):
            flags = events["ev"].astype(np.uint64)
            bought, sold = (flags & _BUY) != 0, (flags & _SELL) != 0
            frame = pl.DataFrame(
                {
                    "row": np.arange(row, row + len(events), dtype=np.int64),
                    "local_ts": events["local_ts"].astype(np.int64),
                    "exch_ts": events["exch_ts"].astype(np.int64),
                    "price": events["px"].astype(np.float64),
                    "size": events["qty"].astype(np.float64),
                    "side": bought.astype(np.int8) - sold.astype(np.int8),
                    "kind": (flags & _KIND).astype(np.int64),
                    "local": (flags & _LOCAL) != 0,
                }
            )
            row += len(events)
            frame = frame.with_columns(
                clock.nanoseconds(frame, "local_ts").alias("ts"),
                clock.nanoseconds(frame, "exch_ts").alias("ts_event"),
                snapshot=pl.col("kind") == _SNAPSHOT,
                clear=pl.col("kind") == _CLEAR,
            )
            yield Lines(frame, frame.height)


def _arrays(head: Head) -> Iterator[np.ndarray[Any, np.dtype[Any]]]:
    """Parts of the array; the archive checks its CRC when it reaches the end, so the end is always reached."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(unzipping(head.path))
        file = _opened(head, stack)
        dtype, count = _header(file, head)
        done = 0
        while done < count:
            data = file.read(min(_ROWS, count - done) * dtype.itemsize)
            if not data or len(data) % dtype.itemsize:
                break
            yield np.frombuffer(data, dtype=dtype)
            done += len(data) // dtype.itemsize
        if done < count:
            raise FileError("the array ends in the middle", file=str(head.path), found=done, expected=f"{count} rows")
        if file.read(1):
            raise FileError("there is something else after the array", file=str(head.path))


def _opened(head: Head, stack: contextlib.ExitStack) -> IO[bytes]:
    if not zipfile.is_zipfile(head.path):
        return stack.enter_context(head.path.open("rb"))
    archive = stack.enter_context(zipfile.ZipFile(head.path))
    return stack.enter_context(archive.open(archive.infolist()[0]))


def _header(file: IO[bytes], head: Head) -> tuple[np.dtype[Any], int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy tells of headers of old times, which it reads
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
    except _NO_HEADER as error:
        raise FileError(f"not an array: {error or type(error).__name__}", file=str(head.path)) from None
    missing = [name for name in _NEEDED if name not in (dtype.names or ())]
    if missing or len(shape) != 1:
        raise DataError(
            f"not an array of events: no field {', '.join(missing)}" if missing else "not an array of one dimension",
            file=str(head.path),
            found=dtype.names,
            expected=", ".join(_NEEDED),
        )
    _check_fields(dtype, head)
    return dtype, shape[0]


def _check_fields(dtype: np.dtype[Any], head: Head) -> None:
    """Refuse fields that hold something else than numbers; others than the needed ones may hold what they like."""
    for name, numbers in _NEEDED.items():
        if dtype[name].kind not in _NUMBERS[numbers]:
            raise DataError(
                "not an array of events",
                file=str(head.path),
                column=name,
                found=str(dtype[name]),
                expected=f"{numbers} numbers" if numbers == "whole" else "numbers",
            )
    if dtype.hasobject:
        raise DataError("an array with Python objects cannot be read", file=str(head.path), found=str(dtype))


FORMATS: Final = (Events(),)
