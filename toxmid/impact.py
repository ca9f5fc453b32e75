"""Price impact per unit of volume: what a coin of net taker flow moves the mid by, in calm and under stress.

The phrase "huge moves on little volume" as a number: the ratio of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.durations import nanoseconds
from toxmid.errors import DataError, NotEnoughDataError, ParameterError
from toxmid.estimates import newey_west_lags
from toxmid.schema import TIME
from toxmid.tapes import as_frame

__all__ = ["TERMS", "ImpactResult", "Slope", "amihud", "impact"]

TERMS: Final = ("flow", "stress_flow", "sqrt_flow")
_ON_DEMAND: Final = ("ofi",)  # explains much of the move at the same time, and so takes from what flow would explain
_OPTIONAL: Final = ("unknown_volume", "price", "ofi")
_COLUMNS: Final = ("ts", "mid", "buy_volume", "sell_volume")
_BPS: Final = 1e4
_TEN_MILLION: Final = 1e7
_Floats = npt.NDArray[np.float64]
_FEWEST_BARS: Final = 30  # below this a HAC covariance is noise
_FEWEST_STATE_BARS: Final = 10  # bars with flow needed in calm, and in stress, to tell their slopes apart


@dataclass(frozen=True)
class Slope:
    """Impact of one unit of net taker flow.

    Attributes
    ----------
    bps : float
        Basis points of log price per base coin of net taker flow.
    bse : float
        Its standard error, robust to heteroskedasticity and autocorrelation (HAC).
    bps_per_10m : float
        Basis points per ten million units of quote currency, at the mean mid of the bars it was estimated on.
    """

    bps: float
    bse: float
    bps_per_10m: float


@dataclass(frozen=True)
class ImpactResult:
    """Fitted price impact. Everything statsmodels knows about the regression is in `fit`.

    Attributes
    ----------
    fit : statsmodels.regression.linear_model.RegressionResultsWrapper
        The regression, with HAC covariance.
    terms : tuple of str
        Terms in the regression, besides the constant.
    bar : str
        Length of the bars regressed on.
    observations, stress_observations, dropped : int
        Bars used; of those, bars under stress; bars without a move, because a mid was not known.
    lags : int
        Lags in the HAC covariance.
    kyle : Slope
        Kyle's lambda: slope of the move on the net flow alone, all bars together.
    calm, stress : Slope
        Kyle's lambda of the calm and of the stressed bars, with one constant for both, whatever the `terms` are.
        Where the bars cannot tell the states apart `calm` is `kyle` and `stress` is None.
    ratio, ratio_bse : float
        ``stress / calm`` and its standard error (delta method); NaN without `stress`.
    amihud : float
        Sum of absolute moves over sum of turnover: basis points per million of quote currency.
    """

    fit: Any
    terms: tuple[str, ...]
    bar: str
    observations: int
    stress_observations: int
    dropped: int
    lags: int
    kyle: Slope
    calm: Slope
    stress: Slope | None
    ratio: float
    ratio_bse: float
    amihud: float

    @property
    def params(self) -> Any:
        """Coefficients by name (pandas Series): bps, bps per coin, and bps per root of a coin for ``sqrt_flow``."""
        return self.fit.params

    @property
    def bse(self) -> Any:
        """HAC standard errors by name (pandas Series)."""
        return self.fit.bse

    @property
    def tvalues(self) -> Any:
        """Coefficients over their standard errors (pandas Series)."""
        return self.fit.tvalues

    def conf_int(self, alpha: float = 0.05) -> Any:
        """Confidence intervals of the coefficients (pandas DataFrame, columns 0 and 1)."""
        return self.fit.conf_int(alpha)

    def summary(self) -> Any:
        """Table of the regression (statsmodels Summary), followed by what it says about impact per unit of volume."""
        table = self.fit.summary(title=f"Price impact of net taker flow, {self.bar} bars, HAC with {self.lags} lags")
        table.add_extra_txt(self._notes())
        return table

    def _notes(self) -> list[str]:
        lines = [
            f"Bars: {self.observations} used ({self.stress_observations} under stress), {self.dropped} left out.",
            f"Kyle's lambda: {_in_words(self.kyle)}",
        ]
        if self.stress is not None:
            lines.append(f"  calm:   {_in_words(self.calm)}")
            lines.append(f"  stress: {_in_words(self.stress)}")
            lines.append(f"  stress / calm = {self.ratio:.4g} (s.e. {self.ratio_bse:.2g})")
        return [*lines, f"Amihud ratio: {self.amihud:.4g} bps per million of turnover"]


def _in_words(slope: Slope) -> str:
    return f"{slope.bps:.4g} bps per coin (s.e. {slope.bse:.2g}), {slope.bps_per_10m:.4g} bps per 10 million"


def impact(
    replay_or_bars: Any,
    *,
    bar: str = "10s",
    terms: Sequence[str] | None = None,
    lags: int | None = None,
    regime_at: Literal["start", "any"] = "start",
) -> ImpactResult:
    """Price impact of net taker flow per unit of volume, by regression with HAC errors.

    .. math::

        \\Delta m_k = a + b_1 Q_k + b_2 Q_k 1\\{stress_k\\} + b_3 \\, sgn(Q_k) \\sqrt{|Q_k|} + b_4 OFI_k + e_k

    where :math:`\\Delta m_k` is the log return of the mid over bar k in basis points and :math:`Q_k` the volume that
    takers bought minus the volume they sold, in base coin. Beside this regression stand the simple slopes of the move
    on the flow, in all bars, in calm and under stress, and the ratio of the last two.

    Parameters
    ----------
    replay_or_bars : Replay or frame
        A replay, or its ``bars``: columns ``ts`` (end of bar), ``mid``, ``buy_volume``, ``sell_volume``, for the term
        ``"stress_flow"`` ``regime``, for ``"ofi"`` ``ofi``; ``unknown_volume`` counts in the turnover, at ``price``
        where there is no mid.
    bar : str
        Length of the bars to regress on; a multiple of the step of the bars given.
    terms : sequence of {"flow", "stress_flow", "sqrt_flow", "ofi"}, optional
        Terms beside the constant: :math:`b_1` to :math:`b_4`. None: of the first three all that the bars can identify,
        so without ``"stress_flow"`` where fewer than ten bars with flow were calm, or fewer than ten under stress.
        The result's `terms` says which. ``"ofi"`` is the order-flow imbalance at the touch [4]_; bars without it are
        left out where it is asked for. Alone it gives that paper's slope, bps per coin.
    lags : int, optional
        Lags of the HAC covariance. None: :math:`\\lfloor 4 (T / 100)^{2/9} \\rfloor`.
    regime_at : {"start", "any"}
        A bar is under stress when the regime's name begins with "stress" as the bar opens, or at any time in it.
        "start" keeps a bar's own move from choosing the regime it counts for.

    Returns
    -------
    ImpactResult

    Raises
    ------
    DataError
        A column is missing, or time goes back.
    NotEnoughDataError
        Fewer than thirty bars with a move, no flow, or too few calm or stressed bars for a term asked for by name.
    ParameterError
        A term, a length of bars or a number of lags that cannot be.

    Notes
    -----
    A slope on signed flow is Kyle's lambda [1]_. The Amihud ratio [2]_ is formed as a ratio of sums, not as the mean of
    ratios of that paper, which bars of next to no volume would rule. Errors are those of Newey and West [3]_, with
    the small-sample correction. Bars without a move are left out, and the lags count the bars that remain.

    References
    ----------
    .. [1] Kyle, A. S. (1985). Continuous auctions and insider trading. Econometrica 53. doi:10.2307/1913210
    .. [2] Amihud, Y. (2002). Illiquidity and stock returns. Journal of Financial Markets 5.
       doi:10.1016/S1386-4181(01)00024-6
    .. [3] Newey, W. K. and West, K. D. (1987). A simple, positive semi-definite, heteroskedasticity and
       autocorrelation consistent covariance matrix. Econometrica 55. doi:10.2307/1913610
    .. [4] Cont, R., Kukanov, A. and Stoikov, S. (2014). The price impact of order book events. Journal of Financial
       Econometrics 12. doi:10.1093/jjfinec/nbt003

    Examples
    --------
    A market in which each coin of net flow moves the mid by 2 bps:

    >>> import numpy as np
    >>> import polars as pl
    >>> rng = np.random.default_rng(0)
    >>> bought, sold = rng.exponential(size=(2, 1000))
    >>> moves = 2.0 * (bought - sold) + rng.normal(size=1000)
    >>> bars = pl.DataFrame({"ts": np.arange(1000) * 10_000_000_000 + 1_600_000_000_000_000_000,
    ...                      "mid": 100 * np.exp(1e-4 * np.cumsum(moves)), "buy_volume": bought, "sell_volume": sold})
    >>> result = impact(bars, terms=["flow"])
    >>> bool(abs(result.params["flow"] - 2.0) < 3 * result.bse["flow"])
    True
    """
    bars = _bars_of(replay_or_bars)
    windows = _aggregate(bars, nanoseconds(bar, name="bar"), regime_at)
    if "ofi" in (terms or ()) and "ofi" not in windows.columns:
        raise DataError("bars lack columns", column="ofi", found=bars.columns, expected="ofi, as in a replay's bars")
    used = windows.drop_nulls(["move", "ofi"] if "ofi" in (terms or ()) else ["move"])
    _check_enough(used, bar)
    lags = newey_west_lags(used.height, lags)
    chosen = _choose_terms(used, terms)
    fit = _regress(used, chosen, lags)
    kyle = _slope(_regress(used, ("flow",), lags), np.array([0.0, 1.0]), used)
    return ImpactResult(
        fit=fit,
        terms=chosen,
        bar=bar,
        observations=used.height,
        stress_observations=int(used["stress"].sum()),
        dropped=windows.height - used.height,
        lags=lags,
        kyle=kyle,
        **_by_state(used, lags, kyle),
        amihud=_amihud(used),
    )


def amihud(replay_or_bars: Any, *, bar: str = "10s", half_life: str = "1h") -> pl.DataFrame:
    """Illiquidity of each moment: recent absolute moves over recent turnover.

    .. math::

        A_k = \\frac{\\sum_{j \\le k} 2^{-(k - j) / h} |\\Delta m_j|}{\\sum_{j \\le k} 2^{-(k - j) / h} T_j}

    where :math:`\\Delta m_j` is the log return of the mid over bar j and :math:`T_j` the turnover of the bar: a ratio
    of exponentially weighted means, not a mean of ratios, which bars of next to no volume would rule.

    Parameters
    ----------
    replay_or_bars : Replay or frame
        As for `impact`.
    bar : str
        Length of the bars; a multiple of the step of the bars given.
    half_life : str
        Time after which a bar counts half.

    Returns
    -------
    polars.DataFrame
        ``ts`` (end of bar) and ``amihud``, basis points per million of quote currency; null until thirty bars with a
        move, and while nothing was traded. Bars without a move (a hole, a mid not known) are passed over.

    Raises
    ------
    DataError
        A column is missing, or time goes back.
    ParameterError
        A length that is none.

    References
    ----------
    Amihud, Y. (2002). Illiquidity and stock returns. Journal of Financial Markets 5.
    doi:10.1016/S1386-4181(01)00024-6

    Examples
    --------
    Each bar moves by 3 bps on a turnover of 100,000:

    >>> import numpy as np
    >>> bars = pl.DataFrame({"ts": np.arange(40) * 10_000_000_000 + 1_600_000_000_000_000_000,
    ...                      "mid": 100 * np.exp(3e-4 * (np.arange(40) % 2)), "buy_volume": 1000.0, "sell_volume": 0.0})
    >>> amihud(bars)["amihud"].round(1).to_list()[-2:]
    [30.0, 30.0]
    """
    length = nanoseconds(bar, name="bar")
    life = nanoseconds(half_life, name="half_life") / length
    windows = _aggregate(_bars_of(replay_or_bars), length, "start")
    moved = pl.col("move").is_not_null()
    means = [
        pl.when(moved).then(value).ewm_mean(half_life=life, adjust=True, ignore_nulls=False)
        for value in (pl.col("move").abs(), pl.col("turnover"))
    ]
    ready = (moved.cum_sum() >= _FEWEST_BARS) & (means[1] > 0) & moved
    return windows.select(
        ts=((pl.col("window") + 1) * length).cast(TIME), amihud=pl.when(ready).then(means[0] / means[1] * 1e6)
    )


def stress_over_calm(replay_or_bars: Any, *, bar: str = "10s") -> float | None:
    """Kyle's lambda under stress over Kyle's lambda in calm: `ImpactResult.ratio` alone, without errors and without
    statsmodels.

    Returns
    -------
    float or None
        None where the bars cannot tell the two apart: too few of either with flow, or no slope in calm.
    """
    windows = _aggregate(_bars_of(replay_or_bars), nanoseconds(bar, name="bar"), "start")
    used = windows.drop_nulls("move")
    if not used.height or not _is_identified(used, ("flow", "stress_flow")):
        return None
    design = _design(used, ("flow", "stress_flow")).to_numpy()
    _, calm, extra = np.linalg.lstsq(design, used["move"].to_numpy(), rcond=None)[0]
    return float((calm + extra) / calm) if calm else None


def _bars_of(source: Any) -> pl.DataFrame:
    """The columns needed, from a replay or from any frame, in order of time."""
    # A frame may have a column of any name, also "bars"; only what is no frame is asked for its bars.
    bars = as_frame(source.bars if hasattr(source, "bars") and not hasattr(source, "columns") else source)
    missing = [name for name in _COLUMNS if name not in bars.columns]
    if missing:
        raise DataError("bars lack columns", column=missing[0], found=bars.columns, expected=", ".join(_COLUMNS))
    ts = pl.col("ts").dt.epoch("ns") if isinstance(bars.schema["ts"], pl.Datetime) else pl.col("ts").cast(pl.Int64)
    regime = [pl.col("regime").cast(pl.String)] if "regime" in bars.columns else []
    given = [*_COLUMNS[1:], *(name for name in _OPTIONAL if name in bars.columns)]
    return bars.select(ts, *(pl.col(name).cast(pl.Float64).fill_nan(None) for name in given), *regime)


def _aggregate(bars: pl.DataFrame, length: int, regime_at: str) -> pl.DataFrame:
    """Longer bars on the same grid: move (bps), flow, turnover and state of each.

    A bar covers the time up to and with its `ts`, so an aggregated one ends at the next whole multiple of `length`.
    """
    if regime_at not in ("start", "any"):
        raise ParameterError("regime_at", found=regime_at, expected='"start" or "any"')
    _check_step(bars["ts"], length)
    stress = pl.col("regime").str.starts_with("stress").fill_null(False) if "regime" in bars.columns else pl.lit(False)
    state = pl.col("stress").any() if regime_at == "any" else pl.col("stress_before").first()
    windows = (
        bars.with_columns(
            window=(pl.col("ts") - 1) // length,
            flow=pl.col("buy_volume") - pl.col("sell_volume"),
            turnover=_turnover(bars),
            stress=stress,
        )
        .with_columns(stress_before=pl.col("stress").shift(1, fill_value=False))
        .group_by("window", maintain_order=True)
        .agg(
            pl.col("mid").last(),
            pl.col("flow", "turnover").sum(),
            *([pl.when(pl.col("ofi").null_count() == 0).then(pl.col("ofi").sum())] if "ofi" in bars.columns else []),
            stress=state,
            unknown=pl.col("flow").null_count(),
        )
    )
    # Across a hole in the bars there is a move, but nobody knows its flow.
    known = (pl.col("window").diff() == 1) & (pl.col("unknown") == 0)
    move = _BPS * (pl.col("mid").log() - pl.col("mid").log().shift(1))
    return windows.with_columns(move=pl.when(known).then(move))


def _turnover(bars: pl.DataFrame) -> pl.Expr:
    """Quote currency of all that traded, whoever the taker was."""
    volume = pl.col("buy_volume") + pl.col("sell_volume")
    if "unknown_volume" in bars.columns:
        volume += pl.col("unknown_volume").fill_null(0.0)
    return (pl.coalesce("mid", "price") if "price" in bars.columns else pl.col("mid")) * volume


def _check_step(ts: pl.Series, length: int) -> None:
    """Bars must come in order of time, and their step must divide the length asked for."""
    steps = ts.diff().drop_nulls()
    if steps.is_empty():
        return
    step = int(steps.to_numpy().min())
    if step <= 0:
        raise DataError("time does not advance from bar to bar", row=int((steps <= 0).arg_true()[0]) + 1, column="ts")
    if length % step:
        raise ParameterError("bar is no multiple of the step of the bars", found=length, expected=f"n * {step} ns")


def _check_enough(used: pl.DataFrame, bar: str) -> None:
    if used.height < _FEWEST_BARS:
        raise NotEnoughDataError(
            f"too few {bar} bars with a known move of the mid", found=used.height, expected=f"{_FEWEST_BARS} or more"
        )
    if not (used["move"] != 0).any():
        raise NotEnoughDataError("the mid never moves", column="mid")
    if used["flow"].n_unique() == 1:
        raise NotEnoughDataError("net taker flow is the same in every bar; are the sides known?", column="buy_volume")


def _choose_terms(used: pl.DataFrame, asked: Sequence[str] | None) -> tuple[str, ...]:
    """The terms asked for, if the bars can tell them apart; by default, all those that they can."""
    known = (*TERMS, *_ON_DEMAND)
    strange = [term for term in asked or () if term not in known]
    if strange or (asked is not None and not asked):
        raise ParameterError("no such term of the regression", found=strange or asked, expected=f"some of {known}")
    chosen: tuple[str, ...] = ()
    for term in TERMS if asked is None else dict.fromkeys(asked):
        if _is_identified(used, (*chosen, term)):
            chosen = (*chosen, term)
        elif asked is not None:
            raise NotEnoughDataError(
                f"the bars cannot tell {term} apart",
                found=_states(used),
                expected=f"{_FEWEST_STATE_BARS} or more bars with flow in calm and under stress, of different sizes",
            )
    return chosen


def _is_identified(used: pl.DataFrame, terms: tuple[str, ...]) -> bool:
    if terms[-1] == "stress_flow" and min(_states(used).values()) < _FEWEST_STATE_BARS:
        return False
    design = _design(used, terms).to_numpy()
    return bool(np.linalg.matrix_rank(design / np.linalg.norm(design, axis=0)) == design.shape[1])


def _states(used: pl.DataFrame) -> dict[str, int]:
    """Bars with flow, by state; without regimes all are calm."""
    stress = used.filter(pl.col("flow") != 0)["stress"]
    under = int(stress.sum())
    return {"calm": stress.len() - under, "stress": under}


def _design(used: pl.DataFrame, terms: Sequence[str]) -> pl.DataFrame:
    flow = pl.col("flow")
    columns = {
        "flow": flow,
        "stress_flow": flow * pl.col("stress"),
        "sqrt_flow": flow.sign() * flow.abs().sqrt(),
        "ofi": pl.col("ofi"),
    }
    return used.select(pl.lit(1.0).alias("const"), *(columns[term].alias(term) for term in terms))


def _regress(used: pl.DataFrame, terms: Sequence[str], lags: int) -> Any:
    from statsmodels.regression.linear_model import OLS  # seconds to import, and few who import toxmid regress

    model = OLS(used["move"].to_pandas(), _design(used, terms).to_pandas())
    return model.fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": True})


def _by_state(used: pl.DataFrame, lags: int, everywhere: Slope) -> dict[str, Any]:
    """Slopes in calm and under stress, and their ratio."""
    terms = ("flow", "stress_flow")
    if not _is_identified(used, terms):
        return {"calm": everywhere, "stress": None, "ratio": float("nan"), "ratio_bse": float("nan")}
    fit = _regress(used, terms, lags)
    calm, stress = np.array([0.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0])
    ratio, error = _ratio(fit, stress, calm)
    return {
        "calm": _slope(fit, calm, used.filter(~pl.col("stress"))),
        "stress": _slope(fit, stress, used.filter("stress")),
        "ratio": ratio,
        "ratio_bse": error,
    }


def _slope(fit: Any, weights: _Floats, bars: pl.DataFrame) -> Slope:
    """A weighted sum of coefficients, with its error, and in terms of money at the mean mid of `bars`."""
    bps = float(weights @ fit.params.to_numpy())
    bse = float(np.sqrt(weights @ fit.cov_params().to_numpy() @ weights))
    price = float(bars["mid"].to_numpy().mean())
    return Slope(bps=bps, bse=bse, bps_per_10m=bps * _TEN_MILLION / price)


def _ratio(fit: Any, above: _Floats, below: _Floats) -> tuple[float, float]:
    """Ratio of two weighted sums of coefficients and its standard error by the delta method; NaN over zero."""
    params = fit.params.to_numpy()
    numerator, denominator = float(above @ params), float(below @ params)
    if denominator == 0:
        return float("nan"), float("nan")
    gradient = (above - numerator / denominator * below) / denominator
    return numerator / denominator, float(np.sqrt(gradient @ fit.cov_params().to_numpy() @ gradient))


def _amihud(used: pl.DataFrame) -> float:
    """Absolute bps per million of quote currency; NaN where nothing was traded."""
    turnover = float(used["turnover"].sum())
    return float(used["move"].abs().sum()) / turnover * 1e6 if turnover > 0 else float("nan")
