"""The volume clock in exact fractions: buckets, splitting, VPIN, its rank, and the trailing, lagged bucket volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from statistics import median

SECOND = 10**9
DAY = 86_400 * SECOND
READY = 300 * SECOND  # of history before a bucket volume exists
RANK_HISTORY = 90 * DAY

NOTHING = Fraction(0)


@dataclass(frozen=True)
class Bucket:
    ts_open: int
    ts_close: int
    buy: Fraction
    sell: Fraction
    unknown: Fraction
    vpin: Fraction | None
    rank: Fraction | None
    trade: int  # which one of the tape closed it

    @property
    def volume(self) -> Fraction:
        return self.buy + self.sell + self.unknown

    @property
    def imbalance(self) -> Fraction:
        return (self.buy - self.sell) / self.volume


@dataclass
class VolumeClock:
    """Trades in, buckets out. Sizes are counted in lots; `bucket_volume` too, None: from what traded before."""

    window: int
    bucket_volume: Fraction | None = None
    buckets_per_day: int = 50
    skip: Fraction = NOTHING  # share of a bucket that is passed over before the first one
    closed: list[Bucket] = field(default_factory=list)
    warm_up: Fraction = NOTHING  # traded while no bucket volume existed
    _parts: list[Fraction] = field(default_factory=lambda: [NOTHING] * 3)
    _passing: Fraction = NOTHING
    _ts_open: int = 0
    _target: Fraction | None = None
    _history: list[tuple[int, Fraction]] = field(default_factory=list)
    _values: list[tuple[int, float]] = field(default_factory=list)

    @property
    def filled(self) -> Fraction:
        return sum(self._parts, NOTHING)

    def trade(self, ts: int, lots: Fraction, buy_share: Fraction, sell_share: Fraction) -> None:
        """Pour one trade in; what is neither bought nor sold is unknown."""
        if self._target is None:
            self._target = self._next_target(ts)
            self._passing = NOTHING if self._target is None else Fraction(round(self.skip * self._target))
        left = lots if self._target is not None else NOTHING
        self.warm_up += lots - left
        shares = (buy_share, sell_share, 1 - buy_share - sell_share)
        passed = min(left, Fraction(self._passing))
        self._passing -= passed
        left -= passed
        if passed and not self._passing:
            self._target = self._next_target(ts)
        while left > 0:
            assert self._target is not None
            if self.filled == 0:
                self._ts_open = ts
            poured = min(left, self._target - self.filled)
            self._parts = [part + share * poured for part, share in zip(self._parts, shares, strict=True)]
            left -= poured
            if self.filled == self._target:
                self._close(ts)
                self._target = self._next_target(ts)
        self._history.append((ts, lots))

    def _close(self, ts: int) -> None:
        buy, sell, unknown = self._parts
        last = [*self.closed[-self.window + 1 :], Bucket(self._ts_open, ts, buy, sell, unknown, None, None, 0)]
        vpin = rank = None
        if len(last) == self.window and any(bucket.buy + bucket.sell > 0 for bucket in last):
            vpin = sum((abs(b.buy - b.sell) for b in last), NOTHING) / sum((b.volume for b in last), NOTHING)
            before = [value for time, value in self._values if time > ts - RANK_HISTORY]
            if before and len(self.closed) + 1 >= 2 * self.window:
                rank = Fraction(sum(value < float(vpin) for value in before), len(before))
            self._values.append((ts, float(vpin)))
        self.closed.append(Bucket(self._ts_open, ts, buy, sell, unknown, vpin, rank, len(self._history)))
        self._parts = [NOTHING] * 3

    def _next_target(self, ts: int) -> Fraction | None:
        """Whole lots; only trades before the present one count."""
        if self.bucket_volume is not None:
            return self.bucket_volume
        daily = daily_volume(self._history, ts)
        return None if daily is None else Fraction(max(1, round(daily / self.buckets_per_day)))


def daily_volume(history: Sequence[tuple[int, Fraction]], ts: int, days_kept: int = 7) -> Fraction | None:
    """Median of the last complete UTC days; before there is one, the rate since the first trade; None while unknown.

    `history`: (ts, lots) of every trade that counts. A first day that was seen by less than half does not.
    """
    if not history:
        return None
    first = history[0][0]
    totals: dict[int, Fraction] = {}
    for time, lots in history:
        totals[time // DAY] = totals.get(time // DAY, NOTHING) + lots
    whole_days = []
    for day, total in sorted(totals.items()):
        covered = 1 - Fraction(first % DAY, DAY) if day == first // DAY else Fraction(1)
        if day < ts // DAY and covered > Fraction(1, 2):
            whole_days.append(total / covered)
    if whole_days:
        return Fraction(median(whole_days[-days_kept:]))
    if ts - first < READY:
        return None
    return sum(totals.values(), NOTHING) * DAY / (ts - first)


def range_of_starts(clocks: Sequence[VolumeClock]) -> list[tuple[Fraction, Fraction] | None]:
    """Least and greatest value that all clocks show once they have taken the trade with which a bucket of the first
    closes; None where one shows none."""
    ranges: list[tuple[Fraction, Fraction] | None] = []
    for bucket in clocks[0].closed:
        shown = [bucket.vpin]
        for clock in clocks[1:]:
            before = [other.vpin for other in clock.closed if other.trade <= bucket.trade]
            shown.append(before[-1] if before else None)
        known = [value for value in shown if value is not None]
        ranges.append((min(known), max(known)) if len(known) == len(shown) else None)
    return ranges
