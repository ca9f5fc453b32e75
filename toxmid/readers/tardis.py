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
from toxmid.schema import Kind

__all__ = ["FORMATS", "STRANGERS"]

_LEVELS: Final = re.compile(r"(asks|bids)\[(\d+)\]\.(price|amount)")


def _named(word: str) -> re.Pattern[str]:
    """File names that have this word between separators."""
    return re.compile(rf"(?:^|[^A-Za-z0-9]){word}(?:[^A-Za-z0-9]|$)")


def _first_row(head: Head) -> Identity:
    if len(head.lines) < 2:
        return Identity()
    row = dict(zip(head.header, head.lines[1].split(","), strict=False))
    return Identity(row.get("exchange"), row.get("symbol"))


def _tardis(name: str, dtypes: dict[str, Any], tables: Mapping[Kind, Table], **more: Any) -> Csv:
    base = {"exchange": pl.String(), "symbol": pl.String(), "timestamp": pl.Int64(), "local_timestamp": pl.Int64()}
    return Csv(
        name=f"tardis-{name}",
        dtypes=base | dtypes,
        arrival="local_timestamp",
        event="timestamp",
        units=("us",),
        tables=tables,
        identity=_first_row,
        labels={"venue": "exchange", "symbol": "symbol"},
        clock_name="arrival",
        **more,
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


_PRINT: Final = {"id": pl.String(), "side": SIDES, "price": pl.Float64(), "amount": pl.Float64()}
_TRADE: Final = {"price": pl.col("price"), "size": pl.col("amount"), "side": TAKER}

FORMATS: Final = (
    _tardis(
        "trades",
        _PRINT,
        {"trades": Table(_TRADE | {"id": pl.col("id")}, distinct=("id",))},
        excluded_names=_named("liquidations"),
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
    ),
    _tardis("derivative_ticker", {"mark_price": pl.Float64()}, {"mark": Table({"price": pl.col("mark_price")})}),
)

# Files of this vendor that are no tapes, by columns that only they have.
STRANGERS: Final = {frozenset({"strike_price", "mark_iv"}): "a Tardis options_chain, which holds option summaries"}
