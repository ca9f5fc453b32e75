"""The micro-price: where the mid is expected to settle, given the imbalance and the spread of the moment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.durations import nanoseconds
from toxmid.errors import NotEnoughDataError
from toxmid.tapes import in_order

__all__ = ["MicroPrice", "touches"]

_BPS: Final = 1e4
_IMBALANCES: Final = 5
_SPREADS: Final = 4
_FEWEST_MOVES: Final = 100

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MicroPrice:
    """Expected move of the mid, given imbalance and spread of the moment, until it has forgotten them.

    Fit it on calm quotes: in stress imbalances mean something else, and spreads fall outside its states. With Q the
    chance to stay at a mid and come to another state, T that to move and come to another state, and r the mean move of
    one step, ``G1 = (I - Q)^-1 r``, ``B = (I - Q)^-1 T`` and ``G = G1 + B G1 + B^2 G1 + ...``. Counts are
    those of the bars and of their mirror image, without which the sum need not end.

    Attributes
    ----------
    edges : numpy.ndarray, (3,)
        Limits between the spread states: quartiles of the bars of the fit, bps.
    adjustment : numpy.ndarray, (4, 5)
        Expected move of the mid by spread and imbalance of sizes, bps.

    References
    ----------
    Stoikov, S. (2018). The micro-price: a high-frequency estimator of future prices. Quantitative Finance 18.
    doi:10.1080/14697688.2018.1489139

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> heavy = rng.random(5000) < 0.5           # a heavy bid: the next move is up
    >>> move = np.where(heavy, 0.01, -0.01) * (rng.random(5000) < 0.2)
    >>> mid = 100.0 + np.append(0.0, np.cumsum(move)[:-1])
    >>> quotes = pl.DataFrame({"ts": 1_760_054_400_000_000_000 + 10**9 * np.arange(5000), "bid": mid - 0.01,
    ...     "bid_size": np.where(heavy, 9.0, 1.0), "ask": mid + 0.01, "ask_size": np.where(heavy, 1.0, 9.0)})
    >>> micro = MicroPrice.fit_quotes(quotes)
    >>> heavy_bid, heavy_ask = micro.adjustment[0, 4], micro.adjustment[0, 0]
    >>> bool(heavy_bid > 0 > heavy_ask)
    True
    """

    edges: _Floats
    adjustment: _Floats

    @classmethod
    def fit(cls, tapes: Sequence[pl.DataFrame]) -> MicroPrice:
        """Learn from calm bars.

        Parameters
        ----------
        tapes : sequence of bars
            Rows of equal steps with ``mid, spread_bps, bid_size, ask_size``, as a replay's bars or `touches` have them.

        Raises
        ------
        NotEnoughDataError
            Fewer than a hundred steps with known sizes.
        """
        spreads = np.concatenate([tape["spread_bps"].drop_nulls().to_numpy() for tape in tapes])
        edges = np.quantile(spreads, np.arange(1, _SPREADS) / _SPREADS) if len(spreads) else np.zeros(_SPREADS - 1)
        steps = [_transitions(tape, edges) for tape in tapes]
        before, after, move = (np.concatenate(part) for part in zip(*steps, strict=True))
        if len(move) < _FEWEST_MOVES:
            raise NotEnoughDataError("too few bars with sizes", found=len(move), expected=f"{_FEWEST_MOVES} or more")
        n = _SPREADS * _IMBALANCES
        mirror = np.arange(n).reshape(_SPREADS, _IMBALANCES)[:, ::-1].ravel()
        before, after = np.append(before, mirror[before]), np.append(after, mirror[after])
        move = np.append(move, -move)
        stay, go, drift = np.zeros((n, n)), np.zeros((n, n)), np.zeros(n)
        np.add.at(stay, (before[move == 0], after[move == 0]), 1.0)
        np.add.at(go, (before[move != 0], after[move != 0]), 1.0)
        np.add.at(drift, before, move)
        visits = np.maximum(stay.sum(axis=1) + go.sum(axis=1), 1.0)
        resolvent = np.linalg.inv(np.eye(n) - stay / visits[:, None] * (1.0 - 1e-9))
        first, onward = resolvent @ (drift / visits), resolvent @ (go / visits[:, None])
        return cls(edges, _sum_of_moves(first, onward).reshape(_SPREADS, _IMBALANCES))

    @classmethod
    def fit_quotes(cls, quotes: Any, *, step: str = "1s") -> MicroPrice:
        """Learn from a calm stretch of quotes, taken every `step` as they stand then.

        Parameters
        ----------
        quotes : table
            Canonical quotes with sizes, in order of time.
        step : str
            Time between two looks at the touch.

        Raises
        ------
        DataError
            A column is missing, or time goes back.
        NotEnoughDataError
            Fewer than a hundred steps with known sizes.
        ParameterError
            A `step` that is no length of time.
        """
        length = nanoseconds(step, name="step")
        table = in_order(quotes, "quotes")
        moment = -(-pl.col("ts").dt.epoch("ns") // length)  # a quote counts from its own moment on
        sampled = table.group_by(moment.alias("step"), maintain_order=True).last()
        if sampled.height:
            every = pl.int_range(sampled["step"][0], sampled["step"][-1] + 1, eager=True).alias("step").to_frame()
            sampled = every.join_asof(sampled, on="step")
        return cls.fit([touches(sampled)])

    def predict(self, bars: pl.DataFrame) -> pl.Series:
        """Micro-price of every bar, quote currency; null where sizes are unknown."""
        state = _states(bars, self.edges)
        known = state >= 0
        adjusted = bars["mid"].to_numpy() * np.exp(self.adjustment.ravel()[np.where(known, state, 0)] / _BPS)
        return pl.Series(np.where(known, adjusted, math.nan)).fill_nan(None)


def touches(quotes: pl.DataFrame) -> pl.DataFrame:
    """Quotes as the micro-price looks at them: ``mid`` and ``spread_bps`` beside the sizes, null where not usable."""
    bid, ask = pl.col("bid"), pl.col("ask")
    usable = (bid > 0) & (bid <= ask) & (ask < math.inf)
    return quotes.select(
        "bid_size",
        "ask_size",
        mid=pl.when(usable).then(0.5 * (bid + ask)),
        spread_bps=pl.when(usable).then(_BPS * (ask / bid).log()),
    )


def _states(bars: pl.DataFrame, edges: _Floats) -> npt.NDArray[np.int64]:
    """Number of the state of every bar, -1 where it is unknown."""
    bid, ask = bars["bid_size"].to_numpy(), bars["ask_size"].to_numpy()
    spread = bars["spread_bps"].to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        imbalance = bid / (bid + ask)
    known = np.isfinite(imbalance) & np.isfinite(spread) & np.isfinite(bars["mid"].to_numpy())
    column = np.clip((np.where(known, imbalance, 0.0) * _IMBALANCES).astype(np.int64), 0, _IMBALANCES - 1)
    row = np.searchsorted(edges, np.where(known, spread, 0.0), side="right")
    return np.where(known, row * _IMBALANCES + column, -1)


def _transitions(bars: pl.DataFrame, edges: _Floats) -> tuple[npt.NDArray[Any], npt.NDArray[Any], _Floats]:
    state = _states(bars, edges)
    known = (state[:-1] >= 0) & (state[1:] >= 0)
    move = _BPS * np.diff(np.log(bars["mid"].to_numpy()))
    return state[:-1][known], state[1:][known], move[known]


def _sum_of_moves(first: _Floats, onward: _Floats) -> _Floats:
    total, term = first.copy(), first
    for _ in range(10_000):
        term = onward @ term
        total += term
        if np.abs(term).max() < 1e-9:
            return total
    raise NotEnoughDataError("the micro-price does not settle: too few moves between its states")
