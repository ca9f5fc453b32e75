"""What can go wrong, as a user meets it: one base class, a few named children, each also a builtin."""

from __future__ import annotations

from typing import Any, Final

_SHOWN: Final = 10


class ToxmidError(Exception):
    """Base of every error that toxmid raises on purpose.

    The message is one sentence that a person can act on. What it was built from stays available:

    Attributes
    ----------
    file : str or None
        The file in which the problem was found.
    row : int or None
        Row of the file or frame, counted from 1 for files (the header is row 1) and from 0 for frames.
    column : str or None
        Column in which the problem was found.
    found, expected : object or None
        What stood there, and what was expected instead.

    Examples
    --------
    >>> error = DataError("price is not a number", file="trades.csv", row=7, column="price", found="abc")
    >>> str(error)
    "trades.csv, row 7, column price: price is not a number (found 'abc')"
    >>> isinstance(error, ValueError)
    True
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        row: int | None = None,
        column: str | None = None,
        found: Any = None,
        expected: Any = None,
    ) -> None:
        self.message = message
        self.file = file
        self.row = row
        self.column = column
        self.found = found
        self.expected = expected
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        # A name may hold what breaks a line, or bytes that are no text.
        where = [self.file if self.file.isprintable() else repr(self.file)] if self.file is not None else []
        where += [f"row {self.row}"] if self.row is not None else []
        where += [f"column {self.column}"] if self.column is not None else []
        what = [f"found {_shown(self.found)}"] if self.found is not None else []
        what += [f"expected {self.expected}"] if self.expected is not None else []
        return (", ".join(where) + ": " if where else "") + self.message + (f" ({', '.join(what)})" if what else "")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.file, self.row, self.column, self.found, self.expected)


def _shown(found: Any) -> str:
    """What was found, in words: of several things, the first few."""
    if not isinstance(found, list | tuple | set | frozenset):
        return repr(found)
    things = [repr(thing) for thing in (sorted(found, key=str) if isinstance(found, set | frozenset) else found)]
    more = len(things) - _SHOWN
    return (", ".join(things[:_SHOWN]) or "none") + (f" and {more} more" if more > 0 else "")


def _rebuild(
    kind: type[ToxmidError],
    message: str,
    file: str | None,
    row: int | None,
    column: str | None,
    found: Any,
    expected: Any,
) -> ToxmidError:
    """Unpickle: errors cross process borders with all their attributes."""
    return kind(message, file=file, row=row, column=column, found=found, expected=expected)


class FileError(ToxmidError, OSError):
    """A file cannot be used as what it was given for: missing, cut, corrupt, of another format, or not writable."""

    # OSError rewrites its own arguments; the sentence is ours.
    __str__ = ToxmidError._sentence


class DataError(ToxmidError, ValueError):
    """Rows or columns that cannot be right: a missing column, a time that goes back, two instruments in one tape."""


class ParameterError(ToxmidError, ValueError):
    """A parameter outside its range, or two that contradict each other."""


class NotEnoughDataError(ToxmidError, ValueError):
    """The tape is too short or too empty for what was asked."""


class TapeWarning(UserWarning):
    """Something about a tape that a person should know, though it could be used."""
