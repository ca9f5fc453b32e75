"""Tables of several kinds, each in pieces, cut at common times: what the engine is fed with in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.errors import DataError
from toxmid.schema import Kind, columns

__all__ = ["INPUTS", "Columns", "rounds"]

Columns = dict[str, npt.NDArray[Any]]

# Inputs of a replay in the order in which the core takes events of one time, and the canonical table each one is.
INPUTS: Final[Mapping[str, Kind]] = {
    "trades": "trades",
    "liquidations": "liquidations",
    "book": "book",
    "quotes": "quotes",
    "mark": "mark",
    "reference": "trades",
}


class _Stream:
    """One input: the piece that is being used up, and where the next one comes from."""

    def __init__(self, name: str, frames: Iterator[pl.DataFrame]) -> None:
        self._name = name
        self._kind = INPUTS[name]
        self._frames = frames
        self._piece: Columns | None = None
        self._latest: int | None = None  # time of the last row of the pieces loaded so far
        self._loaded = 0  # rows of the pieces loaded so far
        self.ended = False
        self._load()

    @property
    def last(self) -> int:
        """Time of the last row at hand."""
        assert self._piece is not None
        return int(self._piece["ts"][-1])

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
        taken = {name: column[:cut] for name, column in self._piece.items()}
        self._piece = {name: column[cut:] for name, column in self._piece.items()} if cut < ts.size else None
        if self._piece is None and not self.ended:
            self._load()
        return taken

    def extend(self) -> None:
        """Append the next piece: all rows at hand are of one moment, which may go on in it."""
        held = self._piece
        assert held is not None
        self._piece = None
        self._load()
        if self._piece is not None:
            more: Columns = self._piece
            # An optional column that one piece lacks is unknown for the rest of this moment's rows as well.
            self._piece = {name: np.concatenate([held[name], more[name]]) for name in held if name in more}
        else:
            self._piece = held

    def _load(self) -> None:
        for frame in self._frames:
            if frame.height:
                piece = columns(frame, self._kind)
                self._check_order(piece["ts"])
                self._latest = int(piece["ts"][-1])
                self._loaded += piece["ts"].size
                self._piece = piece
                return
        self.ended = True

    def _check_order(self, ts: npt.NDArray[np.int64]) -> None:
        before = ts[0] if self._latest is None else self._latest
        back = np.flatnonzero(np.diff(ts, prepend=before) < 0)
        if back.size:
            row = int(back[0])
            earlier = before if row == 0 else ts[row - 1]
            raise DataError(
                f"time goes back in {self._name}; sort the table, or let the reader sort it",
                row=self._loaded + row,
                column="ts",
                found=str(np.datetime64(int(ts[row]), "ns")),
                expected=f"{np.datetime64(int(earlier), 'ns')} or later",
            )


def rounds(
    sources: Mapping[str, Iterator[pl.DataFrame]], *, on_rows: Callable[[int], None] | None = None
) -> Iterator[tuple[Columns | None, ...]]:
    """Yield tuples of columns, one entry per input in the order of `INPUTS`, that can be fed one after the other.

    Every round reaches up to, and not including, a time that every input which goes on has reached, so the engine sees
    all events in order however the pieces of the inputs are cut.

    Parameters
    ----------
    sources : mapping
        Canonical frames, in pieces, by input; each input in order of time.
    on_rows : callable, optional
        Told how many rows each round holds.

    Raises
    ------
    DataError
        A time goes back.
    """
    streams = {name: _Stream(name, sources[name]) for name in INPUTS if name in sources}
    while any(not stream.empty for stream in streams.values()):
        going_on = [stream for stream in streams.values() if not stream.ended]
        horizon = min((stream.last for stream in going_on), default=None)
        taken = {name: stream.take_before(horizon) for name, stream in streams.items()}
        rows = sum(table["ts"].size for table in taken.values() if table is not None)
        if rows == 0:
            # Some input holds nothing but rows of the horizon itself: only its next piece can show what comes after.
            for stream in going_on:
                if stream.last == horizon:
                    stream.extend()
            continue
        if on_rows is not None:
            on_rows(rows)
        yield tuple(taken.get(name) for name in INPUTS)
