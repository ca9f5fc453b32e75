"""Parquet and Arrow IPC (files and streams), in the canonical form already or in any form that `canonical` takes."""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections.abc import Iterator
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from toxmid.errors import DataError, FileError, TapeWarning, ToxmidError
from toxmid.instrument import Instrument
from toxmid.readers.base import Format, Identity, Lines, Table
from toxmid.readers.files import Head
from toxmid.schema import KINDS, TABLES, Kind, canonical, from_arrow, one_line

__all__ = ["FORMATS"]

_ROWS: Final = 1 << 18
_LABELS: Final = ("venue", "symbol")
_SHORT: Final = 60  # bytes
_SURE: Final = ("given", "known", "found")  # an assumption of a venue's table is made again, and told as one


_DISTINCT: Final[dict[Kind, tuple[str, ...]]] = {"trades": ("id",), "liquidations": ()}


class Columnar(Format):
    """A file of columns with names and types; sizes are base coin."""

    tables = {  # noqa: RUF012 (constant of the class)
        kind: Table({}, distinct=_DISTINCT.get(kind), base_coin=True) for kind in KINDS
    }

    def __init__(self, name: str, *containers: str, spared: tuple[str, ...] = ()) -> None:
        self.name = name
        self._containers = containers
        self._spared = spared  # columns that are not read

    def lean(self) -> Columnar:
        return Columnar(self.name, *self._containers, spared=("ts_event",))

    def matches(self, head: Head) -> bool:
        return head.container in self._containers

    def clock(self) -> str:
        return "as given (ts)"

    def identify(self, head: Head) -> Identity:
        facts = self._facts(head)
        if facts is not None:
            instrument = facts["instrument"]
            sure = [name for name in ("tick", "lot", "contract_value") if instrument["origin"][name] in _SURE]
            found = {name: instrument[name] for name in sure}
            return Identity(instrument["venue"], instrument["symbol"], found, facts.get("grids", {}))
        # A table of options is of many; whose each row is, is part of it.
        labels = ("venue",) if "options" in self.kinds(head) else ("venue", "symbol")
        present = [name for name in labels if name in self.columns_of(head)]
        if not present:
            return Identity()
        first, _ = next(self._batches(head), (pl.DataFrame(), {}))
        if first.height == 0:
            return Identity()
        return Identity(**{name: first[name].cast(pl.String)[0] for name in present})

    def kinds(self, head: Head) -> tuple[Kind, ...]:
        """Kinds whose columns are all there; the name tells trades and liquidations apart, if it can."""
        facts = self._facts(head)
        if facts is not None:
            return (facts["kind"],)
        names = set(self.columns_of(head))
        fitting = [kind for kind in KINDS if {field.name for field in TABLES[kind] if not field.optional} <= names]
        named = [kind for kind in fitting if re.search(kind, head.path.name)]
        if named or "options" in fitting:
            return tuple(named or ["options"])
        # A time and a figure are part of many tables. Where they are all there is, a price is a mark.
        events = [kind for kind in fitting if kind in ("trades", "book", "quotes", "liquidations")]
        return tuple(events or [kind for kind in fitting if kind != "index"])

    def lines(self, head: Head, kind: Kind, *, allow_partial: bool) -> Iterator[Lines]:
        return self._lines(head, kind, allow_partial=allow_partial)

    def _lines(self, head: Head, kind: Kind, *, allow_partial: bool) -> Iterator[Lines]:
        row, unrepeated = 0, kind == "liquidations" and self._facts(head) is not None
        for frame, known in self._batches(head, kind, allow_partial=allow_partial):
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
            times = [table[name].cast(pl.Int64) for name in ("ts", "ts_event") if name in table.columns]
            labels = [frame[name] for name in _LABELS if name in frame.columns and name not in table.columns]
            same = known | {label.name: word for label in labels if (word := _only_word(label)) is not None}
            varying = [label.cast(pl.String) for label in labels if label.name not in same]
            rows = table.with_columns(*times, *varying).with_row_index("row", row)
            yield Lines(rows, table.height, same=same, converted=True, judged=True, unrepeated=unrepeated)
            row += table.height

    def _facts(self, head: Head) -> dict[str, Any] | None:
        """What `toxmid.convert` wrote about a file that it made."""
        with self._opened(head) as file, self._believing(head):
            metadata = file.metadata.metadata if isinstance(file, pa.parquet.ParquetFile) else None
            text = (metadata or {}).get(b"toxmid")
            if text is None:
                return None
            facts: dict[str, Any] = json.loads(text)
            Instrument.from_dict(facts["instrument"])
            if facts["kind"] not in KINDS:
                raise ValueError(facts["kind"])
            return facts

    def columns_of(self, head: Head) -> list[str]:
        with self._opened(head) as file, self._believing(head):
            return self._names_in(file)

    def _names_in(self, file: Any) -> list[str]:
        return list(file.schema_arrow.names if isinstance(file, pa.parquet.ParquetFile) else file.schema.names)

    def _batches(
        self, head: Head, kind: Kind | None = None, *, allow_partial: bool = False
    ) -> Iterator[tuple[pl.DataFrame, dict[str, str]]]:
        """Pieces of the file, of which only what the kind needs is read, and labels that the file says once for all."""
        with self._opened(head) as file, self._believing(head):
            names = self._names_in(file)
            twice = [name for index, name in enumerate(names) if name in names[:index]]
            if twice:
                raise DataError("two columns have one name", file=str(head.path), column=twice[0], found=names)
            if isinstance(file, pa.parquet.ParquetFile):
                yield from self._groups(file, kind)
                return
            stream = isinstance(file, pa.ipc.RecordBatchStreamReader)
            batches = _streamed(head, allow_partial) if stream else _filed(file)
            for batch in batches:
                for start in range(0, batch.num_rows, _ROWS):
                    yield _frame(batch.slice(start, _ROWS)), {}

    def _groups(self, file: pa.parquet.ParquetFile, kind: Kind | None) -> Iterator[tuple[pl.DataFrame, dict[str, str]]]:
        names = file.schema_arrow.names
        own = set() if kind is None else {field.name for field in TABLES[kind]}
        if kind is not None and _DISTINCT.get(kind) != ():  # where whole rows are compared, none can be spared
            own -= set(self._spared)
        lacks = kind is None or any(field.name not in names for field in TABLES[kind] if not field.optional)
        needed = set(names) if lacks else {*own, *_LABELS}  # what lacks a column is told with all that it has
        for index in range(file.num_row_groups):
            group = file.metadata.row_group(index)
            known = {name: word for name, word in _constants(group).items() if kind is not None and name not in own}
            wanted = [name for name in names if name in needed and name not in known]
            if group.num_rows <= _ROWS:
                # At once, and in this thread: the cores are busy with what comes before and after.
                yield _frame(file.read_row_group(index, columns=wanted, use_threads=False)), known
            else:
                for batch in file.iter_batches(_ROWS, row_groups=[index], columns=wanted, use_threads=False):
                    yield _frame(batch), known

    def _opened(
        self, head: Head
    ) -> pa.parquet.ParquetFile | pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
        with self._believing(head, "corrupt or cut"):
            if head.container == "parquet":
                return pa.parquet.ParquetFile(head.path, page_checksum_verification=True)
            if head.container == "arrow stream":
                return pa.ipc.open_stream(pa.memory_map(str(head.path)))
            return pa.ipc.open_file(pa.memory_map(str(head.path)))

    @contextlib.contextmanager
    def _believing(self, head: Head, what: str = "corrupt") -> Iterator[None]:
        """Whatever is wrong with what a file says of itself is an error of the file."""
        try:
            yield
        except ToxmidError:
            raise
        except (pa.ArrowException, pl.exceptions.PolarsError, OSError, ValueError, KeyError, TypeError) as error:
            told = f"{what} {head.container} file"
            if head.container == "arrow stream":  # nothing says where it should end
                told = "corrupt or cut Arrow IPC stream"
            raise FileError(f"{told}: {one_line(error)}", file=str(head.path)) from None


