"""Does the rank of VPIN say anything about later volatility that volume and past volatility do not?

It has been doubted with reason (Andersen and Bondarenko 2014, doi:10.1016/j.finmar.2013.05.005), so the answer is never
given without both as controls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.evaluate.inference import regression
from toxmid.evaluate.views import numbers, without_nan

__all__ = ["vpin_regressions"]

_BPS: Final = 1e4
_MINUTE: Final = 60  # s
_GRAIN: Final = 10  # s: returns that realised volatility is made of
_FEWEST_ROWS: Final = 100
_VPIN_COLUMNS: Final = ("vpin_rank", "log_volume", "past_volatility")
_VPIN_SCHEMA: Final = {
    "horizon_s": pl.Float64, "model": pl.String, "regressor": pl.String, "b": pl.Float64, "se": pl.Float64,
    "p": pl.Float64, "r2": pl.Float64, "rows": pl.Int64,
}  # fmt: skip

_Floats = npt.NDArray[np.float64]
_Mask = npt.NDArray[np.bool_]


def vpin_regressions(runs: Sequence[pl.DataFrame], ahead: int, seconds: float) -> pl.DataFrame:
    """Regressions on rows a minute apart."""
    steps = -(-ahead // max(round(_MINUTE / seconds), 1))
    gap = np.full((2 * steps + 1, 4), np.nan)
    data = np.concatenate([np.concatenate([_volatility(bars, ahead, seconds), gap]) for bars in runs])
    used = np.isfinite(data).all(axis=1)
    rows: list[dict[str, Any]] = []
    if used.sum() >= _FEWEST_ROWS:
        for model, names in (("alone", _VPIN_COLUMNS[:1]), ("with controls", _VPIN_COLUMNS)):
            columns = [_standardised(data[:, i], used) for i in range(1, 1 + len(names))]
            fit = regression(data[:, 0], np.stack([np.ones(len(data)), *columns], axis=1), used, 2 * steps)
            spread = float(((data[used, 0] - data[used, 0].mean()) ** 2).sum())
            rows += [
                {"horizon_s": ahead * seconds, "model": model, "regressor": name, "b": float(fit.b[i]),
                 "se": float(fit.se[i]), "p": float(fit.p[i]), "r2": 1.0 - fit.residual / spread, "rows": fit.rows}
                for i, name in enumerate(names, start=1)
            ]  # fmt: skip
    return without_nan(pl.DataFrame(rows, schema=_VPIN_SCHEMA))


def _volatility(bars: pl.DataFrame, ahead: int, seconds: float) -> _Floats:
    """A row a minute: log volatility to come, rank of VPIN, log volume and log volatility of the past."""
    grain = max(round(_GRAIN / seconds), 1)
    log_mid = _BPS * np.log(numbers(bars["mid"]))[grain - 1 :: grain]
    squares = np.concatenate([[0.0], np.cumsum(np.nan_to_num(np.diff(log_mid)) ** 2)])
    volume = np.cumsum((bars["buy_volume"] + bars["sell_volume"]).fill_null(0.0).to_numpy())
    reach = max(ahead // grain, 1)
    # The last whole grain at a bar; what is to come begins after it.
    at = np.arange(ahead, bars.height, max(round(_MINUTE / seconds), 1))
    whole = (at + 1) // grain - 1
    inside = (whole - reach >= 0) & (whole + reach < len(squares))
    at, whole = at[inside], whole[inside]
    with np.errstate(divide="ignore"):
        to_come = 0.5 * np.log(squares[whole + reach] - squares[whole])
        past = 0.5 * np.log(squares[whole] - squares[whole - reach])
        traded = np.log(volume[at] - volume[at - ahead])
    return np.stack([to_come, numbers(bars["vpin_rank"])[at], traded, past], axis=1)


def _standardised(values: _Floats, used: _Mask) -> _Floats:
    mean, deviation = float(values[used].mean()), float(values[used].std())
    return (values - mean) / (deviation if deviation > 0 else 1.0)
