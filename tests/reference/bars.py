"""Bars of trades and quotes, each computed afresh from lists of what happened in it."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

SECOND = 10**9
NAN = math.nan

Bar = dict[str, float]


def is_price(value: float) -> bool:
    return math.isfinite(value) and value > 0


def is_size(value: float) -> bool:
    return math.isfinite(value) and value >= 0


@dataclass(frozen=True)
class Touch:
    """Best bid and ask since a moment; NaN where a side is empty."""

    since: int
    bid: float = NAN
    bid_size: float = NAN
    ask: float = NAN
    ask_size: float = NAN
    quoted: bool = False

    @property
    def mid(self) -> float:
        """None of a quoted market that is crossed or locked; pseudo-quotes may meet."""
        meets = self.bid < self.ask or not self.quoted
        return 0.5 * (self.bid + self.ask) if meets else NAN


def order_flow(before: Touch, after: Touch) -> float:
    """Cont, Kukanov and Stoikov's contribution of one update, a side at a time: by how much its queue grew, where a
    better price is a new queue and a worse one the loss of the old. An empty side is the worst price of all; where
    nothing is quoted nothing is said."""
    if any(math.isnan(touch.bid) and math.isnan(touch.ask) for touch in (before, after)):
        return 0.0

    def growth(old: float, old_size: float, new: float, new_size: float) -> float:
        old, old_size = (-math.inf, 0.0) if math.isnan(old) else (old, old_size)
        new, new_size = (-math.inf, 0.0) if math.isnan(new) else (new, new_size)
        return new_size if new > old else -old_size if new < old else new_size - old_size

    flow = growth(before.bid, before.bid_size, after.bid, after.bid_size)
    flow -= growth(-before.ask, before.ask_size, -after.ask, after.ask_size)
    return 0.0 if math.isnan(flow) else flow


@dataclass
class TakerOrder:
    """Prints of one time and side that follow each other."""

    ts: int
    side: int
    met: Touch
    prints: list[tuple[float, float]] = field(default_factory=list)

    @property
    def size(self) -> float:
        return math.fsum(size for _, size in self.prints)

    @property
    def sweeps(self) -> bool:
        """Did it trade at two prices or more, or more than rested at the best one?"""
        rested = {1: self.met.ask_size, -1: self.met.bid_size, 0: NAN}[self.side]
        deeper = not math.isnan(self.met.mid) and self.size > rested
        return self.side != 0 and (len({price for price, _ in self.prints}) > 1 or deeper)


@dataclass
class Tape:
    """What happened, in order."""

    touches: list[Touch] = field(default_factory=list)
    flows: list[tuple[int, float]] = field(default_factory=list)
    trades: list[tuple[int, float, float, int, float, bool]] = field(default_factory=list)  # ..., mid met, is it quoted
    orders: list[TakerOrder] = field(default_factory=list)

    def trade(self, ts: int, price: float, size: float, side: int) -> None:
        if not is_price(price) or not is_size(size) or size == 0:
            return
        standing = self.touches[-1] if self.touches else Touch(ts)
        self.trades.append((ts, price, size, side, standing.mid, standing.quoted))
        if not self.orders or (self.orders[-1].ts, self.orders[-1].side) != (ts, side):
            self.orders.append(TakerOrder(ts, side, standing))
        self.orders[-1].prints.append((price, size))
        last = {mine: next((t[1] for t in reversed(self.trades) if t[3] == mine), None) for mine in (1, -1)}
        if side and not standing.quoted and last[1] is not None and last[-1] is not None:
            low, high = sorted((last[1], last[-1]))
            self.touches.append(Touch(ts, low, NAN, high, NAN))

    def quote(self, ts: int, bid: float, bid_size: float, ask: float, ask_size: float) -> None:
        if bid_size < 0 or ask_size < 0 or math.inf in (bid, bid_size, ask, ask_size) or bid < 0 or ask < 0:
            return
        after = Touch(ts, bid if bid > 0 else NAN, bid_size, ask if ask > 0 else NAN, ask_size, quoted=True)
        if self.touches and self.touches[-1].quoted:
            self.flows.append((ts, order_flow(self.touches[-1], after)))
        self.touches.append(after)


def bars(events: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Bar]:
    """One row per second from the first to the last event."""
    tape = Tape()
    used = []
    for method, arguments in events:
        held = len(tape.touches) + len(tape.trades)
        getattr(tape, method)(*arguments)
        if len(tape.touches) + len(tape.trades) > held:
            used.append(arguments[0])
    first, last = (-(-ts // SECOND) * SECOND for ts in (used[0], used[-1]))
    return [bar(tape, end, max(end - SECOND, used[0])) for end in range(first, last + SECOND, SECOND)]


def bar(tape: Tape, end: int, begin: int) -> Bar:
    """What is known at `end` of the second before it; what stands at `begin` counts from there."""
    now = touch_at(tape, end)
    past = tape.trades[: bisect.bisect_right(tape.trades, end, key=lambda trade: trade[0])]
    inside = past[bisect.bisect_right(past, end - SECOND, key=lambda trade: trade[0]) :]
    ago = touch_at(tape, end - 60 * SECOND).mid
    swept = [order.size for order in tape.orders if order.sweeps and end - SECOND < order.ts <= end]
    return {
        "ts": end,
        "bid": now.bid, "bid_size": NAN if math.isnan(now.bid) else now.bid_size,
        "ask": now.ask, "ask_size": NAN if math.isnan(now.ask) else now.ask_size, "mid": now.mid,
        "spread_bps": 1e4 * math.log(now.ask / now.bid) if not math.isnan(now.mid) else NAN,
        "spread_mean_bps": mean_spread(tape, begin, end),
        "effective_spread_bps": effective_spread(inside),
        "price": past[-1][1] if past else NAN,
        "trades": len(inside),
        **{
            f"{name}_volume": math.fsum(size for _, _, size, side, _, _ in inside if side == sign)
            for name, sign in (("buy", 1), ("sell", -1), ("unknown", 0))
        },
        "ofi": order_flow_of(tape, begin, end),
        "sweeps": len(swept),
        "sweep_volume": math.fsum(swept),
        "impact_bps": 1e4 * math.log(now.mid / ago),
    }  # fmt: skip


def order_flow_of(tape: Tape, begin: int, end: int) -> float:
    """Sum over the bar; unknown where no quoted market with a mid stood in it."""
    stood = [touch_at(tape, begin), *(touch for touch in tape.touches if begin < touch.since <= end)]
    until = [*(touch.since for touch in stood[1:]), end + 1]
    seen = any(not math.isnan(touch.mid) and stop > touch.since for touch, stop in zip(stood, until, strict=True))
    if not (touch_at(tape, end).quoted and seen):
        return NAN
    return math.fsum(flow for ts, flow in tape.flows if end - SECOND < ts <= end)


def touch_at(tape: Tape, moment: int) -> Touch:
    after = bisect.bisect_right(tape.touches, moment, key=lambda touch: touch.since)
    return tape.touches[after - 1] if after else Touch(moment)


def mean_spread(tape: Tape, begin: int, end: int) -> float:
    """Time-weighted width over time-weighted mid, while there was one."""
    inside = (bisect.bisect_right(tape.touches, moment, key=lambda touch: touch.since) for moment in (begin, end))
    standing = [touch_at(tape, begin), *tape.touches[slice(*inside)]]
    until = [*(touch.since for touch in standing[1:]), end]
    width = middle = 0.0
    for touch, since, stop in zip(standing, [begin, *until[:-1]], until, strict=True):
        if not math.isnan(touch.mid):
            width += (touch.ask - touch.bid) * (stop - since)
            middle += touch.mid * (stop - since)
    return 1e4 * width / middle if middle else NAN


def effective_spread(trades: Sequence[tuple[int, float, float, int, float, bool]]) -> float:
    """Twice what takers paid beyond the mid, over what they traded at the mid. Prints of one order meet one mid."""
    paid = at_mid = 0.0
    for _, price, size, side, mid, quoted in trades:
        if quoted and side and not math.isnan(mid):
            paid += 2 * side * (price - mid) * size
            at_mid += mid * size
    return 1e4 * paid / at_mid if at_mid else NAN
