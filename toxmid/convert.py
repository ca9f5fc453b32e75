"""Any tape that a reader knows to canonical Parquet: read once, replayed many times."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from toxmid import output
from toxmid.disk import naming, whole
from toxmid.errors import FileError, ParameterError
from toxmid.grids import Grids
from toxmid.instrument import Instrument
from toxmid.prefetch import beside, prefetched
from toxmid.readers import Moment, Source, Tape, open_tape
from toxmid.schema import TABLES, Kind, empty, together

__all__ = ["METADATA_KEY", "ROWS_PER_GROUP", "Conversion", "convert", "stored_facts"]

METADATA_KEY: Final = b"toxmid"
FORMAT: Final = "toxmid-tape"
FORMAT_VERSION: Final = 1

# A group is what a reader holds at once: large enough for long runs of the engine, small enough for any memory.
ROWS_PER_GROUP: Final = 1 << 20


@dataclass(frozen=True)
class Conversion:
    """What was written, and what became of the rows.

    Attributes
    ----------
    path : Path
        The file.
    kind : str
        Kind of the canonical table in it.
    rows, bytes : int
        Rows of the table; size of the file.
    counts : dict of str to int
        ``rows_read``, ``rows_used`` and the rows left out by reason, as the reader counts them.
    instrument : Instrument
        What is traded.
    grids : dict of str to float
        ``tick`` and ``lot`` that the rows show, as far as there are any; `toxmid.inspect.find_instrument` uses them.
    inputs : list of dict
        The files it was made from, with size and SHA-256.
    """

    path: Path
    kind: Kind
    rows: int
    bytes: int
    counts: dict[str, int]
    instrument: Instrument
    grids: dict[str, float]
    inputs: list[dict[str, Any]] = field(repr=False)


def convert(
    source: Source,
    destination: str | os.PathLike[str],
    kind: Kind,
    *,
    format: str | None = None,
    instrument: Instrument | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    rows_per_group: int = ROWS_PER_GROUP,
    sort: bool = False,
    allow_partial: bool = False,
) -> Conversion:
    """Write a tape as canonical Parquet, whole or not at all, in bounded memory.

    Parameters
    ----------
    source : path, glob, directory, or list of them
        Files of one instrument.
    destination : path
        The file to write; an earlier one is replaced once the new one is complete. Where the name contains the kind
        (``..._trades_...``), a folder of such files can be read by kind.
    kind : str
        What to read from the source; see `toxmid.read`.
    format, instrument, start, end
        As in `toxmid.read_trades`.
    rows_per_group : int
        Rows of a row group.
    sort : bool
        Put rows in order of `ts` first (bounded memory). Without it a time that goes back is an error.
    allow_partial : bool
        Accept a source whose last line is cut; the line is dropped and counted.

    Returns
    -------
    Conversion

    Raises
    ------
    FileError, DataError
        As in `toxmid.read_trades`; a time goes back; the file cannot be written. Nothing has been written then.
    ParameterError
        The destination is one of the sources, or a row group of no rows.

    Notes
    -----
    Sizes in the file are base coin. Rows that are no market data of this instrument, duplicates among them, are left
    out and counted; the counts, the instrument, the grids found in the rows and the sources stand in the key-value
    metadata of the file under ``toxmid``. Venue and symbol also stand in columns of their own, so that any reader can
    tell whose tape it is. Every page has a checksum.

    Examples
    --------
    >>> import tempfile
    >>> from toxmid.readers import read_trades
    >>> tape = "data/tardis/binance-delivery_trades_2025-10-10_AVAXUSD_PERP.csv.gz"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = convert(tape, Path(folder) / "AVAXUSD_PERP_trades.parquet", "trades")
    ...     same = read_trades(done.path).equals(read_trades(tape))
    >>> done.rows == done.counts["rows_used"], same
    (True, True)
    """
    if rows_per_group < 1:
        raise ParameterError("out of range", column="rows_per_group", found=rows_per_group, expected="1 or more")
    target = Path(destination).resolve()
    if target.is_dir():
        raise FileError("is a directory, not a file to write", file=str(target))
    tape = open_tape(
        source, kind, format=format, start=start, end=end, instrument=instrument, sort=sort, allow_partial=allow_partial
    )
    if any(path.resolve() == target for path in tape.paths):
        raise ParameterError("the file to write is also a source", file=str(target))
    # What the sources hash to is kept by the tape, for the metadata.
    with whole(target) as partial, beside(lambda: tape.inputs):
        grids = _write(partial, tape, rows_per_group)
        _verify(partial, tape)
        size = partial.stat().st_size
    return Conversion(target, kind, tape.rows, size, tape.counts, tape.instrument, grids, tape.inputs)


def stored_facts(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What `convert` wrote about a file: kind, instrument, counts, inputs, versions; None for files of others.

    Raises
    ------
    FileError
        Not a Parquet file.
    """
    with naming(Path(path), "cannot be read"):
        try:
            metadata = pq.read_metadata(path).metadata or {}
        except pa.ArrowException as error:
            raise FileError(f"corrupt or cut Parquet file: {error}", file=str(path)) from None
    text = metadata.get(METADATA_KEY)
    if text is None:
        return None
    facts: dict[str, Any] = json.loads(text)
    return facts


