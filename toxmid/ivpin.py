"""VPIN by maximum likelihood: the model of informed trading behind it, fitted to buckets and their durations."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.errors import ParameterError
from toxmid.instrument import Instrument
from toxmid.vpin import vpin

__all__ = ["ivpin"]

_LEAST_RATE: Final = 1e-6  # of a bucket's units: below it a rate is none
_GRID: Final = (0.1, 0.3, 0.5, 0.7, 0.9)  # first guesses of alpha, and of delta
_NAMES: Final = ("ivpin", "alpha", "delta", "mu", "epsilon")
_Floats = npt.NDArray[np.float64]


def ivpin(
    trades: Any,
    *,
    bucket_volume: float | None = None,
    buckets_per_day: int = 50,
    window: int = 50,
    classify: str = "side",
    bar: str = "60s",
    quotes: Any = None,
    df: float = 0.25,
    instrument: Instrument | None = None,
    units: float = 100.0,
) -> pl.DataFrame:
    """Improved VPIN: probability of informed trading in the volume clock, by maximum likelihood.

    With chance :math:`\\alpha` a bucket is traded on news, bad with chance :math:`\\delta`; uninformed buys and sells
    then come at a rate of :math:`\\varepsilon` each and informed ones at :math:`\\mu` on one side, Poisson processes.
    From what was bought (B) and sold (S) in each of the last n buckets and how long they took (t, in means of the
    window), the parameters maximise

    .. math::

        \\sum_j \\log [ \\alpha \\delta \\, P_j(\\varepsilon, \\varepsilon + \\mu)
        + \\alpha (1 - \\delta) \\, P_j(\\varepsilon + \\mu, \\varepsilon)
        + (1 - \\alpha) P_j(\\varepsilon, \\varepsilon) ], \\quad P_j(b, s) = b^{B_j} s^{S_j} e^{-(b + s) t_j}

    and the value is the share of informed volume, :math:`\\alpha \\mu / (\\alpha \\mu + 2 \\varepsilon)`.

    Parameters
    ----------
    trades, bucket_volume, buckets_per_day, window, classify, bar, quotes, df, instrument
        As for `toxmid.vpin`, whose buckets these are.
    units : float
        Poisson units in a bucket of mean volume: counts, not coin, are what the model is about. With very many hardly
        anything is left to chance, and it says no more than VPIN does.

    Returns
    -------
    polars.DataFrame
        A row per closed bucket: ``bucket, ts_close, vpin``, ``ivpin`` in [0, 1], ``alpha, delta`` and ``mu, epsilon``
        (units per mean duration). Null until there are `window` buckets, where a side in them is unknown, and where
        they took no time.

    Raises
    ------
    DataError
        A column is missing, a time goes back.
    ParameterError
        A parameter outside its range.

    Notes
    -----
    Only the window is fitted, so nothing looks ahead. Each fit begins where the one before ended and at the best of a
    grid of :math:`\\alpha` and :math:`\\delta`, and keeps what is likelier; there may be a better maximum elsewhere.
    The value is the definition of the probability of informed trading [2]_ with the estimates of [1]_. The R package
    PINstimation divides by :math:`2 \\varepsilon + \\mu` instead, and its bounds cut the parameters off, so its
    figures are others.

    References
    ----------
    .. [1] Ke, W.-C. and Lin, H.-W. W. (2017). An improved version of the volume-synchronized probability of informed
       trading. Critical Finance Review 6. doi:10.1561/104.00000046
    .. [2] Easley, D., Kiefer, N. M., O'Hara, M. and Paperman, J. B. (1996). Liquidity, information, and infrequently
       traded stocks. Journal of Finance 51. doi:10.1111/j.1540-6261.1996.tb04074.x

    Examples
    --------
    Every other bucket is filled in 40 s instead of 100, four fifths of it bought; rates are of a mean bucket's 70 s:

    >>> start = 1_760_054_400 * 10**9
    >>> ends = start + np.cumsum([100, 40] * 40) * 10**9
    >>> tape = pl.DataFrame({"ts": np.repeat(ends, 2), "price": 10.0, "size": [50.0, 50.0, 80.0, 20.0] * 40,
    ...                      "side": [1, -1] * 80})
    >>> table = ivpin(tape, bucket_volume=100.0, window=20)
    >>> table.select(pl.col("ivpin", "alpha", "mu", "epsilon").round(2)).row(-1)
    (0.43, 0.5, 105.0, 35.0)
    """
    if isinstance(units, bool) or not isinstance(units, (int, float)) or not 1.0 <= units <= 1e6:
        raise ParameterError("units", found=units, expected="1 to 1000000")
    buckets = vpin(
        trades, bucket_volume=bucket_volume, buckets_per_day=buckets_per_day, window=window, classify=classify, bar=bar,
        quotes=quotes, df=df, instrument=instrument,
    )  # fmt: skip
    bought, sold, volume = (buckets[name].to_numpy() for name in ("buy_volume", "sell_volume", "volume"))
    known = np.abs(bought + sold - volume) <= 1e-9 * volume
    closed = buckets["ts_close"].to_physical().to_numpy()
    # A bucket takes as long as there is between the last trades of the one before and its own.
    lasted = np.diff(closed, prepend=buckets["ts_open"].to_physical().to_numpy()[:1]).astype(np.float64)
    fits = np.full((buckets.height, len(_NAMES)), np.nan)
    last: _Floats | None = None
    for end in range(window, buckets.height + 1):
        inside = slice(end - window, end)
        time = lasted[inside].mean() if known[inside].all() else 0.0
        if time > 0:
            per_unit = units / volume[inside].mean()
            sides = bought[inside] * per_unit, sold[inside] * per_unit
            last = _fit(*sides, lasted[inside] / time, last)
            fits[end - 1] = _told(last)
    table = pl.DataFrame(fits, schema=list(_NAMES), orient="row").with_columns(pl.all().fill_nan(None))
    return pl.concat([buckets.select("bucket", "ts_close", "vpin"), table], how="horizontal")


def _told(x: _Floats) -> _Floats:
    alpha, delta, mu, epsilon = _expit(x[0]), _expit(x[1]), np.exp(x[2]), np.exp(x[3])
    return np.array([alpha * mu / (alpha * mu + 2.0 * epsilon), alpha, delta, mu, epsilon])


def _loglike(x: _Floats, bought: _Floats, sold: _Floats, time: _Floats) -> tuple[float, _Floats]:
    """Log likelihood and its derivatives, at the logits of alpha and delta and the logarithms of mu and epsilon."""
    alpha, delta, mu, low = _expit(x[0]), _expit(x[1]), np.exp(x[2]), np.exp(x[3])
    high = low + mu
    total = bought + sold
    log_low, log_high = x[3], np.log(high)
    even = total * log_low - 2.0 * low * time
    bad = sold * log_high + bought * log_low - (low + high) * time
    good = bought * log_high + sold * log_low - (low + high) * time
    logs = np.stack([
        bad - np.logaddexp(0.0, -x[0]) - np.logaddexp(0.0, -x[1]),
        good - np.logaddexp(0.0, -x[0]) - np.logaddexp(0.0, x[1]),
        even - np.logaddexp(0.0, x[0]),
    ])  # fmt: skip
    highest = logs.max(axis=0)
    each = highest + np.log(np.exp(logs - highest).sum(axis=0))
    was_bad, was_good, was_even = np.exp(logs - each)
    informed = was_bad + was_good
    by_high = was_bad * sold / high + was_good * bought / high - informed * time
    by_low = was_bad * bought / low + was_good * sold / low - informed * time + was_even * (total / low - 2.0 * time)
    slope = np.array([
        (informed - alpha).sum(),
        (was_bad - informed * delta).sum(),
        mu * by_high.sum(),
        low * (by_high + by_low).sum(),
    ])  # fmt: skip
    return float(each.sum()), slope


def _guesses(bought: _Floats, sold: _Floats) -> list[_Floats]:
    """The grid: for each alpha and delta, rates that give the mean volume and the mean imbalance."""
    total, gap = float((bought + sold).mean()), float(np.abs(bought - sold).mean())
    points = []
    for alpha in _GRID:
        mu = max(min(gap / alpha, 0.98 * total / alpha), _LEAST_RATE * total)
        low = max(0.5 * (total - alpha * mu), _LEAST_RATE * total)
        points += [np.array([_logit(alpha), _logit(delta), np.log(mu), np.log(low)]) for delta in _GRID]
    return points


def _expit(x: float) -> float:
    return float(1.0 / (1.0 + np.exp(-x)))


def _logit(p: float) -> float:
    return float(np.log(p / (1.0 - p)))


def _fit(bought: _Floats, sold: _Floats, time: _Floats, before: _Floats | None) -> _Floats:
    """The likelier of two climbs: from the fit before, and from the best point of the grid."""
    from scipy.optimize import minimize

    count, total = bought.size, float((bought + sold).mean())
    least = float(np.log(_LEAST_RATE * total))
    bounds = [(-12.0, 12.0), (-12.0, 12.0), (least, least + 30.0), (least, least + 30.0)]

    def cost(x: _Floats) -> tuple[float, _Floats]:
        value, slope = _loglike(x, bought, sold, time)
        return -value / count, -slope / count

    best = min(_guesses(bought, sold), key=lambda x: cost(x)[0])
    climbs = [
        minimize(cost, x, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12, "gtol": 1e-7})
        for x in ([best] if before is None else [before, best])
    ]
    return np.asarray(min(climbs, key=lambda climb: float(climb.fun)).x, dtype=np.float64)
