"""Depth around the mid, the cost of a round trip, and where depth went, from whole books as dicts and lists of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from reference.book import ASK, BID, Book

NAN = math.nan
SIDES = {BID: "bid", ASK: "ask"}


def within(levels: Mapping[float, float], side: int, limit: float) -> float:
    """Size at prices that reach a limit."""
    return math.fsum(size for price, size in levels.items() if side * (price - limit) >= 0)


def limit_of(mid: float, side: int, bps: float) -> float:
    return mid * math.exp(-side * 1e-4 * bps)


def mean_price(book: Book, side: int, size: float) -> float:
    left, paid = size, 0.0
    for price, there in book.ladder(side):
        taken = min(there, left)
        paid += taken * price
        left -= taken
        if left <= 0:
            return paid / size
    return NAN


def round_trip(book: Book, size: float) -> float:
    return 1e4 * math.log(mean_price(book, ASK, size) / mean_price(book, BID, size))


@dataclass
class Split:
    """One side over one second: what the rows said and what the tape said, at prices that reach a limit."""

    limit: float = NAN
    waiting: float = 0.0
    rows: list[float] = field(default_factory=list)  # changes of size
    prints: list[float] = field(default_factory=list)

    def figures(self) -> tuple[float, float, float]:
        """Added, traded, cancelled; what traded and was not missed waits for one more second."""
        if math.isnan(self.limit):
            self.waiting = 0.0
            return NAN, NAN, NAN
        added = math.fsum(change for change in self.rows if change > 0)
        went = math.fsum(-change for change in self.rows if change < 0)
        printed = math.fsum(self.prints)
        traded = min(went, printed + self.waiting)
        self.waiting = min(printed + self.waiting - traded, printed)
        return added, traded, went - traded


@dataclass
class Market:
    """A book and a tape, second by second."""

    bps: float
    book: Book = field(default_factory=Book)
    splits: dict[int, Split] = field(default_factory=lambda: {BID: Split(), ASK: Split()})
    stood: dict[int, dict[float, float]] = field(default_factory=dict)  # before the open message
    snapshot: bool = False  # the open message has one

    def trade(self, price: float, size: float, taker: int, mid: float) -> None:
        """A taker of unknown side took from the side on which its price lies."""
        if not taker:
            taker = (price > mid) - (price < mid)
        if taker and -taker * (price - self.splits[-taker].limit) >= 0:
            self.splits[-taker].prints.append(size)

    def mid(self) -> float:
        bid, ask = self.book.best(BID), self.book.best(ASK)
        return NAN if bid is None or ask is None or bid >= ask else 0.5 * (bid + ask)

    def row(self, side: int, price: float, size: float, snapshot: bool, gap: bool = False) -> None:
        """Within a message single rows count, but for one with a snapshot, which counts as a whole. Where updates were
        lost, nothing of the second counts."""
        if not self.book.open:
            self.stood = {some: dict(levels) for some, levels in self.book.levels.items()}
            self.rows_before = {some: len(split.rows) for some, split in self.splits.items()}
            self.snapshot = False
        before = self.book.levels[side].get(price, 0.0)
        self.snapshot |= snapshot
        self.book.row(side, price, size, snapshot, gap)
        if gap:
            self.snapshot = False
            for split in self.splits.values():
                split.limit = NAN
        split = self.splits[side]
        if side * (price - split.limit) >= 0:
            split.rows.append(size - before)

    def judge(self) -> None:
        if not self.book.open:
            return
        held = {some: dict(levels) for some, levels in self.book.levels.items()}
        self.book.judge()
        for side, split in self.splits.items():
            if math.isnan(split.limit):
                split.rows = []
            elif self.snapshot:
                # What the rows of this message said is replaced by the change of all of it.
                del split.rows[self.rows_before[side] :]
                change = within(self.book.levels[side], side, split.limit) - within(self.stood[side], side, split.limit)
                split.rows.append(change)
            else:
                gone = held[side].keys() - self.book.levels[side].keys()
                split.rows += [-held[side][price] for price in gone if side * (price - split.limit) >= 0]

    def end_second(self, mid: float) -> dict[str, float]:
        """Figures of the second that ends with this mid (NaN: none), and the limits of the next."""
        out = {}
        for side, split in self.splits.items():
            for what, figure in zip(("added", "traded", "cancelled"), split.figures(), strict=True):
                out[f"{SIDES[side]}_{what}"] = figure
            split.rows, split.prints = [], []
            split.limit = limit_of(mid, side, self.bps)
            for bps in (1, 5, 10, 25, 50):
                out[f"depth_{SIDES[side]}_{bps}bps"] = (
                    NAN if math.isnan(mid) else within(self.book.levels[side], side, limit_of(mid, side, bps))
                )
        return out
