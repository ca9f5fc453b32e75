"""What a format is: how to know it, how to parse it, and how its rows become canonical rows.

A format is a description, one small object in the file of its family. The machinery that all formats share stands here
(columns, times, errors that name row and column) and in `tape` (instrument, window, duplicates, counts).
"""

from __future__ import annotations

import abc
import csv
import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NoReturn

import polars as pl

from toxmid.errors import DataError
from toxmid.readers.files import BLOCK, PLAIN_BLOCK, Block, Head, ahead, blocks, give_back
from toxmid.schema import MAX_NS, MIN_NS, Kind, probable_unit

__all__ = [
    "FLAGS",
    "SIDES",
    "TAKER",
    "Clock",
    "Csv",
    "Format",
    "Identity",
    "Lines",
    "PlainRows",
    "Table",
    "TextParser",
    "code",
    "divided",
    "is_true",
    "taker_sold",
]

_NS_PER: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}

SIDES: Final = pl.Enum(["buy", "sell", "unknown", "Buy", "Sell", "BUY", "SELL"])
FLAGS: Final = pl.Enum(["true", "false", "True", "False", "TRUE", "FALSE", "1", "0"])
_FIRST_ROWS: Final = 20  # lines among which the first row of a file with stray lines is looked for
_TRUE: Final = ("true", "True", "TRUE", "1")


def code(column: str, codes: Mapping[str, int]) -> pl.Expr:
    """Integer codes of a column of words; a missing word is 0."""
    return pl.col(column).replace_strict(dict(codes), return_dtype=pl.Int8).fill_null(0)


def is_true(column: str) -> pl.Expr:
    """Boolean of a column of `FLAGS`: read as text, for a text "false" is truthy to a careless program."""
    return pl.col(column).replace_strict({word: word in _TRUE for word in FLAGS.categories}, return_dtype=pl.Boolean)


def taker_sold(flag: pl.Expr) -> pl.Expr:
    """Side of the taker from the flag that the buyer was the maker; where the flag is missing, nobody knows."""
    return pl.when(flag).then(-1).when(~flag).then(1).otherwise(0).cast(pl.Int8)


def divided(column: str, divisor: float) -> pl.Expr:
    """Correctly rounded quotient. Polars divides through the reciprocal, which puts decimal numbers off their grid."""
    return pl.col(column).map_batches(
        lambda values: pl.Series(values.name, values.to_numpy() / divisor), return_dtype=pl.Float64
    )


TAKER: Final = code("side", {word: {"b": 1, "s": -1, "u": 0}[word[0].lower()] for word in SIDES.categories})


@dataclass(frozen=True)
class Identity:
    """Whose tape a file is, as far as the file says."""

    venue: str | None = None
    symbol: str | None = None
    found: Mapping[str, float] = field(default_factory=dict)  # facts of the instrument that the first rows show
    grids: Mapping[str, float] = field(default_factory=dict)  # tick and lot that somebody has found in all rows


@dataclass(frozen=True)
class Lines:
    """Rows of a file, parsed but not yet judged.

    `frame` has a row per row of the file, with its number in `row` and its time in `ts` (int64 ns). `read` counts all
    rows these stand for, `excluded` those of them that are not in the frame, by reason. Where the file says whose tape
    it is row by row, the columns `venue` and `symbol` say so, or `same` where they are the same in all of these rows.
    Where the venue numbers its updates, the columns that `toxmid.readers.sequence` wants are there, too. `converted`
    means that all other columns are those of the canonical table already, `judged` that every value in them is good,
    too, and `unrepeated` that whoever wrote the file has left out what was there twice.
    """

    frame: pl.DataFrame
    read: int
    excluded: Mapping[str, int] = field(default_factory=dict)
    same: Mapping[str, str] = field(default_factory=dict)
    converted: bool = False
    judged: bool = False
    unrepeated: bool = False


