"""Databento: DBN files (and the CSV made of them): trades, mbp-1, tbbo, mbp-10 and order-by-order (mbo).

``ts_recv`` (arrival at the vendor) is `ts`, ``ts_event`` the exchange's. On a trade ``side`` is that of the aggressor;
elsewhere of the resting order. Sizes are contracts or shares and are left as they are. Reading DBN takes the package
``databento-dbn`` (``pip install toxmid[databento]``), which turns it into CSV; prices come as decimals. A CSV of the
vendor's own may have them as integers x 1e-9.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np
import polars as pl

from toxmid.readers.base import Csv, Identity, Lines, Table, code, divided
from toxmid.readers.files import Head
from toxmid.schema import Kind

__all__ = ["FORMATS"]

_F: Final = pl.Float64()
_I: Final = pl.Int64()
_ACTIONS: Final = pl.Enum(["A", "C", "M", "R", "T", "F", "N"])
_SIDES: Final = pl.Enum(["A", "B", "N"])
_SNAPSHOT: Final = 32  # flag: the record is part of a snapshot of the book
_DOUBTFUL: Final = 4  # flag: records of the channel were lost for good, the book may be wrong

_FIXED: Final = 1e9
_LEAST_FIXED: Final = 10**6  # a price of 0.001
_NO_PRICE: Final = 2**63 - 1
_NO_TIME: Final = 2**64 - 1

_RECORD: Final[dict[str, Any]] = {
    "ts_recv": pl.UInt64(),
    "ts_event": pl.UInt64(),
    "publisher_id": _I,
    "instrument_id": pl.String(),
    "action": _ACTIONS,
    "side": _SIDES,
    "price": _F,
    "size": _F,
    "flags": _I,
}
_LEVEL: Final = re.compile(r"(bid|ask)_(px|sz)_(\d\d)")

_IS_TRADE: Final = pl.col("action").cast(pl.String) == "T"
_TRADES: Final = Table(
    {"price": pl.col("price"), "size": pl.col("size"), "side": code("side", {"B": 1, "A": -1, "N": 0})},
    excluded={"other_kinds": ~_IS_TRADE},
    base_coin=True,
)
_QUOTES: Final = Table(
    {
        "bid": pl.col("bid_px_00"),
        "bid_size": pl.col("bid_sz_00"),
        "ask": pl.col("ask_px_00"),
        "ask_size": pl.col("ask_sz_00"),
    },
    base_coin=True,
)
_BEST: Final[dict[str, Any]] = dict.fromkeys(("bid_px_00", "ask_px_00", "bid_sz_00", "ask_sz_00"), _F)
_TENTH: Final[dict[str, Any]] = dict.fromkeys(("bid_px_09", "ask_px_09", "bid_sz_09", "ask_sz_09"), _F)


def _identity(head: Head) -> Identity:
    return Identity(None, head.first_row.get("symbol") or head.first_row.get("instrument_id"))


class _Records(Csv):
    """Records of any schema. Those of an instrument that the file maps to no symbol have none."""

    nameless = True

    def timed(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
        """A record without time of arrival has no place in the tape; one without the exchange's has that of arrival."""
        kept = frame.filter((pl.col("ts_recv") != _NO_TIME).fill_null(True))
        event = pl.when(pl.col("ts_event") == _NO_TIME).then("ts_recv").otherwise("ts_event").alias("ts_event")
        times = kept.with_columns(event).with_columns(pl.col("ts_recv", "ts_event").cast(pl.Int64, strict=False))
        return times, frame.height - kept.height

    def lines(self, head: Head, kind: Kind, *, allow_partial: bool) -> Iterator[Lines]:
        fixed = _is_fixed_point(head)
        for lines in super().lines(head, kind, allow_partial=allow_partial):
            yield replace(lines, frame=_from_fixed_point(lines.frame)) if fixed else lines


def _is_price(name: str) -> bool:
    return name == "price" or (_LEVEL.fullmatch(name) is not None and "_px_" in name)


def _is_fixed_point(head: Head) -> bool:
    """Whether prices are integers x 1e-9, as Databento's CSV has them unless decimals were asked for (nine, then).

    Other programs write a round decimal as an integer, too; but no market of this vendor trades above a million.
    """
    rows = (zip(head.header, line.split(","), strict=False) for line in head.lines[1:])
    texts = [text.strip().lstrip("-") for row in rows for name, text in row if _is_price(name) and text.strip()]
    known = [text for text in texts if text != str(_NO_PRICE)]
    return bool(known) and all(map(str.isdigit, known)) and max(map(int, known)) >= _LEAST_FIXED


def _from_fixed_point(frame: pl.DataFrame) -> pl.DataFrame:
    prices = [name for name in frame.columns if _is_price(name)]
    known = frame.with_columns(pl.when(pl.col(name) != float(_NO_PRICE)).then(pl.col(name)) for name in prices)
    return known.with_columns(divided(name, _FIXED).alias(name) for name in prices)


def _databento(name: str, dtypes: dict[str, Any], tables: dict[Kind, Table], make: type[Csv] = _Records) -> Csv:
    return make(
        name=f"databento-{name}",
        dtypes=_RECORD | dtypes,
        arrival="ts_recv",
        event="ts_event",
        units=("ns",),
        tables=tables,
        identity=_identity,
        labels={"symbol": "symbol"},
        clock_name="arrival",
        wide=_LEVEL,
        twins=("_px_", "_sz_"),
        sequence={"doubtful": (pl.col("flags") & _DOUBTFUL) != 0},
    )


