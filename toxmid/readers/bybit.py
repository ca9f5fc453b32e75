"""Bybit public files: trades of derivatives and of spot as CSV, and the 500-level book as one JSON message per line.

Times are the exchange's: seconds with a fraction for derivatives, milliseconds elsewhere. ``side`` is that of the
taker. Inverse symbols (ending in USD) count contracts of one dollar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import polars as pl

from toxmid.errors import DataError
from toxmid.readers.base import SIDES, TAKER, Clock, Csv, Format, Identity, Lines, Table
from toxmid.readers.files import Head, ahead, blocks
from toxmid.readers.jsonlines import LEVELS, decode, is_whole, levels, split
from toxmid.schema import Kind

__all__ = ["FORMATS"]

_F: Final = pl.Float64()
_SPOT_NAME: Final = re.compile(r"([A-Z0-9]+)[-_]\d{4}-\d{2}")
_TRADE: Final = {"price": pl.col("price"), "side": TAKER}


def _of_derivative(head: Head) -> Identity:
    return Identity("bybit", head.first_row.get("symbol"))


def _of_spot(head: Head) -> Identity:
    match = _SPOT_NAME.search(head.name)
    return Identity("bybit-spot", match[1] if match is not None else None)


_TRADES: Final = Csv(
    name="bybit-trades",
    dtypes={
        "timestamp": _F,
        "symbol": pl.String(),
        "side": SIDES,
        "size": _F,
        "price": _F,
        "tickDirection": pl.String(),
        "trdMatchID": pl.String(),
    },
    arrival="timestamp",
    event="timestamp",
    units=("us",),
    tables={"trades": Table(_TRADE | {"size": pl.col("size"), "id": pl.col("trdMatchID")}, distinct=("id",))},
    identity=_of_derivative,
    labels={"symbol": "symbol"},
)

_SPOT: Final = Csv(
    name="bybit-spot-trades",
    dtypes={"id": pl.String(), "timestamp": pl.Int64(), "price": _F, "volume": _F, "side": SIDES},
    arrival="timestamp",
    event="timestamp",
    units=("ms",),
    tables={"trades": Table(_TRADE | {"size": pl.col("volume"), "id": pl.col("id")}, distinct=("id",))},
    identity=_of_spot,
)

_UPDATE: Final = pl.Struct({"s": pl.String, "b": LEVELS, "a": LEVELS, "u": pl.Int64})
_MESSAGE: Final = pl.Struct({"topic": pl.String, "type": pl.String, "ts": pl.Int64, "data": _UPDATE})
_TOPIC: Final = re.compile(r'\{"topic":"orderbook\.\d+\.([^"]+)"')


class OrderBook(Format):
    """Lines of ``{"topic":"orderbook.500.SYMBOL","type":"snapshot" | "delta","ts":...,"data":{...}}``."""

    name = "bybit-orderbook"
    tables = {  # noqa: RUF012 (constant of the class)
        "book": Table(
            {name: pl.col(name) for name in ("side", "price", "size", "snapshot")},
            excluded={
                "other_kinds": ~pl.col("topic").str.starts_with("orderbook.").fill_null(False),
                "empty_messages": (pl.col("b").list.len() + pl.col("a").list.len()) == 0,
            },
            expand=levels,
            whole=True,
        )
    }

    def matches(self, head: Head) -> bool:
        return bool(head.lines) and _TOPIC.match(head.lines[0]) is not None

    def clock(self) -> str:
        return "exchange (ts)"

    def identify(self, head: Head) -> Identity:
        match = _TOPIC.match(head.lines[0])
        return Identity("bybit", match[1] if match is not None else None)

    def lines(self, head: Head, kind: Kind, *, allow_partial: bool) -> Iterator[Lines]:
        clock = Clock(("ms",), head.path)
        for block in ahead(blocks(head.path, allow_partial=allow_partial, is_whole=is_whole)):
            messages = split(block).to_frame().with_row_index("row", block.first_row)
            frame = decode(messages, "line", _MESSAGE, head.path).unnest("data")
            times = clock.nanoseconds(frame, "ts")
            _require_known_types(frame, head)
            frame = frame.with_columns(
                times, times.alias("ts_event"), snapshot=pl.col("type") == "snapshot", symbol="s", number="u"
            ).with_columns(follows=pl.when(~pl.col("snapshot")).then(pl.col("u") - 1))
            excluded = {"partial_last_line": block.partial} if block.partial else {}
            yield Lines(frame, block.lines + block.partial, excluded)


def _require_known_types(frame: pl.DataFrame, head: Head) -> None:
    strange = frame.filter(~pl.col("type").is_in(["snapshot", "delta"]).fill_null(False))
    if strange.height:
        raise DataError(
            "not a message of a book",
            file=str(head.path),
            row=int(strange["row"][0]),
            column="type",
            found=strange["type"][0],
            expected="snapshot or delta",
        )


FORMATS: Final = (_TRADES, _SPOT, OrderBook())
