"""What is measured beside the estimator, each from whole lists of what happened: no recursion, no state."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
NAN = math.nan
LAGS = (1, 10, 100)


def sign_autocorrelations(seconds: Sequence[Sequence[int]], half_life: float) -> list[tuple[float, ...]]:
    """rho at each lag at the end of every second, from the signs of the orders of each. Orders weigh by how many came
    after their word: up to 64 orders of one second that were added together."""
    words: list[list[int]] = []
    out = []
    for orders in seconds:
        known = [sign for sign in orders if sign]
        words += [known[i : i + 64] for i in range(0, len(known), 64)]
        out.append(tuple(_correlation(words, lag, half_life) for lag in LAGS))
    return out


def _correlation(words: Sequence[Sequence[int]], lag: int, half_life: float) -> float:
    signs = np.array([sign for word in words for sign in word], dtype=float)
    if signs.size < lag + 100:
        return NAN
    younger = np.cumsum([len(word) for word in reversed(words)])[::-1] - [len(word) for word in words]
    weights = np.repeat(0.5 ** (younger / half_life), [len(word) for word in words])
    mean = np.average(signs, weights=weights)
    products = np.average(signs[lag:] * signs[:-lag], weights=weights[lag:])
    return float(products - mean**2)


def kyle(moves: Floats, flows: Floats, scale: float, memory: float) -> float:
    """Slope of moves (bps) on flows by weighted least squares, weights falling by 1 - 1 / memory a bar, hardly a prior:
    what recursive least squares with forgetting comes to as long as its covariance is not held back."""
    x = np.stack([np.ones(flows.size), flows / scale], axis=1)
    keep = 1.0 - 1.0 / memory
    weights = keep ** np.arange(flows.size - 1, -1, -1)
    prior = keep**flows.size / 1e6 * np.eye(2)
    slope = np.linalg.solve(x.T @ (weights[:, None] * x) + prior, x.T @ (weights * moves))[1]
    return float(slope / scale)


def branching(counts: Sequence[int], memory: float) -> float:
    """1 - sqrt(mean / variance) of counts in overlapping windows of 60 s; a second keeps exp(-1 / memory)."""
    windows = np.convolve(counts, np.ones(60), mode="valid") if len(counts) >= 60 else np.zeros(0)
    weights = np.exp(-np.arange(windows.size - 1, -1, -1) / memory)
    if windows.size <= 300 or windows @ weights < 1.0:
        return NAN
    mean = np.average(windows, weights=weights)
    variance = np.average((windows - mean) ** 2, weights=weights)
    return max(0.0, 1.0 - math.sqrt(mean / variance)) if variance > 0 else 0.0


def odds_factor(weights: Floats, volumes: Floats, target: float) -> float:
    """The factor of all odds with which sum(weight x volume) is `target`; within exp(+-5), 1 without volume."""
    held = (weights > 0) & (weights < 1) & (volumes > 0)
    if not held.any():
        return 1.0
    low, high = -5.0, 5.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if float(shifted(weights[held], math.exp(middle)) @ volumes[held]) < target:
            low = middle
        else:
            high = middle
    return math.exp(low)


def shifted(weights: Floats, factor: float) -> Floats:
    odds = factor * weights / (1.0 - weights)
    return odds / (1.0 + odds)
