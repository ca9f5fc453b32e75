"""What a taker paid and a maker kept, trade by trade: trade signs, quoted, effective and realised spread, impact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl
import polars.selectors as cs

from toxmid._trades import RULES, last_up_to, sign_trades
from toxmid.durations import nanoseconds
from toxmid.errors import ParameterError
from toxmid.instrument import Instrument
from toxmid.microprice import MicroPrice, touches
from toxmid.schema import TIME, columns, empty
from toxmid.tapes import in_order, with_sides, without_sizes

__all__ = [
    "Benchmark",
    "Direction",
    "Moment",
    "Rule",
    "classify",
    "last_quotes",
    "lengths_of",
    "moment_after",
    "signs_of",
    "spreads",
    "times_of",
    "where_price",
]

Rule = Literal["tick", "quote", "lee_ready", "emo"]
Direction = Literal["side", "tick", "quote", "lee_ready", "emo"]
Benchmark = Literal["mid", "weighted_mid", "micro_price"]

_QUOTE_RULES: Final = ("quote", "lee_ready", "emo")
_BPS: Final = 1e4
_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


def classify(trades: Any, quotes: Any = None, *, rule: Rule, instrument: Instrument | None = None) -> pl.Series:
    """Sign trades: who was the taker?

    Parameters
    ----------
    trades : frame
        Canonical trades in order of time; ``side`` is neither needed nor looked at.
    quotes : frame, optional
        Canonical quotes in order of time, sizes not needed; required by every rule but ``"tick"``. A trade meets the
        quote in force strictly before its ``ts``.
    rule : {"tick", "quote", "lee_ready", "emo"}
        "tick": the sign of the last price change that was not zero. "quote": above the midpoint bought, below it sold.
        "lee_ready": the quote rule, and the tick rule at the midpoint [1]_, with no lag of quotes. "emo": at the ask
        bought, at the bid sold, the tick rule elsewhere [2]_.
    instrument : Instrument, optional
        With a tick, prices closer than a quarter of it are equal. Without one they are compared as doubles, exactly,
        so that a trade at the midpoint may fall to either side of it by rounding, as in other packages.

    Returns
    -------
    polars.Series
        ``side``, Int8, a value per trade: +1 taker bought, -1 taker sold, 0 not known. Not known are trades before
        the first price change (tick rule), without a usable quote (the other rules; crossed and one-sided quotes are
        not usable), and without a price.

    Raises
    ------
    DataError
        A column is missing, or time goes back.
    ParameterError
        An unknown rule, or a rule that needs quotes and got none.

    References
    ----------
    .. [1] Lee, C. M. C. and Ready, M. J. (1991). Inferring trade direction from intraday data. Journal of Finance 46.
       doi:10.1111/j.1540-6261.1991.tb02683.x
    .. [2] Ellis, K., Michaely, R. and O'Hara, M. (2000). The accuracy of trade classification rules: evidence from
       Nasdaq. Journal of Financial and Quantitative Analysis 35. doi:10.2307/2676254

    Examples
    --------
    >>> import polars as pl
    >>> second = 10**9
    >>> start = 1760054400 * second
    >>> trades = pl.DataFrame({"ts": [start + k * second for k in (1, 2, 3)], "price": [10.2, 10.1, 10.0], "size": 1.0})
    >>> quotes = pl.DataFrame({"ts": [start], "bid": [10.0], "ask": [10.2]})
    >>> classify(trades, quotes, rule="lee_ready").to_list()
    [1, -1, -1]
    >>> classify(trades, rule="tick").to_list()
    [0, -1, -1]
    """
    if rule not in get_args(Rule):
        raise ParameterError("no such rule", found=rule, expected=" | ".join(get_args(Rule)))
    if quotes is None and rule in _QUOTE_RULES:
        raise ParameterError(f"the rule {rule!r} needs quotes", expected="quotes=")
    tape = columns(with_sides(trades), "trades")
    book = columns(without_sizes(quotes), "quotes") if quotes is not None else None
    return pl.Series("side", signs_of(tape, book, rule, instrument))


def spreads(
    trades: Any,
    quotes: Any,
    *,
    horizons: Sequence[str] = ("1s", "5s", "30s", "60s", "300s"),
    direction: Direction = "side",
    benchmark: Benchmark = "mid",
    micro: MicroPrice | None = None,
    instrument: Instrument | None = None,
) -> pl.DataFrame:
    """Quoted, effective and realised spread and price impact of each trade.

    With d the direction of the trade, p its price, m the mid before it and :math:`m_h` the mid a time h after it,

    .. math::

        effective = 2 d (p - m), \\quad realised_h = 2 d (p - m_h), \\quad impact_h = d (m_h - m)

    so that effective = realised + 2 impact [1]_. These are full spreads in quote currency. The columns ending in
    ``_bps`` have the same definitions with logarithms of prices, times :math:`10^4`, so the identity holds there too.

    Parameters
    ----------
    trades : frame
        Canonical trades in order of time. Without ``side`` every direction is unknown, unless `direction` is a rule.
    quotes : frame
        Canonical quotes in order of time; sizes are needed for every benchmark but ``"mid"``.
    horizons : sequence of str
        The times h. They name the columns, as they are written.
    direction : {"side", "tick", "quote", "lee_ready", "emo"}
        The venue's own flag, or a rule of `classify`.
    benchmark : {"mid", "weighted_mid", "micro_price"}
        What stands for m and m_h. The midpoint overstates effective spreads where ticks are coarse [2]_; the weighted
        mid :math:`(ask \\, q_{bid} + bid \\, q_{ask}) / (q_{bid} + q_{ask})` leans to the thinner side, the micro-price
        goes where the mid has gone from such sizes and spreads before [3]_. Either then has a column of its own;
        ``mid`` stays the midpoint. Both are made for calm: the sizes at a torn touch say little.
    micro : MicroPrice, optional
        What the micro-price has learnt, from calm quotes: ``MicroPrice.fit_quotes(quotes)``. Quotes of the same tape
        would let it see what comes later. Needed for ``benchmark="micro_price"``.
    instrument : Instrument, optional
        Its tick is used as in `classify`.

    Returns
    -------
    polars.DataFrame
        A row per trade: ``ts, price, size, direction, bid, ask, mid, quoted_spread, effective_spread`` and for each h
        ``realized_spread_<h>, impact_<h>, ts_known_<h>``; the four spreads and impacts once more with ``_bps`` at the
        end. ``bid``, ``ask`` and ``mid`` are of the quote in force strictly before the trade; :math:`m_h` is of the
        last quote with time up to and with t + h. ``ts_known_<h>`` is t + h, and null where the tape (trades and
        quotes) ends before it. What is not known is null: whatever needs a direction that is 0, or the mid of no quote
        yet, of a crossed quote, or of one without a side.

    Raises
    ------
    DataError
        A column is missing, or time goes back.
    ParameterError
        An unknown direction or benchmark, or a horizon that is no length of time.

    References
    ----------
    .. [1] Huang, R. D. and Stoll, H. R. (1996). Dealer versus auction markets. Journal of Financial Economics 41.
       doi:10.1016/0304-405X(95)00867-E
    .. [2] Hagströmer, B. (2021). Bias in the effective bid-ask spread. Journal of Financial Economics 142.
       doi:10.1016/j.jfineco.2021.04.018
    .. [3] Stoikov, S. (2018). The micro-price: a high-frequency estimator of future prices. Quantitative Finance 18.
       doi:10.1080/14697688.2018.1489139

    Examples
    --------
    >>> import polars as pl
    >>> second = 10**9
    >>> start = 1760054400 * second
    >>> trades = pl.DataFrame({"ts": [start + second], "price": [10.1], "size": [1.0], "side": [1]})
    >>> quotes = pl.DataFrame({"ts": [start, start + 5 * second], "bid": [9.9, 10.0], "ask": [10.1, 10.4]})
    >>> row = spreads(trades, quotes, horizons=["3s", "4s", "5s"]).row(0, named=True)
    >>> [round(row[name], 6) for name in ("effective_spread", "realized_spread_3s", "realized_spread_4s", "impact_4s")]
    [0.2, 0.2, -0.2, 0.2]
    >>> row["realized_spread_5s"] is None and row["ts_known_5s"] is None
    True
    """
    lengths = lengths_of(horizons)
    if direction not in RULES:
        raise ParameterError("no such direction", found=direction, expected=" | ".join(RULES))
    if benchmark not in get_args(Benchmark):
        raise ParameterError("no such benchmark", found=benchmark, expected=" | ".join(get_args(Benchmark)))
    if benchmark == "micro_price" and micro is None:
        raise ParameterError("the micro-price must have learnt", column="micro", expected="a toxmid.MicroPrice")
    sized = benchmark != "mid"
    tape = columns(with_sides(trades), "trades")
    table_of_quotes = in_order(quotes, "quotes") if sized else without_sizes(quotes)
    book = columns(table_of_quotes, "quotes")
    signs = signs_of(tape, book, direction, instrument)
    learnt = micro.predict(touches(table_of_quotes)) if micro is not None and benchmark == "micro_price" else None
    standing = _Standing.of(book, benchmark, learnt)
    before = last_quotes(tape["ts"], book["ts"], -1)
    moments = {name: moment_after(length, tape["ts"], book["ts"]) for name, length in lengths.items()}
    prices = _Prices(
        sign=np.where(signs == 0, np.nan, signs),
        price=where_price(tape["price"]),
        bid=standing.bid[before],
        ask=standing.ask[before],
        mid=standing.benchmark[before],
        mid_after={name: np.where(at.reached, standing.benchmark[at.quote], np.nan) for name, at in moments.items()},
    )
    table: dict[str, Any] = {
        "ts": pl.Series(tape["ts"]).cast(TIME),
        "price": tape["price"],
        "size": tape["size"],
        "direction": signs,
        "bid": standing.shown_bid[before],
        "ask": standing.shown_ask[before],
        "mid": 0.5 * (prices.bid + prices.ask),
        **({benchmark: prices.mid} if sized else {}),
        **prices.costs(),
        **{f"ts_known_{name}": times_of(at.ts, at.reached) for name, at in moments.items()},
        **prices.in_bps().costs("_bps"),
    }
    return pl.DataFrame(table).with_columns(cs.float().fill_nan(None))


@dataclass(frozen=True)
class _Standing:
    """What each quote says, with NaN for what it does not say, and one more element: NaN, "no quote yet".

    Index -1, which a search before the first quote gives, so finds the right answer.
    """

    shown_bid: _Floats  # as quoted
    shown_ask: _Floats
    bid: _Floats  # of usable quotes: two sides, not crossed
    ask: _Floats
    benchmark: _Floats

    @classmethod
    def of(cls, book: dict[str, npt.NDArray[Any]], benchmark: Benchmark, micro: pl.Series | None) -> _Standing:
        shown_bid, shown_ask = where_price(book["bid"]), where_price(book["ask"])
        usable = shown_bid <= shown_ask
        bid, ask = np.where(usable, shown_bid, np.nan), np.where(usable, shown_ask, np.nan)
        if benchmark == "weighted_mid":
            price = _weighted_mid(bid, ask, book["bid_size"], book["ask_size"])
        elif micro is not None:
            price = micro.fill_null(np.nan).to_numpy()
        else:
            price = 0.5 * (bid + ask)
        return cls(*(np.append(values, np.nan) for values in (shown_bid, shown_ask, bid, ask, price)))


@dataclass(frozen=True)
class _Prices:
    """Everything that spreads are made of, in quote currency or in bps of log price."""

    sign: _Floats  # NaN where not known
    price: _Floats
    bid: _Floats
    ask: _Floats
    mid: _Floats
    mid_after: dict[str, _Floats]  # by horizon

    def costs(self, suffix: str = "") -> dict[str, _Floats]:
        table = {
            f"quoted_spread{suffix}": self.ask - self.bid,
            f"effective_spread{suffix}": 2 * self.sign * (self.price - self.mid),
        }
        for name, mid_after in self.mid_after.items():
            table[f"realized_spread_{name}{suffix}"] = 2 * self.sign * (self.price - mid_after)
            table[f"impact_{name}{suffix}"] = self.sign * (mid_after - self.mid)
        return table

    def in_bps(self) -> _Prices:
        def bps(price: _Floats) -> _Floats:
            return np.asarray(_BPS * np.log(price), dtype=np.float64)

        mid_after = {name: bps(price) for name, price in self.mid_after.items()}
        return _Prices(self.sign, bps(self.price), bps(self.bid), bps(self.ask), bps(self.mid), mid_after)


@dataclass(frozen=True)
class Moment:
    """One time after each trade: `moment_after` finds it."""

    ts: _Ints
    reached: npt.NDArray[np.bool_]  # has the tape got there?
    quote: _Ints  # last quote up to and with it; -1: none


def moment_after(length: int, trade_ts: _Ints, quote_ts: _Ints) -> Moment:
    ts = trade_ts + length
    end = max((int(clock[-1]) for clock in (trade_ts, quote_ts) if clock.size), default=0)
    return Moment(ts=ts, reached=ts <= end, quote=last_quotes(trade_ts, quote_ts, length))


def last_quotes(ts: _Ints, clock: _Ints, shift: int) -> _Ints:
    """Row of the last quote up to and with each time plus `shift` ns; -1: none."""
    out = np.empty(ts.size, dtype=np.int64)
    last_up_to(ts, clock, shift, out)
    return out


def lengths_of(horizons: Sequence[str]) -> dict[str, int]:
    """Horizons in ns, by the name they were given."""
    lengths = {name: nanoseconds(name, name="horizon") for name in horizons}
    if len(lengths) < len(horizons) or isinstance(horizons, str):
        raise ParameterError("horizons must be a list of different times", found=horizons, expected='as ["1s", "5s"]')
    return lengths


def signs_of(
    tape: dict[str, npt.NDArray[Any]],
    book: dict[str, npt.NDArray[Any]] | None,
    rule: str,
    instrument: Instrument | None,
) -> npt.NDArray[np.int8]:
    """Taker side of each trade by a rule; 0 where it is not known."""
    tick = instrument.tick if instrument is not None else None
    slack = tick / 4 if tick is not None else 0.0
    quotes = book if book is not None else columns(empty("quotes"), "quotes")
    out = np.empty(tape["ts"].size, dtype=np.int8)
    sign_trades(
        tape["ts"], tape["price"], tape["side"], quotes["ts"], quotes["bid"], quotes["ask"], RULES[rule], slack, out
    )
    return out


def where_price(values: _Floats) -> _Floats:
    """NaN for everything that is no price."""
    return np.where((values > 0) & (values < np.inf), values, np.nan)


def _weighted_mid(bid: _Floats, ask: _Floats, bid_size: _Floats, ask_size: _Floats) -> _Floats:
    known = (bid_size >= 0) & (ask_size >= 0) & (bid_size + ask_size > 0) & (bid_size + ask_size < np.inf)
    share = np.divide(bid_size, bid_size + ask_size, out=np.full(bid.size, np.nan), where=known)
    return np.asarray(bid + share * (ask - bid), dtype=np.float64)


def times_of(ts: _Ints, known: npt.NDArray[np.bool_]) -> pl.Series:
    return pl.select(pl.when(pl.Series(known)).then(pl.Series(ts)).cast(TIME)).to_series()
