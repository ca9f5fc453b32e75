"""Lengths of time, as written (``"250ms"``, ``"60s"``, ``"5m"``) and as counted: nanoseconds."""

from __future__ import annotations

import re
from typing import Final

from toxmid.errors import ParameterError

__all__ = ["nanoseconds"]

_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_DURATION: Final = re.compile(r"(?P<count>\d+)(?P<unit>ns|us|ms|s|m|h|d)")


def nanoseconds(duration: str, *, name: str = "duration") -> int:
    """Length of a duration in nanoseconds.

    Parameters
    ----------
    duration : str
        A whole positive number and a unit: ns, us, ms, s, m, h or d (24 hours).
    name : str
        What the duration is of, for the error message.

    Returns
    -------
    int

    Raises
    ------
    ParameterError
        Anything else.

    Examples
    --------
    >>> nanoseconds("250ms")
    250000000
    >>> nanoseconds("5m") == nanoseconds("300s")
    True
    """
    match = _DURATION.fullmatch(duration) if isinstance(duration, str) else None
    length = int(match["count"]) * _UNITS[match["unit"]] if match else 0
    if not 0 < length < 2**62:
        raise ParameterError(f"{name} is not a length of time", found=duration, expected='such as "250ms", "60s", "5m"')
    return length
