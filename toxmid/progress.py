"""A line on stderr that says how far a long run has come, how fast it goes and how long it will still take."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

_FULL, _EMPTY = "█", "░"
_BAR_CELLS = 24
# Before this, a rate is an accident of the first chunk.
_SECONDS_BEFORE_RATE = 0.5


class Progress:
    """Progress of a run over a known or unknown number of rows.

    Nothing is written where nobody watches: when `quiet`, or when the stream is not a terminal.

    Parameters
    ----------
    total : int or None
        Rows to come, None if it is not known beforehand.
    label : str
        What is being done.
    unit : str
        What is counted, in the plural.
    stream : text stream, optional
        Where the line goes, stderr by default.
    quiet : bool
        Write nothing at all.
    interval : float
        Least time between two writes, seconds.
    clock : callable
        Seconds, monotonic.

    Examples
    --------
    >>> with Progress(2_000, label="replay", quiet=True) as progress:
    ...     progress.advance(1_500)
    ...     progress.advance(500)
    >>> progress.done
    2000
    """

    def __init__(
        self,
        total: int | None = None,
        *,
        label: str = "",
        unit: str = "rows",
        stream: TextIO | None = None,
        quiet: bool = False,
        interval: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.label = label
        self.unit = unit
        self.done = 0
        self._stream = sys.stderr if stream is None else stream
        self._live = not quiet and self._stream.isatty()
        self._glyphs = (_FULL, _EMPTY) if _can_write(self._stream, _FULL + _EMPTY) else ("#", ".")
        self._interval = interval
        self._clock = clock
        self._start = clock()
        self._next_write = self._start
        self._ended: float | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._abandon()

    def advance(self, rows: int = 1) -> None:
        """Count `rows` more as done."""
        self.update(self.done + rows)

    def update(self, done: int) -> None:
        """Set the number of rows done so far."""
        self.done = done
        if not self._live:
            return
        now = self._clock()
        if now >= self._next_write:
            self._next_write = now + self._interval
            self._write(self.line())

    def close(self) -> None:
        """Replace the bar by the summary. Closing twice is harmless."""
        if self._ended is not None:
            return
        self._ended = self._clock()
        if self._live:
            self._write(self.summary())
            self._end_line()

    def line(self) -> str:
        """Return the line as it stands now: share done, rows, rate, time left."""
        parts = [self.label, self._share(), self._rows(), *self._speed()]
        return "  ".join(part for part in parts if part)

    def summary(self) -> str:
        """Return one sentence on the whole run: rows, time, mean rate."""
        seconds = self._elapsed()
        rate = f" ({format_count(self.done / seconds)} {self.unit}/s)" if seconds > 0 and self.done else ""
        text = f"{format_count(self.done)} {self.unit} in {format_seconds(seconds)}{rate}"
        return f"{self.label}: {text}" if self.label else text

    def _abandon(self) -> None:
        """Leave the last line standing, so that the error message starts on its own."""
        self._ended = self._clock()
        if self._live:
            self._end_line()

    def _elapsed(self) -> float:
        return (self._clock() if self._ended is None else self._ended) - self._start

    def _share(self) -> str:
        if not self.total:
            return ""
        share = min(self.done / self.total, 1.0)
        full = int(share * _BAR_CELLS)
        return f"{share * 100:3.0f} % " + self._glyphs[0] * full + self._glyphs[1] * (_BAR_CELLS - full)

    def _rows(self) -> str:
        of = f" of {format_count(self.total)}" if self.total else ""
        return f"{format_count(self.done)}{of} {self.unit}"

    def _speed(self) -> list[str]:
        seconds = self._elapsed()
        if seconds < _SECONDS_BEFORE_RATE or not self.done:
            return []
        rate = self.done / seconds
        left = [f"{format_seconds(max(self.total - self.done, 0) / rate)} left"] if self.total else []
        return [f"{format_count(rate)} {self.unit}/s", *left]

    def _write(self, text: str) -> None:
        columns = shutil.get_terminal_size().columns
        # The last column stays free: many terminals wrap when it is filled. ESC [K clears what was longer before.
        self._stream.write(f"\r{text[: columns - 1]}\x1b[K")
        self._stream.flush()

    def _end_line(self) -> None:
        self._stream.write("\n")
        self._stream.flush()


def format_count(number: float) -> str:
    """Write a count with at most four characters of digits.

    >>> [format_count(n) for n in (7, 950, 12_345, 36_300_000, 2_100_000_000)]
    ['7', '950', '12.3k', '36.3M', '2.10G']
    """
    for suffix, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        # 999,950 would round to 1000k.
        if number >= scale * 0.9995:
            value = number / scale
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}{suffix}"
    return f"{number:.0f}"


def format_seconds(seconds: float) -> str:
    """Write a length of time with its two leading units.

    >>> [format_seconds(s) for s in (0.42, 7.25, 83, 3_725, 200_000)]
    ['0.42 s', '7.2 s', '1 min 23 s', '1 h 02 min', '2 d 07 h']
    """
    if seconds < 59.95:
        return f"{seconds:.{2 if seconds < 1 else 1}f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"


def _can_write(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
