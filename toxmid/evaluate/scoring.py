"""Errors of estimates against a known price: how both tables with a truth count."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.errors import DataError, ParameterError
from toxmid.evaluate.combining import Moments
from toxmid.evaluate.rivals import ESTIMATORS, RIVALS
from toxmid.evaluate.witnesses import WITNESSES

__all__ = ["COMBINED", "Extra", "Scores", "with_extra"]

Extra = Mapping[str, Callable[[pl.DataFrame], pl.Series]]
# Does the mean price of toxic flow add to the implied mid? With what plain reversal would say as a control, and, where
# there is one, what a mark price or another venue says.
COMBINED = ("implied_mid", "toxic_mean", "debiased_mean", "ema_60")

_Floats = npt.NDArray[np.float64]
_Mask = npt.NDArray[np.bool_]
_BPS = 1e4


def with_extra(estimates: pl.DataFrame, bars: pl.DataFrame, extra: Extra) -> pl.DataFrame:
    """Add the caller's own estimators, one column each.

    Raises
    ------
    ParameterError
        A name that is taken.
    DataError
        An estimator that does not give one number per bar.
    """
    for name, estimator in extra.items():
        if name in estimates.columns:
            raise ParameterError("an estimator of this name exists already", column=name)
        values = estimator(bars)
        if len(values) != bars.height:
            raise DataError("an estimator gave another number of rows than bars", column=name, found=len(values))
        estimates = estimates.with_columns(values.cast(pl.Float64).alias(name))
    return estimates


@dataclass(frozen=True, eq=False)
class Scores:
    """Estimates and truth of one tape in bps relative to the quoted mid.

    Attributes
    ----------
    names : tuple of str
        Estimators, the quoted mid among them.
    estimate : numpy.ndarray, (bars, estimators)
        Zero where an estimator says nothing and the quoted mid stands in.
    silent : numpy.ndarray of bool, (bars, estimators)
        Where that is so.
    truth : numpy.ndarray, (bars,)
    inside : numpy.ndarray, (bars,)
        1 where the interval holds the truth, 0 where not, NaN where there is no interval.
    half_width : numpy.ndarray, (bars,)
        Half the width of the interval, bps.
    """

    names: tuple[str, ...]
    estimate: _Floats
    silent: _Mask
    truth: _Floats
    inside: _Floats
    half_width: _Floats

    @classmethod
    def of(cls, estimates: pl.DataFrame, bars: pl.DataFrame, truth: pl.Series) -> Scores:
        """Align prices: all of one length, a row per bar."""
        names = (*ESTIMATORS, *RIVALS, *(n for n in estimates.columns if n not in ("ts", *ESTIMATORS, *RIVALS)))
        mid = pl.col("mid").log()
        distances = estimates.select((_BPS * (pl.col(name).log() - mid)).alias(name) for name in names)
        x = distances.fill_null(np.nan).to_numpy()
        silent = ~np.isfinite(x)
        low, high = pl.col("implied_lo"), pl.col("implied_hi")
        sides = bars.with_columns(truth.alias("truth")).select(
            truth=_BPS * (pl.col("truth").log() - mid),
            inside=pl.col("truth").is_between(low, high).cast(pl.Float64),
            half_width=0.5 * _BPS * (high / low).log(),
        )
        columns = {name: sides[name].fill_null(np.nan).to_numpy() for name in sides.columns}
        return cls(names, np.where(silent, 0.0, x), silent, **columns)

    def judged(self, mask: _Mask) -> _Mask:
        """The rows of a mask at which there are a quoted mid and a truth."""
        return np.asarray(mask & np.isfinite(self.truth), dtype=np.bool_)

    def table(self, mask: _Mask) -> pl.DataFrame:
        """A row per estimator: ``estimator, seconds, mse, bias, fallback`` over the rows of the mask."""
        rows = self.judged(mask)
        error = self.estimate[rows] - self.truth[rows, None]
        silent = self.silent[rows]
        n = max(int(rows.sum()), 1)
        return pl.DataFrame(
            {
                "estimator": self.names,
                "seconds": np.full(len(self.names), int(rows.sum())),
                "mse": (error * error).sum(axis=0) / n,
                "bias": error.sum(axis=0) / n,
                "fallback": silent.sum(axis=0) / n,
            }
        )

    def coverage(self, mask: _Mask) -> tuple[int, float, float]:
        """Bars with an interval, the share in which it holds the truth, and its mean half width (bps)."""
        rows = self.judged(mask) & np.isfinite(self.inside) & np.isfinite(self.half_width)
        if not rows.any():
            return 0, float("nan"), float("nan")
        return int(rows.sum()), float(self.inside[rows].mean()), float(self.half_width[rows].mean())

    @property
    def company(self) -> tuple[str, ...]:
        """The estimates of the regression: the fixed ones, and those from outside the tape that are there."""
        return (*COMBINED, *(name for name in WITNESSES if name in self.names))

    def error_of(self, prices: pl.Series, bars: pl.DataFrame, mask: _Mask) -> float:
        """Mean square error (bps^2) of one more estimate over the rows of a mask; NaN where there are none."""
        rows = self.judged(mask)
        estimate = (_BPS * (prices / bars["mid"]).log()).fill_nan(None).fill_null(0.0).to_numpy()
        return float(np.mean((estimate - self.truth)[rows] ** 2)) if rows.any() else math.nan

    def moments(self, mask: _Mask) -> Moments:
        """Sums for the regression of the truth on the estimates of `company`."""
        rows = self.judged(mask)
        columns = [self.names.index(name) for name in self.company]
        return Moments.of(self.truth[rows], self.estimate[rows][:, columns])
