"""A tape without a truth as the tests of forecasts see it: outcomes, estimates and events on an even grid of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from polars import selectors

from toxmid.evaluate.inference import Regression, regression
from toxmid.evaluate.rivals import COLUMNS
from toxmid.evaluate.scoring import Extra, with_extra
from toxmid.evaluate.witnesses import with_witnesses
from toxmid.statespace import StateSpaceResult, bar_seconds

__all__ = ["NEEDED", "RUNGS", "View", "deviations", "numbers", "stress_of", "without_nan"]

RUNGS: Final = ("implied_mid", "toxic_mean", "debiased_mean")
NEEDED: Final = (*COLUMNS, "vpin_rank", "excess_impact")
_BPS: Final = 1e4
_MINUTE: Final = 60  # s
_QUIET: Final = 1800  # s without liquidations around a matched window

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


def without_nan(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(selectors.float().fill_nan(None))


def deviations(
    bars: pl.DataFrame, state_space: StateSpaceResult | None, extra: Extra, mark: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Every estimate less the mid, bps; 0 where it says nothing and the mid stands in."""
    ema = pl.col("mid").log().ewm_mean(half_life=60.0 / bar_seconds(bars), ignore_nulls=False).exp()
    prices = bars.select(*RUNGS, ema_60=ema)
    if state_space is not None:
        prices = prices.with_columns(state_space=state_space.filter(bars)["implied_mid"])
    prices = with_extra(with_witnesses(prices, bars, mark), bars, extra)
    mid = bars["mid"].log()
    return prices.select(((pl.all().log() - mid) * _BPS).fill_nan(None).fill_null(0.0))


def stress_of(bars: pl.DataFrame) -> _Mask:
    return np.asarray(bars["regime"].str.starts_with("stress").fill_null(False).to_numpy(), dtype=np.bool_)


def numbers(values: pl.Series) -> _Floats:
    """A column as an array, NaN where it is null."""
    return np.asarray(values.cast(pl.Float64).fill_null(np.nan).to_numpy(), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class View:
    """One horizon: outcomes, estimates and events on the grid of rows that are used."""

    horizon: float  # s
    steps: int  # rows ahead
    ts: _Ints  # ns
    y: _Floats  # bps
    x: dict[str, _Floats]  # bps
    used: _Mask  # under stress, with an outcome
    event: _Ints  # number of the event, -1 outside
    elapsed: _Floats  # s since it began
    excess: _Floats  # excess impact
    spread: _Floats  # bps
    move: _Floats  # bps, of the last minute
    quiet: _Mask  # no stress and no liquidation within half an hour

    @classmethod
    def of(cls, bars: pl.DataFrame, x: pl.DataFrame, ahead: int, seconds: float, stride: int) -> Self:
        log_mid = _BPS * np.log(numbers(bars["mid"]))
        later = np.full_like(log_mid, np.nan)
        later[:-ahead] = log_mid[ahead:] - log_mid[:-ahead]
        minute = max(round(_MINUTE / seconds), 1)
        move = np.full_like(log_mid, np.nan)
        move[minute:] = log_mid[minute:] - log_mid[:-minute]
        stress = stress_of(bars)
        number, start = _spells(stress, ahead)
        rows = np.arange(0, bars.height, stride)
        return cls(
            horizon=ahead * seconds,
            steps=-(-ahead // stride),
            ts=bars["ts"].to_physical().to_numpy()[rows],
            y=later[rows],
            x={name: x[name].to_numpy()[rows] for name in x.columns},
            used=(stress & np.isfinite(later))[rows],
            event=number[rows],
            elapsed=np.asarray((rows - start[rows]) * seconds, dtype=np.float64),
            excess=np.nan_to_num(numbers(bars["excess_impact"]))[rows],
            spread=numbers(bars["spread_bps"])[rows],
            move=move[rows],
            quiet=_without_liquidations(bars, seconds)[rows],
        )

    @classmethod
    def joined(cls, views: Sequence[Self]) -> Self:
        """One view of several tapes, so far apart that no error reaches from one to the next."""
        gap = views[0].lags + 1
        firsts = accumulate((int(view.event.max(initial=-1)) + 1 for view in views), initial=0)
        events = [np.where(view.event >= 0, view.event + first, -1) for view, first in zip(views, firsts, strict=False)]

        def join(parts: Sequence[npt.NDArray[Any]], idle: Any) -> npt.NDArray[Any]:
            return np.concatenate([np.append(part, np.full(gap, idle, dtype=part.dtype)) for part in parts])

        return replace(
            views[0],
            ts=join([view.ts for view in views], 0),
            x={name: join([view.x[name] for view in views], 0.0) for name in views[0].x},
            used=join([view.used for view in views], False),
            quiet=join([view.quiet for view in views], False),
            event=join(events, -1),
            y=join([view.y for view in views], np.nan),
            elapsed=join([view.elapsed for view in views], np.nan),
            excess=join([view.excess for view in views], np.nan),
            spread=join([view.spread for view in views], np.nan),
            move=join([view.move for view in views], np.nan),
        )

    @property
    def lags(self) -> int:
        """Lags of HAC errors: twice the horizon, since the kernel gives little weight to the last ones."""
        return 2 * self.steps

    def events(self) -> _Ints:
        """Numbers of the events that have rows."""
        return np.unique(self.event[self.used])

    def bounds(self) -> tuple[_Ints, _Ints]:
        """First and last used row of every event."""
        used, numbers = np.flatnonzero(self.used), self.events()
        inside = self.event[used]
        return used[np.searchsorted(inside, numbers)], used[np.searchsorted(inside, numbers, side="right") - 1]

    def losses(self, name: str) -> tuple[_Floats, _Floats]:
        """Mean square loss of the quoted mid and of an estimate, per event."""
        y, x, event = self.y[self.used], self.x[name][self.used], self.event[self.used]
        _, place = np.unique(event, return_inverse=True)
        count = np.bincount(place)
        return np.bincount(place, y * y) / count, np.bincount(place, (y - x) ** 2) / count

    def regression(self, columns: Sequence[_Floats], used: _Mask) -> Regression:
        """The outcome on a constant and some columns."""
        return regression(self.y, np.stack([np.ones_like(self.y), *columns], axis=1), used, self.lags)


def _spells(stress: _Mask, apart: int) -> tuple[_Ints, _Ints]:
    """Number of the event and its first bar, for every bar under stress; -1 elsewhere."""
    number = np.full(len(stress), -1, dtype=np.int64)
    start = np.full(len(stress), -1, dtype=np.int64)
    places = np.flatnonzero(stress)
    if len(places):
        fresh = np.concatenate([[True], np.diff(places) > apart])
        spell = np.cumsum(fresh) - 1
        number[places], start[places] = spell, places[fresh][spell]
    return number, start


def _without_liquidations(bars: pl.DataFrame, seconds: float) -> _Mask:
    """Bars with no stress and no liquidation in the half hour before and after."""
    forced = (bars["liq_buy_volume"] + bars["liq_sell_volume"]).fill_null(0.0).to_numpy() > 0
    total = np.concatenate([[0], np.cumsum(forced | stress_of(bars))])
    reach = max(round(_QUIET / seconds), 1)
    index = np.arange(bars.height)
    high, low = np.minimum(index + reach + 1, bars.height), np.maximum(index - reach, 0)
    return np.asarray(total[high] == total[low], dtype=np.bool_)
