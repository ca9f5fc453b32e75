"""A price-level book in two dicts, with the rules for messages, snapshots and crossed sides written out plainly."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

BID, ASK = 1, -1


@dataclass
class Book:
    """Rows in, levels and counts out. Rows of one time are one message, judged when a later time arrives."""

    need_snapshot: bool = True
    levels: dict[int, dict[float, float]] = field(default_factory=lambda: {BID: {}, ASK: {}})
    set_now: dict[int, set[float]] = field(default_factory=lambda: {BID: set(), ASK: set()})
    seeded: bool = False
    in_snapshot: bool = False
    open: bool = False
    crossed: bool = False
    used: int = 0
    before_snapshot: int = 0
    resets: int = 0
    unknown_deletes: int = 0
    repaired: int = 0
    removed: int = 0
    left_crossed: int = 0
    gaps: int = 0

    def row(self, side: int, price: float, size: float, snapshot: bool, gap: bool = False) -> None:
        if gap:
            for some in (BID, ASK):
                self.levels[some].clear()
                self.set_now[some].clear()
            self.seeded = self.in_snapshot = False
            self.open = True
            self.gaps += 1
        if snapshot and (not self.in_snapshot or not self.open):
            for some in (BID, ASK):
                self.levels[some].clear()
                self.set_now[some].clear()
            self.seeded = True
            self.resets += 1
        self.in_snapshot = snapshot
        if self.need_snapshot and not self.seeded:
            self.before_snapshot += 1
            return
        self.used += 1
        self.open = True
        if size > 0:
            self.levels[side][price] = size
            self.set_now[side].add(price)
        elif self.levels[side].pop(price, None) is None:
            self.unknown_deletes += 1

    def best(self, side: int) -> float | None:
        prices = self.levels[side]
        return (max(prices) if side == BID else min(prices)) if prices else None

    def crosses(self) -> bool:
        bid, ask = self.best(BID), self.best(ASK)
        return bid is not None and ask is not None and bid >= ask

    def judge(self) -> None:
        """The message has ended. Levels it set are newer than what they cross."""
        if not self.open:
            return
        self.open = False
        if self.crosses():
            self._remove_what_is_older()
        self.crossed = self.crosses()
        self.left_crossed += self.crossed
        for some in (BID, ASK):
            self.set_now[some].clear()

    def _remove_what_is_older(self) -> None:
        fresh = {some: self.set_now[some] & self.levels[some].keys() for some in (BID, ASK)}
        stale = {BID: set[float](), ASK: set[float]()}
        if fresh[BID]:
            stale[ASK] = {price for price in self.levels[ASK] if price <= max(fresh[BID])} - fresh[ASK]
        if fresh[ASK]:
            stale[BID] = {price for price in self.levels[BID] if price >= min(fresh[ASK])} - fresh[BID]
        for some, prices in stale.items():
            for price in prices:
                del self.levels[some][price]
        removed = len(stale[BID]) + len(stale[ASK])
        self.removed += removed
        self.repaired += removed > 0

    def ladder(self, side: int) -> list[tuple[float, float]]:
        """(price, size), best first."""
        return sorted(self.levels[side].items(), reverse=side == BID)

    def depth(self, side: int, mid: float, bps: float) -> float:
        """Size on one side no further from `mid` than `bps` of log price."""
        return sum(size for price, size in self.levels[side].items() if -side * math.log(price / mid) <= 1e-4 * bps)
