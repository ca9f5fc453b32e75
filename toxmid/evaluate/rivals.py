"""Every estimator of the maker's mid that the tables show, side by side: causal, from bars, one pass each.

What toxmid computes (``implied_mid`` and the rungs below it), the state space, and rivals from the literature or from
common sense. A rival that must learn something learns it on other bars (`Rivals.fit`); none of them sees a hidden mid.

===================  ==================================================================================================
name                 estimate of the mid
===================  ==================================================================================================
``mid``              the quoted mid (last taker sell and buy where there are no quotes)
``implied_mid``      the default estimator
``toxic_mean``       mean price of the toxic flow, memory as the estimator sets it
``debiased_mean``    the same, without half spread and transient impact
``state_space``      `toxmid.statespace.StateSpace`
``weighted_mid``     ``(bid ask_size + ask bid_size) / (bid_size + ask_size)``
``micro_price``      Stoikov (2018, doi:10.1080/14697688.2018.1489139): 5 imbalances, 4 spreads, calm bars
``ema_h``            mean of the log mid, half-life h s
``vwap_w``           volume-weighted mean of last prices per bar over w s
``toxic_h``          mean of last prices per bar by toxic volume, half-life h s
``mrr``              ``p - phi x`` of Madhavan, Richardson, Roomans (1997, doi:10.1093/rfs/10.4.1035), x the side of the
                     flow of the bar
``glosten_milgrom``  ``P(buy) ask + P(sell) bid``: zero-profit quotes turned round (1985,
                     doi:10.1016/0304-405X(85)90044-3); P is the share of each side in the flow of the last 30 s
``mid_before``       the mid before the episode: held while the regime is stress
``propagator``       mid less the decaying impact of all flow over 3, 15 and 60 s, coefficients >= 0
``local_level``      random walk plus noise, steady-state filter of last prices (Muth 1960,
                     doi:10.1080/01621459.1960.10482064)
``reversal``         ``mid - c (mid - ema_60)``: what any reversal would give, without a thought about flow
===================  ==================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.optimize import nnls

from toxmid.errors import NotEnoughDataError, ParameterError
from toxmid.microprice import MicroPrice
from toxmid.statespace import Depth, StateSpace, StateSpaceResult, bar_seconds, bars_of, signed_flow

__all__ = ["ESTIMATORS", "RIVALS", "MicroPrice", "Rivals"]

EMAS: Final = (15, 60, 300, 1800)
VWAPS: Final = (60, 600, 1800)
TOXIC: Final = (60, 600, 1800)
ESTIMATORS: Final = ("implied_mid", "toxic_mean", "debiased_mean", "state_space")
RIVALS: Final = (
    "mid", "weighted_mid", "micro_price", *(f"ema_{h}" for h in EMAS), *(f"vwap_{w}" for w in VWAPS),
    *(f"toxic_{h}" for h in TOXIC), "mrr", "glosten_milgrom", "mid_before", "propagator", "local_level", "reversal",
)  # fmt: skip
COLUMNS: Final = (
    "bid", "ask", "bid_size", "ask_size", "mid", "price", "spread_bps", "trades", "buy_volume", "sell_volume",
    "unknown_volume", "liq_buy_volume", "liq_sell_volume", "imbalance", "toxic_mean", "debiased_mean", "implied_mid",
    "implied_lo", "implied_hi", "regime",
)  # fmt: skip

_BPS: Final = 1e4
_PROPAGATOR: Final = (3.0, 15.0, 60.0)  # s
_LATER: Final = (270, 330)  # s: the mean mid over it is what propagator and reversal learn to foresee
_FEWEST_MOVES: Final = 100

_Floats = npt.NDArray[np.float64]


def checked(bars: Any) -> pl.DataFrame:
    """Bars with every column that estimators and rivals need."""
    return bars_of(bars, COLUMNS)


# --- all of them -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Rivals:
    """What the rivals have learnt; `estimates` then gives every estimator's mid for any bars.

    Attributes
    ----------
    micro : MicroPrice or None
        None where the bars of the fit know no sizes.
    mrr_phi : float
        Transitory part of the response of prices to the side of the flow, bps.
    level_gain : float
        Share of a surprise that the local level believes, 0..1.
    propagator : tuple of float
        Decaying impact over 3, 15 and 60 s, bps per unit of flow.
    reversal : float
        Share of the distance from its 60 s mean that the mid is expected to lose.
    depth : {"touch", "volume"}
        Unit of flow of the propagator.
    state_space : StateSpaceResult or None
        None where it was not wanted.
    """

    micro: MicroPrice | None
    mrr_phi: float
    level_gain: float
    propagator: tuple[float, ...]
    reversal: float
    depth: Depth
    state_space: StateSpaceResult | None

    @classmethod
    def fit(cls, calm: Sequence[Any], stress: Sequence[Any] = (), *, state_space: bool = True) -> Rivals:
        """Learn what there is to learn, from other bars than those that will be judged.

        Parameters
        ----------
        calm : sequence of bars
            Calm tapes: micro-price, MRR and local level learn from these alone.
        stress : sequence of bars
            Tapes with episodes; propagator, reversal and state space learn from both.
        state_space : bool
            Whether to fit the state space, which takes by far the longest.

        Returns
        -------
        Rivals

        Raises
        ------
        ParameterError
            No calm bars.
        NotEnoughDataError
            Too few bars for what has to be learnt.
        """
        if not calm:
            raise ParameterError("rivals learn from calm bars", column="calm", found=0, expected="1 or more tapes")
        quiet = [checked(bars) for bars in calm]
        tapes = [*quiet, *(checked(bars) for bars in stress)]
        sized = all(2 * tape["bid_size"].count() > tape.height for tape in tapes)
        depth: Depth = "touch" if sized else "volume"
        later = np.concatenate([_later(tape) for tape in tapes])
        pressure = np.concatenate([_pressure(tape, depth) for tape in tapes])
        away = np.concatenate([_away(tape) for tape in tapes])[:, None]
        return cls(
            micro=MicroPrice.fit(quiet) if sized else None,
            mrr_phi=_mrr_phi(quiet),
            level_gain=_level_gain(quiet),
            propagator=tuple(_not_negative(pressure, -later)),
            reversal=_not_negative(away, -later)[0],
            depth=depth,
            state_space=StateSpace(depth=depth).fit(tapes) if state_space else None,
        )

    def estimates(self, bars: Any) -> pl.DataFrame:
        """Every estimator's mid, per bar.

        Parameters
        ----------
        bars : Replay or frame

        Returns
        -------
        polars.DataFrame
            ``ts`` and a column per name in `ESTIMATORS` and `RIVALS`, quote currency; null where an estimator says
            nothing. A frame cut at T gives the same rows up to T.
        """
        frame = checked(bars)
        seconds = bar_seconds(frame)
        unknown = pl.lit(None, dtype=pl.Float64)
        plain = frame.lazy().select(
            "ts", "mid", "implied_mid", "toxic_mean", "debiased_mean",
            weighted_mid=_weighted_mid(),
            **{f"ema_{h}": _ema(h / seconds) for h in EMAS},
            **{f"vwap_{w}": _vwap(max(round(w / seconds), 1)) for w in VWAPS},
            **{f"toxic_{h}": _toxic(h / seconds) for h in TOXIC},
            mrr=_carried(_scaled(pl.col("price"), -self.mrr_phi * _flow().sign())),
            glosten_milgrom=pl.col("mid") + 0.5 * (pl.col("ask") - pl.col("bid")) * pl.col("imbalance"),
            mid_before=pl.when(~_in_stress()).then("mid").forward_fill(),
            local_level=_steady_state(self.level_gain),
            reversal=_scaled(pl.col("mid"), -self.reversal * _distance(_ema(60.0 / seconds))),
        ).collect()  # fmt: skip
        pressure = _BPS * np.log(frame["mid"].to_numpy()) - _pressure(frame, self.depth) @ np.array(self.propagator)
        filtered = None if self.state_space is None else self.state_space.filter(frame)["implied_mid"]
        return plain.with_columns(
            micro_price=unknown if self.micro is None else self.micro.predict(frame),
            propagator=pl.Series(np.exp(pressure / _BPS)).fill_nan(None),
            state_space=unknown if filtered is None else filtered,
        ).select("ts", *ESTIMATORS, *RIVALS)


# --- expressions: quote currency in and out, bps between -------------------------------------------------------------


def _scaled(price: pl.Expr, bps: pl.Expr) -> pl.Expr:
    return price * (bps / _BPS).exp()


def _distance(other: pl.Expr) -> pl.Expr:
    """How far the mid is above a price, bps."""
    return _BPS * (pl.col("mid").log() - other.log())


def _flow() -> pl.Expr:
    """Net taker flow of the bar; null where nothing traded."""
    return pl.when(pl.col("trades") > 0).then(pl.col("buy_volume") - pl.col("sell_volume"))


def _volume() -> pl.Expr:
    return pl.col("buy_volume") + pl.col("sell_volume") + pl.col("unknown_volume")


def _in_stress() -> pl.Expr:
    return pl.col("regime").str.starts_with("stress").fill_null(False)


def _carried(price: pl.Expr) -> pl.Expr:
    return price.forward_fill()


def _weighted_mid() -> pl.Expr:
    sizes = pl.col("bid_size") + pl.col("ask_size")
    weighted = pl.col("bid") * pl.col("ask_size") + pl.col("ask") * pl.col("bid_size")
    return pl.when(sizes > 0).then(weighted / sizes)


def _ema(half_life: float) -> pl.Expr:
    """Mean of the log mid since the beginning, weights halved every `half_life` bars."""
    return pl.col("mid").log().ewm_mean(half_life=half_life, ignore_nulls=False).forward_fill().exp()


def _vwap(bars: int) -> pl.Expr:
    def over_window(value: pl.Expr) -> pl.Expr:
        total = value.fill_null(0.0).cum_sum()
        return total - total.shift(bars, fill_value=0.0)

    # Differences of sums leave dust where everything has left the window; counts do not.
    traded = over_window(pl.col("trades").cast(pl.Float64)) > 0
    return pl.when(traded).then(over_window(_volume() * pl.col("price")) / over_window(_volume()))


def _toxic(half_life: float) -> pl.Expr:
    forced = (pl.col("liq_buy_volume") + pl.col("liq_sell_volume")).fill_null(0.0)
    weighted = (forced * pl.col("price")).fill_null(0.0).ewm_mean(half_life=half_life, adjust=False)
    weight = forced.ewm_mean(half_life=half_life, adjust=False)
    return pl.when(weight > 1e-12 * forced.cum_max()).then(weighted / weight)


def _steady_state(gain: float) -> pl.Expr:
    traded = pl.when(pl.col("trades") > 0).then(pl.col("price").log())
    return traded.ewm_mean(alpha=gain, adjust=False, ignore_nulls=True).forward_fill().exp()


# --- what is learnt --------------------------------------------------------------------------------------------------


def _pressure(bars: pl.DataFrame, depth: Depth) -> _Floats:
    """Decaying sums of the signed flow, a column per memory of the propagator."""
    forced, other = signed_flow(bars, depth)
    seconds = bar_seconds(bars)
    flow = pl.Series(forced + other)
    # An exponential mean that starts at nothing, times what it divides by, is the decaying sum.
    gains = [1.0 - math.exp(-seconds / tau) for tau in _PROPAGATOR]
    padded = pl.concat([pl.Series([0.0]), flow])
    sums = [padded.ewm_mean(alpha=gain, adjust=False)[1:].to_numpy() / gain for gain in gains]
    return np.stack(sums, axis=1)


def _away(bars: pl.DataFrame) -> _Floats:
    distance = bars.select(_distance(_ema(60.0 / bar_seconds(bars)))).to_series()
    return np.asarray(distance.fill_null(math.nan).to_numpy(), dtype=np.float64)


def _later(bars: pl.DataFrame) -> _Floats:
    """Mean log mid around five minutes later less the log mid, bps; NaN where the tape ends before."""
    first, last = (max(round(seconds / bar_seconds(bars)), 1) for seconds in _LATER)
    log_mid = pl.col("mid").log()
    mean = log_mid.rolling_mean(last - first + 1).shift(-last)
    later = bars.select(_BPS * (mean - log_mid)).to_series()
    return np.asarray(later.fill_null(math.nan).to_numpy(), dtype=np.float64)


def _not_negative(x: _Floats, y: _Floats) -> list[float]:
    """Least squares with coefficients >= 0, so that each can only take off what its name says."""
    known = np.isfinite(y) & np.isfinite(x).all(axis=1)
    if known.sum() < _FEWEST_MOVES:
        raise NotEnoughDataError(
            "too few bars with a mid five minutes later", found=int(known.sum()), expected=f"{_FEWEST_MOVES} or more"
        )
    q, r = np.linalg.qr(x[known])
    coefficients, _ = nnls(r, q.T @ y[known])
    return [float(value) for value in coefficients]


def _traded_moves(bars: pl.DataFrame) -> pl.DataFrame:
    """Moves of the last price between bars that traded, bps, with the side of the flow in both."""
    return (
        bars.lazy()
        .filter(pl.col("trades") > 0)
        .select(move=_BPS * pl.col("price").log().diff(), side=_flow().sign(), before=_flow().sign().shift(1))
        .drop_nulls()
        .collect()
    )


def _mrr_phi(tapes: Sequence[pl.DataFrame]) -> float:
    """From ``dp = (phi + theta) x - (phi + rho theta) x_before + u``, rho being the autocorrelation of the side."""
    moves = pl.concat([_traded_moves(tape) for tape in tapes])
    x, before, dp = (moves[name].to_numpy() for name in ("side", "before", "move"))
    if len(dp) < _FEWEST_MOVES or not x.any():
        raise NotEnoughDataError("too few bars with signed trades", found=len(dp), expected=f"{_FEWEST_MOVES} or more")
    (now, then), *_ = np.linalg.lstsq(np.stack([x, before], axis=1), dp)
    rho = float(x @ before / (x @ x))
    if rho >= 1.0:
        raise NotEnoughDataError("every bar trades on one side", column="side")
    return float(now - (now + then) / (1.0 - rho))


def _level_gain(tapes: Sequence[pl.DataFrame]) -> float:
    """Steady-state gain of a random walk plus noise, from the first autocorrelation of its moves."""
    moves = [_traded_moves(tape)["move"].to_numpy() for tape in tapes]
    squares = reduce(lambda total, move: total + float(move @ move), moves, 0.0)
    if sum(map(len, moves)) < _FEWEST_MOVES or squares == 0.0:
        raise NotEnoughDataError("too few bars with trades, or a price that never moves", column="price")
    rho = sum(float(move[1:] @ move[:-1]) for move in moves) / squares
    if rho >= 0.0:  # no noise to take off
        return 1.0
    ratio = max(-1.0 / rho - 2.0, 0.0)  # variance of the walk over that of the noise
    return min(max((math.sqrt(ratio * ratio + 4.0 * ratio) - ratio) / 2.0, 1e-3), 1.0)
