"""Deribit trades, as its API gives them: CSV with a header, or JSON lines of trades or of whole messages.

Times are the exchange's, in milliseconds. ``direction`` is that of the taker. ``amount`` is dollars on inverse
contracts and base coin elsewhere (``contracts`` counts lots of it). A forced order is a flag on the trade and not a
print of its own: ``T`` says that the taker was liquidated, ``M`` the maker, whose order is the other side of the trade,
``MT`` both. Legs of combos and block trades are struck elsewhere at prices that the market of this instrument did not
make.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import polars as pl

from toxmid.errors import DataError
from toxmid.readers.base import SIDES, TAKER, Clock, Csv, Format, Identity, Lines, Table
from toxmid.readers.files import Head, ahead, blocks
from toxmid.readers.jsonlines import is_whole, split
from toxmid.schema import Kind

__all__ = ["FORMATS"]

_NEEDED: Final[dict[str, Any]] = {
    "timestamp": pl.Int64(),
    "instrument_name": pl.String(),
    "trade_id": pl.String(),
    "direction": SIDES,
    "price": pl.Float64(),
    "amount": pl.Float64(),
}
_SPARE: Final[dict[str, Any]] = {
    "index_price": pl.Float64(),
    "mark_price": pl.Float64(),
    "liquidation": pl.Enum(["T", "M", "MT"]),
    "combo_id": pl.String(),
    "combo_trade_id": pl.String(),
    "block_trade_id": pl.String(),
}

_FORCED: Final = pl.col("liquidation").cast(pl.String)


def _forced(frame: pl.DataFrame) -> pl.DataFrame:
    """A row per forced order: where both sides of a trade were forced, it is two."""
    taker = frame.filter(_FORCED.is_in(["T", "MT"])).with_columns(forced=TAKER.name.keep())
    maker = frame.filter(_FORCED.is_in(["M", "MT"])).with_columns(forced=-TAKER)
    return pl.concat([taker, maker]).sort("row", maintain_order=True)


_ELSEWHERE: Final = {
    "combo_legs": pl.any_horizontal(pl.col("combo_id", "combo_trade_id").is_not_null()),
    "block_trades": pl.col("block_trade_id").is_not_null(),
}
_TABLES: Final[dict[Kind, Table]] = {
    "trades": Table(
        {"price": pl.col("price"), "size": pl.col("amount"), "side": TAKER, "id": pl.col("trade_id")},
        excluded=_ELSEWHERE,
        distinct=("trade_id",),
    ),
    "liquidations": Table(
        {"side": pl.col("forced"), "price": pl.col("price"), "size": pl.col("amount")},
        excluded={"other_kinds": pl.col("liquidation").is_null(), **_ELSEWHERE},
        distinct=("trade_id",),
        expand=_forced,
    ),
    "mark": Table(
        {"price": pl.col("mark_price"), "index": pl.col("index_price")},
        excluded={"no_value": pl.col("mark_price").is_null()},
        distinct=("trade_id",),
    ),
    "index": Table(
        {"price": pl.col("index_price")},
        excluded={"no_value": pl.col("index_price").is_null()},
        distinct=("trade_id",),
    ),
}


def _completed(frame: pl.DataFrame) -> pl.DataFrame:
    """With the columns that only some trades have."""
    missing = {name: pl.lit(None, dtype) for name, dtype in _SPARE.items() if name not in frame.columns}
    return frame.with_columns(**missing, side=pl.col("direction"), symbol=pl.col("instrument_name"))


def _identity(head: Head) -> Identity:
    return Identity("deribit", head.first_row.get("instrument_name"))


class _Table(Csv):
    """Trades with a column for each field."""

    def lines(self, head: Head, kind: Kind, *, allow_partial: bool) -> Iterator[Lines]:
        for lines in super().lines(head, kind, allow_partial=allow_partial):
            yield Lines(_completed(lines.frame), lines.read, lines.excluded)


class Messages(Format):
    """JSON lines: a trade, a notification of channel ``trades``, an answer of ``get_last_trades``; rows are trades."""

    name = "deribit-trades-json"
    tables = _TABLES

    def matches(self, head: Head) -> bool:
        return (
            bool(head.lines)
            and head.lines[0].startswith("{")
            and '"instrument_name"' in head.lines[0]
            and '"trade_id"' in head.lines[0]
            and '"direction"' in head.lines[0]
        )

    def clock(self) -> str:
        return "exchange (timestamp)"

    def identify(self, head: Head) -> Identity:
        first = next(iter(_trades_of(head.lines[0], 1, head)), {})
        return Identity("deribit", first.get("instrument_name"))

    def lines(self, head: Head, kind: Kind, *, allow_partial: bool) -> Iterator[Lines]:
        clock = Clock(("ms",), head.path)
        for block in ahead(blocks(head.path, allow_partial=allow_partial, is_whole=is_whole)):
            rows = [
                {"row": number} | {name: trade.get(name) for name in (*_NEEDED, *_SPARE)}
                for number, line in enumerate(split(block), block.first_row)
                for trade in _trades_of(line, number, head)
            ]
            try:
                frame = pl.DataFrame(rows, schema={"row": pl.UInt32(), **_NEEDED, **_SPARE}, strict=True)
            except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
                reason = str(error).splitlines()[0]
                raise DataError(f"trades cannot be read: {reason}", file=str(head.path), row=block.first_row) from None
            times = clock.nanoseconds(frame, "timestamp")
            frame = _completed(frame).with_columns(times.alias("ts"), times.alias("ts_event"))
            excluded = {"partial_last_line": block.partial} if block.partial else {}
            yield Lines(frame, frame.height + block.partial, excluded)


def _trades_of(line: str, number: int, head: Head) -> list[dict[str, Any]]:
    """Trades of a line; an answer has the latest first, as the API gives it."""
    try:
        message = json.loads(line)
        if "params" in message:
            trades = message["params"]["data"]
        elif "result" in message:
            trades = message["result"]["trades"]
        else:
            trades = [message]
        checked = [dict(trade) for trade in trades]
        for trade in checked:
            # Numbers may come as whole ones; what should be text or a number and is not, is told here, with its row.
            if trade["direction"] not in ("buy", "sell") or trade.get("liquidation") not in (None, "T", "M", "MT"):
                raise ValueError(f"direction {trade['direction']!r}, liquidation {trade.get('liquidation')!r}")
            trade["price"], trade["amount"] = float(trade["price"]), float(trade["amount"])
            trade["timestamp"], trade["trade_id"] = int(trade["timestamp"]), str(trade["trade_id"])
            for name in ("index_price", "mark_price"):
                trade[name] = None if trade.get(name) is None else float(trade[name])
            for name in ("combo_id", "combo_trade_id", "block_trade_id"):
                trade[name] = None if trade.get(name) is None else str(trade[name])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        problem = f"not a message of trades: {error!r}"
        raise DataError(problem, file=str(head.path), row=number, found=line[:60]) from None
    return checked


FORMATS: Final = (
    _Table(
        name="deribit-trades",
        dtypes=_NEEDED,
        arrival="timestamp",
        event="timestamp",
        units=("ms",),
        tables=_TABLES,
        identity=_identity,
        labels={"symbol": "instrument_name"},
        spare=_SPARE,
    ),
    Messages(),
)
