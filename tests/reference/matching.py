"""Liquidation records and the taker orders they speak of, by looking through lists. Sizes are whole lots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isnan, nan

REMEMBERED = 4096
WAITING = 32


@dataclass
class Order:
    ts: int
    side: int
    lots: int
    claimed: float = 0
    price: float = nan
    guess: float = 0.0  # of it, inferred to be forced


@dataclass
class Matching:
    """Orders and records in order of time."""

    half_tick: float
    window: int  # before a record, in which its orders are looked for
    grace: int  # after a record, in which its order may still come
    orders: list[Order] = field(default_factory=list)
    waiting: list[list[float]] = field(default_factory=list)  # time, side, lots that are still missing
    unmatched: int = 0

    def order(self, ts: int, side: int, lots: int, price: float) -> None:
        """Records that wait too long are given up; the others claim of the new order, the oldest first."""
        new = Order(ts, side, lots, price=price)
        self.orders.append(new)
        self.waiting = [record for record in self.waiting if record[2]]
        late = [record for record in self.waiting if record[0] + self.grace < ts]
        self.unmatched += len(late)
        self.waiting = [record for record in self.waiting if record not in late]
        for record in self.waiting:
            if record[1] == side:
                record[2] -= self._claim(new, record[2])

    def record(self, ts: int, side: int, lots: int, price: float) -> None:
        """The latest orders that add up to it, at its price before others; else whatever of its side traded last, near
        its price before others; the rest waits."""
        held = self.orders[-(REMEMBERED - 1) :]
        near = [order for order in held if order.side == side and order.ts >= ts - self.window]
        run = self._exact_run(near, lots, price) or self._exact_run(near, lots, nan)
        left: float = lots
        at_price = [order for order in near if abs(order.price - price) <= 4 * self.half_tick]
        for order in run or [*reversed(at_price), *reversed(near)]:
            left -= self._claim(order, left)
        for order in near:  # a feed of one record a second: what it leaves out counts as far as it is inferred
            order.claimed = max(order.claimed, order.guess * order.lots)
        if left and len(self.waiting) == WAITING:
            self.unmatched += 1
        elif left:
            self.waiting.append([ts, side, left])

    @staticmethod
    def _claim(order: Order, lots: float) -> float:
        got = min(lots, order.lots - order.claimed)
        order.claimed += got
        return got

    def _exact_run(self, orders: Sequence[Order], lots: int, price: float) -> Sequence[Order]:
        """Neighbouring orders of which nothing is claimed yet, which add up to `lots` and whose mean price is `price`
        (NaN: any): the run that begins last."""
        for start in reversed(range(len(orders))):
            for stop in range(len(orders), start, -1):
                run = orders[start:stop]
                if any(order.claimed for order in run) or sum(order.lots for order in run) != lots:
                    continue
                mean = sum(order.lots * order.price for order in run) / lots
                if isnan(price) or abs(mean - price) <= self.half_tick:
                    return run
        return []
