"""Does one estimate add to another? Regressions through sums that can be added up over runs, events or bars.

With ``y`` the truth (or a later mid) less the quoted mid and ``x`` the estimates less the quoted mid, all in bps,
``y = sum b_i x_i + e`` without a constant: a constant would break the symmetry between rising and falling markets.
An estimate whose coefficient is not told from zero is *encompassed* by the others (Chong and Hendry
1986, Review of Economic Studies 53).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import t as student

__all__ = ["Moments", "combine"]

_Floats = npt.NDArray[np.float64]
_NOTHING: Final = dict.fromkeys(("alone", "b", "se", "p", "gain"), None)


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums of products of one cluster (a run, an event): all that a regression needs.

    Attributes
    ----------
    xx : numpy.ndarray, (k, k)
    xy : numpy.ndarray, (k,)
    yy : float
    rows : int
    """

    xx: _Floats
    xy: _Floats
    yy: float
    rows: int

    @classmethod
    def of(cls, y: _Floats, x: _Floats) -> Moments:
        """Sums over the rows of `y` (n,) and `x` (n, k)."""
        return cls(x.T @ x, x.T @ y, float(y @ y), len(y))

    def take(self, columns: Sequence[int]) -> Moments:
        """Those of some of the estimates."""
        chosen = list(columns)
        return Moments(self.xx[np.ix_(chosen, chosen)], self.xy[chosen], self.yy, self.rows)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.xx + other.xx, self.xy + other.xy, self.yy + other.yy, self.rows + other.rows)


def combine(clusters: Sequence[Moments], names: Sequence[str], *, group: Mapping[str, object]) -> pl.DataFrame:
    """Regression on all estimates together, errors clustered, a row per estimate.

    Parameters
    ----------
    clusters : sequence of Moments
        One per run or event; errors may depend on each other in any way inside a cluster.
    names : sequence of str
        The estimates, in the order of the columns.
    group : mapping
        What the rows are; copied into the table.

    Returns
    -------
    polars.DataFrame
        The columns of `group`; ``estimator``; ``alone``, its coefficient without the others; ``b``, ``se``, ``p`` in
        company; ``gain``, the share of the remaining squared error that goes when it joins the others; ``clusters``
        and ``rows``. Null for an estimate that never says anything but the quoted mid (it takes no part), everywhere
        where the rest cannot be told apart, and ``se`` and ``p`` where there are no more clusters than coefficients.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> runs = []
    >>> for _ in range(50):
    ...     x = rng.normal(size=(40, 2))
    ...     runs.append(Moments.of(0.8 * x[:, 0] + rng.normal(size=40), x))
    >>> combine(runs, ["useful", "useless"], group={}).select("estimator", pl.col("p") < 0.01).rows()
    [('useful', True), ('useless', False)]
    """
    everything = _sum(clusters, len(names))
    speaking = [i for i in range(len(names)) if everything.xx[i, i] > 0]
    total = everything.take(speaking)
    b, covariance = _clustered([cluster.take(speaking) for cluster in clusters], total)
    found = dict(zip(speaking, range(len(speaking)), strict=True))
    rows = [
        {
            **group,
            "estimator": name,
            **(_row(found[i], total, b, covariance, len(clusters)) if i in found else _NOTHING),
            "clusters": len(clusters),
            "rows": total.rows,
        }
        for i, name in enumerate(names)
    ]
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(
        pl.col(*_NOTHING).cast(pl.Float64).fill_nan(None)
    )


def _row(i: int, total: Moments, b: _Floats, covariance: _Floats, clusters: int) -> dict[str, float]:
    """What the regression says about one estimate."""
    se = math.sqrt(covariance[i, i]) if covariance[i, i] > 0 else math.nan
    rest = _residual(total.take([j for j in range(len(b)) if j != i]))
    return {
        "alone": float(total.xy[i] / total.xx[i, i]),
        "b": float(b[i]),
        "se": se,
        "p": float(2.0 * student.sf(abs(b[i] / se), clusters - 1)) if se > 0 else math.nan,
        "gain": 1.0 - _residual(total) / rest if rest > 0 else math.nan,
    }


def _sum(clusters: Sequence[Moments], k: int) -> Moments:
    total = Moments(np.zeros((k, k)), np.zeros(k), 0.0, 0)
    for cluster in clusters:
        total = total + cluster
    return total


def _clustered(clusters: Sequence[Moments], total: Moments) -> tuple[_Floats, _Floats]:
    """Coefficients and their covariance, ``g / (g - 1) A^-1 (sum s s') A^-1`` with s the score of a cluster."""
    k, g = len(total.xy), len(clusters)
    unknown = np.full((k, k), math.nan)
    if np.linalg.matrix_rank(total.xx) < k:
        return unknown[:, 0] if k else np.zeros(0), unknown
    inverse = np.linalg.inv(total.xx)
    b = inverse @ total.xy
    if g <= k:
        return b, unknown
    scores = np.stack([cluster.xy - cluster.xx @ b for cluster in clusters])
    return b, g / (g - 1.0) * inverse @ (scores.T @ scores) @ inverse


def _residual(total: Moments) -> float:
    """Sum of squares that least squares leaves."""
    if not len(total.xy):
        return total.yy
    b, *_ = np.linalg.lstsq(total.xx, total.xy)
    return max(total.yy - float(b @ total.xy), 0.0)
