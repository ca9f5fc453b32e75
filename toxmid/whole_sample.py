"""VPIN as papers compute it: bucket size and volatility from the whole sample, so every value knows the future.

For comparison with published numbers only. What a replay computes is causal and lives in the core.
"""

from __future__ import annotations

import bisect
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.durations import nanoseconds
from toxmid.errors import NotEnoughDataError, ParameterError
from toxmid.instrument import Instrument
from toxmid.schema import TIME, columns
from toxmid.spreads import Rule
from toxmid.spreads import classify as classify_trades
from toxmid.tapes import with_sides

__all__ = ["Classifier", "vpin_whole_sample"]

Classifier = Literal["side", "tick", "quote", "lee_ready", "emo", "bvc_normal", "bvc_t"]

_DAY: Final = 86_400 * 10**9
_RANK_MEMORY: Final = 90 * _DAY
_ROUNDING: Final = 1e-9  # of a bucket: a last one this near to full is full
_MOST_BUCKETS: Final = 20_000_000  # more than this is a mistake in the bucket volume
_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


def vpin_whole_sample(
    trades: Any,
    *,
    bucket_volume: float | None = None,
    buckets_per_day: int = 50,
    window: int = 50,
    classify: Classifier = "bvc_normal",
    bar: str = "60s",
    df: float = 0.25,
    quotes: Any = None,
    instrument: Instrument | None = None,
) -> pl.DataFrame:
    """Volume-synchronised probability of informed trading with whole-sample constants.

    Volume is cut into buckets of equal size V. In bucket j takers bought :math:`B_j` and sold :math:`S_j`, and over the
    last n buckets

    .. math::

        VPIN_j = \\frac{\\sum_{k=j-n+1}^{j} |B_k - S_k|}{n V}

    Under bulk classification time is cut into bars; a bar of volume v with price change :math:`\\Delta p` (last minus
    first price inside it) counts as :math:`v F(\\Delta p / \\sigma)` bought and the rest sold, F being the normal or
    Student distribution and :math:`\\sigma` the standard deviation of all bars. Where a bucket ends inside a bar,
    bought and sold volume are spread evenly over it.

    Parameters
    ----------
    trades : frame
        Canonical trades in order of time; ``side`` is needed for ``classify="side"`` only.
        Rows without a positive price and a positive size are passed over.
    bucket_volume : float, optional
        Bucket size V in base coin. None: volume of the sample / days with trades / `buckets_per_day`.
    buckets_per_day : int
        Buckets in an average day.
    window : int
        Buckets n in a value of VPIN.
    classify : {"bvc_normal", "bvc_t", "side", "tick", "quote", "lee_ready", "emo"}
        Bulk classification, or the sign of each trade: the venue's own, or a rule of `toxmid.classify`. Signed trades
        need no bars: they are cut at bucket edges one by one.
    bar : str
        Length of the bars of bulk classification, on a grid that starts at midnight (UTC) of the first day. Bars
        without a trade, on days with trades, are price changes of zero to :math:`\\sigma`.
    df : float
        Degrees of freedom of ``"bvc_t"``.
    quotes : frame, optional
        Canonical quotes, for the rules that need them.
    instrument : Instrument, optional
        Its tick is used as in `toxmid.classify`.

    Returns
    -------
    polars.DataFrame
        A row per full bucket: ``bucket`` (from 0), ``ts_open, ts_close, volume, buy_volume, sell_volume,
        unknown_volume, imbalance`` (signed, (bought - sold) / volume), ``vpin`` (null in the first n - 1 rows, and
        where every side is unknown) and ``vpin_rank``: share of the values of the 90 days before that lie below, null
        in the first 2 n - 1 rows. Times are where a bucket's edges fall if trading is even inside a bar.

    Raises
    ------
    DataError
        A column is missing, or time goes back.
    NotEnoughDataError
        No volume.
    ParameterError
        A parameter outside its range.

    Notes
    -----
    The definition is that of Easley, López de Prado and O'Hara [1]_ with the constants of the R package PINstimation
    0.2, whose numbers it reproduces, with three differences that concern no complete bucket's volumes. A last
    incomplete bucket, which an explicit `bucket_volume` leaves over, is not a row. Times are true times also where
    whole days without trades lie between. And a bar that begins on a day without trades and ends on a day with trades
    (possible only if bars do not divide the day) is kept.

    Both constants and so all values use data from after the bucket: not for trading, and not for tests of prediction.

    References
    ----------
    .. [1] Easley, D., López de Prado, M. M. and O'Hara, M. (2012). Flow toxicity and liquidity in a high-frequency
       world. Review of Financial Studies 25. doi:10.1093/rfs/hhs053

    Examples
    --------
    >>> import polars as pl
    >>> start = 1760054400 * 10**9
    >>> tape = pl.DataFrame({"ts": [start + k * 10**9 for k in range(4)], "price": 10.0, "size": [1.0, 3.0, 2.0, 2.0],
    ...                      "side": [1, -1, 1, 1]})
    >>> table = vpin_whole_sample(tape, bucket_volume=2.0, window=2, classify="side")
    >>> table.select("bucket", "buy_volume", "sell_volume", "imbalance", "vpin").rows()
    [(0, 1.0, 1.0, 0.0, None), (1, 0.0, 2.0, -1.0, 0.5), (2, 2.0, 0.0, 1.0, 1.0), (3, 2.0, 0.0, 1.0, 1.0)]
    """
    _check(bucket_volume, buckets_per_day, window, classify, df)
    length = nanoseconds(bar, name="bar")
    tape = with_sides(trades)
    if classify in get_args(Rule):
        tape = tape.with_columns(classify_trades(tape, quotes, rule=cast(Rule, classify), instrument=instrument))
    traded = pl.col("price").is_between(0, np.inf, closed="none") & pl.col("size").is_between(0, np.inf, closed="none")
    arrays = columns(tape.filter(traded), "trades")
    if arrays["ts"].size == 0:
        raise NotEnoughDataError("no volume in the sample", column="size")
    if classify.startswith("bvc"):
        bars = _Bars.of(arrays["ts"], arrays["price"], arrays["size"], length)
        pieces, days = bars.classified(df if classify == "bvc_t" else None), bars.days
    else:
        pieces, days = _Pieces.of_trades(arrays), np.unique(arrays["ts"] // _DAY).size
    volume = float(pieces.volume.sum()) / days / buckets_per_day if bucket_volume is None else float(bucket_volume)
    return _with_vpin(_fill_buckets(pieces, volume), volume, window)


def _check(bucket_volume: float | None, buckets_per_day: int, window: int, classify: str, df: float) -> None:
    for name, count in (("buckets_per_day", buckets_per_day), ("window", window)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ParameterError(name, found=count, expected="a whole number, 1 or more")
    for name, number in (("bucket_volume", bucket_volume), ("df", df)):
        if number is not None and not 0 < number < np.inf:
            raise ParameterError(name, found=number, expected="a positive number")
    if classify not in get_args(Classifier):
        raise ParameterError("no such classifier", found=classify, expected=" | ".join(get_args(Classifier)))


@dataclass(frozen=True)
class _Pieces:
    """Volume in order of time, each piece of one composition: a bar, or a trade."""

    ts_open: _Ints
    ts_close: _Ints
    volume: _Floats
    bought: _Floats  # shares of the volume; what is neither is unknown
    sold: _Floats

    @classmethod
    def of_trades(cls, trades: dict[str, npt.NDArray[Any]]) -> _Pieces:
        side = trades["side"]
        return cls(trades["ts"], trades["ts"], trades["size"], (side > 0).astype(float), (side < 0).astype(float))


@dataclass(frozen=True)
class _Bars:
    """Bars with a trade, and how many had none."""

    ts_open: _Ints
    length: int
    volume: _Floats
    change: _Floats  # last minus first price inside the bar
    empty: int  # bars without a trade that begin on a day with trades
    days: int  # days on which any of these bars begins

    @classmethod
    def of(cls, ts: _Ints, price: _Floats, size: _Floats, length: int) -> _Bars:
        origin = ts[0] // _DAY * _DAY
        index = (ts - origin) // length
        first = np.flatnonzero(np.diff(index, prepend=-1))
        last = np.append(first[1:], ts.size) - 1
        ts_open = origin + index[first] * length
        trading_days = np.unique(ts // _DAY)
        # Bars of the grid, from the first with a trade to the last, that begin on each day with trades.
        midnights = np.stack([trading_days, trading_days + 1]) * _DAY
        first_from_midnight = np.clip(-((origin - midnights) // length), index[0], index[-1] + 1)
        per_day = first_from_midnight[1] - first_from_midnight[0]
        begin_on = ts_open // _DAY
        return cls(
            ts_open=ts_open,
            length=length,
            volume=np.add.reduceat(size, first),
            change=price[last] - price[first],
            empty=int(per_day.sum()) - int(np.isin(begin_on, trading_days).sum()),
            days=np.union1d(trading_days[per_day > 0], begin_on).size,
        )

    def classified(self, df: float | None) -> _Pieces:
        """Bought share F(change / sigma) of every bar; NaN, that is unknown, where sigma is zero or not defined."""
        from scipy.special import ndtr, stdtr

        count = self.change.size + self.empty
        mean = float(self.change.sum()) / count
        squares = float(((self.change - mean) ** 2).sum()) + self.empty * mean**2
        sigma = np.sqrt(squares / (count - 1)) if count > 1 else np.nan
        score = self.change / (sigma if sigma > 0 else np.nan)
        share = np.asarray(ndtr(score) if df is None else stdtr(df, score), dtype=np.float64)
        known = np.isfinite(share)
        bought, sold = np.where(known, share, 0.0), np.where(known, 1 - share, 0.0)
        return _Pieces(self.ts_open, self.ts_open + self.length, self.volume, bought, sold)


def _fill_buckets(pieces: _Pieces, volume: float) -> pl.DataFrame:
    """Pour the pieces into buckets of `volume`. Everything is read off cumulative sums at the buckets' edges."""
    poured = np.concatenate([[0.0], np.cumsum(pieces.volume)])
    count = int(poured[-1] / volume + _ROUNDING)
    if count > _MOST_BUCKETS:
        raise ParameterError("bucket_volume is far too small for this sample", found=volume, expected="fewer buckets")
    edges = np.minimum(volume * np.arange(count + 1), poured[-1])

    def between_edges(share: _Floats) -> _Floats:
        sums: _Floats = np.interp(edges, poured, np.concatenate([[0.0], np.cumsum(share * pieces.volume)]))
        between: _Floats = np.maximum(np.diff(sums), 0.0)  # interpolation may round the last bit down
        return between

    def time_at(edge: _Floats, side: Literal["left", "right"]) -> pl.Series:
        # A bucket opens in the piece after its edge and closes in the piece before it.
        piece = np.clip(np.searchsorted(poured, edge, side=side) - 1, 0, pieces.volume.size - 1)
        inside = np.clip((edge - poured[piece]) / pieces.volume[piece], 0.0, 1.0)
        elapsed = inside * (pieces.ts_close[piece] - pieces.ts_open[piece])
        return pl.Series(pieces.ts_open[piece] + np.rint(elapsed).astype(np.int64)).cast(TIME)

    bought, sold = between_edges(pieces.bought), between_edges(pieces.sold)
    return pl.DataFrame(
        {
            "bucket": np.arange(count, dtype=np.int64),
            "ts_open": time_at(edges[:-1], "right"),
            "ts_close": time_at(edges[1:], "left"),
            "volume": np.full(count, volume),
            "buy_volume": bought,
            "sell_volume": sold,
            "unknown_volume": between_edges(1 - pieces.bought - pieces.sold),
            "imbalance": (bought - sold) / volume,
        }
    )


def _with_vpin(buckets: pl.DataFrame, volume: float, window: int) -> pl.DataFrame:
    bought, sold = buckets["buy_volume"].to_numpy(), buckets["sell_volume"].to_numpy()
    gap = _rolling_sum(np.abs(bought - sold), window)
    known = _rolling_sum(bought + sold, window)
    vpin = np.where(known > 0, np.minimum(gap / (window * volume), 1.0), np.nan)  # above 1: the last bit of a sum
    rank = _trailing_rank(buckets["ts_close"].to_physical().to_numpy(), vpin, first=2 * window - 1)
    return buckets.with_columns(
        pl.Series("vpin", vpin).fill_nan(None), pl.Series("vpin_rank", rank, dtype=pl.Float64).fill_nan(None)
    )


def _rolling_sum(values: _Floats, window: int) -> _Floats:
    """Sum of the last `window` values; NaN before there are that many."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    result = np.full(values.size, np.nan)
    result[window - 1 :] = sums[window:] - sums[:-window]
    return result


def _trailing_rank(ts: _Ints, values: _Floats, *, first: int) -> list[float]:
    """Share of the values of the 90 days before that lie below each; NaN before row `first`."""
    arrived: deque[tuple[int, float]] = deque()
    ordered: list[float] = []
    ranks = []
    for row, (now, value) in enumerate(zip(ts.tolist(), values.tolist(), strict=True)):
        if np.isnan(value):
            ranks.append(np.nan)
            continue
        while arrived and arrived[0][0] <= now - _RANK_MEMORY:
            del ordered[bisect.bisect_left(ordered, arrived.popleft()[1])]
        below = bisect.bisect_left(ordered, value)
        ranks.append(below / len(ordered) if row >= first and ordered else np.nan)
        bisect.insort(ordered, value)
        arrived.append((now, value))
    return ranks
