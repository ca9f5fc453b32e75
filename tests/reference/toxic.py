"""The toxic flow as whole lists: how toxic each taker order is inferred to be, what liquidation records claim of it and
when, and the mean prices, each from all orders at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reference.bars import TakerOrder
from reference.implied import Seconds, norms
from reference.matching import Matching

Floats = npt.NDArray[np.float64]
NAN = math.nan
SECOND = 10**9
READY = 301  # seconds after the first mid


def smoothed(values: Floats, memory: float) -> Floats:
    """Exponential mean, begun with the first value that is known; carried over unknown ones."""
    out, now = np.full(values.size, NAN), NAN
    for t, value in enumerate(values):
        if not math.isnan(value):
            now = value if math.isnan(now) else now + (1 - math.exp(-1 / memory)) * (value - now)
        out[t] = now
    return out


def inferred_weights(rows: Seconds, imbalance: Floats, threshold: float) -> dict[int, Floats]:
    """Weight of a taker order of each side in each second, from what stood at the end of the second before: spread over
    the usual spread, 60 s move over the usual move, and the share of the flow that went the order's way."""
    sigma, _, usual_spread = norms(rows)
    start = int(np.argmax(np.isfinite(rows.mid)))
    move = np.concatenate([np.full(60, NAN), rows.mid[60:] - rows.mid[:-60]]) / sigma
    wide = smoothed(rows.spread, 10.0) / usual_spread
    weights = {}
    for side in (1, -1):
        score = wide * np.maximum(side * move, 0.0) * 0.5 * (1.0 + side * imbalance)
        score[: start + READY] = NAN
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = np.where(score > threshold, 1.0 - threshold / score, 0.0)
        weights[side] = np.concatenate([[0.0], weight[:-1]])
    return weights


@dataclass(frozen=True)
class Part:
    """Some of a taker order, from when on it counts as toxic."""

    order: int
    known: int  # second
    lots: float


def inferred(
    orders: Sequence[TakerOrder], second: npt.NDArray[np.int64], weights: dict[int, Floats], lot: float
) -> list[Part]:
    """Without a feed: each order by its weight, at once."""
    return [
        Part(k, int(second[k]), float(weights[order.side][second[k]]) * order.size / lot)
        for k, order in enumerate(orders)
        if order.side and weights[order.side][second[k]] > 0
    ]


def matched(
    orders: Sequence[TakerOrder],
    second_of: npt.NDArray[np.int64],
    records: Sequence[tuple[int, int, float, float]],
    weights: dict[int, Floats],
    lot: float,
    market: Matching,
    first_end: int,
) -> list[Part]:
    """With a feed, `records` being (ts, side, price, size): what they claim, when they claim it; and of other orders of
    their side and time the part that is inferred, since a feed may show one record a second only.

    Before the first record nobody knows that there is a feed: orders count as they do without one. What counted then
    does not count again."""
    known = [k for k, order in enumerate(orders) if order.side]
    events = [(orders[k].ts, 0, k) for k in known] + [(record[0], 1, i) for i, record in enumerate(records)]
    parts: list[Part] = []
    counted: list[float] = []  # lots of each order that are in `parts`
    begun = False
    for ts, kind, which in sorted(events):
        if kind == 0:
            order = orders[which]
            weight = float(weights[order.side][second_of[which]])
            price = math.fsum(p * size for p, size in order.prints) / order.size
            market.order(ts, order.side, round(order.size / lot), price)
            market.orders[-1].guess = weight
            counted.append(0.0 if begun else weight * market.orders[-1].lots)
            if counted[-1]:
                parts.append(Part(which, int(second_of[which]), counted[-1]))
        else:
            _, side, price, size = records[which]
            market.record(ts, side, round(size / lot), price)
            begun = True
        now = -(-(ts - first_end) // SECOND)
        for k in reversed(range(len(counted))):
            order = market.orders[k]
            if order.ts < ts - market.window - market.grace:
                break  # nobody looks back so far
            if order.claimed > counted[k]:
                parts.append(Part(known[k], now, order.claimed - counted[k]))
                counted[k] = order.claimed
    return parts


def mean_prices(
    orders: Sequence[TakerOrder],
    second: npt.NDArray[np.int64],
    parts: Sequence[Part],
    minutes: Floats,
    implied_mid: Floats,
    half_life: float,
) -> tuple[Floats, Floats]:
    """Toxic mean and de-biased mean at the end of each second. A part weighs its lots, halved for every `half_life`
    minutes that the credible clock has advanced since its order; the price of the second mean is without the half
    spread paid, without what the order itself swept beyond the touch, and without the displacement that it met."""
    clock = np.concatenate([[0.0], np.cumsum(minutes)])[:-1]  # as it stands during each second
    at = np.array([second[part.order] for part in parts], dtype=np.int64)
    known = np.array([part.known for part in parts], dtype=np.int64)
    lots = np.array([part.lots for part in parts])
    price = np.array([mean_price(orders[part.order]) for part in parts])
    bare = np.array([unpressed(orders[part.order], displaced(second[part.order], implied_mid)) for part in parts])
    means = np.full((2, minutes.size), NAN)
    for t in range(minutes.size):
        weights = np.where(known <= t, lots * 0.5 ** ((clock[t] - clock[at]) / half_life), 0.0)
        if weights.sum() > 0:
            means[:, t] = weights @ price / weights.sum(), weights @ bare / weights.sum()
    return means[0], means[1]


def mean_price(order: TakerOrder) -> float:
    return math.fsum(price * size for price, size in order.prints) / order.size


def displaced(second: int, implied_mid: Floats) -> float:
    """The implied mid that stood when a second began."""
    return float(implied_mid[second - 1]) if second else NAN


def unpressed(order: TakerOrder, implied_mid: float) -> float:
    mid = order.met.mid
    if math.isnan(mid):
        return mean_price(order)
    half_spread = 0.5 * (order.met.ask - order.met.bid)
    beyond = max(order.side * (mean_price(order) - mid) - half_spread, 0.0)
    displacement = 0.0 if math.isnan(implied_mid) else mid - implied_mid
    return mean_price(order) - order.side * (half_spread + beyond) - displacement
