"""Liquidation records and the taker orders they speak of, by looking through lists. Sizes are whole lots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

REMEMBERED = 4096
WAITING = 32


@dataclass
class Order:
    ts: int
    side: int
    lots: int
    claimed: int = 0


@dataclass
class Matching:
    """Orders and records in order of time."""

    window: int  # before a record, in which its orders are looked for
    grace: int  # after a record, in which its order may still come
    orders: list[Order] = field(default_factory=list)
    waiting: list[list[int]] = field(default_factory=list)  # time, side, lots that are still missing
    unmatched: int = 0

    def order(self, ts: int, side: int, lots: int) -> None:
        """Records that wait too long are given up; the others claim of the new order, the oldest first."""
        new = Order(ts, side, lots)
        self.orders.append(new)
        self.waiting = [record for record in self.waiting if record[2]]
        late = [record for record in self.waiting if record[0] + self.grace < ts]
        self.unmatched += len(late)
        self.waiting = [record for record in self.waiting if record not in late]
        for record in self.waiting:
            if record[1] == side:
                record[2] -= self._claim(new, record[2])

    def record(self, ts: int, side: int, lots: int) -> None:
        """The latest orders that add up to it; else whatever of its side traded last; the rest waits."""
        held = self.orders[-(REMEMBERED - 1) :]
        near = [order for order in held if order.side == side and order.ts >= ts - self.window]
        run = exact_run(near, lots)
        left = lots
        for order in run or reversed(near):
            left -= self._claim(order, left)
        if left and len(self.waiting) == WAITING:
            self.unmatched += 1
        elif left:
            self.waiting.append([ts, side, left])

    @staticmethod
    def _claim(order: Order, lots: int) -> int:
        got = min(lots, order.lots - order.claimed)
        order.claimed += got
        return got


def exact_run(orders: Sequence[Order], lots: int) -> Sequence[Order]:
    """Neighbouring orders of which nothing is claimed yet and which add up to `lots`: the run that begins last."""
    for start in reversed(range(len(orders))):
        for stop in range(len(orders), start, -1):
            run = orders[start:stop]
            if not any(order.claimed for order in run) and sum(order.lots for order in run) == lots:
                return run
    return []