def _levels(frame: pl.DataFrame) -> pl.DataFrame:
    """One row per level of each book; a level without price does not exist."""
    columns = [name for name in frame.columns if _LEVEL.fullmatch(name) and "_px_" in name]
    prices = frame.select(columns)
    sizes = frame.select(name.replace("_px_", "_sz_") for name in columns)
    sides = np.array([1 if name.startswith("bid") else -1 for name in columns], dtype=np.int8)
    long = pl.DataFrame(
        {name: np.repeat(frame[name].to_numpy(), len(columns)) for name in ("row", "ts", "ts_event", "gap")}
        | {
            "side": np.tile(sides, frame.height),
            "price": prices.to_numpy().ravel(),
            "size": sizes.to_numpy().ravel(),
        }
    )
    return long.filter(pl.col("price").is_finite())


_CHANGE: Final = {"side": pl.Int8, "price": pl.Float64, "size": pl.Float64, "snapshot": pl.Boolean}


class _Orders:
    """Order by order to level by level: what stands at a price after each record."""

    def __init__(self) -> None:
        self._orders: dict[tuple[str, int], tuple[int, float, float]] = {}  # side, price, size
        self._levels: dict[str, dict[tuple[int, float], float]] = defaultdict(dict)
        self._cleared: set[str] = set()

    def follow(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Add `changes` (levels that changed, null where none did) and `unknown` (a cancel of an order never seen, or a
        record without the figures that make an order)."""
        figures = pl.col("price", "size").fill_null(math.nan)
        fields = frame.select(
            "row", pl.col("flags").fill_null(0), "instrument_id", "order_id", "action", "side", figures
        )
        changes: list[tuple[int, int, float, float, bool]] = []
        unknown = []
        for row, flags, instrument, order, *record in fields.with_columns(pl.col(pl.Enum).cast(pl.String)).iter_rows():
            changed = self._changed(instrument, order, *record)
            if changed is None:
                unknown.append(row)
            for (side, price), size in (changed or {}).items():
                # After a clear the book is known to be empty, so what comes next is all of it.
                snapshot = bool(flags & _SNAPSHOT) or (size > 0 and instrument in self._cleared)
                self._cleared -= {instrument} if size > 0 else set()
                changes.append((row, side, price, size, snapshot))
        flat = pl.DataFrame(changes, schema={"row": frame.schema["row"], **_CHANGE}, orient="row")
        by_row = flat.group_by("row", maintain_order=True).agg(changes=pl.struct(*_CHANGE))
        return frame.join(by_row, on="row", how="left", maintain_order="left").with_columns(
            unknown=pl.col("row").is_in(pl.Series(unknown, dtype=frame.schema["row"]).implode())
        )

    def _changed(
        self, instrument: str, order: int, action: str, side: str | None, price: float, size: float
    ) -> dict[tuple[int, float], float] | None:
        """Levels that a record changed with what now stands there; None for an order that nobody can know."""
        if action == "R":
            return self._clear(instrument)
        if action not in ("A", "C", "M"):
            return {}  # trades and fills; the cancels and modifications that follow them change the book
        places = action != "C" and side != "N"
        if not math.isfinite(size) or (places and (side is None or not math.isfinite(price))):
            return None
        standing = self._orders.pop((instrument, order), None)
        if standing is None and action == "C":
            return None
        changed: dict[tuple[int, float], float] = {}
        if standing is not None:
            old_sign, old_price, was = standing
            left = max(was - size, 0.0) if action == "C" else 0.0
            if left > 0:
                self._orders[instrument, order] = (old_sign, old_price, left)
            changed |= self._move(instrument, (old_sign, old_price), left - was)
        if places:
            sign = 1 if side == "B" else -1
            self._orders[instrument, order] = (sign, price, size)
            changed |= self._move(instrument, (sign, price), size)
        return changed

    def _move(self, instrument: str, place: tuple[int, float], size: float) -> dict[tuple[int, float], float]:
        levels = self._levels[instrument]
        levels[place] = max(levels.get(place, 0.0) + size, 0.0)
        return {place: levels[place] or levels.pop(place)}

    def _clear(self, instrument: str) -> dict[tuple[int, float], float]:
        self._orders = {key: order for key, order in self._orders.items() if key[0] != instrument}
        self._cleared.add(instrument)
        return dict.fromkeys(self._levels.pop(instrument, {}), 0.0)


class _ByOrder(_Records):
    """Records of single orders; the book is followed through the whole file, whatever the window."""

    def lines(self, head: Head, kind: Kind, *, allow_partial: bool) -> Iterator[Lines]:
        orders = _Orders()
        for lines in super().lines(head, kind, allow_partial=allow_partial):
            frame = orders.follow(lines.frame) if kind == "book" else lines.frame
            yield Lines(frame, lines.read, lines.excluded)


_BY_ORDER: Final = Table(
    {name: pl.col(name) for name in ("side", "price", "size", "snapshot")},
    excluded={"unknown_orders": pl.col("unknown"), "other_kinds": pl.col("changes").is_null()},
    expand=lambda frame: frame.select("row", "ts", "ts_event", "gap", "changes").explode("changes").unnest("changes"),
    base_coin=True,
)
_BOOK: Final = Table(
    {"side": pl.col("side"), "price": pl.col("price"), "size": pl.col("size"), "snapshot": pl.lit(True)},
    expand=_levels,
    base_coin=True,
    whole=True,
)

FORMATS: Final = (
    _databento("trades", {}, {"trades": _TRADES}),
    _databento("mbp-1", _BEST, {"trades": _TRADES, "quotes": _QUOTES}),
    _databento("mbp-10", _BEST | _TENTH, {"trades": _TRADES, "quotes": _QUOTES, "book": _BOOK}),
    _databento("mbo", {"order_id": _I}, {"trades": _TRADES, "book": _BY_ORDER}, _ByOrder),
)
