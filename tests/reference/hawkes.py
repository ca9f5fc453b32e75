"""Log likelihood of a Hawkes process from its definition: every event looks back at all before it."""

from __future__ import annotations

import math
from collections.abc import Sequence


def intensity(
    time: float, kind: int, events: Sequence[tuple[float, int]], mu: Sequence[float], n: object, b: Sequence[float]
) -> float:
    """Rate of one kind just before `time`; `n[to][of][kernel]`."""
    return mu[kind] + sum(
        n[kind][of][p] * b[p] * math.exp(-b[p] * (time - before))  # type: ignore[index]
        for before, of in events
        if before < time
        for p in range(len(b))
    )


def loglike(
    events: Sequence[tuple[float, int]], span: float, mu: Sequence[float], n: object, b: Sequence[float]
) -> float:
    rates = sum(math.log(intensity(time, kind, events, mu, n, b)) for time, kind in events)
    base = sum(mu) * span
    caused = sum(
        n[to][of][p] * (1 - math.exp(-b[p] * (span - time)))  # type: ignore[index]
        for to in range(len(mu))
        for time, of in events
        for p in range(len(b))
    )
    return rates - base - caused
