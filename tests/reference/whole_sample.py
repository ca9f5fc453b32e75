"""VPIN with whole-sample constants: bars in a dictionary, volume poured bar by bar."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

DAY = 86_400 * 10**9

Trade = tuple[int, float, float]  # ts, price, size
Bucket = tuple[float, float, float | None]  # bought, sold, vpin


def bars(trades: Sequence[Trade], length: int) -> list[tuple[float, float]]:
    """(price change, volume) of each bar of the grid on days with trades, first to last, empty ones too."""
    origin = trades[0][0] // DAY * DAY
    filled: dict[int, list[Trade]] = {}
    for trade in trades:
        filled.setdefault((trade[0] - origin) // length, []).append(trade)
    trading_days = {ts // DAY for ts, _, _ in trades}
    result = []
    for index in range(min(filled), max(filled) + 1):
        inside = filled.get(index)
        if inside:
            result.append((inside[-1][1] - inside[0][1], math.fsum(size for _, _, size in inside)))
        elif (origin + index * length) // DAY in trading_days:
            result.append((0.0, 0.0))
    return result


def days(trades: Sequence[Trade]) -> int:
    return len({ts // DAY for ts, _, _ in trades})


def vpin(
    trades: Sequence[Trade], length: int, volume: float, window: int, distribution: Callable[[float], float]
) -> list[Bucket]:
    """Full buckets. The last is full if it is so but for rounding."""
    grid = bars(trades, length)
    sigma = statistics.stdev(change for change, _ in grid)
    full: list[tuple[float, float]] = []
    bought = sold = filled = 0.0
    for change, in_bar in grid:
        share = distribution(change / sigma)
        left = in_bar
        while left > 0:
            part = min(left, volume - filled)
            bought += share * part
            sold += (1 - share) * part
            filled += part
            left -= part
            if filled >= volume * (1 - 1e-9):
                full.append((bought, sold))
                bought = sold = filled = 0.0
    gaps = [abs(b - s) for b, s in full]
    rows: list[Bucket] = []
    for row, (b, s) in enumerate(full):
        in_window = gaps[row + 1 - window : row + 1] if row + 1 >= window else None
        rows.append((b, s, sum(in_window) / (window * volume) if in_window else None))
    return rows
