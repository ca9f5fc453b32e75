"""What several venues say together, written out plainly for one moment: no state, no struct, one formula a line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Opinion = tuple[float, float, float]  # where it puts the mid, half width, how torn its own tape is; bps


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """Interpolated between the middles of the weights."""
    order = np.argsort(values, kind="stable")
    middles = np.cumsum(weights[order]) - 0.5 * weights[order]
    return float(np.interp(0.5 * weights.sum(), middles, values[order]))


def consensus(opinions: Sequence[Opinion]) -> tuple[float, float, list[float]]:
    """Centre, half width, weights."""
    centre, width, torn = (np.array(column) for column in zip(*opinions, strict=True))
    if len(opinions) == 1:
        return float(centre[0]), float(width[0]), [1.0]

    def weights(far: np.ndarray | float) -> np.ndarray:
        return 1.0 / (width * (1.0 + (torn**2 + far**2) / width**2)) ** 2

    middle = weighted_median(centre, weights(0.0))
    weight = weights(np.maximum(np.abs(centre - middle) - width, 0.0))
    weight = weight / weight.sum()
    mean = float(weight @ centre)
    half = 1.0 / np.sqrt(weight @ (1.0 / width**2)) + np.sqrt(weight @ (centre - mean) ** 2)
    return mean, float(half), weight.tolist()
