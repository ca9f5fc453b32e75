"""The implied mid on rows of one second, written out plainly: no state machine, no floor of speed, one formula a line.

Everything is in bps of log price (``1e4 ln p``) and seconds. It shares no code with the package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass
class Seconds:
    """One row a second, covering (t - 1, t]: the touch at its end, and what traded in it."""

    mid: Floats
    spread: Floats
    age: Floats  # of the older print, s
    buy: Floats
    sell: Floats


def seconds_of_trades(ts: npt.NDArray[np.int64], price: Floats, side: npt.NDArray[np.int8], volume: Floats) -> Seconds:
    """Rows of a tape without quotes: the last taker buy and the last taker sell stand in for them."""
    second = -(-ts // 10**9)
    first, n = int(second[0]), int(second[-1] - second[0]) + 1
    mid, spread, age = (np.full(n, np.nan) for _ in range(3))
    buy, sell = np.zeros(n), np.zeros(n)
    last, when = {1: math.nan, -1: math.nan}, {1: 0, -1: 0}
    previous, flip, i = 0, math.nan, 0
    for t in range(n):
        flips = []
        while i < len(ts) and second[i] - first <= t:
            s = int(side[i])
            if previous == -s:
                flips.append(abs(1e4 * math.log(price[i] / last[-s])))
            last[s], when[s], previous = price[i], int(ts[i]), s
            (buy if s > 0 else sell)[t] += volume[i]
            i += 1
        if flips:
            flip = sum(flips) / len(flips)
        if not math.isnan(last[1]) and not math.isnan(last[-1]):
            mid[t] = 1e4 * math.log(0.5 * (last[1] + last[-1]))
            age[t] = ((first + t) * 10**9 - min(when.values())) / 1e9
            apart = abs(1e4 * math.log(last[1] / last[-1]))
            spread[t] = flip + (apart - flip) * math.exp(-age[t] / 3.0)
    return Seconds(mid, spread, age, buy, sell)


def usual(values: list[float]) -> float:
    """Median, or 0.3 of the upper quartile where that is more."""
    x = sorted(values)
    return max(0.5 * (x[(len(x) - 1) // 2] + x[len(x) // 2]), 0.3 * x[(3 * len(x)) // 4])


def norms(rows: Seconds) -> npt.NDArray[np.float64]:
    """sigma, volume and spread that are usual, as they are known during each second (columns)."""
    n = len(rows.mid)
    start = int(np.argmax(np.isfinite(rows.mid)))
    total = np.cumsum(rows.buy + rows.sell)
    samples: list[tuple[int, float, float, float]] = []
    out = np.full((3, n), np.nan)
    now = (math.nan, math.nan, math.nan)
    for t in range(start, n):
        out[:, t] = now  # what was known when the second ended; its own sample counts from the next one on
        age = t - start
        if age % 10 == 0 and age >= 60:
            move = abs(rows.mid[t] - rows.mid[t - 60])
            samples.append((t, move, total[t] - total[t - 60], float(np.mean(rows.spread[t - 59 : t + 1]))))
        if age % 10 == 0 and age >= 120:
            upto = t - min(600.0, age / 4)
            known = [sample for sample in samples if upto - 21_600 < sample[0] <= upto]
            sigma, volume, spread = (usual([sample[k] for sample in known]) for k in (1, 2, 3))
            ordered = sorted(sample[3] for sample in known)
            tenth, quarter = ordered[len(known) // 10], ordered[len(known) // 4]
            if 0 < quarter <= 2 * tenth:
                spread = min(spread, 1.5 * quarter * max(1.0, age / 3600))
            minutes = min(0.75 * age / 60, 360.0)
            sigma = max(sigma, math.sqrt((minutes * sigma**2 + 10 * (5 * spread) ** 2) / (minutes + 10)))
            sigma = max(sigma, 0.5 * spread, 0.05)
            now = (sigma, volume, max(spread, 0.05 * sigma))
    return out


def follow(track: float, y: float, budget: float) -> float:
    e = y - track
    return y - math.copysign(math.sqrt(max(e * e - budget, 0.0)), e)


def implied(rows: Seconds) -> Floats:
    """1e4 ln(implied mid); NaN until ready."""
    return implied_and_minutes(rows)[0]


def credible_minutes(rows: Seconds) -> Floats:
    """By how much the credible clock advances in each second: normal minutes of trading at credible prices."""
    return implied_and_minutes(rows)[1]


def implied_and_minutes(rows: Seconds) -> tuple[Floats, Floats]:
    n = len(rows.mid)
    clock = np.zeros(n)
    known = norms(rows)
    start = int(np.argmax(np.isfinite(rows.mid)))
    out = np.full(n, np.nan)
    ten = thirty = math.nan
    rate = net = gross = num = den = back_num = back_den = drift = 0.0
    credible = supported = math.nan
    for t in range(n):
        volume = rows.buy[t] + rows.sell[t]
        net = net * math.exp(-1 / 30) + rows.buy[t] - rows.sell[t]
        gross = gross * math.exp(-1 / 30) + volume
        rate = rate * math.exp(-1 / 3) + (1 - math.exp(-1 / 3)) * volume
        mid, spread = rows.mid[t], rows.spread[t]
        if math.isnan(mid):
            continue
        imbalance = net / gross if gross > 0 else 0.0
        if math.isnan(ten):
            ten = thirty = spread
        ten += (1 - math.exp(-1 / 10)) * (spread - ten)
        thirty += (1 - math.exp(-1 / 30)) * (spread - thirty)
        if t and not math.isnan(rows.mid[t - 1]):
            x = (spread - rows.spread[t - 1]) * imbalance
            move = mid - rows.mid[t - 1]
            num, den, back_num, back_den = (sums * math.exp(-1 / 600) for sums in (num, den, back_num, back_den))
            num, den = num + 2 * (move - drift) * x, den + x * x
            if spread < rows.spread[t - 1]:
                back_num, back_den = back_num + 2 * (move - drift) * x, back_den + x * x
            drift += (1 - math.exp(-1 / 40)) * (move - drift)
        sigma, usual_volume, usual_spread = known[:, t]
        if math.isnan(sigma):
            credible = supported = mid
            continue
        weight = 50 * usual_spread**2
        phi = min(max(num / (den + weight), -0.5), 1.5)
        back = min(max((back_num + weight) / (back_den + weight), 0.0), 1.0)
        y = mid - 0.5 * phi * max(spread - 4 * usual_spread, 0.0) * imbalance
        rho = max(1.0, ten / usual_spread)
        minutes = max(rate * 60 / usual_volume if usual_volume > 0 else 1.0, 0.1) / 60
        credible = follow(credible, y, (200 * sigma / rho) ** 2 * min(minutes, 1 / 60))
        supported += (credible - supported) * (1 - 2 ** (-1 / 300))
        supported = follow(supported, y, (15 * sigma) ** 2 * minutes)
        if abs(y - credible) < abs(y - supported):
            supported = credible
        if t <= start + 300:
            continue  # the tracks follow, but not enough is known to say anything
        clock[t] = min(minutes, 1 / 60) / rho**2
        lead = (1 - 1 / 3) * (0.4 + 0.6 * back) * (credible - supported)
        out[t] = supported + min(max(lead, -2.5 * thirty), 2.5 * thirty)
    return out, clock


def half_width(rows: Seconds, gap: Floats) -> Floats:
    """Half width of the 90 % interval, bps, given how far the implied mid is from the quoted one."""
    sigma, usual_volume, usual_spread = norms(rows)
    total = np.cumsum(rows.buy + rows.sell)
    out, thirty, moved, widest = np.full(gap.size, np.nan), math.nan, 0.0, 0.0
    for t in range(gap.size):
        if math.isnan(rows.mid[t]):
            continue
        thirty = rows.spread[t] if math.isnan(thirty) else thirty + (1 - math.exp(-1 / 30)) * (rows.spread[t] - thirty)
        if math.isnan(gap[t]):
            continue
        busy = max((total[t] - total[t - 60]) / usual_volume[t], 1.0)
        moved = max(moved * 2 ** (-1 / 180), abs(rows.mid[t] - rows.mid[t - 60]) - 4 * sigma[t] * math.sqrt(busy))
        widest = max(widest * 2 ** (-1 / 180), thirty - usual_spread[t])
        squares = (0.45 * thirty) ** 2 + (0.5 * gap[t]) ** 2 + (0.25 * widest) ** 2 + (0.22 * moved) ** 2
        out[t] = math.sqrt(squares + (0.5 * sigma[t]) ** 2 * rows.age[t] / 60)
    return out
