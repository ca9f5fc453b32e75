"""The likelihood of the model of informed trading, bucket by bucket with Poisson probabilities as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

Bucket = tuple[int, int, float]  # bought, sold, time


def loglike(alpha: float, delta: float, mu: float, epsilon: float, buckets: Sequence[Bucket]) -> float:
    """With the factors t^B / B! of the Poisson probabilities that no parameter is in."""
    total = 0.0
    for bought, sold, time in buckets:
        both = [
            (alpha * delta, epsilon, epsilon + mu),
            (alpha * (1 - delta), epsilon + mu, epsilon),
            (1 - alpha, epsilon, epsilon),
        ]
        logs = [
            math.log(p) + stats.poisson.logpmf(bought, b * time) + stats.poisson.logpmf(sold, s * time)
            for p, b, s in both
        ]
        total += max(logs) + math.log(sum(math.exp(log - max(logs)) for log in logs))
    return total


def share(alpha: float, mu: float, epsilon: float) -> float:
    return alpha * mu / (alpha * mu + 2 * epsilon)
