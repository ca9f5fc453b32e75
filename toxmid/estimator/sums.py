"""What the rows of an event come to: all that least squares needs of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from toxmid.params import Params

__all__ = ["COLUMNS", "SHIPPED", "SHIPPED_ON", "WEIGHTS", "Sums", "coefficients"]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]

WEIGHTS: Final = ("weight_asymmetry", "weight_volume", "weight_credibility", "weight_toxic")
SHIPPED: Final[_Floats] = np.array([getattr(Params(), name) for name in WEIGHTS], dtype=np.float64)

# What the shipped weights rest on, for whoever sees them beside fitted ones.
SHIPPED_ON: Final = (
    "not fitted; round numbers, chosen on one real cascade (10 October 2025, five coin-margined "
    "perpetuals, trades alone, judged by the spot price of the same coins) and on simulated markets"
)

# The gap is linear in seven columns, with coefficients that the four weights make: the terms A, V, C; the same times
# 1 - credibility, which the toxic term takes back; and the way D times 1 - credibility.
COLUMNS: Final = 7


def coefficients(weights: _Floats) -> _Floats:
    """Coefficients of the seven columns, (..., 7), that the four weights, (..., 4), make.

    Examples
    --------
    >>> coefficients(np.array([1.0, 2.0, 3.0, 0.5])).tolist()
    [1.0, 2.0, 3.0, -0.5, -1.0, -1.5, 0.5]
    """
    terms, toxic = weights[..., :3], weights[..., 3:]
    return np.concatenate([terms, -toxic * terms, toxic], axis=-1)


@dataclass(frozen=True, eq=False)
class Sums:
    """Mean products of the rows of each event, in units of what the later mid varies by in calm.

    Attributes
    ----------
    xx : numpy.ndarray, (n, 7, 7)
    xy : numpy.ndarray, (n, 7)
    yy : numpy.ndarray, (n,)
    """

    xx: _Floats
    xy: _Floats
    yy: _Floats

    @classmethod
    def of(cls, x: _Floats, y: _Floats, scale: float) -> Sums:
        """Those of one event: rows `x` (rows, 7), targets `y` (rows,), divided by `scale`; zero without rows."""
        share = 1.0 / (scale * max(len(y), 1))
        return cls((share * x.T @ x)[None], (share * x.T @ y)[None], np.array([share * float(y @ y)]))

    @classmethod
    def stacked(cls, sums: Sequence[Sums]) -> Sums:
        """Those of several events, one below the other."""
        if not sums:
            return cls(np.zeros((0, COLUMNS, COLUMNS)), np.zeros((0, COLUMNS)), np.zeros(0))
        xx, xy, yy = (np.concatenate(each) for each in zip(*((s.xx, s.xy, s.yy) for s in sums), strict=True))
        return cls(xx, xy, yy)

    def __len__(self) -> int:
        return len(self.yy)

    def take(self, chosen: _Mask | _Ints) -> Sums:
        """Those of some of the events."""
        return Sums(self.xx[chosen], self.xy[chosen], self.yy[chosen])

    def weighted(self, shares: _Floats) -> Sums:
        """One row: the sum over the events, each times its share."""
        return Sums(*(np.tensordot(shares, each, axes=1)[None] for each in (self.xx, self.xy, self.yy)))

    def losses(self, weights: _Floats) -> _Floats:
        """Mean square error of each event; `weights` are (4,), or one set for each event, (n, 4).

        Examples
        --------
        >>> rows = np.array([[1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
        >>> Sums.of(rows, np.array([5.0]), scale=2.0).losses(np.array([1.0, 1.0, 1.0, 0.0])).tolist()
        [2.0]
        """
        beta = np.atleast_2d(coefficients(weights))
        linear = (beta * self.xy).sum(axis=1)
        quadratic = ((self.xx @ beta[:, :, None])[:, :, 0] * beta).sum(axis=1)
        # Where a fit is perfect, rounding would leave less than nothing.
        return np.asarray(np.maximum(self.yy - 2.0 * linear + quadratic, 0.0), dtype=np.float64)
