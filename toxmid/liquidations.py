"""Which trades were liquidations: a feed of liquidations laid over a tape of trades."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid._trades import claim_orders
from toxmid.durations import nanoseconds
from toxmid.instrument import Instrument
from toxmid.schema import columns
from toxmid.tapes import found_instrument, in_order, with_sides

__all__ = ["match_liquidations"]

_DUST: Final = 1e-6  # of the smallest trade: sizes this near to each other are the same where no lot is known
_Floats = npt.NDArray[np.float64]


def match_liquidations(
    trades: Any,
    liquidations: Any,
    *,
    window: str = "1500ms",
    grace: str = "150ms",
    instrument: Instrument | None = None,
) -> pl.Series:
    """Share of each trade that a liquidation feed accounts for: the liquidation flag that venues leave out.

    Trades of one time and side are one taker order. A record claims orders of its own side that traded at most `window`
    before it: the latest run of them whose sizes add up to its own exactly, at its price if there is one (their mean
    within half a tick) and else at any, for some venues publish the bankruptcy price; else those that traded last, at
    its price (within two ticks) before others. What it lacks it claims of orders up to `grace` after it. This is how
    the engine matches a feed, without what it infers for feeds that show one record a second only: of those, less is
    found than there was.

    Parameters
    ----------
    trades : table
        Canonical trades in order of time.
    liquidations : table
        Canonical liquidations in order of time; ``side`` is that of the forced order, so -1 claims taker sells.
        Records without a side, a price or a size claim nothing.
    window : str
        How long before its record a liquidation may have traded.
    grace : str
        How long after its record it may still trade.
    instrument : Instrument, optional
        Where the market is inverse, sizes are compared in contracts. None: as the trades' lots tell. Without a tick a
        millionth of the price stands for half of one.

    Returns
    -------
    polars.Series
        ``forced``, Float64 in [0, 1], a value per trade; null where the trade's side is unknown, since nothing can be
        said of it.

    Raises
    ------
    DataError
        A column is missing, or time goes back.
    ParameterError
        A `window` or `grace` that is no length of time.

    Notes
    -----
    A record may arrive after its trade, so the flag of a trade is known up to `window` later only: label history with
    it, do not trade on it.

    Examples
    --------
    >>> start = 1_760_054_400 * 10**9
    >>> tape = pl.DataFrame({"ts": [start + k * 10**8 for k in range(4)], "price": 10.0, "size": [3.0, 2.0, 5.0, 2.0],
    ...                      "side": [-1, -1, 1, -1]})
    >>> feed = pl.DataFrame({"ts": [start + 4 * 10**8], "side": [-1], "price": [10.0], "size": [5.0]})
    >>> match_liquidations(tape, feed).to_list()
    [1.0, 1.0, 0.0, 0.0]
    """
    lengths = nanoseconds(window, name="window"), nanoseconds(grace, name="grace")
    frame = with_sides(trades)
    market = instrument or found_instrument(frame)
    tape, feed = columns(frame, "trades"), columns(in_order(liquidations, "liquidations"), "liquidations")
    good, real = _usable(tape), _usable(feed)
    units, records = _units(tape, market)[good], _units(feed, market)[real]
    ts, side = tape["ts"][good], tape["side"][good]
    first = np.flatnonzero((np.diff(ts, prepend=-1) != 0) | (np.diff(side, prepend=np.int8(0)) != 0))
    coins, notional = tape["size"][good], (tape["price"] * tape["size"])[good]
    orders, coins, notional = (np.add.reduceat(x, first) if first.size else x for x in (units, coins, notional))
    claimed = np.zeros(first.size)
    claim_orders(
        ts[first], side[first], orders, notional / coins,
        feed["ts"][real], feed["side"][real], records, feed["price"][real],
        *lengths, _slack(units, market), 0.5 * (market.tick or 0.0), claimed,
    )  # fmt: skip
    share = np.full(good.size, np.nan)
    share[good] = np.repeat(np.minimum(claimed / orders, 1.0), np.diff(np.append(first, ts.size)))
    return pl.Series("forced", share).fill_nan(None)


def _usable(table: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    price, size = table["price"], table["size"]
    return np.asarray((table["side"] != 0) & (price > 0) & (price < np.inf) & (size > 0) & (size < np.inf))


def _units(table: dict[str, npt.NDArray[Any]], market: Instrument) -> _Floats:
    """Base coin, or worth in quote currency where contracts are: a contract's worth in coin varies."""
    return np.asarray(table["size"] * table["price"] if market.inverse else table["size"], dtype=np.float64)


def _slack(units: _Floats, market: Instrument) -> float:
    """Half a lot, where one is known."""
    if market.inverse and market.contract_value:
        return 0.5 * market.contract_value * (market.lot or 1.0)
    if not market.inverse and market.lot:
        return 0.5 * market.lot
    return _DUST * float(units.min()) if units.size else 0.0
