"""What half a spread is made of: the part of a trade's price that stays, and the part that comes back.

Two classical regressions on the prices and sides of consecutive taker orders; no quotes are needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from toxmid.durations import nanoseconds
from toxmid.errors import NotEnoughDataError
from toxmid.estimates import Estimates, newey_west_lags
from toxmid.orders import TakerOrders

__all__ = ["SpreadComponents", "glosten_harris", "mrr"]

_BPS: Final = 1e4
_FEWEST: Final = 30  # orders: below this a HAC covariance is noise
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class SpreadComponents(Estimates):
    """Half spread that takers pay, split into what stays in the price and what comes back.

    Attributes
    ----------
    permanent, transitory : float
        The two parts, bps: adverse selection, and what the maker keeps. For `glosten_harris` at the mean size.
    permanent_bse, transitory_bse : float
        Their standard errors.
    share, share_bse : float
        ``permanent / (permanent + transitory)`` and its standard error (delta method).
    observations, lags : int
        Pairs of consecutive orders, and lags of the HAC covariance.
    fit : statsmodels.regression.linear_model.RegressionResultsWrapper
        The least squares regression behind it.
    """

    permanent: float
    permanent_bse: float
    transitory: float
    transitory_bse: float
    share: float
    share_bse: float
    observations: int
    lags: int
    fit: Any = field(repr=False)


def glosten_harris(trades: Any, *, lags: int | None = None, gap: str = "10m") -> SpreadComponents:
    """Transitory and permanent impact of a taker order, each with a part that grows with its size.

    .. math::

        \\Delta p_t = a + c_0 \\Delta Q_t + c_1 \\Delta (Q_t V_t) + z_0 Q_t + z_1 Q_t V_t + e_t

    where :math:`\\Delta p_t` is the log price change from order to order in bps, :math:`Q_t` the side of the taker (+1,
    -1) and :math:`V_t` the size of the order in base coin. :math:`c_0 + c_1 V` comes back with the next order of the
    other side, :math:`z_0 + z_1 V` stays.

    Parameters
    ----------
    trades : table
        Canonical trades in order of time, with sides. Prints of one time (the exchange's, where the tape has it) and
        one side that follow each other are one order, at their mean price by size. Pairs of orders of which a side is
        unknown are left out.
    lags : int, optional
        Lags of the HAC covariance. None: :math:`\\lfloor 4 (T / 100)^{2/9} \\rfloor`.
    gap : str
        A silence over which no price change counts.

    Returns
    -------
    SpreadComponents
        ``params``: ``const, c0, c1, z0, z1`` (bps; bps per coin for ``c1, z1``).

    Raises
    ------
    DataError
        A column is missing, or time goes back.
    NotEnoughDataError
        Fewer than thirty pairs of orders, or sides and sizes that cannot be told apart (all sizes equal: use `mrr`).
    ParameterError
        Lags or a gap that cannot be.

    References
    ----------
    Glosten, L. R. and Harris, L. E. (1988). Estimating the components of the bid/ask spread. Journal of Financial
    Economics 21. doi:10.1016/0304-405X(88)90034-7

    Examples
    --------
    >>> import polars as pl
    >>> rng = np.random.default_rng(0)
    >>> side, size = rng.choice([1, -1], 4000), rng.exponential(size=4000)
    >>> efficient = np.cumsum(1.0 * side + 0.5 * side * size + rng.normal(size=4000))     # z0 = 1, z1 = 0.5
    >>> tape = pl.DataFrame({"ts": 1_760_054_400 * 10**9 + 10**9 * np.arange(4000), "size": size, "side": side,
    ...                      "price": 100.0 * np.exp(1e-4 * (efficient + 2.0 * side))})   # c0 = 2, c1 = 0
    >>> result = glosten_harris(tape)
    >>> [bool(abs(result.params[name] - truth) < 4 * result.bse[name])
    ...  for name, truth in (("c0", 2.0), ("c1", 0.0), ("z0", 1.0), ("z1", 0.5))]
    [True, True, True, True]
    """
    pairs = _Pairs.of(trades, gap)
    flow, flow_before = pairs.side * pairs.size, pairs.side_before * pairs.size_before
    design = {"c0": pairs.side - pairs.side_before, "c1": flow - flow_before, "z0": pairs.side, "z1": flow}
    fit, lags = _regress(design, pairs, lags)
    size = float(pairs.size.mean())
    return _result(
        "Spread components of Glosten and Harris",
        dict(fit.params),
        fit.cov_params().to_numpy(),
        (np.array([0.0, 0.0, 0.0, 1.0, size]), np.array([0.0, 1.0, size, 0.0, 0.0])),
        (fit, lags),
        f"Parts of an order of mean size, {size:.6g} coin.",
    )


def mrr(trades: Any, *, lags: int | None = None, gap: str = "10m") -> SpreadComponents:
    """Permanent and transitory impact of the side of a taker order, where sides follow each other in runs.

    .. math::

        \\Delta p_t = a + (\\phi + \\theta) x_t - (\\phi + \\rho \\theta) x_{t-1} + u_t

    where :math:`\\Delta p_t` is the log price change from order to order in bps, :math:`x_t` the side of the taker and
    :math:`\\rho` its autocorrelation: only the surprise in a side, :math:`x_t - \\rho x_{t-1}`, moves the price by
    :math:`\\theta` for good. The efficient price is :math:`p - \\phi x`.

    Parameters
    ----------
    trades : table
        Canonical trades in order of time, with sides; orders are put together as in `glosten_harris`.
    lags : int, optional
        Lags of the HAC covariance. None: :math:`\\lfloor 4 (T / 100)^{2/9} \\rfloor`.
    gap : str
        A silence over which no price change counts.

    Returns
    -------
    SpreadComponents
        ``params``: ``const, phi, theta`` in bps and ``rho``.

    Raises
    ------
    DataError
        A column is missing, or time goes back.
    NotEnoughDataError
        Fewer than thirty pairs of orders, or sides that never change.
    ParameterError
        Lags or a gap that cannot be.

    Notes
    -----
    The moments are those of the paper without its trades inside the spread (a taker has a side here): :math:`E[x_t
    x_{t-1} - \\rho x_{t-1}^2] = 0`, and u with a constant, :math:`x_t` and :math:`x_{t-1}`. As many as parameters, so
    least squares solve them; the covariance is that of GMM with a HAC weight, carried to :math:`\\phi` and
    :math:`\\theta` by the delta method.

    Where the spread is one narrow tick and sides come in longer runs than one :math:`\\rho` can tell, as in liquid
    perpetual swaps, prices go on the takers' way from order to order: :math:`\\phi` is then negative and the share
    above one. The model does not hold there; `toxmid.hasbrouck` makes no such assumption.

    References
    ----------
    Madhavan, A., Richardson, M. and Roomans, M. (1997). Why do security prices change? A transaction-level analysis of
    NYSE stocks. Review of Financial Studies 10. doi:10.1093/rfs/10.4.1035

    Examples
    --------
    >>> import polars as pl
    >>> rng = np.random.default_rng(0)
    >>> side = np.cumprod(np.where(rng.random(4000) < 0.3, -1, 1))                        # rho = 0.4
    >>> surprise = side - 0.4 * np.append(0, side[:-1])
    >>> efficient = np.cumsum(1.5 * surprise + rng.normal(size=4000))                     # theta = 1.5
    >>> tape = pl.DataFrame({"ts": 1_760_054_400 * 10**9 + 10**9 * np.arange(4000), "size": 1.0, "side": side,
    ...                      "price": 100.0 * np.exp(1e-4 * (efficient + 2.0 * side))})   # phi = 2
    >>> result = mrr(tape)
    >>> [bool(abs(result.params[name] - truth) < 4 * result.bse[name])
    ...  for name, truth in (("phi", 2.0), ("theta", 1.5), ("rho", 0.4))]
    [True, True, True]
    """
    pairs = _Pairs.of(trades, gap)
    fit, lags = _regress({"now": pairs.side, "before": pairs.side_before}, pairs, lags)
    const, now, before = fit.params.to_numpy()
    rho = float(pairs.side @ pairs.side_before / (pairs.side_before @ pairs.side_before))
    theta = (now + before) / (1.0 - rho)
    # Derivatives of (const, phi, theta, rho) by (const, now, before, rho).
    by_slope, by_rho = 1.0 / (1.0 - rho), theta / (1.0 - rho)
    gradient = np.array(
        [[1, 0, 0, 0], [0, 1.0 - by_slope, -by_slope, -by_rho], [0, by_slope, by_slope, by_rho], [0, 0, 0, 1]]
    )
    covariance = gradient @ _moments_covariance(pairs, fit, rho, lags) @ gradient.T
    return _result(
        "Spread components of Madhavan, Richardson and Roomans",
        {"const": const, "phi": now - theta, "theta": theta, "rho": rho},
        covariance,
        (np.array([0.0, 0.0, 1.0, 0.0]), np.array([0.0, 1.0, 0.0, 0.0])),
        (fit, lags),
        "Efficient price: p - phi x.",
    )


@dataclass(frozen=True)
class _Pairs:
    """Consecutive taker orders of known side, no silence between them."""

    move: _Floats  # bps
    side: _Floats
    side_before: _Floats
    size: _Floats
    size_before: _Floats

    @classmethod
    def of(cls, trades: Any, gap: str) -> _Pairs:
        silence = nanoseconds(gap, name="gap")
        taken = TakerOrders.of(trades)
        side, size = taken.side, taken.size
        known = (side[1:] != 0) & (side[:-1] != 0) & (np.diff(taken.ts) < silence)
        return cls(
            move=_BPS * np.diff(np.log(taken.price))[known],
            side=side[1:][known],
            side_before=side[:-1][known],
            size=size[1:][known],
            size_before=size[:-1][known],
        )


def _regress(design: dict[str, _Floats], pairs: _Pairs, lags: int | None) -> tuple[Any, int]:
    """Least squares of the moves on a constant and the design, with HAC covariance, and its lags."""
    import pandas as pd
    from statsmodels.regression.linear_model import OLS

    frame = pd.DataFrame({"const": np.ones(pairs.move.size), **design})
    if pairs.move.size < _FEWEST:
        raise NotEnoughDataError(
            "too few pairs of taker orders of known side", found=pairs.move.size, expected=f"{_FEWEST} or more"
        )
    scaled = frame.to_numpy() / np.maximum(np.abs(frame.to_numpy()).max(axis=0), 1e-300)
    if np.linalg.matrix_rank(scaled) < frame.shape[1]:
        raise NotEnoughDataError("the orders cannot tell the terms apart", column="side", found=", ".join(design))
    count = newey_west_lags(pairs.move.size, lags)
    model = OLS(pd.Series(pairs.move), frame)
    return model.fit(cov_type="HAC", cov_kwds={"maxlags": count, "use_correction": True}), count


def _moments_covariance(pairs: _Pairs, fit: Any, rho: float, lags: int) -> _Floats:
    """Covariance of (const, now, before, rho): the sandwich of all moments together."""
    from statsmodels.stats.sandwich_covariance import S_hac_simple

    count = pairs.move.size
    design = np.stack([np.ones(count), pairs.side, pairs.side_before], axis=1)
    moments = np.column_stack(
        [design * fit.resid.to_numpy()[:, None], (pairs.side - rho * pairs.side_before) * pairs.side_before]
    )
    bread = np.zeros((4, 4))
    bread[:3, :3] = np.linalg.inv(design.T @ design)
    bread[3, 3] = 1.0 / (pairs.side_before @ pairs.side_before)
    meat = S_hac_simple(moments, nlags=lags)
    return np.asarray(bread @ meat @ bread.T * (count / (count - 3)), dtype=np.float64)


def _result(
    title: str,
    values: dict[str, float],
    covariance: _Floats,
    weights: tuple[_Floats, _Floats],
    regression: tuple[Any, int],
    note: str,
) -> SpreadComponents:
    """The result; `weights` make the permanent and the transitory part out of the estimates."""
    estimates = np.array(list(values.values()))
    fit, lags = regression
    (permanent, permanent_bse), (transitory, transitory_bse) = (
        (float(part @ estimates), float(np.sqrt(part @ covariance @ part))) for part in weights
    )
    half = permanent + transitory
    share = permanent / half if half else float("nan")
    gradient = (weights[0] - share * (weights[0] + weights[1])) / half if half else np.full(len(values), np.nan)
    share_bse = float(np.sqrt(gradient @ covariance @ gradient))
    return SpreadComponents(
        title=title,
        values={name: float(value) for name, value in values.items()},
        covariance=covariance,
        permanent=permanent,
        permanent_bse=permanent_bse,
        transitory=transitory,
        transitory_bse=transitory_bse,
        share=share,
        share_bse=share_bse,
        observations=int(fit.nobs),
        lags=lags,
        fit=fit,
        facts={"Pairs of orders": f"{int(fit.nobs)}", "R-squared": f"{fit.rsquared:.4f}", "HAC lags": f"{lags}"},
        notes=(
            f"Permanent {permanent:.4g} bps (s.e. {permanent_bse:.2g}), transitory {transitory:.4g} bps "
            f"(s.e. {transitory_bse:.2g}); permanent share {share:.3f} (s.e. {share_bse:.2g}).",
            note,
        ),
    )
