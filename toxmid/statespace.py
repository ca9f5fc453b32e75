"""The maker's mid as a state: a random walk that flow moves for good, under two pressures that flow moves for a while.

A named method beside the default estimator. It is the design of Hendershott and Menkveld (2014,
doi:10.1016/j.jfineco.2014.08.001) at the pace of one bar, with taker flow in place of the maker's inventory: what lasts
is her mid, what dies away is price pressure. Its parameters are learnt, by maximum likelihood, from quoted mids alone;
no later price enters the filter.

The model
---------
All prices are bps of log price, ``x`` is signed taker flow of a bar in units of depth (L: liquidations, O: other),
``ex`` the spread above its calm level and ``a = ex / 2`` times the imbalance of the flow::

    m_t   = m_{t-1} + lambda_L xL_t + lambda_O xO_t + N(0, s_m^2 + (g ex_t)^2)
    u_j,t = rho_j u_j,t-1 + k_jL xL_t + k_jO xO_t + N(0, (c_j ex_t)^2),        j = fast, slow;  rho_j = exp(-dt / tau_j)
    mid_t = m_t + u_fast,t + u_slow,t + phi a_t + N(0, r^2)

Impacts are positive, ``tau_fast`` lies in 1..20 s and ``tau_slow`` in 20..300 s, ``phi`` in -1..1, and ``s_m`` has a
floor: without such walls the likelihood runs off to parameters of no meaning.

Where it fails
--------------
What makes a price pressure and what makes it news looks alike until it has reversed, and tapes on which the parameters
are learnt rarely hold many reversals. In simulated markets it is about a quarter nearer to the hidden mid than the
quoted mid is, given quotes and every liquidation; from trades alone, or where makers pull both sides, it is farther.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.optimize import minimize
from scipy.special import expit, logit

from toxmid import _filter
from toxmid.errors import DataError, NotEnoughDataError, ParameterError
from toxmid.schema import TIME
from toxmid.tapes import as_frame

__all__ = ["PARAMETERS", "StateSpace", "StateSpaceResult"]

Depth = Literal["touch", "volume"]
PARAMETERS: Final = (
    "lambda_liq", "lambda_other", "s_m", "g", "tau_fast", "tau_slow", "k_fast_liq", "k_fast_other", "k_slow_liq",
    "k_slow_other", "c_fast", "c_slow", "phi", "r",
)  # fmt: skip
UNITS: Final = {
    "s_m": "bps per root of a second", "tau_fast": "s", "tau_slow": "s", "phi": "share of the excess half spread",
    "r": "bps", "g": "bps per bps and root of a second", "c_fast": "bps per bps", "c_slow": "bps per bps",
}  # fmt: skip
_FLOW_UNIT: Final = {"touch": "bps per size of the touch", "volume": "bps per second of normal volume"}
_COLUMNS: Final = (
    "mid", "spread_bps", "imbalance", "buy_volume", "sell_volume", "liq_buy_volume", "liq_sell_volume",
)  # fmt: skip
_BPS: Final = 1e4
_SECOND: Final = 1_000_000_000
_MINUTE: Final = 60 * _SECOND
_HISTORY: Final = 360  # minutes of a calm level
_LAG: Final = 10  # youngest minutes left out of it
_TOUCH_HALF_LIFE: Final = 5.0  # s
_RANGES: Final = {"tau_fast": (1.0, 20.0), "tau_slow": (20.0, 300.0)}  # s
_FLOOR: Final = 0.01  # bps per root of a second, below which the mid would stand still
_WALLS: Final = (-12.0, 7.0)  # of logarithms
_LOGIT_WALL: Final = 6.0
_FEWEST_BARS: Final = 200
# The likelihood has several summits: a short climb from each of these, then on from the highest. Where they start:
# tau_fast and tau_slow in s, c_fast and c_slow.
_FIRST_CLIMB: Final = 25  # iterations
_STARTS: Final = ((10.0, 40.0, 0.1, 0.15), (4.0, 80.0, 0.2, 0.02), (2.0, 30.0, 0.3, 0.1))

_Floats = npt.NDArray[np.float64]


# --- what the bars say, causally -------------------------------------------------------------------------------------


def bars_of(source: Any, columns: Sequence[str] = _COLUMNS) -> pl.DataFrame:
    """Bars of a replay, or bars as they are, checked: the columns asked for, evenly spaced times.

    Raises
    ------
    DataError
        A column is missing, there are no bars, or times are not evenly spaced.
    """
    bars = as_frame(source.bars if hasattr(source, "bars") and not hasattr(source, "columns") else source)
    missing = [name for name in ("ts", *columns) if name not in bars.columns]
    if missing:
        raise DataError("bars lack a column", column=missing[0], expected=", ".join(("ts", *columns)))
    if bars.is_empty():
        raise DataError("there are no bars")
    ts = bars["ts"].dt.cast_time_unit("ns") if isinstance(bars.schema["ts"], pl.Datetime) else bars["ts"]
    bars = bars.with_columns(ts.cast(pl.Int64).cast(TIME))
    steps = np.diff(bars["ts"].to_physical().to_numpy())
    if len(steps) and (steps[0] <= 0 or (steps != steps[0]).any()):
        row = int(np.argmax((steps != steps[0]) | (steps <= 0))) + 1
        raise DataError("bars are not evenly spaced in time", row=row, column="ts")
    return bars


def bar_seconds(bars: pl.DataFrame) -> float:
    """Length of the bars, seconds; one second where there is only one bar."""
    return float((bars["ts"][1] - bars["ts"][0]).total_seconds()) if bars.height > 1 else 1.0


def common_seconds(tapes: Sequence[pl.DataFrame]) -> float:
    """Length of the bars of several tapes, seconds; it must be the same."""
    lengths = {bar_seconds(tape) for tape in tapes}
    if len(lengths) != 1:
        raise DataError("tapes with bars of different lengths", found=sorted(lengths), expected="one length")
    return lengths.pop()


def calm_level(bars: pl.DataFrame, values: pl.Expr) -> pl.Series:
    """Trailing median of the minute means of `values`, per bar: six hours, without the youngest ten minutes.

    While history is short half of it is left out instead. Null in the first minute.
    """
    value = bars.select(values.cast(pl.Float64)).to_series().fill_null(math.nan).to_numpy()
    known = np.isfinite(value)
    minute = (bars["ts"].to_physical().to_numpy() - 1) // _MINUTE
    first = np.flatnonzero(np.diff(minute, prepend=minute[0] - 1))
    # Sums of one minute each, in their own order: a tape cut short gives the same bits.
    count = np.add.reduceat(known.astype(np.int64), first)
    total = np.add.reduceat(np.where(known, value, 0.0), first)
    means = pl.Series(np.where(count > 0, total / np.maximum(count, 1), math.nan)).fill_nan(None)
    medians = means.rolling_median(_HISTORY, min_samples=1).forward_fill().fill_null(math.nan).to_numpy()
    age = np.arange(len(first)) - 1  # the last minute that was over
    levels = np.where(age >= 0, medians[np.maximum(age - np.minimum(_LAG, age // 2), 0)], math.nan)
    return pl.Series(levels[np.cumsum(np.diff(minute, prepend=minute[0]) > 0)]).fill_nan(None)


def depth(bars: pl.DataFrame, kind: Depth) -> pl.Series:
    """The volume that flow is measured in, per bar: what stands at the touch, or what trades in a normal second."""
    if kind == "touch":
        sizes = (pl.col("bid_size") + pl.col("ask_size")) / 2.0
        half_life = _TOUCH_HALF_LIFE / bar_seconds(bars)
        return bars.select(sizes.ewm_mean(half_life=half_life).forward_fill()).to_series()
    volume = (pl.col("buy_volume") + pl.col("sell_volume")) / bar_seconds(bars)
    return calm_level(bars, volume)


def signed_flow(bars: pl.DataFrame, kind: Depth) -> tuple[_Floats, _Floats]:
    """Signed taker flow of each bar in units of `depth`: of liquidations, and other. Zero while no depth is known."""
    forced = pl.col("liq_buy_volume").fill_null(0.0) - pl.col("liq_sell_volume").fill_null(0.0)
    other = pl.col("buy_volume") - pl.col("sell_volume") - forced
    unit = depth(bars, kind)
    known = (unit > 0).fill_null(False)
    flows = bars.select(
        pl.when(known).then(flow.fill_null(0.0) / unit).otherwise(0.0).alias(name)
        for name, flow in (("forced", forced), ("other", other))
    )
    return flows["forced"].to_numpy(), flows["other"].to_numpy()


def _has_touch(bars: pl.DataFrame) -> bool:
    """Whether sizes at the touch are known in most bars."""
    return "bid_size" in bars.columns and 2 * bars["bid_size"].count() > bars.height


@dataclass(frozen=True, eq=False)
class _Tape:
    """One tape as the filter sees it."""

    y: _Floats  # bps
    forced: _Floats
    other: _Floats
    excess: _Floats  # bps
    lean: _Floats  # bps

    @classmethod
    def of(cls, bars: pl.DataFrame, kind: Depth) -> _Tape:
        forced, other = signed_flow(bars, kind)
        excess = bars["spread_bps"].cast(pl.Float64) - calm_level(bars, pl.col("spread_bps"))
        wide = np.maximum(excess.fill_nan(None).fill_null(0.0).to_numpy(), 0.0)
        imbalance = bars["imbalance"].fill_nan(None).fill_null(0.0).to_numpy()
        log_mid = bars["mid"].cast(pl.Float64).log().to_numpy() * _BPS
        return cls(*map(np.ascontiguousarray, (log_mid, forced, other, wide, 0.5 * wide * imbalance)))

    def filter(self, theta: _Floats) -> tuple[_Floats, _Floats, _Floats]:
        """Mean and variance of the mid, and log likelihood, per bar."""
        mean, variance, loglike = (np.empty_like(self.y) for _ in range(3))
        _filter.run(self.y, self.forced, self.other, self.excess, self.lean, theta, mean, variance, loglike)
        return mean, variance, loglike


# --- parameters and their unbounded forms ----------------------------------------------------------------------------


def _free(values: dict[str, float]) -> _Floats:
    """Parameters as the optimiser moves them."""
    return np.array([_free_one(name, values[name]) for name in PARAMETERS])


def _free_one(name: str, value: float) -> float:
    if name in _RANGES:
        low, high = _RANGES[name]
        return float(np.clip(logit(math.log(value / low) / math.log(high / low)), -_LOGIT_WALL, _LOGIT_WALL))
    if name == "phi":
        return math.atanh(value)
    return float(np.clip(math.log(max(value - (_FLOOR if name == "s_m" else 0.0), 1e-300)), *_WALLS))


def _natural(free: _Floats) -> dict[str, float]:
    """The inverse of `_free`."""
    return {name: _natural_one(name, float(z)) for name, z in zip(PARAMETERS, free, strict=True)}


def _natural_one(name: str, z: float) -> float:
    if name in _RANGES:
        low, high = _RANGES[name]
        return low * math.exp(math.log(high / low) * float(expit(z)))
    if name == "phi":
        return math.tanh(z)
    return math.exp(z) + (_FLOOR if name == "s_m" else 0.0)


def _theta(values: dict[str, float], seconds: float) -> _Floats:
    """Parameters as the filter takes them: decay and noise per bar instead of per second."""
    per_bar = dict(values)
    for name in ("tau_fast", "tau_slow"):
        per_bar[name] = math.exp(-seconds / values[name])
    for name in ("s_m", "g", "c_fast", "c_slow"):
        per_bar[name] = values[name] * math.sqrt(seconds)
    return np.array([per_bar[name] for name in PARAMETERS])


# --- the method ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StateSpace:
    """Maker's mid by a state space with constrained maximum likelihood; the equations stand at the top of the module.

    Parameters
    ----------
    depth : {"touch", "volume"}, optional
        Unit of the flow: the size that stands at the touch (5 s memory), or the volume of a normal second. None: the
        touch where most bars of the training tapes know its sizes.
    iterations : int
        Most iterations of the optimiser.

    Raises
    ------
    ParameterError
        An unknown unit of flow, or no iterations.

    Examples
    --------
    >>> import toxmid
    >>> tapes = [toxmid.simulate("flush", seed=seed, duration=900.0) for seed in (1, 2)]
    >>> training, other = (toxmid.replay(trades=tape.trades, quotes=tape.quotes) for tape in tapes)
    >>> fitted = StateSpace(iterations=20).fit(training)
    >>> fitted.filter(other).columns
    ['ts', 'implied_mid', 'variance']
    """

    depth: Depth | None = None
    iterations: int = 200

    def __post_init__(self) -> None:
        if self.depth is not None and self.depth not in get_args(Depth):
            raise ParameterError("no such unit of flow", column="depth", found=self.depth, expected="touch or volume")
        if self.iterations < 1:
            raise ParameterError("out of range", column="iterations", found=self.iterations, expected="1 or more")

    def fit(self, bars: Any) -> StateSpaceResult:
        """Learn the parameters from one tape or several.

        Parameters
        ----------
        bars : Replay, frame, or list of them
            Tapes of one market with bars of one length. They should hold episodes of stress: calm tapes say nothing
            about pressure.

        Returns
        -------
        StateSpaceResult

        Raises
        ------
        DataError
            A column is missing, or the lengths of bars differ.
        NotEnoughDataError
            Fewer than 200 bars with a mid, or a mid that never moves.
        """
        tapes = [bars_of(tape) for tape in (bars if isinstance(bars, list | tuple) else [bars])]
        seconds = common_seconds(tapes)
        kind: Depth = self.depth or ("touch" if all(map(_has_touch, tapes)) else "volume")
        arrays = [_Tape.of(tape, kind) for tape in tapes]
        observations = sum(int(np.isfinite(tape.y).sum()) for tape in arrays)
        if observations < _FEWEST_BARS:
            raise NotEnoughDataError("too few bars with a mid", found=observations, expected=f"{_FEWEST_BARS} or more")
        def cost(free: _Floats) -> float:
            theta = _theta(_natural(free), seconds)
            return -sum(float(tape.filter(theta)[2].sum()) for tape in arrays) / observations

        bounds = [_walls(name) for name in PARAMETERS]

        def climb(free: _Floats, iterations: int) -> Any:
            options = {"maxiter": iterations, "maxfun": 100_000, "eps": 1e-6, "ftol": 1e-9}
            return minimize(cost, free, method="L-BFGS-B", bounds=bounds, options=options)

        first = [climb(_free(start), min(_FIRST_CLIMB, self.iterations)) for start in _starts(arrays, seconds)]
        best = climb(min(first, key=lambda summit: float(summit.fun)).x, self.iterations)
        return StateSpaceResult(
            params=_natural(best.x),
            bse=_standard_errors(arrays, best.x, seconds),
            depth=kind,
            bar_seconds=seconds,
            loglike=-float(best.fun) * observations,
            observations=observations,
            tapes=len(arrays),
            converged=bool(best.success),
        )


@dataclass(frozen=True)
class StateSpaceResult:
    """Fitted parameters, and the filter that uses them.

    Attributes
    ----------
    params : dict
        Parameters by name; impacts are in bps per unit of flow (`depth`).
    bse : dict
        Standard errors from the outer product of the scores; NaN for a parameter at its wall, or one that the scores
        do not tell from others. They take bars as independent given the model: too small where the model is wrong.
    depth : {"touch", "volume"}
        Unit of the flow.
    bar_seconds : float
        Length of the bars that it was fitted on, and filters.
    loglike : float
    observations, tapes : int
    converged : bool
        Whether the optimiser says so. If not, give `StateSpace` more iterations.
    """

    params: dict[str, float]
    bse: dict[str, float]
    depth: Depth
    bar_seconds: float
    loglike: float
    observations: int
    tapes: int
    converged: bool

    def filter(self, bars: Any) -> pl.DataFrame:
        """The mid of every bar, given what had arrived by its end.

        Parameters
        ----------
        bars : Replay or frame
            Bars as long as those of the fit.

        Returns
        -------
        polars.DataFrame
            ``ts``; ``implied_mid`` in quote currency; ``variance`` in bps squared, as the model believes it (the truth
            lies outside its intervals far more often than they say: three to four times the standard deviation is
            nearer to it). Null before the first mid.

        Raises
        ------
        DataError
            A column is missing, or the bars have another length.
        """
        frame = bars_of(bars)
        if not math.isclose(bar_seconds(frame), self.bar_seconds):
            found, expected = bar_seconds(frame), self.bar_seconds
            raise DataError("bars of another length than those of the fit, seconds", found=found, expected=expected)
        if self.depth == "touch" and "bid_size" not in frame.columns:
            raise DataError("the fit measures flow in sizes at the touch", column="bid_size", expected="sizes in bars")
        mean, variance, _ = _Tape.of(frame, self.depth).filter(_theta(self.params, self.bar_seconds))
        return pl.DataFrame(
            {"ts": frame["ts"], "implied_mid": np.exp(mean / _BPS), "variance": variance}
        ).with_columns(pl.col("implied_mid", "variance").fill_nan(None))

    def summary(self) -> str:
        """A page of text: the fit and every parameter with its unit."""
        head = (
            f"State space of the maker's mid: {self.observations} bars of {self.bar_seconds:g} s "
            f"on {self.tapes} tape(s), log likelihood {self.loglike:.1f}{'' if self.converged else ', NOT converged'}"
        )
        lines = [
            f"  {name:<14}{value:>12.4g}  s.e. {self.bse[name]:>10.3g}  {UNITS.get(name, _FLOW_UNIT[self.depth])}"
            for name, value in self.params.items()
        ]
        return "\n".join([head, *lines])


def _starts(tapes: Sequence[_Tape], seconds: float) -> list[dict[str, float]]:
    """Where the optimiser starts: the scale of moves, and of the flow that goes with them."""
    moves = np.concatenate([np.diff(tape.y) for tape in tapes])
    moves = moves[np.isfinite(moves)]
    scale = float(np.median(np.abs(moves[moves != 0]))) if (moves != 0).any() else 0.0
    if scale == 0.0:
        raise NotEnoughDataError("the mid never moves", column="mid")
    flows = np.concatenate([np.abs(tape.forced + tape.other) for tape in tapes])
    flow = float(flows[flows > 0].mean()) if (flows > 0).any() else 1.0
    impacts = dict.fromkeys([name for name in PARAMETERS if name.startswith(("lambda_", "k_"))], 0.3 * scale / flow)
    shared = {**impacts, "s_m": scale / math.sqrt(seconds), "g": 0.01, "phi": 0.3, "r": 0.3 * scale}
    return [
        {**shared, "tau_fast": fast, "tau_slow": slow, "c_fast": c_fast, "c_slow": c_slow}
        for fast, slow, c_fast, c_slow in _STARTS
    ]


def _standard_errors(tapes: Sequence[_Tape], free: _Floats, seconds: float) -> dict[str, float]:
    """Outer product of the scores, by central differences; delta method back to the parameters."""
    step = 1e-4

    def scores(z: _Floats) -> _Floats:
        theta = _theta(_natural(z), seconds)
        return np.concatenate([tape.filter(theta)[2] for tape in tapes])

    shifts = step * np.eye(len(free))
    score = np.stack([(scores(free + shift) - scores(free - shift)) / (2 * step) for shift in shifts], axis=1)
    inside = np.array([not _at_wall(name, float(z)) for name, z in zip(PARAMETERS, free, strict=True)])
    covariance = np.full(len(free), math.nan)
    covariance[inside] = np.diag(np.linalg.pinv(score[:, inside].T @ score[:, inside]))
    named = list(zip(PARAMETERS, map(float, free), strict=True))
    slope = np.array([(_natural_one(n, z + step) - _natural_one(n, z - step)) / (2 * step) for n, z in named])
    # Where the scores hardly tell parameters apart, rounding can leave a variance below zero: that is no error either.
    errors = np.abs(slope) * np.sqrt(np.where(covariance > 0, covariance, math.nan))
    return dict(zip(PARAMETERS, map(float, errors), strict=True))


def _walls(name: str) -> tuple[float, float]:
    """Limits of a parameter as the optimiser moves it."""
    if name in _RANGES:
        return -_LOGIT_WALL, _LOGIT_WALL
    return (-4.0, 4.0) if name == "phi" else _WALLS


def _at_wall(name: str, z: float) -> bool:
    low, high = _walls(name)
    return z < low + 0.5 or z > high - 0.5
