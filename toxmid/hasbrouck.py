"""What a taker order moves the mid by in the end: the vector autoregression of sides and quote revisions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from toxmid.durations import nanoseconds
from toxmid.errors import NotEnoughDataError, ParameterError
from toxmid.estimates import Estimates, newey_west_lags
from toxmid.orders import TakerOrders
from toxmid.schema import columns
from toxmid.spreads import last_quotes, where_price
from toxmid.tapes import without_sizes

__all__ = ["HasbrouckResult", "hasbrouck"]

_BPS: Final = 1e4
_FEWEST: Final = 100
_MOST_LAGS: Final = 100
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class HasbrouckResult(Estimates):
    """Response of the mid to the surprise in the side of a taker order.

    Attributes
    ----------
    immediate, long_run : float
        Response at once and in the end, bps: of the mid, to an order of the side that was not expected at all.
    share : float
        Share of the variance of the efficient price that comes with taker orders: what they tell.
    observations : int
        Orders with all their lags known.
    order, hac_lags : int
        Lags of the autoregression, and of the HAC covariance.
    revisions, sides : statsmodels.regression.linear_model.RegressionResultsWrapper
        The two equations.
    """

    immediate: float
    long_run: float
    share: float
    observations: int
    order: int
    hac_lags: int
    revisions: Any = field(repr=False)
    sides: Any = field(repr=False)


def hasbrouck(
    trades: Any, quotes: Any, *, order: int = 5, lags: int | None = None, gap: str = "10m"
) -> HasbrouckResult:
    """Long-run response of the mid to a taker order.

    With :math:`x_t` the side of order t and :math:`r_t` the log change of the mid, in bps, from before it to before the
    next order,

    .. math::

        r_t = \\alpha + \\sum_{i=1}^{p} a_i r_{t-i} + \\sum_{i=0}^{p} b_i x_{t-i} + v_t, \\qquad
        x_t = \\gamma + \\sum_{i=1}^{p} c_i r_{t-i} + \\sum_{i=1}^{p} d_i x_{t-i} + w_t

    A surprise of one in :math:`x_t` moves the mid by :math:`b_0` at once, and in the end by

    .. math::

        R = \\frac{b}{(1 - a)(1 - d) - b c}

    where a, b, c, d are the sums of the coefficients.

    Parameters
    ----------
    trades : table
        Canonical trades in order of time, with sides. Prints of one time (the exchange's, where the tape has it) and
        one side that follow each other are one order.
    quotes : table
        Canonical quotes in order of time; sizes are not needed. An order meets the quote in force strictly before it.
    order : int
        Lags p of the autoregression.
    lags : int, optional
        Lags of the HAC covariance. None: :math:`\\lfloor 4 (T / 100)^{2/9} \\rfloor`.
    gap : str
        A silence between orders over which no revision counts.

    Returns
    -------
    HasbrouckResult
        ``params``: ``immediate`` and ``long_run``, bps.

    Raises
    ------
    DataError
        A column is missing, or time goes back.
    NotEnoughDataError
        Fewer than a hundred orders with known sides, mids and lags, or sides that never change.
    ParameterError
        Lags or a gap that cannot be.

    Notes
    -----
    Errors are of the sums of coefficients, HAC by equation, carried to R by the delta method; the innovations of the
    two equations are uncorrelated by construction. A long-run response of many lags is a ratio near a unit root: where
    sides come in long runs, look whether more lags change it. By time of arrival a quote often comes before the trade
    that moved it, and the response at once is then too small; the one in the end is not.

    References
    ----------
    Hasbrouck, J. (1991). Measuring the information content of stock trades. Journal of Finance 46.
    doi:10.1111/j.1540-6261.1991.tb03749.x

    Hasbrouck, J. (1991). The summary informativeness of stock trades. Review of Financial Studies 4.
    doi:10.1093/rfs/4.3.571

    Examples
    --------
    Every order moves the mid by 2 bps, of which a quarter comes back with the next:

    >>> import polars as pl
    >>> rng = np.random.default_rng(0)
    >>> side = rng.choice([1, -1], 4000)
    >>> mid = 100.0 * np.exp(1e-4 * np.cumsum(2.0 * side - 0.5 * np.append(0, side[:-1]) + rng.normal(size=4000)))
    >>> ts = 1_760_054_400 * 10**9 + 10**9 * np.arange(4000)
    >>> trades = pl.DataFrame({"ts": ts, "price": mid, "size": 1.0, "side": side})
    >>> quotes = pl.DataFrame({"ts": ts, "bid": mid, "ask": mid})                # the quote follows its order
    >>> result = hasbrouck(trades, quotes)
    >>> [bool(abs(result.params[name] - truth) < 4 * result.bse[name])
    ...  for name, truth in (("immediate", 2.0), ("long_run", 1.5))]
    [True, True]
    """
    if isinstance(order, bool) or not isinstance(order, int) or not 1 <= order <= _MOST_LAGS:
        raise ParameterError("order", found=order, expected=f"a whole number, 1 to {_MOST_LAGS}")
    silence = nanoseconds(gap, name="gap")
    taken = TakerOrders.of(trades)
    side, revision = _series(taken, columns(without_sizes(quotes), "quotes"), silence)
    now, past = _lagged(side, revision, order)
    if now.shape[0] < _FEWEST:
        raise NotEnoughDataError(
            "too few taker orders with known side, mid and lags", found=now.shape[0], expected=f"{_FEWEST} or more"
        )
    count = newey_west_lags(now.shape[0], lags)
    one = np.ones((now.shape[0], 1))
    revisions = _regress(now[:, 1], np.hstack([one, past[:, order:], now[:, :1], past[:, :order]]), count)
    sides = _regress(now[:, 0], np.hstack([one, past[:, order:], past[:, :order]]), count)
    return _result(revisions, sides, order, count)


def _series(taken: TakerOrders, book: dict[str, npt.NDArray[Any]], silence: int) -> tuple[_Floats, _Floats]:
    """Side of each order, and what the mid did until the next; NaN where that is not known."""
    bid, ask = where_price(book["bid"]), where_price(book["ask"])
    log_mid = np.log(np.append(np.where(bid <= ask, 0.5 * (bid + ask), np.nan), np.nan))
    before = log_mid[last_quotes(taken.ts, book["ts"], -1)]
    revision = np.full(taken.ts.size, np.nan)
    revision[:-1] = np.where(np.diff(taken.ts) < silence, _BPS * np.diff(before), np.nan)
    return np.where(taken.side == 0, np.nan, taken.side), revision


def _lagged(side: _Floats, revision: _Floats, order: int) -> tuple[_Floats, _Floats]:
    """(side, revision) of each order, and beside it the sides and revisions of those before, latest first."""
    if side.size <= order:
        return np.empty((0, 2)), np.empty((0, 2 * order))
    both = [np.lib.stride_tricks.sliding_window_view(values, order + 1)[:, ::-1] for values in (side, revision)]
    known = np.isfinite(both[0]).all(axis=1) & np.isfinite(both[1]).all(axis=1)
    sides, revisions = both[0][known], both[1][known]
    return np.stack([sides[:, 0], revisions[:, 0]], axis=1), np.hstack([sides[:, 1:], revisions[:, 1:]])


def _regress(target: _Floats, design: _Floats, lags: int) -> Any:
    from statsmodels.regression.linear_model import OLS

    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise NotEnoughDataError("the orders cannot tell the lags apart", column="side", expected="sides that change")
    return OLS(target, design).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": True})


def _result(revisions: Any, sides: Any, order: int, lags: int) -> HasbrouckResult:
    # Sums of coefficients: a and b of the first equation (b begins with the side of now), c and d of the second.
    in_revisions, in_sides = np.zeros((2, 2 * order + 2)), np.zeros((2, 2 * order + 1))
    in_revisions[0, 1 : order + 1] = in_revisions[1, order + 1 :] = 1.0
    in_sides[0, 1 : order + 1] = in_sides[1, order + 1 :] = 1.0
    (a, b), (c, d) = in_revisions @ revisions.params, in_sides @ sides.params
    root = (1.0 - a) * (1.0 - d) - b * c
    long_run, own = b / root, (1.0 - d) / root
    # Derivatives of R by a, b and by c, d.
    by_revisions = np.array([b * (1.0 - d), root + b * c]) / root**2 @ in_revisions
    by_sides = np.array([b * b, b * (1.0 - a)]) / root**2 @ in_sides
    gradient = np.stack([np.eye(2 * order + 2)[order + 1], by_revisions])
    covariance = gradient @ revisions.cov_params() @ gradient.T
    covariance[1, 1] += by_sides @ sides.cov_params() @ by_sides
    immediate = float(revisions.params[order + 1])
    told, untold = long_run**2 * sides.mse_resid, own**2 * revisions.mse_resid
    share = float(told / (told + untold)) if told + untold > 0 else float("nan")
    return HasbrouckResult(
        title="Response of the mid to a taker order: Hasbrouck's autoregression",
        values={"immediate": immediate, "long_run": float(long_run)},
        covariance=np.asarray(covariance, dtype=np.float64),
        immediate=immediate,
        long_run=float(long_run),
        share=share,
        observations=int(revisions.nobs),
        order=order,
        hac_lags=lags,
        revisions=revisions,
        sides=sides,
        facts={"Orders": f"{int(revisions.nobs)}", "Lags": f"{order}", "HAC lags": f"{lags}"},
        notes=(f"Of the variance of the efficient price {share:.1%} comes with taker orders.",),
    )