@dataclass(frozen=True)
class Table:
    """How rows of a file become rows of one canonical table.

    Parameters
    ----------
    columns : mapping
        Expression over the file's columns for each canonical column but the times; sizes as the venue quotes them.
    excluded : mapping
        For each reason, the rows that are no market data.
    distinct : tuple of str, optional
        Columns in which two rows must differ to be two events; ``()`` means all columns of the file.
    expand : callable, optional
        Makes several rows of one (a row of a book snapshot is many levels), before `columns` are taken.
    make_expand : callable, optional
        The same where it must remember: called once per tape, gives the function to use.
    base_coin : bool
        Sizes are base coin whatever the venue quotes.
    whole : bool
        Every message flagged as a snapshot is a whole book.
    changing : tuple of str, optional
        Columns of the file of which one must differ from the row before for a row to say anything new.
    """

    columns: Mapping[str, pl.Expr]
    excluded: Mapping[str, pl.Expr] = field(default_factory=dict)
    distinct: tuple[str, ...] | None = None
    expand: Callable[[pl.DataFrame], pl.DataFrame] | None = None
    make_expand: Callable[[], Callable[[pl.DataFrame], pl.DataFrame]] | None = None
    base_coin: bool = False
    whole: bool = False
    changing: tuple[str, ...] = ()

    def converter(self) -> Callable[[pl.DataFrame], pl.DataFrame]:
        """Function from rows of the file to canonical columns; times still int64, sizes still as the venue quotes."""
        expand = self.make_expand() if self.make_expand is not None else self.expand

        def convert(frame: pl.DataFrame) -> pl.DataFrame:
            frame = frame if expand is None else expand(frame)
            kept = [name for name in ("row", "ts", "ts_event", "gap") if name in frame.columns]
            return frame.select(*kept, **self.columns)

        return convert


class Format(abc.ABC):
    """One way in which vendors write tapes."""

    name: str  # family and type, as "tardis-trades"
    tables: Mapping[Kind, Table]  # what can be read from a file of this format
    chosen = False  # whoever made the file chose what it holds: that it has no row of a kind says nothing
    nameless = False  # some rows may not say whose they are, and are of the instrument of the file all the same
    completed_by: str | None = None  # format of the files that hold the rest of each row, where it takes two

    @abc.abstractmethod
    def matches(self, head: Head) -> bool:
        """Whether a file that begins like this may be of this format."""

    @abc.abstractmethod
    def identify(self, head: Head) -> Identity:
        """Whose tape a file of this format is."""

    def labelled(self) -> bool:
        """Whether every row says whose it is, so that a file may hold several instruments."""
        return True

    def companions(self, head: Head) -> tuple[Path, ...]:
        """Other files without which this one cannot be read."""
        return ()

    def levels(self, head: Head) -> int:
        """Levels of a side of the book that a row holds, where every row is a book."""
        return 0

    def columns_of(self, head: Head) -> Sequence[str]:
        """Columns of the file, as it names them."""
        return head.header

    def kinds(self, head: Head) -> tuple[Kind, ...]:
        """Kinds that can be read from this very file."""
        return tuple(self.tables)

    @abc.abstractmethod
    def clock(self) -> str:
        """Which clock `ts` is, in words."""

    @abc.abstractmethod
    def lines(self, head: Head, kind: Kind, *, allow_partial: bool) -> Iterator[Lines]:
        """All rows of a file, in bounded pieces."""

    def lean(self) -> Format:
        """The format without columns that nothing is computed from, where it can do without reading them."""
        return self

    def converter(self, kind: Kind) -> Callable[[pl.DataFrame], pl.DataFrame]:
        """Function from parsed rows to canonical columns, for one tape."""
        return self.tables[kind].converter()

    def explain(self, head: Head) -> tuple[float, str] | None:
        """Share of what it lacks, and in words, if a file is nearly of this format."""
        return None


PlainRows = Callable[[Block], Lines | None]


