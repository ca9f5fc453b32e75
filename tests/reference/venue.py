"""What one other venue allows: a corridor for our mid, from its tape and ours second by second."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from reference.consensus import consensus
from reference.implied import Seconds, norms
from reference.recent import faded_share

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
NAN = math.nan


def last_prices(ts: Ints, side: npt.NDArray[np.int8], price: Floats, ends: Ints) -> Floats:
    """At the end of each second: price of the last taker buy, that of the last taker sell, seconds since any trade."""
    out = np.full((3, ends.size), NAN)
    for row, kept in enumerate((side > 0, side < 0, np.full(side.size, fill_value=True))):
        at = np.searchsorted(ts[kept], ends, side="right") - 1
        values = (ends - ts[kept][at]) / 1e9 if row == 2 else price[kept][at]
        out[row] = np.where(at >= 0, values, NAN)
    return out


def usual_distance(mid: Floats, venue_mid: Floats, spread: Floats) -> Floats:
    """Basis, deviation from it and spread as they are known during each second: medians of a sample every ten seconds,
    over six hours up to ten minutes ago, or up to a quarter of a younger market."""
    start = int(np.argmax(np.isfinite(mid)))
    samples: list[tuple[int, float, float, float]] = []
    out, now = np.full((3, mid.size), NAN), (NAN, NAN, NAN)
    for t in range(start, mid.size):
        out[:, t] = now
        age, distance = t - start, mid[t] - venue_mid[t]
        if age % 10 or math.isnan(distance):
            continue
        samples.append((t, distance, abs(distance - now[0]), spread[t]))
        if age >= 300:
            upto = t - min(600.0, age / 4)
            known = [sample[1:] for sample in samples if upto - 21_600 < sample[0] <= upto]
            columns = [[value for value in column if not math.isnan(value)] for column in zip(*known, strict=True)]
            basis, deviation, usual = (float(np.median(column)) if column else NAN for column in columns)
            now = basis, deviation, usual
    return out


def doubt(ours: Floats, mid: Floats, centre: Floats, venue: Seconds) -> Floats:
    """By how much the corridor is wider where the venue sides with our quotes and its own takers push it there."""
    spread, ten = np.full(venue.mid.size, NAN), NAN
    for t, value in enumerate(venue.spread):
        if not math.isnan(value):
            ten = value if math.isnan(ten) else ten + (1 - math.exp(-1 / 10)) * (value - ten)
        spread[t] = ten
    rho = np.maximum(np.nan_to_num(spread / norms(venue)[2], nan=1.0), 1.0)
    rho[: int(np.argmax(np.isfinite(venue.mid))) + 301] = 1.0
    push = np.nan_to_num(faded_share(venue.buy - venue.sell, venue.buy + venue.sell, 30.0))
    push = np.where(centre < ours, -push, push)
    sides_with_quotes = (ours - centre) * (ours - mid) > 0
    return np.where(sides_with_quotes & (push > 0), rho ** (2 * push), 1.0)


def corridor(own: Seconds, venue: Seconds, last: Floats, ours: Floats, width: float) -> Floats:
    """Centre (1e4 ln price) and half width (bps) at the end of each second."""
    bought, sold, age = last
    venue_mid, spread = 1e4 * np.log(0.5 * (bought + sold)), np.abs(1e4 * np.log(bought / sold))
    basis, deviation, usual = usual_distance(own.mid, venue_mid, spread)
    centre = venue_mid + basis
    half = width * deviation + norms(own)[0] * np.sqrt(age / 60) + 0.5 * np.maximum(spread - usual, 0.0)
    half *= doubt(ours, own.mid, centre, venue)
    return np.stack([centre, half])


def price_corridor(own: Seconds, price: Floats, age: Floats, width: float) -> Floats:
    """The same of an index or a mark price, of which nothing but the price is known."""
    log_price = 1e4 * np.log(price)
    basis, deviation, _ = usual_distance(own.mid, log_price, np.zeros(price.size))
    return np.stack([log_price + basis, width * deviation + norms(own)[0] * np.sqrt(age / 60)])


def marked(own: Seconds, index: Floats, mark: Floats, known: npt.NDArray[np.bool_], prior: float = 100.0) -> Floats:
    """An index and a mark price together, centre and half width. What share of the way to the index a mark price goes
    is a regression through nothing on all that was seen: smoothed over five minutes, remembered for six hours. Up to
    a half it is not heard; beyond it counts as the wider, and as the more torn, the less it goes."""
    calm = norms(own)[2]
    away = due = products = squares = 0.0
    slow, kept = math.exp(-1 / 300), math.exp(-1 / 21_600)
    out = np.full((2, own.mid.size), NAN)
    for t in np.flatnonzero(known):
        distance = index[0, t] - own.mid[t]
        share = min(products / (squares + prior * calm[t] ** 2), 1.0)
        away = slow * away + (1 - slow) * (mark[0, t] - own.mid[t])
        due = slow * due + (1 - slow) * distance
        products, squares = kept * products + away * due, kept * squares + due * due
        opinions = [(index[0, t], index[1, t], 0.0)]
        if share > 0.5:
            opinions.append((mark[0, t], mark[1, t] / (2 * share - 1), (1 - share) * abs(distance)))
            opinions = [(centre, max(half, 0.5 * calm[t]), torn) for centre, half, torn in opinions]
        out[:, t] = consensus(opinions)[:2]
    return out
