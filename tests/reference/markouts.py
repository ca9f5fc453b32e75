"""Mean markouts by search through all quotes, and their errors by blocks, row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reference.classify import Quote
from reference.spreads import last, mid_of

Marked = tuple[int, float, float, int]  # ts, price, size, sign


def markout(trade: Marked, quotes: Sequence[Quote], length: int, end: int) -> float | None:
    """Gain of the taker at the mid `length` later, bps; None where it is not known."""
    ts, price, size, sign = trade
    if sign == 0 or not size > 0 or ts + length > end:
        return None
    mid = mid_of(last([quote for quote in quotes if quote[0] <= ts + length]))
    return None if mid is None else 1e4 * sign * math.log(mid / price)


def mean_markout(
    trades: Sequence[Marked], quotes: Sequence[Quote], length: int, end: int, span: int
) -> dict[str, float | int | None]:
    """The row of one group: mean by size, standard error by blocks, and what they are of."""
    gains = [(trade, markout(trade, quotes, length, end)) for trade in trades]
    known = [(ts, size, gain) for (ts, _, size, _), gain in gains if gain is not None]
    volume = sum(size for _, size, _ in known)
    row: dict[str, float | int | None] = {"trades": len(known), "volume": volume, "markout_bps": None, "bse_bps": None}
    blocks: dict[int, float] = {}
    if known:
        mean = sum(size * gain for _, size, gain in known) / volume
        for ts, size, gain in known:
            blocks[ts // span] = blocks.get(ts // span, 0.0) + size * (gain - mean)
        row["markout_bps"] = mean
    if len(blocks) > 1:
        squares = sum(block**2 for block in blocks.values())
        row["bse_bps"] = math.sqrt(len(blocks) / (len(blocks) - 1) * squares) / volume
    return row | {"blocks": len(blocks), "ts_known": max(ts for ts, *_ in known) + length if known else None}
