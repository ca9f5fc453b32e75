"""Fewer rows for the screen, none of them invented: whole rows are kept or left out.

Of every bucket of bars the rows are kept in which any drawn column has its smallest or largest value, and around each
episode every row is kept. So every point on the screen is a bar of the table, extremes included, and what is read at
one time belongs to one time.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["fit_windows", "pack", "runs", "select_rows"]

# What a browser draws at once without a wait, and what keeps the file small.
OVERVIEW_ROWS: Final = 30_000
WINDOW_ROWS: Final = 30_000
# Rows that the extremes of one bucket usually take, with some twenty columns: a first guess of the size of a bucket.
_ROWS_PER_BUCKET: Final = 12

Window = tuple[int, int]


def select_rows(
    columns: Sequence[NDArray[np.float64]], windows: Sequence[Window], *, budget: int = OVERVIEW_ROWS
) -> tuple[NDArray[np.int64], int]:
    """Choose the rows to draw.

    Parameters
    ----------
    columns : sequence of ndarray
        Every drawn column, NaN where it has no value. All of one length.
    windows : sequence of (int, int)
        Stretches, end excluded, of which every row is kept.
    budget : int
        Rows at most, besides those of `windows`.

    Returns
    -------
    rows : ndarray of int64
        Rows to draw, ascending.
    bucket : int
        Rows of which the extremes were kept; 1 if every row is drawn.

    Examples
    --------
    >>> rows, bucket = select_rows([np.array([1.0, 5.0, 2.0, 3.0, 3.0, 0.0, 9.0, 4.0])], [], budget=6)
    >>> rows.tolist(), bucket
    ([0, 1, 4, 5, 6], 4)
    """
    length = len(columns[0]) if columns else 0
    keep = np.zeros(length, dtype=bool)
    guess = min(_ROWS_PER_BUCKET, 3 * len(columns))
    bucket = 1 if length <= budget else max(2, math.ceil(length * guess / budget))
    while True:
        keep[:] = bucket == 1
        if bucket > 1:
            for column in columns:
                keep[_extremes(column, bucket)] = True
        if keep.sum() <= budget or bucket >= length:
            break
        bucket *= 2
    for start, stop in windows:
        keep[start:stop] = True
    return np.flatnonzero(keep), bucket


def fit_windows(windows: Sequence[Window], length: int, *, budget: int = WINDOW_ROWS) -> list[bool]:
    """Tell which windows are drawn in full, the first ones first, until their rows fill the budget.

    Examples
    --------
    >>> fit_windows([(0, 60), (30, 90), (200, 300)], 300, budget=100)
    [True, True, False]
    """
    covered = np.zeros(length, dtype=bool)
    left = budget
    chosen = []
    for start, stop in windows:
        new = int(np.count_nonzero(~covered[start:stop]))
        chosen.append(new <= left)
        if new <= left:
            covered[start:stop] = True
            left -= new
    return chosen


def runs(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each run of equal values starts, and its value.

    Examples
    --------
    >>> [part.tolist() for part in runs(np.array([0, 0, 2, 2, 0]))]
    [[0, 2, 4], [0, 2, 0]]
    """
    if len(codes) == 0:
        return codes, codes
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    return starts, codes[starts]


def pack(columns: Mapping[str, tuple[NDArray[Any], int | None]]) -> tuple[list[dict[str, Any]], str]:
    """Pack columns into text: decimal integers, differences, bytes of equal weight together, deflate, base64.

    Parameters
    ----------
    columns : mapping
        Name to values and how many significant digits of the largest value are kept; None for whole numbers.

    Returns
    -------
    table : list of dict
        For each column its name, length, power of ten, and whether a bitmap of missing values precedes it.
    text : str
        The packed bytes.
    """
    table, chunks = [], []
    for name, (values, digits) in columns.items():
        power = 0 if digits is None else _power(values, digits)
        # Dividing by a whole power of ten keeps decimals exact that multiplying by 0.001 would not.
        scaled = values / 10.0**power if power >= 0 else values * 10.0**-power
        missing = np.isnan(scaled)
        whole = np.rint(_carry_forward(scaled, missing)).astype(np.int64)
        steps = np.diff(whole, prepend=0)
        zigzag = ((steps << 1) ^ (steps >> 63)).astype("<u4")
        table.append({"name": name, "length": len(values), "power": power, "gaps": bool(missing.any())})
        chunks += [np.packbits(missing).tobytes()] if missing.any() else []
        chunks.append(zigzag.view(np.uint8).reshape(-1, 4).T.tobytes())
    return table, base64.b64encode(zlib.compress(b"".join(chunks), 9)).decode("ascii")


def _extremes(column: NDArray[np.float64], bucket: int) -> NDArray[np.int64]:
    """Return the rows of smallest, largest and first missing value of every bucket, and its first row."""
    first = np.arange(0, len(column), bucket)
    padded = np.full(len(first) * bucket, np.nan)
    padded[: len(column)] = column
    table = padded.reshape(-1, bucket)
    missing = np.isnan(table)
    offsets = (
        np.where(missing, np.inf, table).argmin(axis=1),
        np.where(missing, -np.inf, table).argmax(axis=1),
        missing.argmax(axis=1),
    )
    rows = np.concatenate([first, *(first + offset for offset in offsets)])
    return rows[rows < len(column)]


def _power(values: NDArray[Any], digits: int) -> int:
    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max()) if finite.size else 0.0
    # Beyond 300 powers of ten themselves leave the range of a double.
    return max(math.floor(math.log10(largest)) + 1 - digits, -300) if largest > 0 else 0


def _carry_forward(values: NDArray[np.float64], missing: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Repeat the last value over gaps: a difference of zero costs nothing."""
    last = np.maximum.accumulate(np.where(missing, -1, np.arange(len(values))))
    return np.where(last >= 0, values[np.maximum(last, 0)], 0.0)
