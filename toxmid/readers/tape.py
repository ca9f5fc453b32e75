"""A tape: files of one instrument and one kind, read as canonical frames, every row accounted for."""

from __future__ import annotations

import difflib
import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.errors import DataError
from toxmid.instrument import Instrument
from toxmid.readers.base import Format, Identity, Lines, Table, divided
from toxmid.readers.files import GUNZIP, Head, ahead, expected_rows, fingerprint, is_gzip
from toxmid.readers.order import in_order
from toxmid.readers.sequence import UpdateNumbers
from toxmid.readers.snapshots import Differences
from toxmid.schema import MIN_NS, TIME, Kind, canonical, columns, empty, together, typed

__all__ = ["Opened", "Seen", "SeveralInstrumentsError", "Tape"]

_ONE: Final = {
    "venue": "one; instrument=Instrument(venue=...) chooses it",
    "symbol": "one; --symbol or instrument=Instrument(symbol=...) chooses it",
}
_SHOWN: Final = 8  # names in a message
_REMEMBERED: Final = 1 << 20  # rows among which a duplicate is looked for
_OWN: Final = ("row", "venue", "symbol", "gap")  # columns that the readers add, and that make no row another one
# Size and the price it trades at; a table of open interest keeps a price for this purpose only.
_SIZES: Final = {"size": "price", "bid_size": "bid", "ask_size": "ask", "open_interest": "price"}


class SeveralInstrumentsError(DataError):
    """Rows of several instruments, none of which was asked for."""


@dataclass(frozen=True)
class Opened:
    """A file whose format is settled."""

    head: Head
    format: Format