@dataclass(frozen=True)
class Csv(Format):
    """Text with commas.

    Parameters
    ----------
    name : str
        Name of the format, ``family-type``.
    dtypes : mapping
        Columns the format needs, in file order; words are enumerations, so that a strange one is an error.
    arrival, event : str
        Columns with the two clocks; `arrival` becomes `ts`, `event` becomes `ts_event`.
    units : tuple of str
        Units in which the times may be; which one it is, the magnitude of the first time tells.
    tables : mapping
        What can be read from the file.
    identity : callable
        Whose tape it is, from the head of a file.
    labels : mapping
        Columns that say so row by row: ``{"venue": ..., "symbol": ...}``.
    bare : pattern, optional
        What the first line looks like in files without a header.
    strays : bool
        Lines that do not look like `bare` are left out and counted, a header among them: home-made files hold other
        words between their rows, and some rows with a field too many.
    excluded_names : pattern, optional
        File names that say it is something else with the same columns.
    clock_name : str
        Whose clock `arrival` is.
    renamed : pattern, optional
        What of a column name does not count.
    spaced : bool
        Commas are followed by spaces.
    separator : str
        What stands between fields.
    names : tuple of str, optional
        Names of the columns of files without a header, where they are not those of `dtypes`.
    wide : pattern, optional
        Further columns the format takes as numbers (levels of a book).
    twins : tuple of str, optional
        What tells price and size of one level apart in the names of these columns; neither goes without the other.
    spare : mapping
        Columns with types that the format knows but can do without.
    sequence : mapping
        How the venue numbers its updates, as `toxmid.readers.sequence` wants it; left out where a column is absent.
    plain : mapping
        For each kind with a faster way to read plain rows: makes the function that tries it on a block of a file.
    """

    name: str
    dtypes: Mapping[str, pl.DataType]
    arrival: str
    event: str
    units: tuple[str, ...]
    tables: Mapping[Kind, Table]
    identity: Callable[[Head], Identity]
    labels: Mapping[str, str] = field(default_factory=dict)
    bare: re.Pattern[str] | None = None
    strays: bool = False
    excluded_names: re.Pattern[str] | None = None
    clock_name: str = "exchange"
    renamed: re.Pattern[str] | None = None
    spaced: bool = False
    separator: str = ","
    names: tuple[str, ...] | None = None
    wide: re.Pattern[str] | None = None
    twins: tuple[str, str] | None = None
    spare: Mapping[str, pl.DataType] = field(default_factory=dict)
    sequence: Mapping[str, pl.Expr] = field(default_factory=dict)
    plain: Mapping[Kind, Callable[[Csv, Head, Sequence[str]], PlainRows | None]] = field(default_factory=dict)

    def labelled(self) -> bool:
        return bool(self.labels)

    def clock(self) -> str:
        return f"{self.clock_name} ({self.arrival})"

    def matches(self, head: Head) -> bool:
        if not head.lines or (self.excluded_names is not None and self.excluded_names.search(head.name)):
            return False
        return self._has_header(head) or self._is_bare(head)

    def identify(self, head: Head) -> Identity:
        return self.identity(head)

    def levels(self, head: Head) -> int:
        if self.wide is None:
            return 0
        return len({name for name in self._names(head) if self.wide.fullmatch(name)}) // 4  # two sides, price and size

    def explain(self, head: Head) -> tuple[float, str] | None:
        header = self._names(head)
        missing = [name for name in self.dtypes if name not in header]
        lacking = len(missing) / len(self.dtypes)
        if not 0 < lacking <= 0.25:
            return None
        others = [name for name in header if name not in self.dtypes]
        guesses = {name: difflib.get_close_matches(name, others, n=1) for name in missing}
        meant = ", ".join(f"{close[0]!r} for {name!r}" for name, close in guesses.items() if close)
        return lacking, f"{self.name} needs {', '.join(missing)}" + (f", did you mean {meant}?" if meant else "")

    def lines(self, head: Head, kind: Kind, *, allow_partial: bool) -> Iterator[Lines]:
        if not head.lines:
            return
        names = (self.names or tuple(self.dtypes)) if self._is_bare(head) else self._names(head)
        twice = [name for index, name in enumerate(names) if name in names[:index]]
        if twice:
            raise DataError("two columns have one name", file=str(head.path), row=1, column=twice[0])
        self._check_twins(names, head)
        schema = self._schema(names)
        header = None if self._is_bare(head) else head.lines[0].encode()
        parser = TextParser(head.path, schema, header, separator=self.separator, spaced=self.spaced)
        clock = Clock(self.units, head.path)
        make_plain = self.plain.get(kind)
        plain = None if make_plain is None else make_plain(self, head, names)

        def any_rows(block: Block) -> Lines:
            strays = 0
            if self.strays and self._is_bare(head):
                block, strays = self._without_strays(block)
            lines = parser.parse(block)
            rows, untimed = self.timed(lines.frame)
            frame = rows.with_columns(
                clock.nanoseconds(rows, self.arrival).alias("ts"),
                clock.nanoseconds(rows, self.event).alias("ts_event"),
                **{label: pl.col(column) for label, column in self.labels.items() if column in schema},
                **(self.sequence if set(self.spare) <= schema.keys() else {}),
            )
            return Lines(frame, lines.read, _told({**lines.excluded, "no_time": untimed}, strays))

        how: dict[str, Any] = {"allow_partial": allow_partial, "is_whole": parser.is_whole}
        if plain is None:
            yield from map(any_rows, ahead(blocks(head.path, size=BLOCK, **how)))
            return

        def rows(block: Block) -> Lines:
            lines = plain(block) or any_rows(block)
            give_back(block)
            return lines

        yield from map(rows, ahead(blocks(head.path, size=PLAIN_BLOCK, reusing=True, **how)))

    def timed(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
        """The rows that have a time, and how many have none. Where a format has no sign for it, a time that is missing
        is a fault of the file."""
        return frame, 0

    def _without_strays(self, block: Block) -> tuple[Block, int]:
        """The block with a blank line in place of each that is no row, and how many these are. `None` is nothing."""
        assert self.bare is not None
        lines = bytes(block.data).decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
        rows = [line if self.bare.fullmatch(line) else "" for line in lines]
        strays = sum(row != line for row, line in zip(rows, lines, strict=True))
        text = bytearray("\n".join(rows).replace(",None,", ",,").encode())
        return replace(block, buffer=text, size=len(text)), strays

    def _check_twins(self, names: tuple[str, ...], head: Head) -> None:
        if self.twins is None or self.wide is None:
            return
        for name in filter(self.wide.fullmatch, names):
            for one, other in (self.twins, self.twins[::-1]):
                twin = name.replace(one, other)
                if twin not in names:
                    raise DataError("a level lacks a column", file=str(head.path), row=1, column=twin, found=name)

    def _has_header(self, head: Head) -> bool:
        return set(self.dtypes) <= set(self._names(head))

    def _names(self, head: Head) -> tuple[str, ...]:
        names = tuple(name.strip().strip('"') for name in head.lines[0].split(self.separator)) if head.lines else ()
        return tuple(self.renamed.sub("", name) for name in names) if self.renamed is not None else names

    def _is_bare(self, head: Head) -> bool:
        return self.bare is not None and self.first_row(head) is not None

    def first_row(self, head: Head) -> str | None:
        """The first line that looks like a row of a file without header."""
        lines = head.lines[:_FIRST_ROWS] if self.strays else head.lines[:1]
        return next((line for line in lines if self.bare is not None and self.bare.fullmatch(line)), None)

    def _schema(self, names: tuple[str, ...]) -> dict[str, pl.DataType]:
        numbers = {name for name in names if self.wide is not None and self.wide.fullmatch(name)}
        known = {**dict.fromkeys(numbers, pl.Float64()), **self.dtypes, **self.spare}
        return {name: known.get(name, pl.String()) for name in names}


def _told(excluded: Mapping[str, int], strays: int) -> dict[str, int]:
    """What was left out, where some of the blank lines were none."""
    counts = {**excluded, "blank_lines": excluded.get("blank_lines", 0) - strays, "stray_lines": strays}
    return {reason: count for reason, count in counts.items() if count}


class Clock:
    """Turns the times of one file into nanoseconds. The first time tells the unit, every other must agree with it."""

    def __init__(self, units: tuple[str, ...], path: Path) -> None:
        self._units = units
        self._file = str(path)
        self._unit: str | None = None

    def nanoseconds(self, frame: pl.DataFrame, column: str) -> pl.Series:
        """Times of a column as int64 nanoseconds; `frame` has the number of each row in `row`."""
        times = _integers(frame[column])
        if frame.height == 0:
            return times
        factor = _NS_PER[self._settle(times, frame, column)]
        good = times.is_between(-(-MIN_NS // factor), MAX_NS // factor).fill_null(False)
        if not good.all():
            self._refuse(frame, column, int(good.arg_min() or 0))
        return times * factor

    def _settle(self, times: pl.Series, frame: pl.DataFrame, column: str) -> str:
        if self._unit is None:
            unit = probable_unit(int(times[0] or 0))
            if unit not in self._units:
                self._refuse(frame, column, 0)
            self._unit = unit
        assert self._unit is not None
        return self._unit

    def _refuse(self, frame: pl.DataFrame, column: str, index: int) -> NoReturn:
        value, row = frame[column][index], int(frame["row"][index])
        if value is None:
            raise DataError("time is missing", file=self._file, row=row, column=column)
        if isinstance(value, str):
            raise DataError("not a time", file=self._file, row=row, column=column, found=value, expected="ISO 8601")
        if not math.isfinite(value):
            raise DataError("not a time", file=self._file, row=row, column=column, found=value, expected="a number")
        unit = probable_unit(int(value))
        expected = " or ".join(_UNIT_NAMES[name] for name in ((self._unit,) if self._unit else self._units))
        hint = f": it looks like {_UNIT_NAMES[unit]}" if unit is not None else ""
        raise DataError(
            f"time is outside 2009..2100{hint}",
            file=self._file,
            row=row,
            column=column,
            found=value,
            expected=f"{expected} since 1970",
        )


def _integers(times: pl.Series) -> pl.Series:
    """Times as integers: seconds with a fraction become microseconds, which is all that a float of them can hold."""
    if times.dtype.is_float():
        return (times * 1e6).round().cast(pl.Int64, strict=False)
    if times.dtype == pl.String:
        text = times.str.strip_chars()
        moments = text.str.to_datetime("%+", time_unit="ns", time_zone="UTC", strict=False)
        if moments.null_count():
            naive = text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ns", time_zone="UTC", strict=False)
            moments = moments.fill_null(naive)
        return moments.to_physical()
    return times.cast(pl.Int64)


class TextParser:
    """Blocks of comma separated text to typed frames; polars parses, this class says where it could not."""

    def __init__(
        self,
        path: Path,
        schema: Mapping[str, pl.DataType],
        header: bytes | None,
        *,
        separator: str = ",",
        spaced: bool = False,
    ) -> None:
        self._separator = separator
        self._spaced = spaced
        self._file = str(path)
        self._schema = schema
        self._header = header
        self._names = separator.join(schema).encode() + b"\n"

    def parse(self, block: Block) -> Lines:
        data, first_row = block.data.replace(b"\r\n", b"\n") if b"\r" in block.data else block.data, block.first_row
        data = data.replace(b", ", b",") if self._spaced else data
        if first_row == 1 and self._header is not None:
            data, first_row = data[len(self._header) + 1 :], 2
        data, headers = self._without_headers(data)
        frame = self._read(data, first_row)
        rows = block.lines - (first_row - block.first_row)
        if frame.height != rows:
            odd = (row for row, line in enumerate(bytes(data).split(b"\n"), first_row) if line.count(b'"') % 2)
            raise DataError(**_OPEN_QUOTE, file=self._file, row=next(odd, first_row))
        frame = frame.with_row_index("row", first_row)
        filled = frame.filter(~pl.all_horizontal(pl.exclude("row").is_null()))
        excluded = {
            "repeated_headers": headers,
            "blank_lines": rows - filled.height - headers,
            "partial_last_line": block.partial,
        }
        return Lines(filled, rows + block.partial, {reason: count for reason, count in excluded.items() if count})

    def is_whole(self, line: bytes) -> bool:
        """Whether a last line without newline is whole: a cut number is a number, but a cut word is no word."""
        last = list(self._schema.values())[-1]
        fields = line.decode("utf-8", "replace").strip().split(self._separator)
        words = last.categories.to_list() if isinstance(last, pl.Enum) else []
        return len(fields) == len(self._schema) and fields[-1].strip() in words

    def _without_headers(self, data: bytes | bytearray) -> tuple[bytes | bytearray, int]:
        """Blank the headers inside: files of several days put one after another have one at each seam."""
        if self._header is None:
            return data, 0
        inside = b"\n" + self._header + b"\n"
        data = data[len(self._header) :] if (leads := data.startswith(inside[1:])) else data
        count = data.count(inside)
        return data.replace(inside, b"\n\n") if count else data, count + leads

    def _read(self, data: bytes | bytearray, first_row: int) -> pl.DataFrame:
        try:
            return pl.read_csv(self._names + data, schema=self._schema, separator=self._separator)
        except pl.exceptions.PolarsError as error:
            raise self._locate(data, first_row, error) from None

    def _locate(self, data: bytes | bytearray, first_row: int, error: Exception) -> DataError:
        """Find what the parser could not read: it names no row."""
        for row, line in enumerate(bytes(data).split(b"\n"), first_row):
            problem = self._problem(line.decode("utf-8", "replace"))
            if problem is not None:
                return DataError(problem.pop("message"), file=self._file, row=row, **problem)
        return DataError(f"cannot be read: {str(error).splitlines()[0]}", file=self._file, row=first_row)

    def _problem(self, line: str) -> dict[str, Any] | None:
        """What of a line the parser could not read, as the parts of an error."""
        if line.count('"') % 2:
            return _OPEN_QUOTE | {"found": line[:60]}
        try:
            fields = next(csv.reader([line], delimiter=self._separator), [])
        except csv.Error:  # a carriage return in a line, or a field without end
            return {"message": "no row of text with separators", "found": line[:60]}
        width = len(self._schema)
        if len(fields) > width:
            return {"message": "more fields than columns", "found": fields[width:], "expected": str(width)}
        for text, (name, dtype) in zip(fields, self._schema.items(), strict=False):
            if not _readable(text, dtype):
                expected = ", ".join(dtype.categories) if isinstance(dtype, pl.Enum) else _TYPE_NAMES[dtype]
                return {"message": "cannot be read", "column": name, "found": text, "expected": expected}
        return None


_OPEN_QUOTE: Final = {"message": "a quote is not closed on its line"}


def _readable(text: str, dtype: pl.DataType) -> bool:
    """Whether the parser takes a field; an empty one is missing, which is judged later."""
    if not text or isinstance(dtype, pl.String):
        return True
    if isinstance(dtype, pl.Enum):
        return text in dtype.categories  # blanks around a word make it another word
    plain = text.isascii() and text.replace(".", "0", 1).isdigit() and len(text) < _SURELY_FITS
    if plain and dtype.is_float():
        return True
    return pl.Series([text.strip()]).cast(dtype, strict=False)[0] is not None


_SURELY_FITS: Final = 18  # digits of a number that any type of numbers can hold


_UNIT_NAMES: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_TYPE_NAMES: Final[Mapping[Any, str]] = {
    pl.Int64(): "an integer",
    pl.UInt64(): "an integer",
    pl.Float64(): "a number",
    pl.String(): "text",
}
