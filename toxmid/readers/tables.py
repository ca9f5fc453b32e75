"""Parquet and Arrow IPC files that are in the canonical form already, or in any form that `canonical` takes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from toxmid.errors import DataError, FileError
from toxmid.readers.base import Format, Identity, Lines, Table
from toxmid.readers.files import Head
from toxmid.schema import KINDS, TABLES, Kind, canonical

__all__ = ["FORMATS"]

_ROWS: Final = 1 << 20
_SURE: Final = ("given", "known", "found")  # an assumption of a venue's table is made again, and told as one


_DISTINCT: Final[dict[Kind, tuple[str, ...]]] = {"trades": ("id",), "liquidations": ()}


class Columnar(Format):
    """A file of columns with names and types; sizes are base coin."""

    tables = {  # noqa: RUF012 (constant of the class)
        kind: Table({}, distinct=_DISTINCT.get(kind), base_coin=True) for kind in KINDS
    }

    def __init__(self, name: str, container: str) -> None:
        self.name = name
        self._container = container

    def matches(self, head: Head) -> bool:
        return head.container == self._container

    def clock(self) -> str:
        return "as given (ts)"

    def identify(self, head: Head) -> Identity:
        facts = self._facts(head)
        if facts is not None:
            instrument = facts["instrument"]
            sure = [name for name in ("tick", "lot", "contract_value") if instrument["origin"][name] in _SURE]
            return Identity(instrument["venue"], instrument["symbol"], {name: instrument[name] for name in sure})
        present = [name for name in ("venue", "symbol") if name in self._names(head)]
        if not present:
            return Identity()
        first = next(self._batches(head), None)
        if first is None or first.height == 0:
            return Identity()
        return Identity(**{name: first[name][0] for name in present})

    def kinds(self, head: Head) -> tuple[Kind, ...]:
        """Kinds whose columns are all there; the name tells trades and liquidations apart, if it can."""
        facts = self._facts(head)
        if facts is not None:
            return (facts["kind"],)
        names = set(self._names(head))
        fitting = [kind for kind in KINDS if {field.name for field in TABLES[kind] if not field.optional} <= names]
        fitting = [kind for kind in fitting if kind != "mark" or fitting == ["mark"]]
        named = [kind for kind in fitting if re.search(kind, head.path.name)]
        return tuple(named or fitting)

    def lines(self, head: Head, kind: Kind, *, allow_partial: bool) -> Iterator[Lines]:
        row = 0
        for frame in self._batches(head):
            try:
                table = canonical(frame, kind)
            except DataError as error:
                where = None if error.row is None else row + error.row
                raise DataError(
                    error.message,
                    file=str(head.path),
                    row=where,
                    column=error.column,
                    found=error.found,
                    expected=error.expected,
                ) from None
            times = pl.col("^ts(_event)?$").to_physical()
            labels = [frame[name].cast(pl.String) for name in ("venue", "symbol") if name in frame.columns]
            yield Lines(table.with_columns(times, *labels).with_row_index("row", row), table.height)
            row += table.height

    def converter(self, kind: Kind) -> Callable[[pl.DataFrame], pl.DataFrame]:
        return lambda frame: frame

    def _facts(self, head: Head) -> dict[str, Any] | None:
        """What `toxmid.convert` wrote about a file that it made."""
        with self._opened(head) as file:
            metadata = file.metadata.metadata if self._container == "parquet" else None
        text = (metadata or {}).get(b"toxmid")
        facts: dict[str, Any] | None = None if text is None else json.loads(text)
        return facts

    def _names(self, head: Head) -> list[str]:
        with self._opened(head) as file:
            return list(file.schema_arrow.names if self._container == "parquet" else file.schema.names)

    def _batches(self, head: Head) -> Iterator[pl.DataFrame]:
        with self._opened(head) as file:
            try:
                for batch in self._record_batches(file):
                    yield pl.DataFrame(batch)
            except (pa.ArrowException, OSError) as error:
                raise FileError(f"corrupt {self._container} file: {error}", file=str(head.path)) from None

    def _record_batches(self, file: object) -> Iterator[pa.RecordBatch]:
        if isinstance(file, pa.parquet.ParquetFile):
            yield from file.iter_batches(batch_size=_ROWS)
        elif isinstance(file, pa.ipc.RecordBatchFileReader):
            yield from (file.get_batch(index) for index in range(file.num_record_batches))

    def _opened(self, head: Head) -> pa.parquet.ParquetFile | pa.ipc.RecordBatchFileReader:
        try:
            if self._container == "parquet":
                return pa.parquet.ParquetFile(head.path)
            return pa.ipc.open_file(pa.memory_map(str(head.path)))
        except (pa.ArrowException, OSError) as error:
            raise FileError(f"corrupt or cut {self._container} file: {error}", file=str(head.path)) from None


FORMATS: Final = (Columnar("parquet", "parquet"), Columnar("arrow", "arrow"))
