"""Bulk volume classification with scipy's distributions: which part of a bar's volume was bought."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

DAY = 86_400 * 10**9
WARM_UP = 30  # price changes before sigma is believed


@dataclass(frozen=True)
class BulkBar:
    end: int  # ns
    volume: float
    bought: float | None  # share; None: not known yet


def bulk_bars(
    ts: Sequence[int], price: Sequence[float], size: Sequence[float], bar: int, df: float | None
) -> list[BulkBar]:
    """Closed bars that traded. The last bar is open: nothing ends it.

    Price changes are close to close, nothing in a bar without trades; sigma is the exponentially weighted rms of the
    changes before this bar, with a half-life of one day.
    """
    distribution = stats.norm() if df is None else stats.t(df)
    gain = 1 - 2 ** (-bar / DAY)
    ends = [-(-moment // bar) * bar for moment in ts]
    closed = []
    variance, changes, previous = 0.0, 0, math.nan
    for end in range(ends[0], ends[-1], bar):
        inside = [i for i, mine in enumerate(ends) if mine == end]
        close = price[inside[-1]] if inside else previous
        change = close - previous
        if inside:
            bought = None
            if changes >= WARM_UP:
                bought = float(distribution.cdf(change / math.sqrt(variance))) if variance > 0 else 0.5
            closed.append(BulkBar(end, sum(size[i] for i in inside), bought))
        if not math.isnan(change):
            variance += (gain if changes else 1.0) * (change**2 - variance)
            changes += 1
        previous = close
    return closed
