"""Weights by likelihood: every event with a variance of its own, priors around the shipped weights.

The error of an event is ``ln(1 + e / s) + ln(1 + e' / s)``, twice the negative profile log-likelihood of one
observation of the event and one of the calm after it. A logarithm lies below its tangents, so least squares with events
weighted by ``1 / (1 + e / s)`` never increases it, and repeating that leads to a minimum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from toxmid.estimator.sums import SHIPPED, WEIGHTS, Sums
from toxmid.estimator.training import Events

__all__ = ["PRIOR_SDS", "Judged", "bootstrapped", "choose_prior", "cross_validate", "errors", "solve"]

PRIOR_SDS: Final = (0.03, 0.1, 0.3, 1.0, 3.0)  # of a weight around the shipped one
_FOLDS: Final = 4  # in the choice of the prior
_MOST_LEFT_OUT: Final = 100  # times: as many fits as that, however many events
_TOLERANCE: Final = 1e-4  # of a weight
_MOST_ROUNDS: Final = 300  # every round is an improvement, so stopping early costs digits only
_IDENTITY: Final = np.eye(3)

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


def errors(events: Events, weights: _Floats) -> _Floats:
    """Error of each event; `weights` are (4,), or one set for each event, (n, 4)."""
    return np.log1p(events.stress.losses(weights)) + np.log1p(events.calm.losses(weights))


def solve(
    events: Events,
    learnt: _Mask,
    prior_sd: float,
    *,
    counts: _Ints | None = None,
    start: _Floats = SHIPPED,
) -> _Floats:
    """Weights that minimise the errors and the distance from the shipped ones.

    Parameters
    ----------
    events : Events
    learnt : numpy.ndarray of bool, (4,)
        Which weights to learn; the others stay as shipped.
    prior_sd : float
    counts : numpy.ndarray of int, (n,), optional
        How often each event counts; None: once.
    start : numpy.ndarray, (4,)
        Where the search begins.

    Returns
    -------
    numpy.ndarray, (4,)
    """
    often = np.tile(np.ones(len(events)) if counts is None else counts.astype(np.float64), 2)
    halves = Sums.stacked([events.stress, events.calm])
    weights = np.where(learnt, start, SHIPPED)
    for _ in range(_MOST_ROUNDS):
        # The quadratic that touches the errors from above at these weights.
        tangent = halves.weighted(often / (1.0 + halves.losses(weights)))
        found = _improved(tangent, weights, learnt, prior_sd**-2)
        if np.abs(found - weights).max() < _TOLERANCE:
            return found
        weights = found
    return weights


def _improved(total: Sums, weights: _Floats, learnt: _Mask, pull: float) -> _Floats:
    """Least squares in the terms where the toxic weight is given, then in that where the terms are."""
    found = weights.copy()
    found[:3] = _terms_given(total, float(weights[3]), learnt[:3], pull)
    if learnt[3]:
        found[3] = _toxic_given(total, found[:3], pull)
    return found


def _terms_given(total: Sums, toxic: float, learnt: _Mask, pull: float) -> _Floats:
    """Non-negative least squares."""
    weights = SHIPPED[:3].copy()
    if not learnt.any():
        return weights
    xx, xy = total.xx[0], total.xy[0]
    cross = xx[:3, 3:6]
    # The regressors are the terms less `toxic` times the doubted terms; the way D is on the other side.
    products = xx[:3, :3] - toxic * (cross + cross.T) + toxic**2 * xx[3:6, 3:6] + pull * _IDENTITY
    moments = xy[:3] - toxic * (xy[3:6] + xx[:3, 6]) + toxic**2 * xx[3:6, 6] + pull * weights
    moments = moments[learnt] - products[learnt][:, ~learnt] @ weights[~learnt]
    root = np.linalg.cholesky(products[learnt][:, learnt])
    weights[learnt] = nnls(root.T, np.linalg.solve(root, moments))[0]
    return weights


def _toxic_given(total: Sums, terms: _Floats, pull: float) -> float:
    """Share of the way to the toxic mean: between none of it and all."""
    xx, xy = total.xx[0], total.xy[0]
    way = np.concatenate([np.zeros(3), -terms, [1.0]])
    rest = xy - xx[:, :3] @ terms
    share = (way @ rest + pull * SHIPPED[3]) / (way @ xx @ way + pull)
    return float(np.clip(share, 0.0, 1.0))


# --- validation ------------------------------------------------------------------------------------------------------


def choose_prior(events: Events, learnt: _Mask) -> float:
    """Width of the prior under which events are best predicted from others; of equals the narrowest."""
    fold = np.arange(len(events)) % min(_FOLDS, len(events))
    total = np.zeros(len(PRIOR_SDS))
    for held in range(int(fold.max()) + 1):
        rest, out = events.take(fold != held), events.take(fold == held)
        weights = SHIPPED
        for i, prior_sd in enumerate(PRIOR_SDS):
            weights = solve(rest, learnt, prior_sd, start=weights)
            total[i] += errors(out, weights).sum()
    return PRIOR_SDS[int(np.argmin(total))]


@dataclass(frozen=True, eq=False)
class Judged:
    """Weights for every event learnt from all others, (n, 4), and what they gain over the shipped ones."""

    weights: _Floats
    gain: float
    gain_se: float
    better: float


def cross_validate(events: Events, learnt: _Mask) -> Judged:
    """Leave every event out once (a hundredth of them, where there are more than a hundred); the width of the prior is
    chosen anew without it."""
    n = len(events)
    fold = np.arange(n) % _MOST_LEFT_OUT
    weights = np.empty((n, len(WEIGHTS)))
    for held in range(int(fold.max()) + 1):
        rest = events.take(fold != held)
        weights[fold == held] = solve(rest, learnt, choose_prior(rest, learnt))
    gains = errors(events, SHIPPED) - errors(events, weights)
    return Judged(weights, float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(n)), float((gains > 0).mean()))


def bootstrapped(
    events: Events, learnt: _Mask, prior_sd: float, *, start: _Floats, resamples: int, seed: int
) -> _Floats:
    """Weights of resamples of whole events, (resamples, 4)."""
    n = len(events)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=resamples)
    return np.stack([solve(events, learnt, prior_sd, counts=each, start=start) for each in counts])