def _filed(file: pa.ipc.RecordBatchFileReader) -> Iterator[pa.RecordBatch]:
    return map(file.get_batch, range(file.num_record_batches))


def _streamed(head: Head, allow_partial: bool) -> Iterator[pa.RecordBatch]:
    """The batches of a stream. The library takes a stream without its end mark for one that has ended, and does not
    look at what stands behind the mark."""
    with pa.memory_map(str(head.path)) as source, pa.ipc.open_stream(source) as stream:
        read = source.tell()
        for batch in stream:
            yield batch
            read = source.tell()
        if source.tell() == read:
            _refuse_unended(head, read, allow_partial)
        elif source.tell() < source.size():
            raise FileError(
                "there is something else after the end of the Arrow IPC stream",
                file=str(head.path),
                found=f"{source.size() - source.tell():,} bytes",
                expected="one stream",
            )


def _refuse_unended(head: Head, size: int, allow_partial: bool) -> None:
    message = f"the Arrow IPC stream has no end mark and may be cut, after {size:,} bytes"
    if not allow_partial:
        raise FileError(
            message,
            file=str(head.path),
            expected="an end mark; --allow-partial (allow_partial=) takes the batches that are there",
        )
    warnings.warn(f"{head.path}: {message}", TapeWarning, stacklevel=2)


def _frame(table: pa.Table | pa.RecordBatch) -> pl.DataFrame:
    """A piece of a file as a frame, once it is sure that what it says of its own buffers is so: polars believes it."""
    table.validate(full=True)
    # Notes on columns, which polars believes as well, are for whoever wrote them; a type says enough.
    plain = pa.schema([column.remove_metadata() for column in table.schema])
    return from_arrow(type(table).from_arrays(table.columns, schema=plain))


def _constants(group: Any) -> dict[str, str]:
    """Labels that the statistics of a row group say are the same in all of its rows."""
    found = {}
    for index in range(group.num_columns):
        column = group.column(index)
        statistics = column.statistics if column.path_in_schema in _LABELS else None
        if statistics is None or not statistics.has_min_max or statistics.null_count != 0:
            continue
        least, most = statistics.min, statistics.max
        # Longer ones may have been cut by whoever wrote them.
        if isinstance(least, str) and least == most and len(least.encode()) < _SHORT:
            found[column.path_in_schema] = least
    return found


def _only_word(label: pl.Series) -> str | None:
    """The word that stands in every row, where the file keeps words once and rows point at them."""
    if not isinstance(label.dtype, pl.Categorical | pl.Enum) or not label.len() or label.null_count():
        return None
    codes = label.to_physical()
    return str(label[0]) if codes.min() == codes.max() else None


FORMATS: Final = (Columnar("parquet", "parquet"), Columnar("arrow", "arrow", "arrow stream"))
