"""Hyperliquid: fills of the node as JSON lines, and the CSV of 2023.

A trade is written twice, once for each user, with one ``tid``: the row of the taker (``crossed``) says the side.
Liquidations and ADL are marked on the fills, so a liquidation is in the trades already.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import polars as pl

from toxmid.errors import DataError
from toxmid.readers.base import FLAGS, Clock, Csv, Format, Identity, Lines, Table, code, is_true
from toxmid.readers.files import Block, Head, ahead, blocks
from toxmid.readers.jsonlines import is_whole, split
from toxmid.schema import Kind

__all__ = ["FORMATS", "STRANGERS"]

_F: Final = pl.Float64()

_FILLS_2023: Final = Csv(
    name="hyperliquid-fills-2023",
    dtypes={
        "time": pl.String(),
        "user": pl.String(),
        "coin": pl.String(),
        "side": pl.Enum(["Bid", "Ask"]),
        "px": _F,
        "sz": _F,
        "crossed": FLAGS,
    },
    arrival="time",
    event="time",
    units=("ns",),
    tables={
        "trades": Table(
            {"price": pl.col("px"), "size": pl.col("sz"), "side": code("side", {"Bid": 1, "Ask": -1})},
            excluded={"fills_of_makers": ~is_true("crossed")},
        )
    },
    identity=lambda head: Identity("hyperliquid", head.first_row.get("coin")),
    labels={"symbol": "coin"},
)

_FILL: Final = {
    "symbol": pl.String,
    "price": pl.Float64,
    "size": pl.Float64,
    "side": pl.Int8,
    "event": pl.Int64,
    "id": pl.String,
    "crossed": pl.Boolean,
    "forced": pl.Boolean,
    "deleveraged": pl.Boolean,
}


class NodeFills(Format):
    """Lines of ``{"local_time":...,"block_time":...,"events":[[user, fill], ...]}``; rows are fills."""

    name = "hyperliquid-node_fills"
    tables = {  # noqa: RUF012 (constant of the class)
        "trades": Table(
            {name: pl.col(name) for name in ("price", "size", "side", "id")},
            excluded={"fills_of_makers": ~pl.col("crossed"), "not_market_trades": pl.col("deleveraged")},
            distinct=("id",),
        ),
        "liquidations": Table(
            {name: pl.col(name) for name in ("side", "price", "size")},
            excluded={"other_kinds": ~pl.col("forced"), "not_market_trades": pl.col("deleveraged")},
            distinct=("id", "side"),  # where both users were forced, it is two
        ),
    }

    def matches(self, head: Head) -> bool:
        return bool(head.lines) and head.lines[0].startswith("{") and '"block_time"' in head.lines[0][:200]

    def clock(self) -> str:
        return "arrival (local_time), else exchange (block_time)"

    def identify(self, head: Head) -> Identity:
        coin = re.search(r'"coin":\s*"([^"]+)"', "\n".join(head.lines))
        return Identity("hyperliquid", coin[1] if coin is not None else None)

    def lines(self, head: Head, kind: Kind, *, allow_partial: bool) -> Iterator[Lines]:
        clock = Clock(("ns",), head.path)
        exchange = Clock(("ms",), head.path)
        for block in ahead(blocks(head.path, allow_partial=allow_partial, is_whole=is_whole)):
            frame = _frame(block, head)
            frame = frame.with_columns(clock.nanoseconds(frame, "time").alias("ts"))
            frame = frame.with_columns(
                exchange.nanoseconds(frame, "event").alias("ts_event"), venue=pl.lit("hyperliquid")
            )
            excluded = {"partial_last_line": block.partial} if block.partial else {}
            yield Lines(frame, frame.height + block.partial, excluded)


def _frame(block: Block, head: Head) -> pl.DataFrame:
    rows: list[tuple[Any, ...]] = []
    for index, line in enumerate(split(block)):
        row = block.first_row + index
        try:
            message = json.loads(line)
            time = message.get("local_time") or message["block_time"]
            rows += [(row, _zoned(time), *_fill(user, fill)) for user, fill in message["events"]]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise DataError(f"not a block of fills: {error!r}", file=str(head.path), row=row, found=line[:60]) from None
    return pl.DataFrame(rows, schema={"row": pl.UInt32, "time": pl.String} | _FILL, orient="row")


def _zoned(time: str) -> str:
    """Times of the node carry no zone; they are UTC."""
    return time if time.endswith("Z") else f"{time}Z"


def _milliseconds(time: Any) -> int:
    if not 0 <= int(time) < 2**63:
        raise ValueError(f"time {time}")
    return int(time)


def _fill(user: str, fill: dict[str, Any]) -> tuple[Any, ...]:
    """A fill in the order of `_FILL`."""
    # The mark of a liquidation is on both legs, the maker's too; forced is the user it names.
    liquidation = fill.get("liquidation") or {}
    return (
        str(fill["coin"]),
        float(fill["px"]),
        float(fill["sz"]),
        {"B": 1, "A": -1}[fill["side"]],
        _milliseconds(fill["time"]),
        str(fill["tid"]),
        bool(fill["crossed"]),
        liquidation.get("liquidatedUser", "").lower() == user.lower() if liquidation else False,
        "Auto-Deleveraging" in fill.get("dir", ""),
    )


FORMATS: Final = (_FILLS_2023, NodeFills())

STRANGERS: Final = {
    frozenset(
        {"liquidated_ntl_pos", "leverage_type"}
    ): "Hyperliquid liquidations of 2023, which name no coin and no price"
}
