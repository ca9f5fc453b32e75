"""What a bar says of the last seconds and of the last minute, from whole lists of what happened."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
NAN = math.nan


def faded_share(part: Floats, whole: Floats, memory: float) -> Floats:
    """Share of `part` in `whole` at the end of each second; one that ended t ago weighs exp(-t / memory)."""
    out = []
    for now in range(part.size):
        weights = np.exp(-(now - np.arange(now + 1)) / memory)
        total = math.fsum(weights * whole[: now + 1])
        out.append(math.fsum(weights * part[: now + 1]) / total if total > 0 else NAN)
    return np.array(out)


@dataclass(frozen=True)
class Minute:
    """The last 60 s at the end of a full minute."""

    move: float  # bps
    volume: float
    quiet: bool


def excess_impact(
    ends: Sequence[int], moves: Floats, volumes: Floats, limit: float, began: int, window: int = 360, lag: int = 10
) -> Floats:
    """|60 s move| over sigma sqrt(V / mean V) at the end of each second.

    `ends`: seconds since 1970; `moves` in bps; `volumes` of 60 s; `began`: end of the first second with a mid, 300 s
    after whose beginning there is something to judge by. sigma is the root mean square move and mean V the
    mean volume of the quiet ones among the minutes that count: the `window` of them before the youngest `lag`, a
    younger history without its younger half. A minute in which an excess above `limit` was seen is not quiet; where
    most are not, all count.
    """
    minutes: list[Minute] = []
    sigma = mean = NAN
    quiet, out = True, []
    for end, move, volume in zip(ends, moves, volumes, strict=True):
        counted = max(volume, 1e-6 * mean)
        excess = abs(move) / (sigma * math.sqrt(counted / mean)) if sigma > 0 else NAN
        excess = 0.0 if move == 0 and mean > 0 else excess
        out.append(excess)
        quiet = quiet and not excess > limit
        if end % 60:
            continue
        if end < began:
            quiet = True
            continue
        minutes.append(Minute(move, volume, quiet))
        quiet = True
        n = len(minutes)
        if n <= 4 or end < began - 1 + 300:
            continue
        last = max(n - (lag if 2 * lag < n else n // 2), 5)
        old = [minute for minute in minutes[max(last - window, 0) : last] if not math.isnan(minute.move)]
        kept = [minute for minute in old if minute.quiet]
        if 2 * len(kept) < len(old):
            kept = old
        if len(kept) >= 4:
            sigma = math.sqrt(math.fsum(minute.move**2 for minute in kept) / len(kept))
            mean = math.fsum(minute.volume for minute in kept) / len(kept)
    return np.array(out)
