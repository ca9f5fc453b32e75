"""Spreads and impact of one trade, by search through all quotes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reference.classify import Quote, is_price

Row = dict[str, float | int | None]
Trade = tuple[int, float, int]  # ts, price, sign


def mid_of(quote: Quote | None) -> float | None:
    if quote is None:
        return None
    _, bid, ask = quote
    return 0.5 * (bid + ask) if is_price(bid) and is_price(ask) and bid <= ask else None


def last(quotes: Sequence[Quote]) -> Quote | None:
    return quotes[-1] if quotes else None


def spread(trade: Trade, quotes: Sequence[Quote], horizons: dict[str, int], end: int) -> Row:
    """The columns of one trade, in quote currency and in bps of log price. `end` is the last time on the tape."""
    ts, price, sign = trade
    before = last([quote for quote in quotes if quote[0] < ts])
    mid = mid_of(before)
    row: Row = {"mid": mid, "quoted_spread": None, "effective_spread": None}
    row |= {"quoted_spread_bps": None, "effective_spread_bps": None}
    if before is not None and mid is not None:
        row["quoted_spread"] = before[2] - before[1]
        row["quoted_spread_bps"] = 1e4 * math.log(before[2] / before[1])
    if sign and mid is not None:
        row["effective_spread"] = 2 * sign * (price - mid)
        row["effective_spread_bps"] = 2 * sign * 1e4 * math.log(price / mid)
    for name, length in horizons.items():
        known = ts + length <= end
        after = mid_of(last([quote for quote in quotes if quote[0] <= ts + length])) if known else None
        row[f"ts_known_{name}"] = ts + length if known else None
        has_realized = bool(sign) and after is not None
        row[f"realized_spread_{name}"] = 2 * sign * (price - after) if has_realized else None
        row[f"realized_spread_{name}_bps"] = 2 * sign * 1e4 * math.log(price / after) if has_realized else None
        has_impact = has_realized and mid is not None
        row[f"impact_{name}"] = sign * (after - mid) if has_impact else None
        row[f"impact_{name}_bps"] = sign * 1e4 * math.log(after / mid) if has_impact else None
    return row
