"""Plain rows of comma separated text, by the compiled decoder: as the vendor's program prints them, nothing else.

A block in which any row is not plain (quotes, blanks, a missing field, another instrument, a time out of range) is left
to the way that all formats are read; so errors, counts and values are the same, whichever way a block was read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from toxmid._decode import LONGEST_WORD, Decoder
from toxmid.readers.base import Csv, Lines, PlainRows
from toxmid.readers.files import Block, Head
from toxmid.schema import MAX_NS, MIN_NS

__all__ = ["Plain", "plain"]

_NS_PER: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


@dataclass(frozen=True)
class Plain:
    """What becomes of a column of the file.

    Parameters
    ----------
    column : str
        Of the canonical table.
    codes : mapping, optional
        Words that may stand in it, and what they become; none: it holds numbers.
    text : bool
        It holds any text.
    """

    column: str
    codes: Mapping[str, int] = field(default_factory=dict)
    text: bool = False

    def role(self) -> tuple[str, Any]:
        """As the decoder takes it."""
        return ("text", None) if self.text else ("word", dict(self.codes)) if self.codes else ("number", None)


@dataclass(frozen=True)
class plain:  # noqa: N801 (used as a function)
    """How the decoder reads the files of a format.

    Parameters
    ----------
    columns : mapping of str to Plain
        What becomes of each column of the file but labels and times. A file with any other column is not read so.
    """

    columns: Mapping[str, Plain]

    def __call__(self, format_: Csv, head: Head, names: Sequence[str]) -> PlainRows | None:
        """Function that reads a block of the file, or gives None where a row is not plain."""
        labels = {column: label for label, column in format_.labels.items()}
        known = {*self.columns, *labels, format_.arrival, format_.event}
        if len(head.lines) < 2 or set(names) != known or len(format_.units) != 1:
            return None
        first = dict(zip(names, head.lines[1].split(format_.separator), strict=False))
        words = [first.get(column, "") for column in labels]
        if not all(0 < len(word.encode()) < LONGEST_WORD and '"' not in word for word in words):
            return None
        factor = _NS_PER[format_.units[0]]
        time = ("time", (factor, -(-MIN_NS // factor), MAX_NS // factor))
        roles = [
            ("same", first[name]) if name in labels else self.columns[name].role() if name in self.columns else time
            for name in names
        ]
        clocks = {format_.arrival: "ts", format_.event: "ts_event"}
        becomes = [clocks.get(name) or (self.columns[name].column if name in self.columns else None) for name in names]
        decoder = Decoder(roles, format_.separator.encode())
        same = {label: first[column] for column, label in labels.items()}
        header = len(head.lines[0].encode()) + 1

        def read(block: Block) -> Lines | None:
            skipped = block.first_row == 1
            rows = block.lines - skipped
            if block.partial or not rows:
                return None
            columns = decoder.decode(block.view, header if skipped else 0, rows)
            if columns is None:
                return None
            series = [_series(name, column) for name, column in zip(becomes, columns, strict=True) if name is not None]
            frame = pl.DataFrame(series).with_row_index("row", block.first_row + skipped)
            return Lines(frame, rows, same=same, converted=True)

        return read


def _series(name: str, column: Any) -> pl.Series:
    if isinstance(column, tuple):
        ends, text = column
        array = pa.StringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(text))
        return pl.Series(name, array)
    return pl.Series(name, column.view(np.bool_) if name == "snapshot" else column)
