"""Spread components by the normal equations, and their HAC errors, in loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

Order = tuple[int, float, float, int]  # ts, price, size, side


def orders_of(trades: Sequence[Order]) -> list[Order]:
    """Prints of one time and side that follow each other are one order, at their mean price by size."""
    orders: list[Order] = []
    for ts, price, size, side in trades:
        if orders and (orders[-1][0], orders[-1][3]) == (ts, side):
            total = orders[-1][2] + size
            orders[-1] = (ts, (orders[-1][1] * orders[-1][2] + price * size) / total, total, side)
        else:
            orders.append((ts, price, size, side))
    return orders


def pairs_of(trades: Sequence[Order], gap: int) -> list[tuple[Order, Order]]:
    orders = orders_of(trades)
    return [(one, other) for one, other in pairwise(orders) if one[3] and other[3] and other[0] - one[0] < gap]


def hac(scores: np.ndarray, lags: int) -> np.ndarray:
    """Sum of outer products, those of neighbours with Bartlett weights."""
    total = np.zeros((scores.shape[1],) * 2)
    for lag in range(lags + 1):
        weight = 1 - lag / (lags + 1)
        for t in range(lag, len(scores)):
            product = np.outer(scores[t], scores[t - lag])
            total += weight * (product if lag == 0 else product + product.T)
    return total


def moves(pairs: Sequence[tuple[Order, Order]]) -> np.ndarray:
    return np.array([1e4 * math.log(other[1] / one[1]) for one, other in pairs])


def glosten_harris(trades: Sequence[Order], gap: int, lags: int) -> tuple[np.ndarray, np.ndarray]:
    """(const, c0, c1, z0, z1) and their covariance."""
    pairs = pairs_of(trades, gap)
    design = np.array([[1, q - q0, q * v - q0 * v0, q, q * v] for (_, _, v0, q0), (_, _, v, q) in pairs])
    inverse = np.linalg.inv(design.T @ design)
    estimate = inverse @ design.T @ moves(pairs)
    scores = design * (moves(pairs) - design @ estimate)[:, None]
    count, width = design.shape
    return estimate, count / (count - width) * inverse @ hac(scores, lags) @ inverse


def mrr(trades: Sequence[Order], gap: int, lags: int) -> tuple[np.ndarray, np.ndarray]:
    """(const, phi, theta, rho) and their covariance: GMM, all derivatives by differences."""
    pairs = pairs_of(trades, gap)
    x = np.array([other[3] for _, other in pairs], dtype=float)
    before = np.array([one[3] for one, _ in pairs], dtype=float)
    move = moves(pairs)

    def moments(values: np.ndarray) -> np.ndarray:
        const, phi, theta, rho = values
        u = move - const - (phi + theta) * x + (phi + rho * theta) * before
        return np.stack([u, u * x, u * before, (x - rho * before) * before], axis=1)

    rho = float(x @ before / (before @ before))
    slopes = np.linalg.lstsq(np.stack([np.ones_like(x), x, before], axis=1), move, rcond=None)[0]
    theta = (slopes[1] + slopes[2]) / (1 - rho)
    estimate = np.array([slopes[0], slopes[1] - theta, theta, rho])
    steps = 1e-6 * np.eye(4)
    jacobian = np.stack(
        [(moments(estimate + h).sum(axis=0) - moments(estimate - h).sum(axis=0)) / 2e-6 for h in steps], axis=1
    )
    inverse = np.linalg.inv(jacobian)
    count = len(pairs)
    return estimate, count / (count - 3) * inverse @ hac(moments(estimate), lags) @ inverse.T
