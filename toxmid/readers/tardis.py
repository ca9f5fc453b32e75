"""Tardis.dev downloadable CSV: one file per venue, type, day and symbol, in microseconds, sorted by arrival.

``local_timestamp`` (arrival) is `ts`, ``timestamp`` (exchange) is `ts_event`. The two must not be mixed: book rows
carry the time a venue sent them and trades the time it matched them, so only arrival puts both in one order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import polars as pl

from toxmid.readers.base import FLAGS, SIDES, TAKER, Csv, Identity, Table, code, is_true
from toxmid.readers.files import Head
from toxmid.readers.plain import Plain, plain
from toxmid.schema import Kind

__all__ = ["FORMATS"]

_LEVELS: Final = re.compile(r"(asks|bids)\[(\d+)\]\.(price|amount)")


def _named(word: str) -> re.Pattern[str]:
    """File names that have this word between separators."""
    return re.compile(rf"(?:^|[^A-Za-z0-9]){word}(?:[^A-Za-z0-9]|$)")


def _first_row(head: Head) -> Identity:
    return Identity(head.first_row.get("exchange"), head.first_row.get("symbol"))


def _tardis(name: str, dtypes: dict[str, Any], tables: Mapping[Kind, Table], **more: Any) -> Csv:
    base = {"exchange": pl.String(), "symbol": pl.String(), "timestamp": pl.Int64(), "local_timestamp": pl.Int64()}
    return Csv(
        name=f"tardis-{name}",
        dtypes=base | dtypes,
        arrival="local_timestamp",
        event="timestamp",
        units=("us",),
        tables=tables,
        labels={"venue": "exchange", "symbol": "symbol"},
        clock_name="arrival",
        **({"identity": _first_row} | more),
    )


def _levels(frame: pl.DataFrame) -> pl.DataFrame:
    """One row per level of each snapshot; a level that is empty in the file does not exist."""
    columns = [name for name in frame.columns if _LEVELS.fullmatch(name) and name.endswith(".price")]
    prices = frame.select(columns)
    sizes = frame.select(name.replace(".price", ".amount") for name in columns)
    sides = np.array([1 if name.startswith("bids") else -1 for name in columns], dtype=np.int8)
    repeated = {name: np.repeat(frame[name].to_numpy(), len(columns)) for name in ("row", "ts", "ts_event")}
    long = pl.DataFrame(
        repeated
        | {
            "side": np.tile(sides, frame.height),
            "price": prices.to_numpy().ravel(),
            "size": sizes.to_numpy().ravel(),
        }
    )
    exists = ~prices.select(pl.all().is_null()).to_numpy().ravel()
    return long.filter(pl.Series(exists))


def _options() -> Csv:
    """Summaries of options, those of many in one file; a few columns of the first rows may be empty."""
    quotes = ("bid_price", "bid_amount", "ask_price", "ask_amount")
    greeks = ("delta", "gamma", "vega", "theta", "rho")
    volatilities = ("bid_iv", "ask_iv", "mark_iv")
    numbers = ("open_interest", "last_price", *quotes, *volatilities, "mark_price", "underlying_price", *greeks)
    # One column, two units: Deribit writes percent, other venues fractions.
    scale = pl.when(pl.col("exchange") == "deribit").then(100.0).otherwise(1.0)
    table = Table(
        {
            "symbol": pl.col("symbol"),
            "option": code("type", {"call": 1, "put": -1}),
            "strike": pl.col("strike_price"),
            "expiry": pl.col("expiration") * 1000,
            **{name: pl.col(name) for name in ("open_interest", "last_price", "mark_price", *greeks)},
            **{canonical: pl.col(name) for canonical, name in zip(_BEST, quotes, strict=True)},
            **{name: pl.col(name) / scale for name in volatilities},
            "underlying": pl.col("underlying_price"),
            "underlying_index": pl.col("underlying_index"),
        },
        base_coin=True,
    )
    return _tardis(
        "options_chain",
        {"type": pl.Enum(["call", "put"]), "strike_price": pl.Float64(), "expiration": pl.Int64()}
        | {"underlying_index": pl.String(), **dict.fromkeys(numbers, pl.Float64())},
        {"options": table},
        identity=lambda head: Identity(_first_row(head).venue, None),
    )


_BEST: Final = ("bid", "bid_size", "ask", "ask_size")
_PRINT: Final = {"id": pl.String(), "side": SIDES, "price": pl.Float64(), "amount": pl.Float64()}
_TRADE: Final = {"price": pl.col("price"), "size": pl.col("amount"), "side": TAKER}

FORMATS: Final = (
    _tardis(
        "trades",
        _PRINT,
        {"trades": Table(_TRADE | {"id": pl.col("id")}, distinct=("id",))},
        excluded_names=_named("liquidations"),
        plain={
            "trades": plain(
                {
                    "id": Plain("id", text=True),
                    "side": Plain("side", {"buy": 1, "sell": -1, "unknown": 0}),
                    "price": Plain("price"),
                    "amount": Plain("size"),
                }
            )
        },
    ),
    # Same columns as trades; side is that of the forced order (the vendor has turned position sides round already).
    _tardis(
        "liquidations",
        _PRINT,
        {"liquidations": Table(_TRADE, distinct=())},
        excluded_names=_named("trades"),
    ),
    _tardis(
        "incremental_book_L2",
        {"is_snapshot": FLAGS, "side": pl.Enum(["bid", "ask"]), "price": pl.Float64(), "amount": pl.Float64()},
        {
            "book": Table(
                {
                    "side": code("side", {"bid": 1, "ask": -1}),
                    "price": pl.col("price"),
                    "size": pl.col("amount"),
                    "snapshot": is_true("is_snapshot"),
                }
            )
        },
        plain={
            "book": plain(
                {
                    "is_snapshot": Plain("snapshot", {"false": 0, "true": 1}),
                    "side": Plain("side", {"bid": 1, "ask": -1}),
                    "price": Plain("price"),
                    "amount": Plain("size"),
                }
            )
        },
    ),
    _tardis(
        "quotes",
        dict.fromkeys(("ask_amount", "ask_price", "bid_price", "bid_amount"), pl.Float64()),
        {
            "quotes": Table(
                {
                    "bid": pl.col("bid_price"),
                    "bid_size": pl.col("bid_amount"),
                    "ask": pl.col("ask_price"),
                    "ask_size": pl.col("ask_amount"),
                }
            )
        },
        plain={
            "quotes": plain(
                {
                    "ask_amount": Plain("ask_size"),
                    "ask_price": Plain("ask"),
                    "bid_price": Plain("bid"),
                    "bid_amount": Plain("bid_size"),
                }
            )
        },
    ),
    # Any number of levels: book_snapshot_5, book_snapshot_25.
    _tardis(
        "book_snapshot",
        dict.fromkeys(("asks[0].price", "asks[0].amount", "bids[0].price", "bids[0].amount"), pl.Float64()),
        {
            "book": Table(
                {
                    "side": pl.col("side"),
                    "price": pl.col("price"),
                    "size": pl.col("size"),
                    "snapshot": pl.lit(True),
                },
                expand=_levels,
                whole=True,
            ),
            "quotes": Table(
                {
                    "bid": pl.col("bids[0].price"),
                    "bid_size": pl.col("bids[0].amount"),
                    "ask": pl.col("asks[0].price"),
                    "ask_size": pl.col("asks[0].amount"),
                }
            ),
        },
        wide=_LEVELS,
        twins=(".price", ".amount"),
    ),
    # A row whenever any of its figures changed: of those that change seldom, what is said again is left out.
    _tardis(
        "derivative_ticker",
        {"funding_timestamp": pl.Int64()}
        | dict.fromkeys(
            ("funding_rate", "predicted_funding_rate", "open_interest", "last_price", "index_price", "mark_price"),
            pl.Float64(),
        ),
        {
            "mark": Table({"price": pl.col("mark_price"), "index": pl.col("index_price")}),
            "index": Table({"price": pl.col("index_price")}, excluded={"no_value": pl.col("index_price").is_null()}),
            "open_interest": Table(
                # The price is for markets that count contracts worth quote currency.
                {"open_interest": pl.col("open_interest"), "price": pl.coalesce("mark_price", "last_price")},
                excluded={"no_value": pl.col("open_interest").is_null()},
                changing=("open_interest",),
            ),
            "funding": Table(
                {
                    "rate": pl.col("funding_rate"),
                    "due": pl.col("funding_timestamp") * 1000,
                    "predicted": pl.col("predicted_funding_rate"),
                },
                excluded={"no_value": pl.col("funding_rate").is_null()},
                changing=("funding_timestamp", "funding_rate", "predicted_funding_rate"),
            ),
        },
    ),
    _options(),
)
