"""Files in, canonical frames out.

`read` reads a whole tape of any kind, `read_trades` and its sisters those of the four kinds that everybody has;
`open_tape` is the door behind them, for reading in bounded memory and for asking what was counted out. What a file is,
its first lines tell; its name is asked only where these leave a doubt.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import glob as globbing
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import polars as pl

from toxmid.errors import DataError, FileError, ParameterError, TapeWarning
from toxmid.instrument import Instrument
from toxmid.readers import (
    binance_archive,
    binance_figures,
    bybit,
    databento,
    delimited,
    deribit,
    hftbacktest,
    hyperliquid,
    lobster,
    okx,
    recorder,
    recording,
    tables,
    tardis,
)
from toxmid.readers.base import Format
from toxmid.readers.files import Head, read_head
from toxmid.readers.tape import Opened, SeveralInstrumentsError, Tape
from toxmid.schema import KINDS, Kind, parse_time

__all__ = [
    "FORMATS",
    "SeveralInstrumentsError",
    "Source",
    "Tape",
    "TapeWarning",
    "companions_elsewhere",
    "date_in_name",
    "list_files",
    "named_entries",
    "open_tape",
    "read",
    "read_book",
    "read_liquidations",
    "read_quotes",
    "read_trades",
    "recognise",
    "tapes_among",
    "warn_of_poorer",
]

FORMATS: Final[tuple[Format, ...]] = (
    *tardis.FORMATS,
    *binance_archive.FORMATS,
    *binance_figures.FORMATS,
    *bybit.FORMATS,
    *deribit.FORMATS,
    *okx.FORMATS,
    *hyperliquid.FORMATS,
    *databento.FORMATS,
    *lobster.FORMATS,
    *recorder.FORMATS,
    *recording.FORMATS,
    *hftbacktest.FORMATS,
    *tables.FORMATS,
)
_STRANGERS: Final = binance_archive.STRANGERS

Source: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"
Moment: TypeAlias = "str | int | dt.date | np.datetime64"

# A day or month that stands alone in a name: 2024-08-05, 20240805, 2024-08. A month without a hyphen could be anything.
_DATE: Final = re.compile(r"(?<!\d)(20\d\d)(?:-(\d\d)(?:-(\d\d))?|(\d\d)(\d\d))(?![\d-])")

# What may be a tape when a folder is given; hidden files are not, nor what stands beside tapes and is none.
_SUFFIXES: Final = frozenset(
    {".csv", ".gz", ".zst", ".lz4", ".zip", ".npz", ".npy", ".dbn", ".data", ".parquet", ".arrow", ".feather", ".ipc"}
    | {".arrows", ".jsonl"}
)
_BESIDE: Final = frozenset({".checksum", ".part", ".lock", ".md", ".html", ".toml", ".py"})


def read_trades(
    source: Source,
    *,
    format: str | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    instrument: Instrument | None = None,
    allow_partial: bool = False,
    sort: bool = False,
) -> pl.DataFrame:
    """Read trades.

    Parameters
    ----------
    source : path, glob, directory, or list of them
        Files of one instrument. Those of a glob or directory are taken in the order of their names, a list as it is.
    format : str, optional
        Name of the format or of its family (``"tardis-trades"``, ``"tardis"``), or a ``.toml`` file that describes
        delimited text (see `toxmid.readers.delimited`); recognised when left out.
    start, end : str, int, datetime, optional
        Keep ``start <= ts < end``; ISO 8601 text or int64 nanoseconds, UTC.
    instrument : Instrument, optional
        What you know of the instrument; wins over what the file says. Its symbol picks one of several in a file.
    allow_partial : bool
        Accept a file that was cut; its last line is dropped and counted.
    sort : bool
        Put the rows in order of `ts` (stable, by way of temporary files). Without it the order of the files is kept.

    Returns
    -------
    polars.DataFrame
        Columns ``ts, ts_event`` (Datetime ns UTC), ``price`` (quote currency), ``size`` (base coin), ``side`` (+1 taker
        bought, -1 sold, 0 unknown), ``id``, and ``lots`` where the market is inverse.

    Raises
    ------
    FileError
        A file is missing, cut, corrupt, or of no format we know.
    DataError
        A row, a column or a time cannot be right; two formats fit; two instruments in one tape.

    See Also
    --------
    open_tape : the same in pieces, with the counts of what was left out.

    Examples
    --------
    >>> tape = read_trades("data/tardis/binance-delivery_trades_2025-10-10_AVAXUSD_PERP.csv.gz")
    >>> tape.columns
    ['ts', 'ts_event', 'price', 'size', 'side', 'id', 'lots']
    """
    return read(
        source,
        "trades",
        format=format,
        start=start,
        end=end,
        instrument=instrument,
        allow_partial=allow_partial,
        sort=sort,
    )


def read_book(
    source: Source,
    *,
    format: str | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    instrument: Instrument | None = None,
    allow_partial: bool = False,
    sort: bool = False,
) -> pl.DataFrame:
    """Read updates of an order book.

    A window that begins between two snapshots begins without a book, as the updates before it are left out. Where every
    row of a file is a whole book, the first one is the snapshot and the others are told by what changed.

    Parameters
    ----------
    source, format, start, end, instrument, allow_partial, sort
        As in `read_trades`.

    Returns
    -------
    polars.DataFrame
        Columns ``ts, ts_event, side`` (+1 bid, -1 ask), ``price``, ``size`` (base coin that now stands there, 0 deletes
        the level) and ``snapshot`` (row of a full book).

    Raises
    ------
    FileError, DataError
        As in `read_trades`.

    Examples
    --------
    >>> book = read_book("data/tardis/deribit_incremental_book_L2_2020-04-01_BTC-PERPETUAL.csv.gz")
    >>> bool(book["snapshot"][0])
    True
    """
    return read(
        source,
        "book",
        format=format,
        start=start,
        end=end,
        instrument=instrument,
        allow_partial=allow_partial,
        sort=sort,
    )


def read_quotes(
    source: Source,
    *,
    format: str | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    instrument: Instrument | None = None,
    allow_partial: bool = False,
    sort: bool = False,
) -> pl.DataFrame:
    """Read best bids and offers.

    Parameters
    ----------
    source, format, start, end, instrument, allow_partial, sort
        As in `read_trades`. Files of book snapshots give their best prices.

    Returns
    -------
    polars.DataFrame
        Columns ``ts, ts_event, bid, bid_size, ask, ask_size`` (quote currency, base coin).

    Raises
    ------
    FileError, DataError
        As in `read_trades`.

    Examples
    --------
    >>> read_quotes("data/tardis/huobi-dm-swap_quotes_2020-05-01_BTC-USD.csv.gz").columns
    ['ts', 'ts_event', 'bid', 'bid_size', 'ask', 'ask_size']
    """
    return read(
        source,
        "quotes",
        format=format,
        start=start,
        end=end,
        instrument=instrument,
        allow_partial=allow_partial,
        sort=sort,
    )


def read_liquidations(
    source: Source,
    *,
    format: str | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    instrument: Instrument | None = None,
    allow_partial: bool = False,
    sort: bool = False,
) -> pl.DataFrame:
    """Read forced orders.

    Parameters
    ----------
    source, format, start, end, instrument, allow_partial, sort
        As in `read_trades`.

    Returns
    -------
    polars.DataFrame
        Columns ``ts, ts_event, side`` (of the forced order: -1 a long was liquidated), ``price``, ``size`` (base coin).
        Rows that repeat an earlier one in every column are left out.

    Raises
    ------
    FileError, DataError
        As in `read_trades`.

    Notes
    -----
    The price of a liquidation is often the bankruptcy price or a limit, not where it traded, and Binance publishes at
    most one liquidation per symbol and second: volumes are a lower bound.

    Examples
    --------
    >>> read_liquidations("data/binance/BTCUSD_PERP-liquidationSnapshot-2024-08-05.zip")["side"].to_list()
    [-1, 1]
    """
    return read(
        source,
        "liquidations",
        format=format,
        start=start,
        end=end,
        instrument=instrument,
        allow_partial=allow_partial,
        sort=sort,
    )


def read(
    source: Source,
    kind: Kind,
    *,
    format: str | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    instrument: Instrument | None = None,
    allow_partial: bool = False,
    sort: bool = False,
) -> pl.DataFrame:
    """Read a tape of any kind.

    Parameters
    ----------
    source, format, start, end, instrument, allow_partial, sort
        As in `read_trades`.
    kind : str
        ``"trades", "book", "quotes", "liquidations"``, for which there are functions of their own; ``"mark", "index"``
        (prices); ``"open_interest"`` (base coin); ``"funding"`` (rate as a fraction, interval in hours, when due);
        ``"depth_bands"`` (sums of depth from the mid outwards, with a flag where they have stood still too long to be a
        market); ``"options"`` (summaries with volatilities as fractions).

    Returns
    -------
    polars.DataFrame
        The canonical table of the kind; `toxmid.schema.TABLES` lists columns and units.

    Raises
    ------
    FileError, DataError
        As in `read_trades`.
    ParameterError
        No such kind.

    Examples
    --------
    >>> ticker = "data/tardis/binance-futures_derivative_ticker_2025-10-10_AVAXUSDT.csv.gz"
    >>> read(ticker, "funding")["rate"].to_list()
    [0.0001]
    """
    return open_tape(
        source,
        kind,
        format=format,
        start=start,
        end=end,
        instrument=instrument,
        allow_partial=allow_partial,
        sort=sort,
    ).frame()


def open_tape(
    source: Source,
    kind: Kind,
    *,
    format: str | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    instrument: Instrument | None = None,
    allow_partial: bool = False,
    sort: bool = False,
    others: Iterable[Path] = (),
) -> Tape:
    """Open a tape for reading in bounded memory.

    Parameters
    ----------
    source, format, start, end, instrument, allow_partial, sort
        As in `read_trades`.
    kind : str
        What to read from it; see `read`.
    others : iterable of Path
        Files at hand that may hold the rest of its rows, where a format is divided among two files.

    Returns
    -------
    Tape
        `frames()` or `frame()` read it; `counts`, `instrument` and `inputs` describe it.

    Raises
    ------
    FileError, DataError, ParameterError
        Nothing to read, a format that is unknown, ambiguous or of another kind, an impossible window.
    """
    if kind not in KINDS:
        raise ParameterError("no such kind", column="kind", found=kind, expected=", ".join(KINDS))
    window = (None if start is None else parse_time(start), None if end is None else parse_time(end))
    if window[0] is not None and window[1] is not None and window[0] >= window[1]:
        raise ParameterError("the window ends before it starts", found=[str(start), str(end)])
    paths = list_files(source, kind if format is None else None)
    heads = [head for head in map(read_head, paths) if not _is_empty(head)]
    files = [Opened(head, _choose(head, kind, format)) for head in _with_companions(heads, kind, others)]
    return Tape(files, kind, window=window, instrument=instrument, allow_partial=allow_partial, sort=sort)


def companions_elsewhere(head: Head, kind: Kind, others: Iterable[Path]) -> tuple[Path, ...]:
    """Those of other files that hold the rest of the rows of this one, where none of them stands in its own folder."""
    found = _companions_among(head, kind, others)
    beside = {path.parent.resolve() for path in found}
    return () if head.path.parent.resolve() in beside else found


def _companions_among(head: Head, kind: Kind, others: Iterable[Path]) -> tuple[Path, ...]:
    """Those of other files that hold the rest of the rows of this one. Of most formats no file needs another."""
    divided = [format_ for format_ in FORMATS if format_.completed_by is not None and kind in format_.tables]
    named = {format_.completed_by for format_ in divided if format_.matches(head)}
    completing = [format_ for format_ in FORMATS if format_.name in named]
    found = []
    for path in others if completing else ():
        with contextlib.suppress(FileError):  # what cannot be read completes nothing, and is told where it is asked for
            if path != head.path and any(format_.matches(read_head(path)) for format_ in completing):
                found.append(path)
    return tuple(found)


def _with_companions(heads: Sequence[Head], kind: Kind, others: Iterable[Path]) -> list[Head]:
    """The files that are a tape by themselves, each with those given along that it needs."""
    paths = [head.path for head in heads]
    given = {head.path: _companions_among(head, kind, paths) for head in heads}
    along = {path for companions in given.values() for path in companions}
    return [
        replace(head, companions=given[head.path] or companions_elsewhere(head, kind, others))
        for head in heads
        if head.path not in along
    ]


def recognise(head: Head, name: str | None = None) -> list[Format]:
    """Formats a file may be of; more than one where its columns and its name leave a doubt.

    With a name only formats of this name or family, or the one that a TOML file of this name describes.

    Raises
    ------
    FileError
        No format fits; the message says what the file is, or what is missing.
    """
    if name is not None:
        return _of_name(head, name)
    fitting = [format_ for format_ in FORMATS if format_.matches(head)]
    if not fitting or _stranger(head) is not None:
        raise FileError(_what_else(head, FORMATS), file=str(head.path), found=", ".join(head.header)[:120] or None)
    columns = {format_.name: frozenset(getattr(format_, "dtypes", ())) for format_ in fitting}
    # A file with the columns of two formats is of the one that needs more of them.
    return [format_ for format_ in fitting if not any(columns[format_.name] < other for other in columns.values())]


def _choose(head: Head, kind: Kind, name: str | None) -> Format:
    fitting = recognise(head, name)
    of_kind = [format_ for format_ in fitting if kind in format_.tables]
    if not of_kind:
        held = sorted({held for format_ in fitting for held in format_.kinds(head)})
        raise DataError(f"this is {fitting[0].name}, which holds no {kind}", file=str(head.path), found=", ".join(held))
    if len(of_kind) > 1:
        choices = ", ".join(format_.name for format_ in of_kind)
        raise DataError(
            "the file may be of several formats",
            file=str(head.path),
            found=choices,
            expected="one; format= or 'toxmid convert --format' chooses it",
        )
    return of_kind[0]


def _of_name(head: Head, name: str) -> list[Format]:
    """Formats of this name or family, or the one that a TOML file describes, as far as they fit the file."""
    if name.endswith(".toml"):
        named: list[Format] = [delimited.load(Path(name).expanduser())]
    else:
        # A name of its own is not also that of a family: "okx-trades" is not "okx-trades-old".
        named = [format_ for format_ in FORMATS if format_.name == name] or [
            format_ for format_ in FORMATS if format_.name.startswith(f"{name}-")
        ]
    if not named:
        raise ParameterError("unknown format", found=name, expected=", ".join(format_.name for format_ in FORMATS))
    fitting = [format_ for format_ in named if format_.matches(head)]
    if not fitting:
        raise FileError(f"not a file of format {name}: {_what_else(head, named)}", file=str(head.path))
    return fitting


def _what_else(head: Head, formats: Sequence[Format]) -> str:
    """Why a file is none of these formats, in words."""
    stranger = _stranger(head)
    if stranger is not None:
        return f"{stranger}: not a tape"
    reasons = [
        (lacking, format_.name.rsplit("-", 1)[-1] not in head.name, reason)
        for format_ in formats
        for lacking, reason in filter(None, [format_.explain(head)])
    ]
    return min(reasons)[2] if reasons else "no format we know begins like this"


def _stranger(head: Head) -> str | None:
    """What a file is that vendors sell but that is no tape, though it may have the columns or the name of one."""
    header = set(head.header)
    for columns, description in _STRANGERS.items():
        if columns <= header:
            return description
    if head.lines and binance_archive.BARE_KLINE.fullmatch(head.lines[0]):
        return binance_archive.KLINES
    return None


def _is_void(head: Head) -> bool:
    return head.container == "text" and not head.lines


def _is_empty(head: Head) -> bool:
    if _is_void(head):
        warnings.warn(f"{head.path}: the file is empty", TapeWarning, stacklevel=3)
        return True
    return False


def list_files(source: Source, kind: Kind | None = None) -> list[Path]:
    """Files of a source, none of them twice.

    Parameters
    ----------
    source : path, glob, directory, or list of them
        As in `read_trades`.
    kind : str, optional
        Of a directory, take only files that hold this kind; all of its tapes when left out.

    Raises
    ------
    FileError
        Nothing there, or one file twice.
    """
    entries = named_entries(source)
    if not entries:
        raise FileError("no file was given")
    paths = [path for entry in entries for path in _expand(entry, kind)]
    files = [path.resolve() if path.exists() else path for path in paths]  # a link is the file that it leads to
    twice = [path for index, path in enumerate(paths) if files[index] in files[:index]]
    if twice:
        raise FileError("the file was given twice", file=str(twice[0]))
    return paths


def named_entries(source: Source) -> list[Path]:
    """What a source names. Nothing is no name: as a path it would be the folder that one happens to be in.

    Raises
    ------
    FileError
        An empty name.
    """
    entries = [source] if isinstance(source, str | os.PathLike) else list(source)
    if any(not os.fspath(entry) for entry in entries):
        raise FileError("the name of a file is empty", expected="a file, a folder or a glob")
    return [Path(entry).expanduser() for entry in entries]


def _expand(path: Path, kind: Kind | None) -> list[Path]:
    if path.is_dir():
        return _of_directory(path, kind)
    if path.exists() or not globbing.has_magic(str(path)):
        return [path]
    found = sorted(map(Path, globbing.glob(str(path), recursive=True)), key=_natural)
    if not found:
        raise FileError("no file matches", file=str(path))
    return found


def _of_directory(folder: Path, kind: Kind | None) -> list[Path]:
    """Tapes of a folder; where a kind is asked for, a file of no known format is an error, not a gap."""
    tapes = tapes_among(sorted(folder.iterdir(), key=_natural), folder)
    if kind is not None:
        tapes = [path for path in tapes if _may_hold(read_head(path), kind)]
    if kind in ("book", "quotes"):
        tapes = _deepest(tapes, kind)
    if not tapes:
        raise FileError(f"no file with {kind or 'market data'} in this folder", file=str(folder))
    return tapes


def _deepest(tapes: Sequence[Path], kind: Kind) -> list[Path]:
    """Of files that hold one book of a day twice the richest: updates before snapshots, of these the deepest. What
    holds other kinds as well goes behind what holds this one alone, as where whole folders are put together."""
    ranks = {path: _rank(read_head(path), kind) for path in tapes}
    kept = []
    for path, (market, rank) in ranks.items():
        same = [other for other in ranks if market is not None and ranks[other][0] == market]
        best = max(same, key=lambda other: ranks[other][1], default=path)
        if ranks[best][1] > rank:
            warn_of_poorer(kind, path, best)
        else:
            kept.append(path)
    return kept


def _rank(head: Head, kind: Kind) -> tuple[tuple[str | None, ...] | None, tuple[int, int]]:
    """Whose book of which day a file holds, as far as that is known, and how much of it."""
    formats = recognise(head) if not _is_void(head) else []
    day = date_in_name(head.path)
    if len(formats) != 1 or day is None:
        return None, (0, 0)
    identity = formats[0].identify(head)
    return (identity.venue, identity.symbol, day), (-len(formats[0].kinds(head)), formats[0].levels(head))


def warn_of_poorer(kind: Kind, path: Path, instead: Path) -> None:
    """Say that a file is passed over for another one of the same market and day."""
    warnings.warn(f"{path}: passed over as {kind}, for {instead.name} is richer", TapeWarning, stacklevel=4)


def date_in_name(path: Path) -> str | None:
    """The day or month in the name of a file, where it is one."""
    dates = {date for match in _DATE.finditer(path.name) if (date := _date(match)) is not None}
    return dates.pop() if len(dates) == 1 else None


def _date(match: re.Match[str]) -> str | None:
    year, month, day = match[1], match[2] or match[4], match[3] or match[5]
    try:
        dt.date(int(year), int(month), int(day or 1))
    except ValueError:
        return None
    return "-".join(part for part in (year, month, day) if part)


def tapes_among(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Those that may be tapes by their names; of others, but for what usually stands beside tapes, one is told."""
    files = [path for path in paths if not (path.is_dir() or path.name.startswith("."))]
    others = [path.name for path in files if path.suffix.lower() not in _SUFFIXES | _BESIDE]
    if others:
        shown = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
        warnings.warn(
            f"{folder}: passed over, for their names do not end as those of tapes do: {shown}",
            TapeWarning,
            stacklevel=4,
        )
    return [path for path in files if path.suffix.lower() in _SUFFIXES]


def _may_hold(head: Head, kind: Kind) -> bool:
    return _is_void(head) or any(kind in format_.kinds(head) for format_ in recognise(head))


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key by which 2023-4-9 comes before 2023-4-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]
