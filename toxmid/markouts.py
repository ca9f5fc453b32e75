"""Markout curves: what the mid did after a trade, the taker's gain and so the maker's loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid._trades import add_markouts
from toxmid.durations import nanoseconds
from toxmid.errors import DataError, ParameterError
from toxmid.instrument import Instrument
from toxmid.liquidations import match_liquidations
from toxmid.schema import TIME, columns
from toxmid.spreads import Direction, lengths_of, signs_of, where_price
from toxmid.tapes import as_frame, with_sides, without_sizes

__all__ = ["markouts"]

_BPS: Final = 1e4
_SHORTEST_BLOCK: Final = 60 * 10**9
_HORIZONS_PER_BLOCK: Final = 10
SIDES: Final = ("all", "buy", "sell")
_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


def markouts(
    trades: Any,
    quotes: Any,
    *,
    horizons: Sequence[str] = ("1s", "5s", "30s", "60s", "300s"),
    by: str | Sequence[str] | pl.Series | None = None,
    liquidations: Any = None,
    block: str | None = None,
    direction: Direction = "side",
    instrument: Instrument | None = None,
) -> pl.DataFrame:
    """Mean markout of taker orders by horizon, side and group, with standard errors.

    The markout of a trade with direction d and price p is the taker's gain at the mid a time h later,

    .. math::

        MO_h = 10^4 \\, d \\, \\ln(m_{t+h} / p)

    in basis points: the maker's loss. Its mean is weighted by size. Flow is toxic to the maker, at h, where it is
    positive; in calm it is negative at first, by the half spread that the taker paid.

    Parameters
    ----------
    trades : table
        Canonical trades in order of time. Without ``side`` every direction is unknown, unless `direction` is a rule.
    quotes : table
        Canonical quotes in order of time; sizes are not needed.
    horizons : sequence of str
        The times h.
    by : str, or sequence of str, optional
        Groups beside "all": the name of a column of `trades`, or a label per trade. Trades without a label (null) are
        in "all" only.
    liquidations : table, optional
        Canonical liquidations: groups "forced" and "other", as `toxmid.match_liquidations` labels the trades (forced:
        at least half of it was). Not together with `by`.
    block : str, optional
        Length of the blocks of time of the standard errors. None: ten horizons, and at least a minute.
    direction : {"side", "tick", "quote", "lee_ready", "emo"}
        The venue's own flag, or a rule of `toxmid.classify`.
    instrument : Instrument, optional
        Its tick is used as in `toxmid.classify`, its contract as in `toxmid.match_liquidations`.

    Returns
    -------
    polars.DataFrame
        A row per group, side ("all", "buy", "sell") and horizon: ``group, side, horizon, markout_bps, bse_bps, trades,
        volume, blocks, ts_known``. ``bse_bps`` is the standard error, ``trades`` and ``volume`` (base coin) are what
        the mean is of, ``blocks`` the blocks of time that hold them, and ``ts_known`` is when the mean was known: h
        after its last trade. A trade counts at h if its direction is known, if the tape (trades and quotes) reaches
        t + h, and if there was a mid then: of the last quote up to and with t + h, neither crossed nor one-sided. The
        mean and ``ts_known`` are null where nothing counts, the error where fewer than two blocks do.

    Raises
    ------
    DataError
        A column is missing, or time goes back.
    ParameterError
        An unknown direction, no length of time, a number of labels that is not that of the trades.

    Notes
    -----
    Prints of one moment meet one later mid, and horizons overlap: prints taken as independent would make the errors
    many times too small. Those shown are of a ratio of sums over blocks of time,

    .. math::

        se^2 = \\frac{B}{B - 1} \\frac{\\sum_b (\\sum_{i \\in b} v_i (MO_i - \\overline{MO}))^2}{(\\sum_i v_i)^2}

    which is what clustering by block gives in a regression on a constant, weighted by size. The mid of a market that
    is itself displaced is no truth: after a cascade long horizons measure its reversal.

    References
    ----------
    Glosten, L. R. and Milgrom, P. R. (1985). Bid, ask and transaction prices in a specialist market with
    heterogeneously informed traders. Journal of Financial Economics 14. doi:10.1016/0304-405X(85)90044-3

    Huang, R. D. and Stoll, H. R. (1996). Dealer versus auction markets. Journal of Financial Economics 41.
    doi:10.1016/0304-405X(95)00867-E

    Examples
    --------
    >>> second = 10**9
    >>> start = 1_760_054_400 * second
    >>> trades = pl.DataFrame({"ts": [start + k * second for k in (1, 2)], "price": [100.5, 99.5], "size": [3.0, 1.0],
    ...                        "side": [1, -1]})
    >>> quotes = pl.DataFrame({"ts": [start, start + 4 * second], "bid": [99.5, 101.5], "ask": [100.5, 102.5]})
    >>> table = markouts(trades, quotes, horizons=["1s", "2s"])
    >>> table.filter(horizon="2s").select("side", pl.col("markout_bps").round(1), "trades", "volume").rows()
    [('all', -99.4, 2, 4.0), ('buy', -49.9, 1, 3.0), ('sell', -248.2, 1, 1.0)]
    """
    lengths = lengths_of(horizons)
    if direction not in get_args(Direction):
        raise ParameterError("no such direction", found=direction, expected=" | ".join(get_args(Direction)))
    if by is not None and liquidations is not None:
        raise ParameterError("groups are given twice", column="by", expected="by= or liquidations=, not both")
    frame = as_frame(trades)
    tape, book = columns(with_sides(frame), "trades"), columns(without_sizes(quotes), "quotes")
    if liquidations is not None:
        forced = match_liquidations(frame, liquidations, instrument=instrument)
        by = pl.select(pl.when(forced >= 0.5).then(pl.lit("forced")).otherwise(pl.lit("other"))).to_series()
    names, label = _labels(frame, by)
    curve = _Curve.of(tape, book, signs_of(tape, book, direction, instrument), label, len(names))
    span = None if block is None else nanoseconds(block, name="block")
    rows = [
        row
        for name, length in lengths.items()
        for row in curve.rows(name, length, span or max(_HORIZONS_PER_BLOCK * length, _SHORTEST_BLOCK), names)
    ]
    rank = {name: place for place, name in enumerate(["all", *names])}
    rows.sort(key=lambda row: (rank[row["group"]], SIDES.index(row["side"])))  # horizons stay in their order
    return pl.DataFrame(rows, schema=_SCHEMA).with_columns(pl.col("markout_bps", "bse_bps").fill_nan(None))


_SCHEMA: Final = {
    "group": pl.String(),
    "side": pl.String(),
    "horizon": pl.String(),
    "markout_bps": pl.Float64(),
    "bse_bps": pl.Float64(),
    "trades": pl.Int64(),
    "volume": pl.Float64(),
    "blocks": pl.Int64(),
    "ts_known": TIME,
}


def _labels(frame: pl.DataFrame, by: Any) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Names of the groups, sorted, and the number of each trade's; one beyond the last where it has none."""
    if by is None:
        return [], np.zeros(frame.height, dtype=np.int64)
    if isinstance(by, str):
        if by not in frame.columns:
            raise DataError("column is missing", column=by, found=", ".join(frame.columns))
        by = frame[by]
    labels = (by if isinstance(by, pl.Series) else pl.Series(list(by))).cast(pl.String)
    if labels.len() != frame.height:
        raise ParameterError("by: not one label per trade", found=labels.len(), expected=frame.height)
    names = labels.drop_nulls().unique().sort().to_list()
    if "all" in names:
        raise ParameterError("by: a group may not be called so", found="all")
    numbers = {name: code for code, name in enumerate(names)}
    codes = labels.replace_strict(numbers, default=len(names), return_dtype=pl.Int64())
    return names, codes.to_numpy()


