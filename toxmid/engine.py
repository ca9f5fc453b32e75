"""The engine as users meet it: events or tables in, polars tables out, state as a value.

Two faces of the same compiled core: `Engine` gives every metric, `ImpliedMid` the estimator's figures of this moment.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from typing import Any, Self

import numpy as np
import polars as pl

from toxmid import _core, schema
from toxmid.errors import FileError, ParameterError
from toxmid.instrument import Instrument
from toxmid.params import Params

__all__ = ["Engine", "ImpliedMid", "Terms"]

_TIME_FIELDS = ("ts", "ts_open", "ts_close", "ts_start", "ts_end", "ts_known")
_INTEGER_FIELDS = ("trades", "bucket")
# Where nothing is known yet, sums are sums of nothing and stay 0; everything else is null.
_NEVER_NULL = ("buy_volume", "sell_volume", "unknown_volume", "liq_buy_volume", "liq_sell_volume", "volume")


def _frame(rows: bytes, fields: list[tuple[str, str]]) -> pl.DataFrame:
    """Rows of the core as columns: times become times, not-a-number becomes null."""
    table = np.frombuffer(rows, dtype=np.dtype(fields))
    columns = []
    for name, kind in fields:
        series = pl.Series(name, np.ascontiguousarray(table[name]))
        if name in _TIME_FIELDS:
            series = series.cast(schema.TIME)
        elif kind == "f8" and name not in _NEVER_NULL:
            series = series.fill_nan(None)
        columns.append(series)
    return pl.DataFrame(columns)


def _named(frame: pl.DataFrame, column: str, names: tuple[str, ...]) -> pl.DataFrame:
    """Codes of the core as words."""
    words = dict(enumerate(names))
    return frame.with_columns(pl.col(column).replace_strict(words, return_dtype=pl.String()))


def bars_frame(rows: bytes) -> pl.DataFrame:
    """Bars as the core wrote them."""
    return _named(_frame(rows, _core.BAR_FIELDS), "regime", _core.REGIME_NAMES)


def buckets_frame(rows: bytes) -> pl.DataFrame:
    """Closed volume buckets as the core wrote them."""
    return _frame(rows, _core.BUCKET_FIELDS)


def events_frame(rows: bytes) -> pl.DataFrame:
    """Closed episodes as the core wrote them, in the order in which they closed."""
    frame = _named(_frame(rows, _core.EPISODE_FIELDS), "kind", _core.EPISODE_NAMES)
    return frame.with_columns(pl.col("side").cast(pl.Int8))


class _Face(_core.Core):
    """What both faces share: defaults, state as a value."""

    params: Params
    instrument: Instrument

    def __new__(cls, params: Params | None = None, instrument: Instrument | None = None) -> Self:
        return super().__new__(cls, params, instrument)

    def __init__(self, params: Params | None = None, instrument: Instrument | None = None) -> None:
        if params is not None and not isinstance(params, Params):
            raise ParameterError("params must be a toxmid.Params", found=type(params).__name__)
        if instrument is not None and not isinstance(instrument, Instrument):
            raise ParameterError("instrument must be a toxmid.Instrument", found=type(instrument).__name__)
        self.params = params or Params()
        self.instrument = instrument or Instrument()
        super().__init__(self.params, self.instrument)

    def snapshot(self) -> bytes:
        """The whole state as bytes: what arrived after it gives the same bits, here or after `restore`."""
        head = json.dumps({"params": self.params.to_dict(), "instrument": self.instrument.to_dict()}).encode()
        body = struct.pack("<I", len(head)) + head + self.save_state()
        return body + struct.pack("<I", zlib.crc32(body))

    @classmethod
    def restore(cls, state: bytes) -> Self:
        """An engine with the state of a `snapshot`.

        Raises
        ------
        FileError
            The bytes are no snapshot, are damaged, or come from another version.
        """
        try:
            (length,) = struct.unpack_from("<I", state)
            if zlib.crc32(state[:-4]) != struct.unpack("<I", state[-4:])[0]:
                raise FileError("not a snapshot of an engine, or a damaged one: its checksum does not fit")
            head = json.loads(state[4 : 4 + length])
            engine = cls(Params.from_dict(head["params"]), Instrument.from_dict(head["instrument"]))
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise FileError("not a snapshot of an engine", expected="bytes of Engine.snapshot()") from error
        engine.load_state(bytes(state[4 + length : -4]))
        return engine

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).restore, (self.snapshot(),)


class Engine(_Face):
    """Every metric, one event at a time or whole tables at a time, with the same bits.

    Parameters
    ----------
    params : Params, optional
        None means the defaults.
    instrument : Instrument, optional
        Tick, lot and contract. Where they are not given, tick and lot are found in the pass over the data.

    Notes
    -----
    Methods that take one event: ``trade(ts, price, size, side)``, ``quote(ts, bid, bid_size, ask, ask_size)``,
    ``book(ts, side, price, size, snapshot)``, ``liquidation(ts, side, price, size)``, ``mark_price(ts, price)`` and
    ``reference_trade(ts, price, size, side)``; ``ts`` in int64 ns since 1970 UTC, prices in quote currency, sizes in
    base coin. Times must not go back. Events of one time are expected in the order trade, liquidation, book, quote.

    Examples
    --------
    >>> engine = Engine(Params(bucket_volume=1.0, window=2))
    >>> for i in range(20):
    ...     engine.trade(1_760_054_400_000_000_000 + i * 100_000_000, 100.0, 0.1, 1 if i % 2 else -1)
    >>> engine.finish()
    >>> engine.take_buckets().select("bucket", "volume", "imbalance", "vpin").rows()
    [(0, 1.0, 0.0, None), (1, 1.0, 0.0, 0.0)]
    >>> engine.take_bars()["trades"].to_list()
    [1, 10, 9]
    """

    def feed(
        self,
        *,
        trades: Any = None,
        book: Any = None,
        quotes: Any = None,
        liquidations: Any = None,
        mark: Any = None,
        reference: Any = None,
    ) -> None:
        """Take tables of events, each sorted by time, merged by time.

        Parameters
        ----------
        trades, book, quotes, liquidations, mark, reference : table, optional
            Canonical tables: polars, pyarrow, pandas or anything with ``__arrow_c_stream__``.

        Raises
        ------
        DataError
            A column is missing, or a time goes back; what came before that row has been taken.
        """
        tables = (trades, liquidations, book, quotes, mark, reference)
        kinds: tuple[schema.Kind, ...] = ("trades", "liquidations", "book", "quotes", "mark", "trades")
        self.run(
            tuple(
                None if table is None else schema.columns(schema.canonical(table, kind), kind)
                for table, kind in zip(tables, kinds, strict=True)
            )
        )

    def take_bars(self) -> pl.DataFrame:
        """Bars closed since the last call."""
        return bars_frame(self.drain_bars())

    def take_buckets(self) -> pl.DataFrame:
        """Volume buckets closed since the last call."""
        return buckets_frame(self.drain_buckets())

    def take_events(self) -> pl.DataFrame:
        """Episodes closed since the last call."""
        return events_frame(self.drain_episodes())


    def warm_up(self) -> dict[str, dict[str, float | str]]:
        """How much history each trailing reference has, and how much it wants."""
        warmth, day = self.warmth(), 1440.0
        minutes = warmth["calm_minutes"]
        return {
            "daily_volume": {"has": warmth["volume_days"], "needs": self.params.volume_days, "unit": "days"},
            "calm_statistics": {
                "has": minutes,
                "needs": (self.params.duration_ns("history") + self.params.duration_ns("history_lag")) // (60 * 10**9),
                "unit": "minutes",
            },
            "spread_by_time_of_day": {"has": minutes / day, "needs": 28.0, "unit": "days"},
            "vpin_rank": {"has": minutes / day, "needs": self.params.rank_days, "unit": "days"},
        }

    def memory(self) -> dict[str, float | str | None]:
        """Memory of the toxic means at the end: its half-life on the credible clock, and in seconds as things stand."""
        row = self.peek()
        seconds = row["memory"] if row is not None else math.nan
        return {
            "half_life_credible_minutes": self.params.toxic_half_life,
            "half_life_seconds_now": None if math.isnan(seconds) else seconds,
        }


class Terms(dict[str, float]):
    """The terms of an implied mid, price units: they add up to implied minus quoted mid.

    ``asymmetry``: what the untouched side of a torn spread says. ``volume``: how far the quoted mid has run ahead of
    what volume supports. ``credibility``: how much farther back the last price lies that was made in a tight market.
    ``toxic``: the way to the de-biased toxic mean (0 unless its weight was fitted). ``reference``: what another venue's
    corridor takes off. `memory` is the half-life of the toxic means at the
    credibility of this moment, seconds.
    """

    NAMES = ("asymmetry", "volume", "credibility", "toxic", "reference")

    def __init__(self, terms: dict[str, float], memory: float) -> None:
        super().__init__(terms)
        self.memory = memory

    def __repr__(self) -> str:
        return f"Terms({dict(self)!r}, memory={self.memory:.6g} s)"


class ImpliedMid(_Face):
    """The maker's own mid, for a backtest: hand it events, read `value` whenever it is wanted.

    Takes the same events as `Engine` and holds the same state. The figures are those of the open bar of the
    estimator's grid, as the bar would say if it ended with what has arrived so far; once it has ended they stand in
    `Engine`'s bars.

    Parameters
    ----------
    params : Params, optional
        None means the defaults.
    instrument : Instrument, optional
        Tick, lot and contract.

    Examples
    --------
    >>> estimator = ImpliedMid()
    >>> estimator.value
    nan
    >>> start = 1_760_054_400_000_000_000
    >>> for second in range(400):
    ...     estimator.trade(start + second * 10**9, 100.0 + 0.01 * (second % 2), 1.0, 1 if second % 2 else -1)
    >>> estimator.value == estimator.mid    # nothing toxic: exactly the quoted mid
    True
    """

    @property
    def value(self) -> float:
        """The implied mid, quote currency; NaN until ready."""
        return float(self.peek_terms()[1])

    @property
    def mid(self) -> float:
        """The quoted mid (pseudo-quotes where there are only trades); NaN where there is none."""
        return float(self.peek_terms()[0])

    @property
    def interval(self) -> tuple[float, float]:
        """90 % interval of the implied mid."""
        row = self.peek()
        return (math.nan, math.nan) if row is None else (row["implied_lo"], row["implied_hi"])

    @property
    def toxicity(self) -> float:
        """Liquidation-driven share of the volume, 30 s memory; NaN before the first trade."""
        row = self.peek()
        return math.nan if row is None else float(row["toxicity"])

    @property
    def terms(self) -> Terms:
        """What makes the difference between implied and quoted mid; the terms add up to it."""
        mid, value, *bps, memory = self.peek_terms()
        total = sum(bps)
        # The terms act on the logarithm, one after the other; in price units each gets its part of the difference. The
        # largest gets what rounding leaves, so that the sum is the difference.
        parts = [(value - mid) * term / total if total else 0.0 * value for term in bps]
        largest = max(range(len(bps)), key=lambda i: abs(bps[i]))
        parts[largest] += (value - mid) - sum(parts)
        return Terms(dict(zip(Terms.NAMES, parts, strict=True)), memory)
