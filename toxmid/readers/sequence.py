"""Numbers of book updates: where some are missing, which come late, and where a venue began to count anew.

A venue numbers what it sends so that a receiver can know what it has missed. Formats hand over up to three columns of
integers, `number` (of this update, or of a snapshot within the stream), `follows` (number of the update before it; null
where it follows none) and `covers` (a snapshot from elsewhere holds all updates up to this one). A vendor who has
counted already hands over `doubtful`, true from where something was lost.

Here they become two flags. `gap`: the book that stood before this row is not the one that this row changes. `late`: the
row is older than what has been taken already, and would undo it.
"""

from __future__ import annotations

from enum import Enum

import polars as pl

__all__ = ["UpdateNumbers"]


class _Verdict(Enum):
    FITS = 0
    LATE = 1
    GAP = 2


class UpdateNumbers:
    """Follows the numbers of one tape, through all its pieces and files."""

    def __init__(self) -> None:
        self._latest: int | None = None  # number of the last update taken
        self._covers: int | None = None  # number up to which the last snapshot from elsewhere reaches
        self._late: int | None = None  # number of a late update right before
        self._doubtful = False

    def flagged(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Replace the columns of numbers by the flags; a frame without such columns stays as it is."""
        if "doubtful" in frame.columns:
            doubtful, before = frame["doubtful"], self._doubtful
            self._doubtful = bool(doubtful[-1]) if frame.height else before
            return frame.drop("doubtful").with_columns(gap=doubtful & ~doubtful.shift(1, fill_value=before))
        if "follows" not in frame.columns:
            return frame
        if "covers" not in frame.columns:
            frame = frame.with_columns(covers=pl.lit(None, pl.Int64))
        frame = self._flagged_at_once(frame) if self._is_plain(frame) else self._flagged_one_by_one(frame)
        return frame.drop("number", "follows", "covers")

    def _is_plain(self, frame: pl.DataFrame) -> bool:
        """Whether every update follows the one before it, as it should be; several rows may be one update."""
        if frame.height == 0 or self._latest is None or self._late is not None or frame["covers"].count():
            return False
        before = pl.col("number").shift(1, fill_value=self._latest)
        fits = (pl.col("follows") == before) | ((pl.col("number") == before) & pl.col("follows").is_not_null())
        fits &= pl.col("number") >= before
        return bool(frame.select(fits.fill_null(False).all()).item()) and not self._is_covered(int(frame["number"][0]))

    def _flagged_at_once(self, frame: pl.DataFrame) -> pl.DataFrame:
        self._latest = int(frame["number"][-1])
        return frame.with_columns(gap=pl.lit(False), late=pl.lit(False))

    def _flagged_one_by_one(self, frame: pl.DataFrame) -> pl.DataFrame:
        verdicts = [self._step(*row) for row in frame.select("number", "follows", "covers").iter_rows()]
        return frame.with_columns(
            gap=pl.Series([verdict is _Verdict.GAP for verdict in verdicts], dtype=pl.Boolean),
            late=pl.Series([verdict is _Verdict.LATE for verdict in verdicts], dtype=pl.Boolean),
        )

    def _step(self, number: int | None, follows: int | None, covers: int | None) -> _Verdict:
        """Take one update or snapshot."""
        if covers is not None:
            self._covers = covers
            return _Verdict.FITS
        if number is None:
            return _Verdict.FITS
        if follows is None:  # a snapshot within the stream: whatever it says is so
            self._latest, self._covers, self._late = number, None, None
            return _Verdict.FITS
        verdict = self._judge(number, follows)
        self._late = number if verdict is _Verdict.LATE else None
        if verdict is not _Verdict.LATE or self._latest is None or number > self._latest:
            self._latest = number
        return verdict

    def _judge(self, number: int, follows: int) -> _Verdict:
        if self._late is not None and follows == self._late != self._latest:
            # One old update may come late; two in a row that follow each other are a new count.
            self._covers = None
            return _Verdict.GAP
        if self._is_covered(number):
            return _Verdict.LATE
        if self._latest is not None and number < self._latest:
            return _Verdict.LATE
        if self._latest is None or self._latest in (follows, number):
            return _Verdict.GAP if self._latest is None and self._is_beyond(follows) else _Verdict.FITS
        return _Verdict.GAP if self._covers is None or follows > self._covers else _Verdict.FITS

    def _is_covered(self, number: int) -> bool:
        return self._covers is not None and number <= self._covers

    def _is_beyond(self, follows: int) -> bool:
        return self._covers is not None and follows > self._covers