@dataclass(frozen=True)
class _Curve:
    """Trades of known direction, and what the quotes say later."""

    ts: _Ints
    sign: _Floats
    size: _Floats
    paid: _Floats  # log price
    group: _Ints
    groups: int
    end: int  # of the tape, trades and quotes
    quote_ts: _Ints
    log_mid: _Floats

    @classmethod
    def of(
        cls,
        tape: dict[str, npt.NDArray[Any]],
        book: dict[str, npt.NDArray[Any]],
        sign: npt.NDArray[np.int8],
        group: _Ints,
        groups: int,
    ) -> _Curve:
        bid, ask = where_price(book["bid"]), where_price(book["ask"])
        price, size = where_price(tape["price"]), tape["size"]
        keep = (sign != 0) & (size > 0) & (size < np.inf) & np.isfinite(price)
        clocks = (tape["ts"], book["ts"])
        return cls(
            ts=tape["ts"][keep],
            sign=sign[keep].astype(np.float64),
            size=size[keep],
            paid=np.log(price[keep]),
            group=group[keep],
            groups=groups,
            end=max((int(clock[-1]) for clock in clocks if clock.size), default=0),
            quote_ts=book["ts"],
            log_mid=np.log(np.where(bid <= ask, 0.5 * (bid + ask), np.nan)),
        )

    def rows(self, name: str, length: int, span: int, names: list[str]) -> list[dict[str, Any]]:
        """The rows of one horizon."""
        cells, whole = self._cells(length, span), slice(None)
        groups = [("all", whole), *((label, slice(code, code + 1)) for code, label in enumerate(names))]
        sides = zip(SIDES, (whole, slice(0, 1), slice(1, 2)), strict=True)
        return [
            {"group": label, "side": side, "horizon": name, **cells.mean(group, half, length)}
            for side, half in sides
            for label, group in groups
        ]

    def _cells(self, length: int, span: int) -> _Cells:
        reached = int(np.searchsorted(self.ts, self.end - length, side="right"))
        ts = self.ts[:reached]
        blocks = int(np.count_nonzero(np.diff(ts // span))) + 1 if reached else 0
        shape = (blocks, self.groups + 1, 2)
        cells = _Cells(np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64), np.zeros(shape[1:], np.int64))
        add_markouts(
            ts, self.sign[:reached], self.size[:reached], self.paid[:reached], self.group[:reached], self.quote_ts,
            self.log_mid, length, span, cells.weight, cells.weighted, cells.count, cells.last,
        )  # fmt: skip
        return cells


@dataclass(frozen=True)
class _Cells:
    """Sums by block of time, group and side: everything that means and their errors are made of."""

    weight: _Floats  # (blocks, groups, sides)
    weighted: _Floats  # size x gain of log price
    count: _Ints
    last: _Ints  # (groups, sides): time of the last trade, 0 where there is none

    def mean(self, group: slice, side: slice, length: int) -> dict[str, Any]:
        weight, weighted, count = (
            sums[:, group, side].sum(axis=(1, 2)) for sums in (self.weight, self.weighted, self.count)
        )
        blocks, volume = int(np.count_nonzero(count)), float(weight.sum())
        mean = float(weighted.sum()) / volume if blocks else np.nan
        squares = float(((weighted - mean * weight) ** 2).sum())
        last = int(self.last[group, side].max(initial=0))
        return {
            "markout_bps": _BPS * mean,
            "bse_bps": _BPS * np.sqrt(blocks / (blocks - 1) * squares) / volume if blocks > 1 else np.nan,
            "trades": int(count.sum()),
            "volume": volume,
            "blocks": blocks,
            "ts_known": last + length if last else None,
        }