# --- writing ---------------------------------------------------------------------------------------------------------


def _write(partial: Path, tape: Tape, rows_per_group: int) -> dict[str, float]:
    """The file; begun anew, with that column, where a later piece has an optional column that no earlier one had. Gives
    the grids that were found."""
    schema: dict[str, pl.DataType] = {}
    while (grids := _write_all(partial, tape, rows_per_group, schema)) is None:
        pass
    return grids


def _write_all(
    partial: Path, tape: Tape, rows_per_group: int, schema: dict[str, pl.DataType]
) -> dict[str, float] | None:
    """Write the tape with the columns of `schema`, which gets those that it lacks; None where it lacked one."""
    labels = {name: value for name in ("venue", "symbol") if (value := getattr(tape.instrument, name)) is not None}
    writer: pq.ParquetWriter | None = None
    grids = Grids()
    with partial.open("wb") as file:
        try:
            # The encoder has a thread to itself.
            for table in prefetched(_tables(tape, rows_per_group, schema, grids, labels), ahead=1):
                if table is None:
                    return None
                writer = writer or _writer(file, table.schema)
                writer.write_table(table, row_group_size=rows_per_group)
            if writer is None:
                table = _without_holes(_labelled(empty(tape.kind), labels), tape.kind)
                writer = _writer(file, table.schema)
            writer.add_key_value_metadata({METADATA_KEY: json.dumps(_facts(tape, grids.found)).encode()})
        finally:
            if writer is not None:
                writer.close()
    return grids.found


def _tables(
    tape: Tape, rows_per_group: int, schema: dict[str, pl.DataType], grids: Grids, labels: dict[str, str]
) -> Iterator[pa.Table | None]:
    """Row groups to write; None where one has a column that those before it lacked, and nothing more."""
    for index, group in enumerate(_groups(tape.frames(ordered=True), rows_per_group)):
        if not group.schema.keys() <= schema.keys():
            schema |= group.schema
            if index:
                yield None
                return
        grids.add(group, tape.kind)
        yield _without_holes(_labelled(_with_columns(group, schema, tape.kind), labels), tape.kind)


def _with_columns(group: pl.DataFrame, schema: dict[str, pl.DataType], kind: Kind) -> pl.DataFrame:
    names = [field.name for field in TABLES[kind] if field.name in schema]
    return together([group, pl.DataFrame(schema=schema)]).select(names)


def _writer(file: Any, schema: pa.Schema) -> pq.ParquetWriter:
    # A day of prices and sizes has few different ones, which are kept once; times are nearly all different.
    words = [name for name in schema.names if name not in ("ts", "ts_event", "id")]
    return pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=words, write_page_checksum=True)


def _groups(frames: Iterator[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """The same rows, cut every `rows` rows wherever the pieces of the source end."""
    held: list[pl.DataFrame] = []
    count = 0
    for frame in frames:
        if not frame.height:
            continue
        held.append(frame)
        count += frame.height
        if count < rows:
            continue
        table = together(held)
        cuts = range(0, table.height - rows + 1, rows)
        yield from (table[cut : cut + rows] for cut in cuts)
        rest = table[len(cuts) * rows :]
        held, count = ([rest], rest.height) if rest.height else ([], 0)
    if count:
        yield together(held)


def _labelled(frame: pl.DataFrame, labels: dict[str, str]) -> pa.Table:
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    for name, value in labels.items():
        if name in table.column_names:
            continue
        indices = pa.array(np.zeros(table.num_rows, np.int8))
        table = table.append_column(name, pa.DictionaryArray.from_arrays(indices, pa.array([value])))
    return table


def _without_holes(table: pa.Table, kind: Kind) -> pa.Table:
    """Say of the columns that never hold a null that they never do: readers then look for none."""
    holed = {field.name for field in TABLES[kind] if field.nullable or (field.optional and field.name != "ts_event")}
    solid = [field.with_nullable(field.name in holed) for field in table.schema]
    return table.cast(pa.schema(solid))


def _facts(tape: Tape, grids: dict[str, float]) -> dict[str, Any]:
    facts: dict[str, Any] = output.to_json(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "kind": tape.kind,
            "instrument": tape.instrument.to_dict(),
            "grids": grids,
            "counts": tape.counts,
            "inputs": tape.inputs,
            "versions": output.versions(),
        }
    )
    return facts


def _verify(partial: Path, tape: Tape) -> None:
    """Read back that all rows are there: a disk may accept a write that it does not keep."""
    rows = pq.read_metadata(partial).num_rows
    if rows != tape.rows:
        raise FileError("rows were lost in writing", file=str(partial), found=rows, expected=tape.rows)
