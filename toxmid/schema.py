"""Canonical tables: the one form in which trades, books, quotes, liquidations and figures enter toxmid.

Whatever a tape looks like outside, `canonical` turns it into one of the tables below, once, at the border. Behind
the border nobody checks a name, a unit or a time zone again; `columns` hands the same table to the core without a copy.
"""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

import numpy as np
import polars as pl
import pyarrow as pa

from toxmid.errors import DataError, ParameterError
from toxmid.instrument import Instrument

__all__ = [
    "BUY",
    "KINDS",
    "MAX_NS",
    "MIN_NS",
    "SELL",
    "TABLES",
    "TIME",
    "UNKNOWN",
    "Field",
    "Kind",
    "as_frame",
    "canonical",
    "columns",
    "empty",
    "parse_time",
    "probable_unit",
    "together",
]

Kind = Literal[
    "trades", "book", "quotes", "liquidations", "mark", "index", "open_interest", "funding", "depth_bands", "options"
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

# Side codes. Trades: what the taker did. Books: which half. Liquidations: the forced order (SELL = a long was closed).
BUY: Final = 1
SELL: Final = -1
UNKNOWN: Final = 0

TIME: Final = pl.Datetime("ns", "UTC")

# A time outside is a wrong unit, not a market: crypto has none before 2009, and a unit off by 1000 lands far outside.
MIN_NS: Final = int(dt.datetime(2009, 1, 1, tzinfo=dt.UTC).timestamp()) * 10**9
MAX_NS: Final = int(dt.datetime(2100, 1, 1, tzinfo=dt.UTC).timestamp()) * 10**9

_NS_PER: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_UNIT_NAMES: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


@dataclass(frozen=True)
class Field:
    """One column of a canonical table: its name, its type, its unit, whether a table may do without it, and (of times)
    whether a row may."""

    name: str
    dtype: pl.DataType
    unit: str
    optional: bool = False
    nullable: bool = False


_FLOAT: Final = pl.Float64()
_TS: Final = Field("ts", TIME, "UTC; arrival (local) time where the tape has one, else exchange time")
_TS_EVENT: Final = Field("ts_event", TIME, "UTC; exchange time", optional=True)
_PRICE: Final = Field("price", _FLOAT, "quote currency")
_SIZE: Final = Field("size", _FLOAT, "base coin")

TABLES: Final[Mapping[Kind, tuple[Field, ...]]] = {
    "trades": (
        _TS,
        _TS_EVENT,
        _PRICE,
        _SIZE,
        Field("side", pl.Int8(), "+1 taker bought, -1 taker sold, 0 unknown"),
        Field("id", pl.String(), "the venue's own; two rows with one id are one trade", optional=True),
        Field("lots", pl.Int64(), "multiples of the lot: contracts where the market is inverse", optional=True),
    ),
    "book": (
        _TS,
        _TS_EVENT,
        Field("side", pl.Int8(), "+1 bid, -1 ask"),
        _PRICE,
        Field("size", _FLOAT, "base coin that now stands at the price, 0 deletes the level"),
        Field("snapshot", pl.Boolean(), "row of a full book: the first one after updates clears both sides"),
        Field("gap", pl.Boolean(), "updates were lost before this row: no book until the next snapshot", optional=True),
    ),
    "quotes": (
        _TS,
        _TS_EVENT,
        Field("bid", _FLOAT, "quote currency"),
        Field("bid_size", _FLOAT, "base coin"),
        Field("ask", _FLOAT, "quote currency"),
        Field("ask_size", _FLOAT, "base coin"),
    ),
    "liquidations": (
        _TS,
        _TS_EVENT,
        Field("side", pl.Int8(), "of the forced order: -1 a long was liquidated, +1 a short"),
        _PRICE,
        _SIZE,
    ),
    "mark": (
        _TS,
        _TS_EVENT,
        Field("price", _FLOAT, "mark price of the venue, quote currency"),
        Field("index", _FLOAT, "index price that it is made from, quote currency", optional=True),
    ),
    "index": (_TS, _TS_EVENT, Field("price", _FLOAT, "index price, quote currency")),
    "open_interest": (
        _TS,
        _TS_EVENT,
        Field("open_interest", _FLOAT, "base coin, of one side: longs and shorts are equal"),
    ),
    "funding": (
        _TS,
        _TS_EVENT,
        Field("rate", _FLOAT, "share of the position's value, paid by longs to shorts, for one interval"),
        Field("interval", _FLOAT, "hours; NaN where the tape does not say", optional=True),
        Field("due", TIME, "UTC; when it is paid", optional=True, nullable=True),
        Field("predicted", _FLOAT, "rate expected for the interval after it; NaN where nothing is", optional=True),
    ),
    "depth_bands": (
        _TS,
        _TS_EVENT,
        Field("side", pl.Int8(), "+1 bid, -1 ask"),
        Field("percent", _FLOAT, "distance from the mid, > 0"),
        Field("depth", _FLOAT, "base coin resting between the mid and that distance"),
        Field("notional", _FLOAT, "the same in quote currency"),
        Field("stale", pl.Boolean(), "this band has stood still for too long to be a market"),
    ),
    "options": (
        _TS,
        _TS_EVENT,
        Field("symbol", pl.String(), "of the option, as the venue writes it"),
        Field("option", pl.Int8(), "+1 call, -1 put"),
        Field("strike", _FLOAT, "quote currency of the underlying"),
        Field("expiry", TIME, "UTC"),
        *(
            Field(name, _FLOAT, unit, optional=True)
            for name, unit in (
                ("open_interest", "contracts"),
                ("last_price", "as the venue quotes premiums"),
                ("bid", "as the venue quotes premiums"),
                ("bid_size", "contracts"),
                ("bid_iv", "annual, as a fraction"),
                ("ask", "as the venue quotes premiums"),
                ("ask_size", "contracts"),
                ("ask_iv", "annual, as a fraction"),
                ("mark_price", "as the venue quotes premiums"),
                ("mark_iv", "annual, as a fraction"),
                ("underlying", "price of `underlying_index`, quote currency"),
                ("delta", "as the venue defines it"),
                ("gamma", "as the venue defines it"),
                ("vega", "as the venue defines it"),
                ("theta", "as the venue defines it"),
                ("rho", "as the venue defines it"),
            )
        ),
        Field("underlying_index", pl.String(), "what the venue prices it on", optional=True, nullable=True),
    ),
}

_SIDE_WORDS: Final[Mapping[Kind, Mapping[str, int]]] = {
    "trades": {"buy": BUY, "sell": SELL, "unknown": UNKNOWN},
    "liquidations": {"buy": BUY, "sell": SELL, "unknown": UNKNOWN},
    "book": {"bid": BUY, "ask": SELL},
    "depth_bands": {"bid": BUY, "ask": SELL},
    "options": {"call": 1, "put": -1},
}

# Names that other people give to our columns; a spelling test alone would not find them.
_SYNONYMS: Final = {
    "ts": ("timestamp", "time", "datetime", "date", "local_timestamp", "ts_recv", "t"),
    "price": ("px", "p", "trade_price", "mark_price"),
    "size": ("amount", "qty", "quantity", "volume", "sz", "q"),
    "side": ("direction", "taker_side", "aggressor_side"),
    "snapshot": ("is_snapshot",),
    "open_interest": ("sum_open_interest", "oi", "openinterest"),
    "index": ("index_price",),
    "rate": ("funding_rate", "last_funding_rate"),
    "percent": ("percentage",),
    "strike": ("strike_price",),
    "expiry": ("expiration",),
    "bid": ("bid_price", "best_bid", "best_bid_price", "bid_px"),
    "ask": ("ask_price", "best_ask", "best_ask_price", "offer", "ask_px"),
    "bid_size": ("bid_amount", "bid_qty", "best_bid_qty", "bid_sz"),
    "ask_size": ("ask_amount", "ask_qty", "best_ask_qty", "ask_sz"),
}


def canonical(table: Any, kind: Kind, *, instrument: Instrument | None = None) -> pl.DataFrame:
    """Bring any table into the canonical form of its kind.

    Parameters
    ----------
    table : polars, pyarrow or pandas table, polars.LazyFrame, or any object with ``__arrow_c_stream__``
        Columns are found by name; columns that the kind does not know are left out.
        Times may be int64 nanoseconds since 1970 (UTC) or a datetime of any unit; a naive datetime is UTC.
        Sides may be ``+1, -1, 0`` or the words ``"buy", "sell", "unknown"`` (in a book ``"bid", "ask"``).
    kind : str
        Which table it is, one of `KINDS`; `TABLES` lists columns and units.
    instrument : Instrument, optional
        Where it is inverse, trades without a `lots` column get one, because a contract's worth in coin lies on no grid:
        ``lots = size * price / (contract_value * lot)``, rounded.

    Returns
    -------
    polars.DataFrame
        The columns of the kind in their canonical order and types. A missing price or size becomes NaN (the core
        rejects and counts such a row), a missing side 0. Row order is left as it is; whether time goes back is for the
        core to judge.

    Raises
    ------
    DataError
        A column is missing or of the wrong type, a time is missing or outside 2009..2100, a side is not a side.
    ParameterError
        An unknown kind.

    Examples
    --------
    >>> tape = pl.DataFrame({"ts": [1760054400 * 10**9], "price": [100], "size": [0.5], "side": ["sell"]})
    >>> canonical(tape, "trades")
    shape: (1, 4)
    ┌─────────────────────────┬───────┬──────┬──────┐
    │ ts                      ┆ price ┆ size ┆ side │
    │ ---                     ┆ ---   ┆ ---  ┆ ---  │
    │ datetime[ns, UTC]       ┆ f64   ┆ f64  ┆ i8   │
    ╞═════════════════════════╪═══════╪══════╪══════╡
    │ 2025-10-10 00:00:00 UTC ┆ 100.0 ┆ 0.5  ┆ -1   │
    └─────────────────────────┴───────┴──────┴──────┘
    """
    columns = [_column(series, field, kind) for field, series in _present(table, kind)]
    return _with_lots(pl.DataFrame(columns), instrument if kind == "trades" else None)


def typed(table: Any, kind: Kind, *, instrument: Instrument | None = None) -> pl.DataFrame:
    """As `canonical`, but a column that has its type already and no hole is taken as it stands, its values unseen.

    For what has been judged before, and for those whose next pass judges every value anyway.

    Raises
    ------
    DataError
        As `canonical`, but for a time outside 2009..2100 and a side that is none in such a column.

    Examples
    --------
    >>> tape = pl.DataFrame({"ts": [1760054400 * 10**9], "price": [100], "size": [0.5], "side": ["sell"]})
    >>> typed(tape, "trades").equals(canonical(tape, "trades"))
    True
    """
    frame = as_frame(table)
    present = _present(frame, kind)
    columns = [
        series if series.dtype == field.dtype and not series.null_count() else _column(series, field, kind)
        for field, series in present
    ]
    as_given = all(new is old for new, (_, old) in zip(columns, present, strict=True))
    if not as_given or frame.columns != [field.name for field, _ in present]:
        frame = pl.DataFrame(columns)
    return _with_lots(frame, instrument if kind == "trades" else None)


def columns(frame: pl.DataFrame, kind: Kind) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Columns of a canonical frame as the core takes them: contiguous, read-only, without a copy where polars allows.

    Parameters
    ----------
    frame : polars.DataFrame
        What `canonical` returned.
    kind : str
        The kind of the frame.

    Returns
    -------
    dict of str to ndarray
        Times int64 nanoseconds, prices and sizes float64, side int8, lots int64, snapshot and gap uint8. Text (ids,
        symbols) stays behind; an optional column that is absent from the frame is absent here, and so is a flag that no
        row raises.

    Examples
    --------
    >>> tape = pl.DataFrame({"ts": [1760054400 * 10**9], "price": [100], "size": [0.5], "side": ["sell"]})
    >>> columns(canonical(tape, "trades"), "trades")["ts"]
    array([1760054400000000000])
    """
    arrays = {}
    names = frame.columns
    for field in _fields(kind):
        if field.name in names and field.dtype != pl.String:
            series = frame.get_column(field.name)
            if field.dtype == TIME:
                series = series.cast(pl.Int64)
            if field.dtype == pl.Boolean:
                if not series.any():
                    continue
                series = series.fill_null(False).cast(pl.UInt8)
            # The core rejects a trade without size before it looks at its lots.
            series = series.fill_null(0) if field.name == "lots" else series
            arrays[field.name] = np.ascontiguousarray(series.to_numpy())
    return arrays


def together(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Canonical frames of one kind below each other; some may have optional columns that others lack.

    Where there is no exchange time, arrival stands in for it, as with vendors; where there is no flag, none was raised;
    all else is null.

    Examples
    --------
    >>> at = pl.Series("ts", [1760054400 * 10**9], dtype=TIME)
    >>> together([pl.DataFrame([at]), pl.DataFrame([at, at.alias("ts_event")])])["ts_event"].null_count()
    0
    """
    table = pl.concat(frames, how="diagonal") if len(frames) > 1 else frames[0]
    stand_ins = {"ts_event": pl.col("ts"), "gap": pl.lit(False)}
    lacking = [name for name in stand_ins if name in table.columns and table[name].null_count()]
    return table.with_columns(pl.col(name).fill_null(stand_ins[name]) for name in lacking) if lacking else table


def empty(kind: Kind) -> pl.DataFrame:
    """Canonical table without rows.

    Examples
    --------
    >>> empty("liquidations").columns
    ['ts', 'ts_event', 'side', 'price', 'size']
    """
    fields = [field for field in _fields(kind) if field.name not in ("lots", "gap")]
    return pl.DataFrame(schema={field.name: field.dtype for field in fields})


def parse_time(value: str | int | dt.date | np.datetime64) -> int:
    """Moment in int64 nanoseconds since 1970-01-01 UTC.

    Parameters
    ----------
    value : str, int, datetime, date or numpy.datetime64
        ISO 8601 text, nanoseconds, or a moment; without a time zone it is UTC.

    Raises
    ------
    ParameterError
        Not a moment, or outside 2009..2100.

    Examples
    --------
    >>> parse_time("2025-10-10T21:15:00Z")
    1760130900000000000
    >>> parse_time("2025-10-10") == parse_time(dt.date(2025, 10, 10))
    True
    """
    if isinstance(value, bool):
        raise ParameterError("not a moment", found=value, expected="ISO 8601 text, nanoseconds or a datetime")
    ns = int(value) if isinstance(value, int | np.integer) else _moment_ns(value)
    if not MIN_NS <= ns <= MAX_NS:
        raise ParameterError(
            f"time is outside 2009..2100{_unit_hint(ns)}", found=value, expected="nanoseconds since 1970"
        )
    return ns


def _moment_ns(value: str | dt.date | np.datetime64) -> int:
    try:
        if isinstance(value, np.datetime64):
            return int(value.astype("datetime64[ns]").astype(np.int64))
        if isinstance(value, str):
            value = dt.datetime.fromisoformat(value.strip())
    except ValueError:
        raise ParameterError("not a moment", found=value, expected="ISO 8601, as 2025-10-10T21:15:00Z") from None
    if not isinstance(value, dt.date):
        raise ParameterError("not a moment", found=value, expected="ISO 8601 text, nanoseconds or a datetime")
    if not isinstance(value, dt.datetime):
        value = dt.datetime.combine(value, dt.time())
    aware = value if value.tzinfo is not None else value.replace(tzinfo=dt.UTC)
    # Whole microseconds in integers: a float of seconds since 1970 is good to about 200 ns only.
    return (aware - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1) * 1000


def probable_unit(value: int) -> str | None:
    """Unit ("s", "ms", "us", "ns") in which an integer is a time of 2009..2100, or None.

    Examples
    --------
    >>> probable_unit(1760054400737905)
    'us'
    """
    return next((unit for unit, ns in _NS_PER.items() if MIN_NS <= value * ns <= MAX_NS), None)


def _unit_hint(value: int) -> str:
    unit = probable_unit(value)
    return f": it looks like {_UNIT_NAMES[unit]}" if unit is not None and unit != "ns" else ""


def _fields(kind: Kind) -> tuple[Field, ...]:
    if kind not in TABLES:
        raise ParameterError("unknown kind of table", found=kind, expected=f"one of {', '.join(KINDS)}")
    return TABLES[kind]


def as_frame(table: Any) -> pl.DataFrame:
    """Any table as a polars frame; what pandas keeps in a named index is a column like others."""
    if isinstance(table, pl.DataFrame):
        return table
    if isinstance(table, pl.LazyFrame):
        collected = table.collect()
        assert isinstance(collected, pl.DataFrame)
        return collected
    if not hasattr(table, "__arrow_c_stream__"):
        raise DataError(
            "not a table",
            found=type(table).__name__,
            expected="polars, pyarrow, pandas, or an object with __arrow_c_stream__",
        )
    named = [name for name in getattr(getattr(table, "index", None), "names", ()) if name is not None]
    levels = [name for name in named if name not in table.columns]
    try:
        return from_arrow(pa.table(table.reset_index(level=levels) if levels else table))
    except (pa.ArrowException, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"not a table of typed columns: {one_line(error)}", found=type(table).__name__) from None


def from_arrow(table: pa.Table | pa.RecordBatch) -> pl.DataFrame:
    """Arrow as polars takes it: a time zone is a way to show a time and no part of it, and polars does not know them
    all; nor does it know decimals of 256 bits.

    Raises
    ------
    DataError
        Two columns have one name.
    """
    names = table.schema.names
    twice = [name for index, name in enumerate(names) if name in names[:index]]
    if twice:
        raise DataError("two columns have one name", column=twice[0], found=names)
    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz not in (None, "UTC"):
            known: pa.DataType = pa.timestamp(field.type.unit, "UTC")
        elif pa.types.is_decimal256(field.type):
            known = pa.float64()
        else:
            continue
        table = table.set_column(index, field.name, table.column(index).cast(known))
    return pl.DataFrame(table)


def one_line(error: BaseException) -> str:
    """First line of what a library says; some add advice about their own options."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _present(table: Any, kind: Kind) -> list[tuple[Field, pl.Series]]:
    """The columns of a kind that a table has, after a look whether it has those it needs."""
    fields = _fields(kind)
    frame = as_frame(table)
    names = frame.columns
    _require(names, kind, fields)
    return [(field, frame.get_column(field.name)) for field in fields if field.name in names]


def _require(names: list[str], kind: Kind, fields: tuple[Field, ...]) -> None:
    """Error that lists what is missing, what is there, and which of these was probably meant."""
    missing = [field.name for field in fields if not field.optional and field.name not in names]
    if not missing:
        return
    guesses = [f"{guess!r} for {name!r}" for name in missing if (guess := _guess(name, names)) is not None]
    hint = f"; did you mean {', '.join(guesses)}?" if guesses else ""
    plural = "s" if len(missing) > 1 else ""
    raise DataError(
        f"a table of {kind} needs column{plural} {', '.join(missing)}{hint}",
        column=missing[0],
        found=names,
        expected=", ".join(field.name for field in fields if not field.optional),
    )


def _guess(name: str, found: list[str]) -> str | None:
    lower = {column.lower(): column for column in reversed(found)}
    for candidate in (name, *_SYNONYMS.get(name, ())):
        if candidate in lower:
            return lower[candidate]
    close = difflib.get_close_matches(name, lower, n=1)
    return lower[close[0]] if close else None


def _column(series: pl.Series, field: Field, kind: Kind) -> pl.Series:
    if series.dtype == pl.Null:
        series = series.cast(field.dtype)
    if field.dtype == TIME:
        return _time(series, nullable=field.nullable)
    if field.dtype == pl.Int8:
        return _side(series, _SIDE_WORDS[kind])
    if field.dtype == pl.String:
        return series.cast(pl.String)
    if field.name == "lots":
        return _lots(series)
    if field.dtype == pl.Boolean:
        return _flag(series)
    return _number(series)


def _time(series: pl.Series, *, nullable: bool) -> pl.Series:
    dtype = series.dtype
    if isinstance(dtype, pl.Datetime):
        unit = dtype.time_unit
        series = series.to_physical()
    elif dtype.is_integer():
        unit = "ns"
        series = series if dtype == pl.UInt64 else series.cast(pl.Int64)
    else:
        raise DataError(
            "time has the wrong type", column=series.name, found=str(dtype), expected="int64 nanoseconds or a datetime"
        )
    factor = _NS_PER[unit]
    # Checked in its own unit, so that the multiplication below cannot wrap around.
    row = _first_outside(series, -(-MIN_NS // factor), MAX_NS // factor, nullable=nullable)
    if row is not None:
        value = series[row]
        if value is None:
            raise DataError("time is missing", row=row, column=series.name)
        hint = _unit_hint(value) if dtype.is_integer() else ""
        raise DataError(
            f"time is outside 2009..2100{hint}", row=row, column=series.name, found=value, expected=f"{unit} since 1970"
        )
    series = series.cast(pl.Int64)
    return (series if factor == 1 else series * factor).cast(TIME)


def _first_outside(series: pl.Series, low: int, high: int, *, nullable: bool = False) -> int | None:
    """Row of the first value outside [low, high], or missing where that may not be; None: there is none."""
    if len(series) and not series.null_count():
        # Times mostly rise, and then their ends tell.
        least, most = (series[0], series[-1]) if series.is_sorted() else (series.min(), series.max())
        if low <= cast(int, least) and cast(int, most) <= high:
            return None
    good = series.is_between(low, high).fill_null(nullable)
    return None if good.all() else int(good.arg_min() or 0)


def _side(series: pl.Series, words: Mapping[str, int]) -> pl.Series:
    if series.dtype == pl.Int8 and _first_outside(series, SELL, BUY) is None:
        return series
    codes = series
    if isinstance(series.dtype, pl.String | pl.Categorical | pl.Enum):
        codes = series.cast(pl.String).str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Int8)
        wrong = codes.is_null() & series.is_not_null()
    elif series.dtype.is_numeric():
        wrong = ~series.cast(pl.Float64).is_in([-1.0, 0.0, 1.0]) & series.is_not_null()
    else:
        wrong = series.is_not_null()
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        expected = f"+1, -1, 0 or {', '.join(words)}"
        raise DataError("not a side", row=row, column=series.name, found=series[row], expected=expected)
    return codes.cast(pl.Int8).fill_null(UNKNOWN)


def _number(series: pl.Series) -> pl.Series:
    if not series.dtype.is_numeric():
        raise DataError("not a column of numbers", column=series.name, found=str(series.dtype), expected="float64")
    series = series.cast(pl.Float64)
    return series.fill_null(float("nan")) if series.null_count() else series


def _lots(series: pl.Series) -> pl.Series:
    if not series.dtype.is_integer():
        raise DataError("lots are counted, not measured", column=series.name, found=str(series.dtype), expected="int64")
    return series.cast(pl.Int64)


def _flag(series: pl.Series) -> pl.Series:
    if series.dtype == pl.Boolean and not series.null_count():
        return series
    if series.dtype != pl.Boolean and not (series.dtype.is_integer() and series.drop_nulls().is_in([0, 1]).all()):
        raise DataError("not a flag", column=series.name, found=str(series.dtype), expected="a boolean, or 0 and 1")
    return series.cast(pl.Boolean).fill_null(False)


def _with_lots(trades: pl.DataFrame, instrument: Instrument | None) -> pl.DataFrame:
    if instrument is None or not instrument.inverse or "lots" in trades.columns:
        return trades
    return trades.with_columns(_contracts(instrument).alias("lots"))


def _contracts(instrument: Instrument) -> pl.Expr:
    """Lots of an inverse market from size and price; null where these give no number."""
    lots = pl.col("size") * pl.col("price") / (instrument.unit * (instrument.lot or 1.0))
    return pl.when(lots.is_finite()).then(lots).round().cast(pl.Int64, strict=False)
