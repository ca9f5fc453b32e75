"""Days and months of an archive."""

from __future__ import annotations

import datetime as dt

from toxmid.errors import ParameterError

__all__ = ["Day", "days", "months", "span"]

Day = str | dt.date


def span(start: Day, end: Day | None) -> tuple[dt.date, dt.date]:
    """First day, and the day after the last one; without `end` it is one day.

    Examples
    --------
    >>> span("2025-10-10", None)
    (datetime.date(2025, 10, 10), datetime.date(2025, 10, 11))
    """
    first = _day(start, "start")
    last = first + dt.timedelta(days=1) if end is None else _day(end, "end")
    if last <= first:
        raise ParameterError("the period ends before it starts", found=[str(first), str(last)])
    return first, last


def days(first: dt.date, last: dt.date) -> list[str]:
    """Days from `first` to before `last`, as an archive writes them.

    Examples
    --------
    >>> days(dt.date(2024, 2, 28), dt.date(2024, 3, 1))
    ['2024-02-28', '2024-02-29']
    """
    return [(first + dt.timedelta(days=n)).isoformat() for n in range((last - first).days)]


def months(first: dt.date, last: dt.date) -> list[str]:
    """Months that have a day from `first` to before `last`.

    Examples
    --------
    >>> months(dt.date(2024, 1, 31), dt.date(2024, 3, 1))
    ['2024-01', '2024-02']
    """
    return list(dict.fromkeys(day[:7] for day in days(first, last)))


def _day(value: Day, name: str) -> dt.date:
    try:
        # A moment is a date by inheritance, and says more than we can use.
        if isinstance(value, dt.datetime):
            raise ValueError
        return value if isinstance(value, dt.date) else dt.date.fromisoformat(value)
    except (ValueError, TypeError):
        raise ParameterError("not a day", column=name, found=value, expected="a day, as 2025-10-10") from None