class Tape:
    """Files of one kind and one instrument, read in bounded memory.

    Attributes
    ----------
    kind : str
        Kind of the canonical frames.
    instrument : Instrument
        What is traded, as far as the user, the table of venues and the file names and first rows tell.
    counts : dict of str to int
        After reading: ``rows_read``, ``rows_used`` and for each reason the rows left out; the first is the sum of all
        others. Rows are rows of the files: a row of a book snapshot gives many canonical rows.
    rows : int
        Canonical rows handed out.
    """

    def __init__(
        self,
        files: Sequence[Opened],
        kind: Kind,
        *,
        window: tuple[int | None, int | None] = (None, None),
        instrument: Instrument | None = None,
        allow_partial: bool = False,
        sort: bool = False,
    ) -> None:
        self.kind: Kind = kind
        self._files = files
        self._window = window
        self._allow_partial = allow_partial
        self._sort = sort
        identity = _common_identity(files, instrument or Instrument())
        self.instrument = Instrument.resolve(
            instrument, venue=identity.venue, symbol=identity.symbol, found=identity.found
        )
        self._others: dict[str, None] = {}
        self._start()

    def _start(self) -> None:
        self._read, self._used, self._excluded = 0, 0, Counter[str]()
        self.rows = 0

    @property
    def counts(self) -> dict[str, int]:
        """Rows read, rows used, and rows left out by reason."""
        return {"rows_read": self._read, "rows_used": self._used, **self._excluded}

    @property
    def expected_rows(self) -> int | None:
        """About how many rows the files hold; None where nothing tells."""
        counts = [expected_rows(file.head) for file in self._files]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [file.head.path for file in self._files]

    @functools.cached_property
    def inputs(self) -> list[dict[str, Any]]:
        """The files with format, size in bytes and SHA-256, with those without which they could not be read."""
        paths = {file.head.path: file.format.name for file in self._files}
        for file in self._files:
            along = file.format.completed_by or file.format.name
            paths |= {path: along for path in file.format.companions(file.head) if path not in paths}
        return [
            {
                "path": str(path),
                "format": format_,
                "bytes": path.stat().st_size,
                "sha256": fingerprint(path),
                **({"unpacked_by": GUNZIP} if is_gzip(path) else {}),
            }
            for path, format_ in paths.items()
        ]

    @property
    def silence_tells(self) -> bool:
        """Whether it means something that there is no row: not so where somebody chose what to record."""
        return not any(file.format.chosen for file in self._files)

    @property
    def stored_grids(self) -> list[Mapping[str, float]]:
        """For each file the tick and lot that whoever made it found in it; nothing where none was noted."""
        return [file.format.identify(file.head).grids for file in self._files]

    def frames(self, *, ordered: bool = False) -> Iterator[pl.DataFrame]:
        """Canonical frames, file after file, in pieces of about a quarter of a million rows.

        Parameters
        ----------
        ordered : bool
            A time that goes back is an error that names file and row.

        Raises
        ------
        FileError, DataError
            As soon as the bad place is reached; what was handed out before is then not to be kept.
        """
        # Made in a thread of their own: whoever uses them shall have nothing else to do.
        return ahead(self._made(ordered))

    def columns(self, *, ordered: bool = False) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """What `frames` gives, as the core takes it; without exchange times, where files need not be read for them."""
        return ahead(columns(frame, self.kind) for frame in self._made(ordered, lean=True))

    def _made(self, ordered: bool, *, lean: bool = False) -> Iterator[pl.DataFrame]:
        """The frames, every row counted."""
        self._start()
        frames = self._canonical_frames(ordered and not self._sort, lean)
        for frame in self._sorted(frames) if self._sort else frames:
            self.rows += frame.height
            yield frame
        if self._read != self._used + self._excluded.total():
            raise AssertionError(f"rows were lost: {self.counts}")
        if self._read and not self._used and self._excluded["other_instruments"]:
            raise DataError(
                "the tape has no row of the instrument asked for",
                file=str(self._files[0].head.path),
                found=_some(list(self._others), self.instrument.symbol or ""),
                expected=self.instrument.symbol,
            )

    def frame(self) -> pl.DataFrame:
        """The whole tape as one canonical frame."""
        frames = list(self.frames())
        return together(frames) if frames else empty(self.kind)

    def _canonical_frames(self, ordered: bool, lean: bool) -> Iterator[pl.DataFrame]:
        seen, latest, numbers, lost = Seen(), _Latest(), UpdateNumbers(), _Lost()
        differences, order = Differences(), _Order()
        converters = {file.format.name: file.format.converter(self.kind) for file in self._files}
        for file in self._files:
            table, convert = file.format.tables[self.kind], converters[file.format.name]
            seen.begin_file()
            format_ = file.format.lean() if lean else file.format
            for lines in format_.lines(file.head, self.kind, allow_partial=self._allow_partial):
                numbered = replace(lines, frame=lost.numbered(numbers.flagged(lines.frame)))
                frame = lost.marked(self._judged(numbered, table, file, seen, latest))
                if ordered:
                    order.check(frame, file)
                rows = self._in_base_coin(frame if lines.converted else convert(frame), table, file)
                rows = differences.apply(rows) if table.whole else rows
                if "gap" in rows.columns:  # of a message with many levels, the first one tells
                    rows = rows.with_columns(pl.col("gap") & (pl.col("row") != pl.col("row").shift(1)).fill_null(True))
                if lines.judged:
                    yield typed(_with_times(rows), self.kind, instrument=self.instrument)
                else:
                    yield canonical(rows, self.kind, instrument=self.instrument)

    def _judged(self, lines: Lines, table: Table, file: Opened, seen: Seen, latest: _Latest) -> pl.DataFrame:
        """Rows that are market data of this instrument and window, the others counted."""
        self._read += lines.read
        self._excluded.update(lines.excluded)
        frame = self._of_instrument(self._labelled(lines), file)
        if "late" in frame.columns:
            frame = self._without(frame, "late_updates", frame["late"]).drop("late")
        for reason, rows in table.excluded.items():
            frame = self._without(frame, reason, frame.select(rows.fill_null(False)).to_series())
        start, end = self._window
        if start is not None or end is not None:
            inside = frame["ts"].is_between(start or 0, end or 2**63 - 1, closed="left")
            frame = self._without(frame, "outside_window", ~inside)
        if table.distinct is not None:
            repeated = seen.before(frame, table.distinct, within_file=not lines.unrepeated)
            frame = self._without(frame, "duplicates", repeated)
        if table.changing:
            frame = self._without(frame, "unchanged", latest.unchanged(frame, table.changing))
        self._used += frame.height
        return frame

    def _labelled(self, lines: Lines) -> pl.DataFrame:
        """The rows, with the labels that all of them share as columns where these are not what is wanted."""
        others = {
            label: value for label, value in lines.same.items() if getattr(self.instrument, label) not in (None, value)
        }
        if not others:
            return lines.frame
        return lines.frame.with_columns(pl.lit(value).alias(label) for label, value in others.items())

    def _without(self, frame: pl.DataFrame, reason: str, rows: pl.Series) -> pl.DataFrame:
        count = int(rows.sum())
        if count == 0:
            return frame
        self._excluded[reason] += count
        return frame.filter(~rows)

    def _of_instrument(self, frame: pl.DataFrame, file: Opened) -> pl.DataFrame:
        """Rows of the instrument; others are an error, or are counted out if the user said which one is meant."""
        for label in ("venue", "symbol"):
            wanted = getattr(self.instrument, label) or None
            if label not in frame.columns or (wanted is None and self.kind == "options"):
                continue  # summaries of options are of many
            foreign = self._foreign(frame[label], wanted, file)
            if not foreign.any():
                continue
            self._others |= dict.fromkeys(name or "" for name in frame[label].filter(foreign).unique())
            if self.instrument.origin[label] != "given":
                index = int(foreign.arg_max() or 0)
                raise SeveralInstrumentsError(
                    "two instruments in one tape",
                    file=str(file.head.path),
                    row=int(frame["row"][index]),
                    column=label,
                    found=[wanted, frame[label][index]],
                    expected=_ONE[label],
                )
            frame = self._without(frame, "other_instruments", foreign)
        return frame

    @staticmethod
    def _foreign(names: pl.Series, wanted: str | None, file: Opened) -> pl.Series:
        """Rows of another instrument. Where some rows of a file are named, one without a name may be anybody's."""
        if wanted is None:
            return names.is_not_null() & (names != "")
        unnamed = names.is_null() | (names == "")
        if file.format.nameless or unnamed.all():
            return ~unnamed & (names != wanted)
        return unnamed | (names != wanted)

    def _in_base_coin(self, rows: pl.DataFrame, table: Table, file: Opened) -> pl.DataFrame:
        """Sizes in base coin, and for trades of an inverse market the lots they were quoted in."""
        instrument = self.instrument
        if table.base_coin or instrument.quotes_base_coin:
            return rows
        sizes = {size: price for size, price in _SIZES.items() if size in rows.columns}
        if instrument.inverse:
            worth = {size: pl.col(size) * instrument.unit / pl.col(price) for size, price in sizes.items()}
        else:
            worth = {size: _times(size, instrument.unit) for size in sizes}
        if instrument.inverse and self.kind == "trades":
            worth["lots"] = self._lots(rows, file)
        return rows.with_columns(**worth)

    def _lots(self, rows: pl.DataFrame, file: Opened) -> pl.Expr:
        """Contracts as counts of the lot; a fraction of a contract means that the sizes are no contracts."""
        lot = self.instrument.lot or 1.0
        lots = pl.col("size") / lot
        off = rows.select((lots.is_finite() & ((lots - lots.round()).abs() > 1e-6)).fill_null(False)).to_series()
        if off.any():
            index = int(off.arg_max() or 0)
            raise DataError(
                "size is no whole number of contracts, though the market is inverse",
                file=str(file.head.path),
                row=int(rows["row"][index]),
                column="size",
                found=rows["size"][index],
                expected=f"a multiple of {lot:g}; instrument=Instrument(lot=...) sets it",
            )
        return pl.when(lots.is_finite()).then(lots).round().cast(pl.Int64, strict=False)

    def _sorted(self, frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """By time; files that overlap show their common trades only now."""
        seen = Seen()
        for frame in in_order(frames):
            if "id" not in frame.columns:
                yield frame
                continue
            kept = self._without(frame, "duplicates", seen.before(frame, ("id",)))
            self._used -= frame.height - kept.height
            yield kept


def _some(names: list[str], wanted: str) -> str:
    """A few of many names, those like the wanted one first: of its coin, then of nearly its letters.

    >>> _some([f"C{i}USDT" for i in range(20)] + ["ETH"], "ETHUSDT")
    'ETH, C9USDT, C8USDT, C7USDT, C0USDT, C10USDT, C11USDT, C12USDT and 13 more'
    """
    same_coin = [name for name in sorted(names) if wanted and (wanted.startswith(name) or name.startswith(wanted))]
    alike = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    shown = list(dict.fromkeys([*same_coin, *alike, *sorted(names)]))
    more = len(shown) - _SHOWN
    return ", ".join(shown[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _times(column: str, unit: float) -> pl.Expr:
    """Contracts times their worth in coin, on the decimal grid: 3 contracts of 0.1 are 0.3, which 3 * 0.1 is not."""
    per_coin = round(1 / unit)
    return divided(column, per_coin) if per_coin > 1 and per_coin * unit == 1 else pl.col(column) * unit


def _with_times(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with their two times as times, not as numbers."""
    return rows.with_columns(rows[name].cast(TIME) for name in ("ts", "ts_event") if name in rows.columns)


class _Order:
    """Finds the first row whose time lies before that of the row before it."""

    def __init__(self) -> None:
        self._latest = MIN_NS

    def check(self, frame: pl.DataFrame, file: Opened) -> None:
        if frame.height == 0:
            return
        times = frame["ts"]
        if times[0] >= self._latest and times.is_sorted():
            self._latest = int(times[-1])
            return
        back = times < times.shift(1, fill_value=self._latest)
        if back.any():
            index = int(back.arg_max() or 0)
            earlier = times[index - 1] if index else self._latest
            raise DataError(
                "time goes back; sort the rows, or let the reader sort them",
                file=str(file.head.path),
                row=int(frame["row"][index]),
                column="ts",
                found=str(np.datetime64(int(times[index]), "ns")),
                expected=f"{np.datetime64(int(earlier), 'ns')} or later",
            )
        self._latest = int(times[-1])


class _Latest:
    """Finds rows that say what the row before them said."""

    def __init__(self) -> None:
        self._row: pl.DataFrame | None = None

    def unchanged(self, frame: pl.DataFrame, columns: tuple[str, ...]) -> pl.Series:
        """Which rows equal their predecessor in these columns."""
        values = frame.select(columns)
        joined = values if self._row is None else pl.concat([self._row, values])
        same = joined.select(pl.all_horizontal(pl.all().eq_missing(pl.all().shift(1)))).to_series()
        same = same if self._row is not None else same & (pl.int_range(len(same), eager=True) > 0)
        self._row = joined.tail(1)
        return same.tail(frame.height)


class _Lost:
    """Carries the news of lost updates past rows that are left out: the first row kept after a gap has it."""

    def __init__(self) -> None:
        self._count = 0  # gaps among all rows so far
        self._told: int | None = None  # gaps that the rows kept so far know of; before the first one there is no book

    def numbered(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Replace the flag by twice the number of gaps up to each row, plus one where it is the row of a gap itself."""
        if "gap" not in frame.columns:
            return frame
        flag = frame["gap"].cast(pl.Int64)
        numbers = flag.cum_sum() + self._count
        self._count = int(numbers[-1]) if frame.height else self._count
        return frame.with_columns(gap=2 * numbers + flag)

    def marked(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Turn the numbers of the rows that were kept into flags again."""
        if "gap" not in frame.columns:
            return frame
        numbers, told = frame["gap"] // 2, self._told
        if frame.height:
            told = int(numbers[0]) - int(frame["gap"][0]) % 2 if told is None else told
            self._told = int(numbers[-1])
        return frame.with_columns(gap=numbers != numbers.shift(1, fill_value=told))


class Seen:
    """Finds rows that were there before, among the last million or so of rows."""

    def __init__(self) -> None:
        self._keys: list[pl.Series] = []
        self._of_other_files = 0  # so many of them, from the front
        self._highest: int | None = None  # largest key so far that is a whole number

    def begin_file(self) -> None:
        """What follows is of another file than what was there before."""
        self._of_other_files = len(self._keys)

    def before(self, frame: pl.DataFrame, columns: tuple[str, ...], *, within_file: bool = True) -> pl.Series:
        """Which rows repeat an earlier one in these columns (none named: in all that the file has); where not
        `within_file`, one of another file."""
        names = list(columns) or [name for name in frame.columns if name not in _OWN]
        if any(name not in frame.columns for name in names):
            return pl.repeat(False, frame.height, eager=True)
        # A missing id says nothing: two equal trades without ids are two trades.
        key = frame[names[0]] if len(names) == 1 else frame.select(pl.struct(names)).to_series()
        known = pl.repeat(False, frame.height, eager=True)
        if len(names) > 1 or not self._counts_on(key):
            known = ~key.is_first_distinct() if within_file else known
            for earlier in self._keys if within_file else self._keys[: self._of_other_files]:
                if earlier.dtype == key.dtype:  # a row of other columns is another row
                    known |= key.is_in(earlier.implode()).fill_null(False)
            if len(names) == 1:
                known &= key.is_not_null()
        self._remember(key)
        return known

    def _counts_on(self, key: pl.Series) -> bool:
        """Whether these are whole numbers, each larger than all before it: then none was there before."""
        if not (key.dtype == pl.String or key.dtype.is_integer()):
            return False
        numbers = key.cast(pl.Int64, strict=False)
        highest, most = self._highest, cast("int | None", numbers.max())
        if most is not None:
            self._highest = most if highest is None else max(highest, most)
        if numbers.null_count() or not len(numbers):
            return False
        return (highest is None or highest < numbers[0]) and bool((numbers[1:] > numbers[:-1]).all())

    def _remember(self, key: pl.Series) -> None:
        ours = len(self._keys) > self._of_other_files and self._keys[-1].dtype == key.dtype
        if ours and len(self._keys[-1]) < _REMEMBERED // 4:  # few long pieces are searched faster than many
            self._keys[-1] = pl.concat([self._keys[-1], key])
        else:
            self._keys.append(key)
        while len(self._keys) > 1 and sum(len(keys) for keys in self._keys[1:]) >= _REMEMBERED:
            del self._keys[0]
            self._of_other_files = max(0, self._of_other_files - 1)


def _common_identity(files: Sequence[Opened], given: Instrument) -> Identity:
    """Venue and symbol of all files; two are an error, unless rows say whose they are and the user chose one."""
    first = Identity()
    for file in files:
        identity = file.format.identify(file.head)
        first = identity if first == Identity() else first
        for label in ("venue", "symbol"):
            one, other = getattr(first, label), getattr(identity, label)
            chosen = getattr(given, label) is not None and file.format.labelled()
            if not chosen and one is not None and other is not None and one != other:
                raise DataError(
                    "two instruments in one tape",
                    file=str(file.head.path),
                    column=label,
                    found=[one, other],
                    expected=_ONE[label],
                )
    return first
