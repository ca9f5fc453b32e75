"""Tests of forecasts on a tape that is judged only here and there: seconds of stress, with calm between them.

Rows stand on an even grid of time; a mask says which of them count. Rows that do not count contribute nothing to sums
and keep their place in time, so that an autocovariance never joins two episodes that are hours apart (Parzen's
amplitude modulation).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm, ttest_1samp
from scipy.stats import t as student
from statsmodels.regression.linear_model import OLS

__all__ = ["DieboldMariano", "EventTest", "Regression", "diebold_mariano", "event_test", "r2_oos", "regression"]

_Floats = npt.NDArray[np.float64]
_Mask = npt.NDArray[np.bool_]

FEWEST_EVENTS = 30  # below this nobody should claim anything
_ROWS_PER_LAG = 3


@dataclass(frozen=True, eq=False)
class Regression:
    """Least squares with HAC errors.

    Attributes
    ----------
    b, se, p : numpy.ndarray, (k,)
        Coefficients, their errors, and p-values of b = 0 against the normal distribution. NaN where the regressors
        cannot be told apart; errors also where there are fewer than three times as many rows as lags.
    covariance : numpy.ndarray, (k, k)
    rows : int
        Rows that count.
    residual : float
        Sum of squared residuals.
    """

    b: _Floats
    se: _Floats
    p: _Floats
    covariance: _Floats
    rows: int
    residual: float

    def p_of(self, i: int, value: float) -> float:
        """p-value of ``b_i = value``."""
        return float(2.0 * norm.sf(abs(self.b[i] - value) / self.se[i])) if self.se[i] > 0 else math.nan


def regression(y: _Floats, x: _Floats, used: _Mask, lags: int) -> Regression:
    """Least squares over the rows that count, errors by Newey and West (1987, doi:10.2307/1913610) over gaps.

    Parameters
    ----------
    y : numpy.ndarray, (n,)
    x : numpy.ndarray, (n, k)
        Regressors, with a constant if one is wanted.
    used : numpy.ndarray of bool, (n,)
        Rows that count; `y` and `x` must be finite there.
    lags : int
        Lags of the Bartlett kernel, in rows of the grid.

    Returns
    -------
    Regression

    Notes
    -----
    Without gaps this is statsmodels' OLS with ``cov_type="HAC"`` and its small-sample correction.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = np.stack([np.ones(500), rng.normal(size=500)], axis=1)
    >>> fit = regression(x @ [0.0, 2.0] + rng.normal(size=500), x, np.ones(500, dtype=bool), lags=5)
    >>> bool(abs(fit.b[1] - 2.0) < 3 * fit.se[1]), fit.rows
    (True, 500)
    """
    k, rows = x.shape[1], int(used.sum())
    if rows <= k or np.linalg.matrix_rank(x[used]) < k:
        nothing = np.full(k, math.nan)
        return Regression(nothing, nothing, nothing, np.full((k, k), math.nan), rows, math.nan)
    kept = _without_long_gaps(used, lags)
    counts = used[kept]
    # A row of zeros adds nothing to any sum, and takes its time.
    y0, x0 = np.where(counts, y[kept], 0.0), np.where(counts[:, None], x[kept], 0.0)
    fit: Any = OLS(y0, x0).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False})
    # An error made of a couple of overlapping outcomes is no error.
    known = rows >= _ROWS_PER_LAG * lags
    covariance = np.asarray(fit.cov_params()) * (rows / (rows - k) if known else math.nan)
    b, se = np.asarray(fit.params), np.sqrt(np.diag(covariance))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2.0 * norm.sf(np.abs(b / se))
    return Regression(b, se, p, covariance, rows, float(fit.ssr))


def _without_long_gaps(used: _Mask, lags: int) -> npt.NDArray[np.int64]:
    """Rows of the grid, gaps cut to the length beyond which nothing reaches over them."""
    places = np.flatnonzero(used)
    gaps = np.minimum(np.diff(places), lags + 1)
    offsets = np.concatenate([[0], np.cumsum(gaps)])
    kept = np.full(int(offsets[-1]) + 1, -1, dtype=np.int64)
    kept[offsets] = places
    # Fill the gaps with any row that does not count.
    idle = np.flatnonzero(~used)
    kept[kept < 0] = idle[0] if len(idle) else 0
    return kept


@dataclass(frozen=True)
class DieboldMariano:
    """Test that two forecasts lose alike.

    Attributes
    ----------
    statistic : float
        Positive where the first loses more; NaN where the long-run variance comes out negative or nil.
    p : float
        Two-sided, Student's t with rows - 1 degrees of freedom.
    rows : int
    """

    statistic: float
    p: float
    rows: int


def diebold_mariano(difference: _Floats, used: _Mask, horizon: int) -> DieboldMariano:
    """Diebold and Mariano's test with the factor of Harvey, Leybourne and Newbold.

    Parameters
    ----------
    difference : numpy.ndarray, (n,)
        Loss of the first forecast less that of the second.
    used : numpy.ndarray of bool, (n,)
        Rows that count.
    horizon : int
        Steps ahead, in rows: losses depend on each other over ``horizon - 1`` of them.

    Returns
    -------
    DieboldMariano

    Notes
    -----
    The long-run variance sums autocovariances with equal weights, as in the paper; the statistic is multiplied by
    ``sqrt((T + 1 - 2h + h (h - 1) / T) / T)`` (1997, doi:10.1016/S0169-2070(96)00719-4). Where horizons overlap much
    and events are few this test is unreliable; `event_test` is the one to believe.

    Examples
    --------
    >>> losses = np.array([1.0, 2.0, 0.5, 1.5, 1.0, 2.5, 1.0, 1.5])
    >>> result = diebold_mariano(losses, np.ones(8, dtype=bool), horizon=1)
    >>> round(result.statistic, 3), round(result.p, 4)
    (6.068, 0.0005)
    """
    n = int(used.sum())
    if n < 2 or horizon >= n:
        return DieboldMariano(math.nan, math.nan, n)
    mean = float(difference[used].mean())
    d = np.where(used, difference - mean, 0.0)
    covariances = [float(d[lag:] @ d[: len(d) - lag]) / n for lag in range(horizon)]
    variance = (covariances[0] + 2.0 * sum(covariances[1:])) / n
    factor = (n + 1.0 - 2.0 * horizon + horizon * (horizon - 1.0) / n) / n
    if variance <= 0.0 or factor <= 0.0:
        return DieboldMariano(math.nan, math.nan, n)
    statistic = mean / math.sqrt(variance) * math.sqrt(factor)
    return DieboldMariano(statistic, float(2.0 * student.sf(abs(statistic), n - 1)), n)


@dataclass(frozen=True)
class EventTest:
    """Test over events, one loss difference each.

    Attributes
    ----------
    events : int
    better : float
        Share of events in which the difference is positive; NaN without events.
    sign_p, t_p : float
        Two-sided sign test (ties left out) and t test; NaN below thirty events.
    """

    events: int
    better: float
    sign_p: float
    t_p: float

    @property
    def is_enough(self) -> bool:
        """Whether there are events enough to say anything."""
        return self.events >= FEWEST_EVENTS


def event_test(differences: _Floats) -> EventTest:
    """Sign test and t test of one loss difference per event.

    Parameters
    ----------
    differences : numpy.ndarray, (events,)
        Loss of the quoted mid less that of the estimate: positive where the estimate is better.

    Returns
    -------
    EventTest

    Examples
    --------
    >>> event_test(np.array([1.0, 2.0, -0.5]))
    EventTest(events=3, better=0.6666666666666666, sign_p=nan, t_p=nan)
    """
    n = len(differences)
    if n == 0:
        return EventTest(0, math.nan, math.nan, math.nan)
    better = float((differences > 0).mean())
    decided = int((differences != 0).sum())
    if n < FEWEST_EVENTS or decided == 0:
        return EventTest(n, better, math.nan, math.nan)
    sign_p = float(binomtest(int((differences > 0).sum()), decided).pvalue)
    return EventTest(n, better, sign_p, float(ttest_1samp(differences, 0.0).pvalue))


def r2_oos(y: _Floats, x: _Floats) -> float:
    """``1 - sum (y - x)^2 / sum y^2``: what is gained over the forecast that the mid stays where it is.

    Examples
    --------
    >>> r2_oos(np.array([1.0, -1.0]), np.array([0.5, -0.5]))
    0.75
    """
    total = float(y @ y)
    return 1.0 - float((y - x) @ (y - x)) / total if total > 0 else math.nan
