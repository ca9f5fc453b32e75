"""Tables as text: how a person reads a number, and a table that fits the width of a terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Final

import polars as pl

__all__ = ["cells", "number_of", "text_table", "wrapped"]

_GAP: Final = 2  # blanks between columns
_KEYS: Final = 3  # columns at most that say what a row is
NOTHING: Final = "–"


def number_of(value: Any) -> str:
    """A value as a person reads it.

    >>> [number_of(x) for x in (0.3412, 12345.6, 0.00012, 17, None, True, "mid")]
    ['0.34', '12,346', '0.0001', '17', '–', 'yes', 'mid']
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _float(value)
    return str(value)


def _float(value: float) -> str:
    if abs(value) >= 1e3:
        return f"{value:,.0f}"
    if 0.0 < abs(value) < 5e-5:
        return "<0.0001" if value > 0 else f"{value:.0e}"
    return f"{value:.4f}".rstrip("0") if 0.0 < abs(value) < 5e-3 else f"{value:.2f}"


def cells(frame: pl.DataFrame) -> tuple[list[str], list[bool], list[list[str]]]:
    """Names of the columns, which of them hold numbers, and the rows as text.

    The ends of an interval, ``x_lo`` and ``x_hi``, go into the cell of ``x``.
    """
    ends = {end for name in frame.columns for end in (f"{name}_lo", f"{name}_hi") if end in frame.columns}
    names = [name for name in frame.columns if name not in ends]
    rows = [[_cell(row, name) for name in names] for row in frame.iter_rows(named=True)]
    return names, [frame.schema[name].is_numeric() for name in names], rows


def _cell(row: dict[str, Any], name: str) -> str:
    text = number_of(row[name])
    low, high = row.get(f"{name}_lo"), row.get(f"{name}_hi")
    if low is None or high is None or math.isnan(low) or low == high:
        return text
    return f"{text} [{number_of(low)}, {number_of(high)}]"


def text_table(frame: pl.DataFrame, width: int) -> str:
    """A table in lines no longer than `width`, in several blocks where it is too wide for one.

    The columns on the left, up to the last one of text among the first three, say what a row is and stand in every
    block.
    """
    names, are_numbers, rows = cells(frame)
    columns = [_column(name, [row[i] for row in rows], are_numbers[i]) for i, name in enumerate(names)]
    keys = max((i for i, is_number in enumerate(are_numbers[:_KEYS]) if not is_number), default=-1) + 1
    return "\n\n".join(_block(block) for block in _blocks(columns[:keys], columns[keys:], width))


def _column(name: str, values: Sequence[str], is_number: bool) -> list[str]:
    """Head of three lines and values, all of one width."""
    widest = max(map(len, values), default=0)
    words = name.split("_")
    head = [name.replace("_", " ")] if len(name) <= widest or len(words) == 1 else _heads(words, widest)
    lines = ["" for _ in range(3 - len(head))] + head
    width = max(widest, *map(len, head))
    return [line.rjust(width) if is_number else line.ljust(width) for line in [*lines, *values]]


def _heads(words: Sequence[str], widest: int) -> list[str]:
    """A name in at most three lines."""
    least = max(widest, *map(len, words))
    lines = textwrap.wrap(" ".join(words), least)
    return lines if len(lines) <= 3 else textwrap.wrap(" ".join(words), 2 * least)[:3]


def _blocks(keys: list[list[str]], values: list[list[str]], width: int) -> Iterable[list[list[str]]]:
    fixed = sum(len(column[0]) + _GAP for column in keys)
    block: list[list[str]] = []
    used = fixed
    for column in values:
        if block and used + len(column[0]) > width:
            yield [*keys, *block]
            block, used = [], fixed
        block.append(column)
        used += len(column[0]) + _GAP
    yield [*keys, *block]


def _block(columns: Sequence[Sequence[str]]) -> str:
    lines = [(" " * _GAP).join(cells_of_line).rstrip() for cells_of_line in zip(*columns, strict=True)]
    head = [line for line in lines[:3] if line]
    rule = "-" * max(map(len, lines))
    return "\n".join([*head, rule, *lines[3:]])


def wrapped(text: str, width: int, mark: str = "") -> str:
    """A paragraph in lines no longer than `width`, after a mark."""
    return textwrap.fill(text, width, initial_indent=mark, subsequent_indent=" " * len(mark), break_on_hyphens=False)
