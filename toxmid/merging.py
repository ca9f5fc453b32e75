"""Tables of several kinds, each in pieces, cut at common times: what the engine is fed with in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.errors import DataError, ParameterError
from toxmid.schema import Kind, columns

__all__ = ["INPUTS", "Columns", "formats_by_input", "input_of", "joined_venues", "rounds"]

Columns = dict[str, npt.NDArray[Any]]

# Inputs of a replay in the order in which the core takes events of one time, and the canonical table each one is.
INPUTS: Final[Mapping[str, Kind]] = {
    "trades": "trades",
    "liquidations": "liquidations",
    "book": "book",
    "quotes": "quotes",
    "mark": "mark",
    "reference": "trades",
    "open_interest": "open_interest",
}
# What the core takes an optional column for where there is none. Only these are its own.
_UNKNOWN: Final[Mapping[str, Any]] = {
    "lots": np.int64(0),
    "snapshot": np.uint8(0),
    "gap": np.uint8(0),
    "index": np.float64("nan"),
}


def input_of(name: str) -> str:
    """The input that a source belongs to: trades of other venues are named ``"reference:<venue>"``."""
    return name.split(":", maxsplit=1)[0]


def formats_by_input(format: str | Mapping[str, str] | None) -> dict[str, str]:
    """The format of each input for which one is given; one text is that of all inputs.

    Examples
    --------
    >>> formats_by_input({"trades": "tardis"})
    {'trades': 'tardis'}
    """
    if format is None:
        return {}
    formats = dict.fromkeys(INPUTS, format) if isinstance(format, str) else dict(format)
    unknown = sorted(formats.keys() - INPUTS.keys())
    if unknown:
        raise ParameterError("no such input", column="format", found=unknown, expected=", ".join(INPUTS))
    return formats


def joined_venues(tables: Mapping[int, Columns]) -> Columns | None:
    """Trades of several venues as one table in order of time, each row with the number of its venue.

    Examples
    --------
    >>> def trades(*ts: int) -> Columns:
    ...     return {"ts": np.array(ts), "price": np.ones(len(ts)), "size": np.ones(len(ts))}
    >>> joined_venues({0: trades(1, 4), 2: trades(2, 3)})["venue"]
    array([0, 2, 2, 0], dtype=int8)
    """
    there = {number: table for number, table in tables.items() if table["ts"].size}
    if not there:
        return None
    names = set.intersection(*(set(table) for table in there.values())) & {"ts", "price", "size", "side"}
    order = np.argsort(np.concatenate([table["ts"] for table in there.values()]), kind="stable")
    joined = {name: np.concatenate([table[name] for table in there.values()])[order] for name in names}
    numbers = np.concatenate([np.full(table["ts"].size, n, dtype=np.int8) for n, table in there.items()])
    return {**joined, "venue": numbers[order]}


class _Stream:
    """One input: the piece that is being used up, and where the next one comes from."""

    def __init__(self, name: str, pieces: Iterator[Columns] | Iterator[pl.DataFrame], checked: bool) -> None:
        self._name = name
        self._checked = checked
        self._kind = INPUTS[input_of(name)]
        self._pieces = pieces
        self._piece: Columns | None = None
        self._behind: Columns | None = None  # what follows the piece, where that is one whole moment
        self._latest: int | None = None  # time of the last row of the pieces loaded so far
        self._loaded = 0  # rows of the pieces loaded so far
        self.ended = False
        self._load()

    @property
    def horizon(self) -> int:
        """Time before which all rows are at hand and can be taken at once."""
        assert self._piece is not None
        return int(self._piece["ts"][-1]) + (self._behind is not None)

    @property
    def empty(self) -> bool:
        return self._piece is None

    def take_before(self, time: int | None) -> Columns | None:
        """Rows earlier than `time` (all of them for None), and no longer at hand."""
        if self._piece is None:
            return None
        ts = self._piece["ts"]
        cut = ts.size if time is None else int(np.searchsorted(ts, time, side="left"))
        if cut == 0:
            return None
        if cut < ts.size:
            taken, self._piece = _cut(self._piece, cut)
            return taken
        taken, self._piece, self._behind = self._piece, self._behind, None
        if self._piece is None and not self.ended:
            self._load()
        return taken

    def extend(self) -> None:
        """Complete the moment of which all rows at hand are: it may go on in the next piece."""
        held = self._piece
        assert held is not None
        self._piece = None
        self._load()
        if self._piece is None:
            self._piece = held
            return
        # Only the rows of that moment are moved, not the piece in which it ends.
        end = int(np.searchsorted(self._piece["ts"], held["ts"][-1], side="right"))
        more, rest = _cut(self._piece, end)
        self._piece = _joined(held, more)
        self._behind = rest if rest["ts"].size else None

    def _load(self) -> None:
        for given in self._pieces:
            piece = columns(given, self._kind) if isinstance(given, pl.DataFrame) else given
            if piece["ts"].size:
                if not self._checked:
                    self._check_order(piece["ts"])
                self._latest = int(piece["ts"][-1])
                self._loaded += piece["ts"].size
                self._piece = piece
                return
        self.ended = True

    def _check_order(self, ts: npt.NDArray[np.int64]) -> None:
        before = ts[0] if self._latest is None else self._latest
        if ts[0] < before or (ts[1:] < ts[:-1]).any():
            row = int(np.flatnonzero(np.diff(ts, prepend=before) < 0)[0])
            earlier = before if row == 0 else ts[row - 1]
            raise DataError(
                f"time goes back in {self._name}; sort the table, or let the reader sort it",
                row=self._loaded + row,
                column="ts",
                found=str(np.datetime64(int(ts[row]), "ns")),
                expected=f"{np.datetime64(int(earlier), 'ns')} or later",
            )


def _joined(one: Columns, other: Columns) -> Columns:
    """The rows of both; where one lacks a column, what the core takes for unknown stands in its rows."""
    parts = (one, other)
    names = [name for name in {**one, **other} if name in _UNKNOWN or (name in one and name in other)]
    return {
        name: np.concatenate([
            part[name] if name in part else np.full(part["ts"].size, _UNKNOWN[name]) for part in parts
        ])
        for name in names
    }  # fmt: skip


def _cut(piece: Columns, at: int) -> tuple[Columns, Columns]:
    """The rows before `at` and those from there on."""
    return {name: column[:at] for name, column in piece.items()}, {name: column[at:] for name, column in piece.items()}


def rounds(
    sources: Mapping[str, Iterator[Columns] | Iterator[pl.DataFrame]],
    *,
    venues: Mapping[str, int] | None = None,
    checked: Collection[str] = (),
    on_rows: Callable[[int], None] | None = None,
) -> Iterator[tuple[Columns | None, ...]]:
    """Yield tuples of columns, one entry per input in the order of `INPUTS`, that can be fed one after the other.

    Every round reaches up to, and not including, a time that every input which goes on has reached, so the engine sees
    all events in order however the pieces of the inputs are cut.

    Parameters
    ----------
    sources : mapping
        Canonical frames, or what `toxmid.schema.columns` makes of them, in pieces, by input; each in order of time.
        Those of other venues may be several, named ``"reference:<venue>"``; without a name it is number 0.
    venues : mapping of str to int, optional
        Numbers of the venues by the name of their source; needed where there is a name.
    checked : collection of str
        Sources that have looked themselves that no time goes back.
    on_rows : callable, optional
        Told how many rows each round holds.

    Raises
    ------
    DataError
        A time goes back.
    """
    known = list(INPUTS)
    ordered = sorted(sources, key=lambda name: known.index(input_of(name)))
    streams = {name: _Stream(name, sources[name], name in checked) for name in ordered}
    while any(not stream.empty for stream in streams.values()):
        going_on = [stream for stream in streams.values() if not stream.ended]
        horizon = min((stream.horizon for stream in going_on), default=None) if len(streams) > 1 else None
        taken = {name: stream.take_before(horizon) for name, stream in streams.items()}
        rows = sum(table["ts"].size for table in taken.values() if table is not None)
        if rows == 0:
            # Some input holds nothing but rows of the horizon itself: only its next piece can show what comes after.
            for stream in going_on:
                if stream.horizon == horizon:
                    stream.extend()
            continue
        if on_rows is not None:
            on_rows(rows)
        yield tuple(_of_input(name, taken, venues or {}) for name in INPUTS)


def _of_input(name: str, taken: Mapping[str, Columns | None], venues: Mapping[str, int]) -> Columns | None:
    """The rows of one input; those of several venues in one table."""
    if name != "reference":
        return taken.get(name)
    tables = {source: table for source, table in taken.items() if input_of(source) == name and table is not None}
    if set(tables) <= {name} and not venues.get(name):
        return tables.get(name)
    return joined_venues({venues[source]: table for source, table in tables.items()})
