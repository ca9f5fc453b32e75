"""Durations as text."""

from __future__ import annotations

import pytest

from toxmid.durations import nanoseconds
from toxmid.errors import ParameterError


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1ns", 1), ("7us", 7_000), ("250ms", 250_000_000), ("60s", 6 * 10**10), ("5m", 3 * 10**11), ("1h", 3600 * 10**9)],
)
def test_units(text: str, expected: int) -> None:
    assert nanoseconds(text) == expected


@pytest.mark.parametrize("wrong", ["", "s", "0s", "-1s", "1.5s", "1 s", "1mo", "1w", "300000d", 60, None])
def test_anything_else_is_refused_by_name(wrong: object) -> None:
    with pytest.raises(ParameterError, match="horizon is not a length of time") as caught:
        nanoseconds(wrong, name="horizon")  # type: ignore[arg-type]
    assert caught.value.found == wrong
