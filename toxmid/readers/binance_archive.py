"""Binance public archive: a CSV in a zip per type, day and symbol, with exchange time only.

Spot files have no header and are in microseconds since 2025, in milliseconds before; files of futures are in
milliseconds and have a header if they are recent. ``is_buyer_maker`` true means that the taker sold. The venue is not
in the file: spot has one column more, and USD-M and COIN-M differ by the symbol in the file name.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import polars as pl

from toxmid.readers.base import FLAGS, SIDES, TAKER, Csv, Identity, Table, code, is_true, taker_sold
from toxmid.readers.files import Head
from toxmid.schema import Kind

__all__ = ["BARE_KLINE", "FORMATS", "KLINES", "STRANGERS", "is_delivery", "symbol_of", "venue_names"]

_INT, _NUMBER, _TIME, _FLAG = r"\d+", r"[\d.]+", r"\d{13}(?:\d{3})?", r"(?i:true|false|1|0)"
_SYMBOL: Final = re.compile(
    r"(?:^|[\s/])([A-Z0-9]{4,}(?:_PERP|_\d{6})?)"
    r"-(?:aggTrades|trades|bookTicker|liquidationSnapshot|metrics|fundingRate|bookDepth)"
)
_DELIVERY: Final = re.compile(_SYMBOL.pattern.replace("(?:_PERP|_\\d{6})?", "(?:_PERP|_\\d{6})"))
_NOT_DELIVERY: Final = re.compile(_SYMBOL.pattern.replace("(?:_PERP|_\\d{6})?", ""))

_BUYER_MAKER: Final = taker_sold(is_true("is_buyer_maker"))


def symbol_of(name: str) -> str | None:
    """Symbol in the name of a file of the archive."""
    match = _SYMBOL.search(name)
    return match[1] if match is not None else None


def is_delivery(name: str) -> bool:
    """Whether a file of the archive is of COIN-M, by its name."""
    return _DELIVERY.search(name) is not None


def venue_names(venue: str) -> re.Pattern[str] | None:
    """Names of files that are not of this venue though they look like it."""
    return {"binance-futures": _DELIVERY, "binance-delivery": _NOT_DELIVERY}.get(venue)


def _archive(
    name: tuple[str, str], dtypes: Mapping[str, Any], time: str, tables: Mapping[Kind, Table], bare: str | None = None
) -> Csv:
    venue = name[0]
    return Csv(
        name="-".join(name),
        dtypes=dtypes,
        arrival=time,
        event=time,
        units=("ms", "us"),
        tables=tables,
        identity=lambda head: Identity(
            venue, symbol_of(head.name), _contract_value(head) if "base_qty" in dtypes else {}
        ),
        bare=re.compile(bare) if bare is not None else None,
        excluded_names=venue_names(venue),
    )


def _contract_value(head: Head) -> Mapping[str, float]:
    """Worth of a COIN-M contract from rows that give a trade both in contracts and in coin, rounded to whole units."""
    values = []
    for line in head.lines:
        with contextlib.suppress(ValueError):  # the header, or a row whose fault the parser will name
            price, contracts, coin = (float(field) for field in line.split(",")[1:4])
            values += [coin * price / contracts] if contracts > 0 else []
    value = float(np.round(np.median(values))) if values else 0.0
    return {"contract_value": value} if 0 < value < np.inf else {}


def _trades(name: tuple[str, str], dtypes: Mapping[str, Any], size: str, bare: str) -> Csv:
    identifier, time = next(iter(dtypes)), next(column for column in dtypes if column in ("time", "transact_time"))
    columns = {"price": pl.col("price"), "size": pl.col(size), "side": _BUYER_MAKER, "id": pl.col(identifier)}
    return _archive(name, dtypes, time, {"trades": Table(columns, distinct=("id",))}, bare)


_F: Final = pl.Float64()
_AGGREGATE: Final = {
    "agg_trade_id": pl.String(),
    "price": _F,
    "quantity": _F,
    "first_trade_id": pl.String(),
    "last_trade_id": pl.String(),
    "transact_time": pl.Int64(),
    "is_buyer_maker": FLAGS,
}
_AGGREGATE_ROW: Final = ",".join((_INT, _NUMBER, _NUMBER, _INT, _INT, _TIME, _FLAG))
_SINGLE_ROW: Final = ",".join((_INT, _NUMBER, _NUMBER, _NUMBER, _TIME, _FLAG))


def _single(other: str) -> dict[str, Any]:
    """Columns of single trades; `other` is the size in quote currency, or in coin where `qty` counts contracts."""
    return {"id": pl.String(), "price": _F, "qty": _F, other: _F, "time": pl.Int64(), "is_buyer_maker": FLAGS}


def _quotes(venue: str) -> Csv:
    dtypes = dict.fromkeys(("best_bid_price", "best_bid_qty", "best_ask_price", "best_ask_qty"), _F)
    columns = dict(zip(("bid", "bid_size", "ask", "ask_size"), (pl.col(name) for name in dtypes), strict=True))
    # Trades carry the time of matching, so quotes are put on that clock too, not on the time of sending.
    times = {"transaction_time": pl.Int64(), "event_time": pl.Int64()}
    return _archive((venue, "bookTicker"), dtypes | times, "transaction_time", {"quotes": Table(columns)})


def _depth() -> Csv:
    """Depth as the archive was ordered by form: snapshots and changes, of USD-M and COIN-M alike. Some files have no
    header, a number of the transaction instead of that of the update before, and so nothing that would show a gap."""
    dtypes = {
        "symbol": pl.String(),
        "timestamp": pl.Int64(),
        "last_update_id": pl.Int64(),
        "side": pl.Enum(["b", "a"]),
        "update_type": pl.Enum(["snap", "set"]),
        "price": _F,
        "qty": _F,
    }
    columns = {
        "side": code("side", {"b": 1, "a": -1}),
        "price": pl.col("price"),
        "size": pl.col("qty"),
        "snapshot": pl.col("update_type").cast(pl.String) == "snap",
    }

    is_snapshot = pl.col("update_type").cast(pl.String) == "snap"
    update = pl.when(~is_snapshot)

    def identity(head: Head) -> Identity:
        symbol = head.first_row.get("symbol") if "symbol" in head.header else head.header[0]
        delivery = symbol is not None and re.search(r"_(PERP|\d{6})$", symbol)
        return Identity("binance-delivery" if delivery else "binance-futures", symbol)

    return Csv(
        name="binance-T_DEPTH",
        dtypes=dtypes,
        arrival="timestamp",
        event="timestamp",
        units=("ms",),
        tables={"book": Table(columns)},
        identity=identity,
        labels={"symbol": "symbol"},
        bare=re.compile(rf"\w+,\d{{13}},{_INT},{_INT},{_INT},[ba],(?:snap|set),{_NUMBER},{_NUMBER}"),
        names=("symbol", "timestamp", "trans_id", "first_update_id", *list(dtypes)[2:]),
        spare={"pu": pl.Int64()},
        sequence={
            "number": update.then("last_update_id"),
            "follows": update.then("pu"),
            "covers": pl.when(is_snapshot).then("last_update_id"),
        },
    )


def _liquidations(venue: str) -> Csv:
    dtypes = {
        "time": pl.Int64(),
        "side": SIDES,
        "original_quantity": _F,
        "price": _F,
        "average_price": _F,
        "order_status": pl.String(),
        "accumulated_fill_quantity": _F,
    }
    # "price" is the limit of the forced order; what it paid is the average price of what was filled.
    columns = {"side": TAKER, "price": pl.col("average_price"), "size": pl.col("accumulated_fill_quantity")}
    unfilled = {"not_filled": pl.col("accumulated_fill_quantity") == 0}
    table = Table(columns, excluded=unfilled, distinct=())  # the archive writes every row twice
    return _archive((venue, "liquidationSnapshot"), dtypes, "time", {"liquidations": table})


FORMATS: Final = (
    _trades(("binance", "aggTrades"), _AGGREGATE | {"is_best_match": FLAGS}, "quantity", f"{_AGGREGATE_ROW},{_FLAG}"),
    _trades(("binance", "trades"), _single("quote_qty") | {"is_best_match": FLAGS}, "qty", f"{_SINGLE_ROW},{_FLAG}"),
    _trades(("binance-futures", "aggTrades"), _AGGREGATE, "quantity", _AGGREGATE_ROW),
    _trades(("binance-delivery", "aggTrades"), _AGGREGATE, "quantity", _AGGREGATE_ROW),
    _trades(("binance-futures", "trades"), _single("quote_qty"), "qty", _SINGLE_ROW),
    _trades(("binance-delivery", "trades"), _single("base_qty"), "qty", _SINGLE_ROW),
    _quotes("binance-futures"),
    _quotes("binance-delivery"),
    _liquidations("binance-futures"),
    _liquidations("binance-delivery"),
    _depth(),
)

# Files of the archive that are no tapes. All four kinds of candles share one file name, mark and index prices included.
KLINES: Final = "a Binance kline file, which holds candles"
STRANGERS: Final = {
    frozenset({"open_time", "close_time"}): KLINES,
}
BARE_KLINE: Final = re.compile(rf"{_TIME}(?:,{_NUMBER}){{5}},{_TIME}(?:,{_NUMBER}){{5}}")
