"""The engine as users meet it: events or tables in, polars tables out, state as a value.

Two faces of the same compiled core: `Engine` gives every metric, `ImpliedMid` the estimator's figures of this moment.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import struct
import zlib
from collections.abc import Collection, Mapping
from typing import Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from toxmid import _core, schema
from toxmid.errors import DataError, FileError, ParameterError
from toxmid.instrument import Instrument
from toxmid.merging import Columns, joined_venues
from toxmid.params import Params

__all__ = ["REFERENCE", "Engine", "ImpliedMid", "Terms"]

Words: TypeAlias = npt.NDArray[np.int64]  # fields of eight bytes, of whatever type

REFERENCE: Final = "reference"  # the name of another venue that was given none
_OWN_NAMES: Final = ("index", "mark")

_TELLING_RECORDS: Final = 20
_FEW_MATCHED: Final = 0.25  # of simulated feeds all is found; with sides the other way round, 5 to 15 %

_TIME_FIELDS = ("ts", "ts_open", "ts_close", "ts_start", "ts_end", "ts_known")
_TIME, _COUNT, _NUMBER = pa.timestamp("ns", "UTC"), pa.int64(), pa.float64()
_PERHAPS_NEVER = ("ts_tightened",)  # times that the core writes as 0 where there is none
_NEVER: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FLAGS = ("gap",)
_RANGE = ("vpin_lo", "vpin_hi")
_CLOCK_FIELDS: Final = [name for name, _ in _core.BUCKET_FIELDS].index(_RANGE[0])  # what a volume clock alone knows
# Where nothing is known yet, sums are sums of nothing and stay 0; everything else is null.
_NEVER_NULL = ("buy_volume", "sell_volume", "unknown_volume", "volume")


def _frame(table: Words, fields: list[tuple[str, str]], names: Collection[str] | None = None) -> pl.DataFrame:
    """Columns of the core as a frame, all or those named: times become times, not-a-number becomes null. Polars takes
    the words as they stand, without a copy."""
    shown = [(field, words) for field, words in zip(fields, table, strict=True) if names is None or field[0] in names]
    arrays = {name: _array(name, kind, words) for (name, kind), words in shown}
    frame = pl.DataFrame(pa.RecordBatch.from_pydict(arrays))
    never = [pl.col(name).replace(_NEVER, None) for name in _PERHAPS_NEVER if name in arrays]
    flags = [pl.col(name).cast(pl.Boolean) for name in _FLAGS if name in arrays]
    return frame.with_columns(*never, *flags) if never or flags else frame


def _array(name: str, kind: str, words: Words) -> pa.Array:
    """Words of eight bytes as what they are: times, whole numbers, or numbers with holes."""
    type_, solid = _NUMBER if kind == "f8" else _COUNT, None
    if name in _TIME_FIELDS or name in _PERHAPS_NEVER:
        type_ = _TIME
    elif kind == "f8" and name not in _NEVER_NULL:
        holes = np.isnan(words.view(np.float64))
        solid = pa.py_buffer(np.packbits(~holes, bitorder="little")) if holes.any() else None
    return pa.Array.from_buffers(type_, len(words), [solid, pa.py_buffer(words)])


def _turned(rows: bytes, width: int) -> Words:
    """Rows of the core as columns."""
    table = np.frombuffer(rows, np.int64).reshape(-1, width)
    turned = np.empty((width, len(table)), np.int64)
    _core.turn(table, turned)
    return turned


def _columns(table: Any, kind: schema.Kind) -> Columns:
    return schema.columns(schema.canonical(table, kind), kind)


def _named(frame: pl.DataFrame, column: str, names: tuple[str, ...]) -> pl.DataFrame:
    """Codes of the core as words."""
    return frame.with_columns(pl.Series(column, names, pl.String).gather(frame[column]))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _names(fields: list[tuple[str, str]], ranged: bool) -> list[str]:
    return [name for name, _ in fields if ranged or name not in _RANGE]


def bars_frame(rows: bytes, *, ranged: bool = False) -> pl.DataFrame:
    """Bars as the core wrote them; `ranged`: with the range of VPIN over several starts."""
    return _bars(_turned(rows, len(_core.BAR_FIELDS)), ranged)


def _bars(table: Words, ranged: bool) -> pl.DataFrame:
    return _named(_frame(table, _core.BAR_FIELDS, _names(_core.BAR_FIELDS, ranged)), "regime", _core.REGIME_NAMES)


def buckets_frame(rows: bytes, *, ranged: bool = False) -> pl.DataFrame:
    """Closed volume buckets as the core wrote them; `ranged`: with the range of VPIN over several starts."""
    return _frame(_turned(rows, len(_core.BUCKET_FIELDS)), _core.BUCKET_FIELDS, _names(_core.BUCKET_FIELDS, ranged))


def buckets_of(clock: _core.BucketCore, *, ranged: bool) -> pl.DataFrame:
    """What a volume clock alone tells of the buckets that have closed: the first columns of `buckets_frame`."""
    fields = _core.BUCKET_FIELDS[: _CLOCK_FIELDS + (len(_RANGE) if ranged else 0)]
    table = np.empty((len(fields), clock.buckets_waiting), np.int64)
    clock.drain_buckets_into(table)
    return _frame(table, fields)


def events_frame(rows: bytes) -> pl.DataFrame:
    """Closed episodes as the core wrote them, in the order in which they closed."""
    table = _turned(rows, len(_core.EPISODE_FIELDS))
    frame = _named(_frame(table, _core.EPISODE_FIELDS), "kind", _core.EPISODE_NAMES)
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
        self._venues: list[str] = []
        super().__init__(self.params, self.instrument)

    def venue_number(self, name: str) -> int:
        """The number under which the core knows another venue; a new name gets the next one.

        Raises
        ------
        ParameterError
            More venues than an engine can watch, or a name of the engine's own.
        """
        number = self._place_of(name)
        if number == len(self._venues):
            self._venues.append(name)
        return number

    def _place_of(self, name: str) -> int:
        """Where a name stands among the venues, or will stand."""
        if name in self._venues:
            return self._venues.index(name)
        if name in _OWN_NAMES or not name:
            raise ParameterError("no name for another venue", column="venue", found=name)
        if len(self._venues) == _core.OTHER_VENUE_LIMIT:
            limit = f"at most {_core.OTHER_VENUE_LIMIT}"
            raise ParameterError("too many other venues", column="venue", found=name, expected=limit)
        return len(self._venues)

    def reference_trade(
        self, ts: int | np.integer[Any], price: float, size: float, side: int = 0, *, venue: str = REFERENCE
    ) -> None:
        """Take one trade of another venue of the same coin: `ts` in ns, side +1, -1 or 0, and which venue it is."""
        self.reference_trade_at(self._place_of(venue), ts, price, size, side)
        self.venue_number(venue)  # named only once its trade was taken

    @property
    def references(self) -> dict[str, dict[str, Any]]:
        """What is known of every other venue that has spoken, and of ``index`` and ``mark``.

        ``used`` and ``rejected`` count rows; ``basis_bps`` (median of our mid less its mid), ``deviation_bps`` (median
        distance from that) and ``spread_bps`` (of its tape) are what is usual; ``weight`` is its share in the corridor
        of the last step, 0 where it had none, ``mean_weight`` that of all steps with a corridor.
        """
        return {self._venue_name(number): told for number, told in self.venues().items()}

    def _venue_name(self, number: int | str) -> str:
        return self._venues[number] if isinstance(number, int) else number

    def snapshot(self) -> bytes:
        """The whole state as bytes: what arrived after it gives the same bits, here or after `restore`."""
        market = {"params": self.params.to_dict(), "instrument": self.instrument.to_dict()}
        head = json.dumps({**market, "venues": self._venues}).encode()
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
            engine._venues = list(head["venues"])
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
    ``book(ts, side, price, size, snapshot)``, ``liquidation(ts, side, price, size)``, ``mark_price(ts, price, index)``,
    ``reference_trade(ts, price, size, side, venue=name)`` and ``open_interest(ts, open_interest)``; ``ts`` in int64 ns
    since 1970 UTC, prices in quote currency, sizes in base coin. Times must not go back. Events of one time are
    expected in the order trade, liquidation, book, quote, mark, reference, open interest.

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
        open_interest: Any = None,
    ) -> None:
        """Take tables of events, each sorted by time, merged by time.

        Parameters
        ----------
        trades, book, quotes, liquidations, mark, reference, open_interest : table, optional
            Canonical tables: polars, pyarrow, pandas or anything with ``__arrow_c_stream__``. `reference` may be
            several tables by the name of their venue.

        Raises
        ------
        DataError
            A column is missing, or a time goes back; what came before that row has been taken.
        """
        tables = (trades, liquidations, book, quotes, mark)
        kinds: tuple[schema.Kind, ...] = ("trades", "liquidations", "book", "quotes", "mark")
        own = [None if table is None else _columns(table, kind) for table, kind in zip(tables, kinds, strict=True)]
        interest = None if open_interest is None else _columns(open_interest, "open_interest")
        self.run((*own, self._elsewhere(reference), interest))

    def _elsewhere(self, reference: Any) -> Columns | None:
        """Trades of other venues as the core takes them: one table, each row with the number of its venue."""
        if reference is None:
            return None
        named = dict(reference) if isinstance(reference, Mapping) else {REFERENCE: reference}
        tables = {self.venue_number(name): _columns(table, "trades") for name, table in named.items()}
        if set(tables) == {0}:
            return tables[0]
        for name, table in zip(named, tables.values(), strict=True):
            back = np.flatnonzero(np.diff(table["ts"]) < 0)
            if back.size:
                raise DataError(f"time goes back in trades of {name}", row=int(back[0]) + 1, column="ts")
        return joined_venues(tables)

    def take_bars(self) -> pl.DataFrame:
        """Bars closed since the last call."""
        table = np.empty((len(_core.BAR_FIELDS), self.bars_waiting), np.int64)
        self.drain_bars_into(table)
        return _bars(table, ranged=self.params.vpin_offsets > 1)

    def take_buckets(self) -> pl.DataFrame:
        """Volume buckets closed since the last call."""
        return buckets_frame(self.drain_buckets(), ranged=self.params.vpin_offsets > 1)

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

    def feed_completeness(self) -> dict[str, float | None] | None:
        """How complete the liquidation feed is, since the engine began; None while there was no record.

        Returns
        -------
        dict
            ``records``, ``published_volume`` (base coin). ``matched_share``: of it, found among the trades.
            ``inferred_volume`` (base coin): what the state of the market makes one expect, feed or no feed; and
            ``published_of_inferred``. ``published_of_open_interest``: over all that the open interest fell, where it
            was given. ``single_record_share``: of the seconds with a record, those with exactly one (1 where a venue
            publishes one record a second, as Binance does), and ``most_per_second``. A ratio over nothing is None.
            ``doubtful``: of 20 records or more, less than a quarter of the volume was found among the trades, as where
            a side is that of the position that was closed (a long) and not that of the forced order (a sale), or where
            feed and trades have different clocks or markets.
        """
        figures = self.feed_figures()
        if figures["records"] == 0:
            return None
        published = figures["published_volume"]
        matched = _ratio(figures["matched_volume"], published)
        return {
            "records": figures["records"],
            "published_volume": published,
            "matched_share": matched,
            "inferred_volume": figures["inferred_volume"],
            "published_of_inferred": _ratio(published, figures["inferred_volume"]),
            "published_of_open_interest": _ratio(published, figures["open_interest_fallen"]),
            "single_record_share": _ratio(figures["single_seconds"], figures["seconds"]),
            "most_per_second": figures["most_per_second"],
            "doubtful": figures["records"] >= _TELLING_RECORDS and matched is not None and matched < _FEW_MATCHED,
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
    def weights(self) -> dict[str, float]:
        """Share of every other venue, of the index and of the mark price in the corridor; empty where there is none."""
        return {self._venue_name(number): weight for number, weight in self.peek_weights().items()}

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
