"""Trade signing, rule by rule, looking back from each trade to all that came before it."""

from __future__ import annotations

import math
from collections.abc import Sequence

Quote = tuple[int, float, float]  # ts, bid, ask


def is_price(value: float) -> bool:
    return math.isfinite(value) and value > 0


def compare(a: float, b: float, slack: float) -> int:
    return (a - b > slack) - (b - a > slack)


def quote_in_force(quotes: Sequence[Quote], ts: int) -> tuple[float, float] | None:
    """Bid and ask of the last quote strictly before `ts`, unless it is crossed or lacks a side."""
    before = [quote for quote in quotes if quote[0] < ts]
    if not before:
        return None
    _, bid, ask = before[-1]
    return (bid, ask) if is_price(bid) and is_price(ask) and bid <= ask else None


def tick_sign(prices: Sequence[float], slack: float) -> int:
    """Sign of the last change in a row of prices that is not zero."""
    good = [price for price in prices if is_price(price)]
    for previous, price in zip(reversed(good[:-1]), reversed(good[1:]), strict=True):
        if compare(price, previous, slack):
            return compare(price, previous, slack)
    return 0


def quote_rule(price: float, bid: float, ask: float, slack: float) -> int:
    return compare(price, 0.5 * (bid + ask), slack)


def touch_rule(price: float, bid: float, ask: float, slack: float) -> int:
    at_bid, at_ask = compare(price, bid, slack) == 0, compare(price, ask, slack) == 0
    return at_ask - at_bid


def classify(
    rule: str, prices: Sequence[float], times: Sequence[int], quotes: Sequence[Quote], *, slack: float = 0.0
) -> list[int]:
    """Sign of each trade: +1, -1, or 0 for not known."""
    signs = []
    for row, (ts, price) in enumerate(zip(times, prices, strict=True)):
        tick = tick_sign(prices[: row + 1], slack) if is_price(price) else 0
        quote = quote_in_force(quotes, ts)
        if rule == "tick":
            sign = tick
        elif quote is None or not is_price(price):
            sign = 0
        elif rule == "quote":
            sign = quote_rule(price, *quote, slack)
        elif rule == "lee_ready":
            sign = quote_rule(price, *quote, slack) or tick
        else:
            sign = touch_rule(price, *quote, slack) or tick
        signs.append(sign)
    return signs
