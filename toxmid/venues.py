"""Other venues of a simulated coin: what trades there, the index made of them, and the mark price made of that.

They look at the same coin through makers of their own. None of them changes anything in the simulated market itself,
and their random numbers are streams of their own, so a tape is the same with and without them.

The model
---------
Prices are ``x``, bps of log price relative to the first hidden mid; steps are 0.1 s. ``F`` is the hidden mid of the
simulated maker, ``x`` her quoted mid, ``g`` the toxicity that she sees. Names are fields of `OtherVenue`.

Mid
    The makers agree about the price up to a delay, an error of their own, and what is usual between the venues; a share
    of the displacement reaches the venue, because a part of the forced flow is sold there::

        mid = basis + lag(F, delay) + error N* + toxic lag(x - F, spill)

    ``lag(y, tau)`` is the exponential moving average, ``N*`` an Ornstein-Uhlenbeck process of variance 1 and memory
    `error_memory`.

Trades
    At most one a step, at the rate ``rate (1 + 10 toxic g)``; sizes log-normal around ``size (1 + 4 toxic g)``; takers
    sell with the probability ``1 / 2 + 0.45 toxic g`` (bought, where the market is mirrored). They pay half the spread,
    ``half_spread (1 + 20 toxic g)``.

Index and mark
    Once a second. The index is the mean of the venues' last prices, those farther than 15 bps from the median clamped
    to that distance. The mark price follows the rule that exchanges publish: the median of the index with the funding
    that is still to be paid, of the index plus the moving average over 30 s of the distance between the own mid and the
    index, and of the own last price. So it is no witness from outside: what lasts longer than half a minute is in it.

`OtherVenue.draw` lets hardly any of the displacement reach a ``"clean"`` venue, up to a third of it a ``"mixed"`` one,
and half to all of it a ``"toxic"`` one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toxmid.draws import Draw

__all__ = ["OTHER_VENUES", "OtherVenue", "exchange_mark", "venue_index"]

VenueName = Literal["clean", "mixed", "toxic"]
OTHER_VENUES: Final[tuple[VenueName, ...]] = get_args(VenueName)

_Floats = NDArray[np.float64]
_STEP: Final = 0.1  # s
_BASIS_SECONDS: Final = 30  # of the moving average in the mark price
_OUTLIER_BPS: Final = 15.0  # from the median of the venues, beyond which an index clamps them
_FUNDING_BPS: Final = 1.0  # largest share of it that is still to be paid
_TOXIC: Final = {"clean": (0.0, 0.05), "mixed": (0.05, 0.35), "toxic": (0.5, 1.0)}


@dataclass(frozen=True)
class OtherVenue:
    """One other venue of a simulated coin; the equations stand at the top of the module.

    Examples
    --------
    >>> 0.5 <= OtherVenue.draw("toxic", seed=1).toxic <= 1.0
    True
    """

    name: str
    basis: float  # bps over the simulated venue
    delay: float  # s
    error: float  # bps
    error_memory: float  # s
    toxic: float  # share of the displacement that reaches it, 0..1
    spill: float  # s that it takes
    half_spread: float  # bps
    rate: float  # trades per s
    size: float  # BTC-equivalents, median

    @classmethod
    def draw(cls, name: VenueName, seed: int) -> OtherVenue:
        """The venue of a seed: every parameter from its own range."""
        d = Draw(seed, f"venue-{name}")
        return cls(
            name=name,
            basis=d.between("basis", -10.0, 10.0),
            delay=d.log_between("delay", 0.2, 2.0),
            error=d.between("error", 0.3, 1.5),
            error_memory=d.log_between("error_memory", 5.0, 60.0),
            toxic=d.between("toxic", *_TOXIC[name]),
            spill=d.log_between("spill", 0.5, 5.0),
            half_spread=d.log_between("half_spread", 0.2, 1.5),
            rate=d.log_between("rate", 0.3, 3.0),
            size=d.log_between("size", 0.05, 0.3),
        )

    def mids(self, seed: int, hidden: _Floats, quoted: _Floats, mirror: int) -> _Floats:
        """Its mid at the end of every step, bps."""
        noise = Draw(seed, f"venue-{self.name}").normals("errors", len(hidden))
        kept = math.exp(-_STEP / self.error_memory)
        # An average of white noise has the variance (1 - kept) / (1 + kept).
        error = _lag(noise, self.error_memory) * math.sqrt((1.0 + kept) / (1.0 - kept))
        spilt = self.toxic * _lag(quoted - hidden, self.spill)
        return mirror * (self.basis + self.error * error) + _lag(hidden, self.delay) + spilt

    def orders(
        self, seed: int, mids: _Floats, toxicity: _Floats, mirror: int
    ) -> tuple[NDArray[np.int64], _Floats, NDArray[np.int8], _Floats, _Floats]:
        """Steps in which someone trades, when inside the step (0..1), the taker's side, price (bps) and size (BTC)."""
        d, n = Draw(seed, f"venue-{self.name}"), len(mids)
        stress = self.toxic * toxicity
        steps = np.flatnonzero(d.uniforms("arrivals", n) < self.rate * _STEP * (1.0 + 10.0 * stress))
        sells = d.uniforms("sides", n)[steps] < 0.5 + 0.45 * stress[steps]
        side = np.where(sells, -mirror, mirror).astype(np.int8)
        price = mids[steps] + side * self.half_spread * (1.0 + 20.0 * stress[steps])
        size = self.size * (1.0 + 4.0 * stress[steps]) * np.exp(d.normals("sizes", n)[steps])
        return steps, d.uniforms("moments", n)[steps], side, price, size


def venue_index(venues: Sequence[pl.DataFrame], clock: pl.DataFrame) -> _Floats:
    """Mean of the last prices of all venues, outliers clamped, at every time of `clock`; NaN until each has traded."""
    last = [clock.join_asof(trades.select("ts", "price"), on="ts")["price"] for trades in venues]
    prices = np.stack([column.fill_null(math.nan).to_numpy() for column in last])
    middle = np.median(prices, axis=0)  # NaN where one of them is
    reach = 1e-4 * _OUTLIER_BPS * middle
    return np.asarray(np.clip(prices, middle - reach, middle + reach).mean(axis=0), dtype=np.float64)


def exchange_mark(seed: int, index: _Floats, mid: _Floats, last: _Floats) -> _Floats:
    """Mark price, once a second, from the index, the own mid and the own last price; NaN until there is an index."""
    funding = Draw(seed, "mark").between("funding", -_FUNDING_BPS, _FUNDING_BPS)
    basis = pl.Series(mid - index).fill_nan(None).rolling_mean(_BASIS_SECONDS, min_samples=1).fill_null(math.nan)
    candidates = np.stack([index * (1.0 + 1e-4 * funding), index + basis.to_numpy(), last])
    return np.asarray(np.median(candidates, axis=0), dtype=np.float64)


def _lag(values: _Floats, memory: float) -> _Floats:
    """Exponential moving average over `memory` seconds, started at the first value."""
    alpha = -math.expm1(-_STEP / memory)
    return pl.Series(values).ewm_mean(alpha=alpha, adjust=False).to_numpy()
