"""Hyperliquid: fills of the node as JSON lines, and the CSV of 2023.

A trade is written twice, once for each user, with one ``tid``: the row of the taker (``crossed``) says the side.
Liquidations and ADL are marked on the fills, so a liquidation is in the trades already.

The liquidations of 2023 name a user and a second, no coin, price or side. Those are in the fills of the user at that
time, which stand in another file; the user was passive in them (somebody else took the position over), so they are not
among the trades of takers.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import polars as pl

from toxmid.disk import naming
from toxmid.errors import DataError, FileError
from toxmid.readers.base import FLAGS, Clock, Csv, Format, Identity, Lines, Table, code, is_true
from toxmid.readers.files import Block, Head, ahead, blocks, read_head
from toxmid.readers.jsonlines import is_whole, split
from toxmid.schema import Kind

__all__ = ["FORMATS"]

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

_NEAR: Final = 2 * 10**9  # ns between a liquidation and a fill of its user that belongs to it; both count seconds
_LIQUIDATION: Final = ("time", "user", "liquidated_ntl_pos", "liquidated_account_value", "leverage_type")


class Liquidations2023(Csv):
    """Liquidations without coin and price, and the fills that have them. Rows are fills: a liquidation closes positions
    in several coins at once. One without a fill is a row that is left out."""

    completed_by = _FILLS_2023.name

    def companions(self, head: Head) -> tuple[Path, ...]:
        """The files of fills: those given along, else those in the same folder."""
        found = head.companions or tuple(path for path in _others_beside(head.path) if _is_fills(path))
        if not found:
            raise FileError(
                "liquidations of 2023 name no coin and no price, which are in the fills of their users",
                file=str(head.path),
                expected=f"a file of {', '.join(_FILLS_2023.dtypes)} in the same folder, or given along with it",
            )
        return found

    def identify(self, head: Head) -> Identity:
        return _FILLS_2023.identity(read_head(self.companions(head)[0]))

    def labelled(self) -> bool:
        return True

    def lines(self, head: Head, kind: Kind, *, allow_partial: bool) -> Iterator[Lines]:
        pieces = list(super().lines(head, kind, allow_partial=allow_partial))
        excluded = sum((Counter(lines.excluded) for lines in pieces), Counter[str]())
        every = pl.concat([lines.frame for lines in pieces])
        liquidations = every.unique(_LIQUIDATION, keep="first", maintain_order=True)
        fills, twice = self._fills(head, liquidations["user"], allow_partial=allow_partial)
        rows = _matched(liquidations, fills)
        excluded["duplicates"] += every.height - liquidations.height + twice
        excluded["without_fill"] += liquidations.height - rows["row"].n_unique()
        yield Lines(rows, rows.height + excluded.total(), {reason: n for reason, n in excluded.items() if n})

    def _fills(self, head: Head, users: pl.Series, *, allow_partial: bool) -> tuple[pl.DataFrame, int]:
        """Fills of some users, and how many were left out because they stand in another file as well."""
        parts = []
        theirs = _lower("user").is_in(users.str.to_lowercase().implode())
        for path in self.companions(head):
            pieces = _FILLS_2023.lines(read_head(path), "trades", allow_partial=allow_partial)
            kept = [lines.frame.filter(theirs).select("ts", "symbol", *_FILL_2023) for lines in pieces]
            # Two equal fills of a file are two fills; how often one stands in a file is how often it happened.
            parts.append(pl.concat(kept).with_columns(nth=pl.int_range(pl.len()).over(_FILL_2023)))
        every = pl.concat(parts)
        fills = every.unique([*_FILL_2023, "nth"], keep="first", maintain_order=True)
        return fills, every.height - fills.height


_FILL_2023: Final = tuple(_FILLS_2023.dtypes)

_LIQUIDATIONS_2023: Final = Liquidations2023(
    name="hyperliquid-liquidations-2023",
    dtypes={
        "time": pl.String(),
        "user": pl.String(),
        "liquidated_ntl_pos": _F,
        "liquidated_account_value": _F,
        "leverage_type": pl.Enum(["Cross", "Isolated"]),
    },
    arrival="time",
    event="time",
    units=("ns",),
    tables={
        "liquidations": Table(
            {"price": pl.col("px"), "size": pl.col("sz"), "side": code("side", {"Bid": 1, "Ask": -1})},
            # What the user took from the book was his own will.
            excluded={"fills_of_takers": is_true("crossed")},
        )
    },
    identity=lambda head: Identity("hyperliquid"),
)


def _lower(name: str) -> pl.Expr:
    return pl.col(name).str.to_lowercase()


def _matched(liquidations: pl.DataFrame, fills: pl.DataFrame) -> pl.DataFrame:
    """Fills with the liquidation that is nearest to each, in order of the time at which both were known."""
    named = liquidations.select("row", said="ts", who=_lower("user"))
    pairs = fills.with_row_index("fill").join(named, left_on=_lower("user"), right_on="who")
    away = (pl.col("ts") - pl.col("said")).abs()
    nearest = pairs.filter(away <= _NEAR).sort("fill", away, "row").unique("fill", keep="first", maintain_order=True)
    known = nearest.with_columns(ts=pl.max_horizontal("ts", "said"), ts_event=pl.col("ts"))
    return known.sort("ts", "row", "fill").drop("said", "fill", "nth")


def _others_beside(path: Path) -> list[Path]:
    """Files in the folder of one that may be text."""
    with naming(path.parent, "cannot be read"):
        beside = sorted(path.parent.iterdir())
    return [other for other in beside if other != path and other.suffix.lower() in _TEXT and other.is_file()]


def _is_fills(path: Path) -> bool:
    with contextlib.suppress(FileError):  # what cannot be read is no file of fills, and told where it is asked for
        return _FILLS_2023.matches(read_head(path))
    return False


_TEXT: Final = frozenset({".csv", ".gz", ".zst", ".lz4", ".zip"})

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


FORMATS: Final = (_FILLS_2023, _LIQUIDATIONS_2023, NodeFills())
