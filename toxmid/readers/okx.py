"""OKX historical trades: a CSV in a zip per instrument and day (of UTC+8), exchange time in milliseconds.

Older files have no column for the instrument and bilingual names (``side/...``); the instrument then is in the file
name. ``side`` is that of the taker; sizes of swaps and futures count contracts, those of spot are base coin.
"""

from __future__ import annotations

import re
from typing import Any, Final

import polars as pl

from toxmid.readers.base import SIDES, TAKER, Csv, Identity, Table
from toxmid.readers.files import Head

__all__ = ["FORMATS"]

_F: Final = pl.Float64()
_NAME: Final = re.compile(r"(?:^|\s)([A-Z0-9]+-[A-Z0-9]+(?:-[A-Z0-9]+)*)-(?:agg)?trades-")
_COLUMNS: Final[dict[str, Any]] = {
    "trade_id": pl.String(),
    "side": SIDES,
    "price": _F,
    "size": _F,
    "created_time": pl.Int64(),
}


def _venue(symbol: str | None) -> str | None:
    """The venue as the table of instruments knows it: spot, perpetual swaps, dated futures."""
    if symbol is None:
        return None
    if symbol.endswith("-SWAP"):
        return "okex-swap"
    return "okex" if symbol.count("-") == 1 else "okex-futures"


def _by_row(head: Head) -> Identity:
    symbol = head.first_row.get("instrument_name")
    return Identity(_venue(symbol), symbol)


def _by_name(head: Head) -> Identity:
    match = _NAME.search(head.name)
    symbol = match[1] if match is not None else None
    return Identity(_venue(symbol), symbol)


def _trades(name: str, dtypes: dict[str, Any], **more: Any) -> Csv:
    columns = {"price": pl.col("price"), "size": pl.col("size"), "side": TAKER, "id": pl.col("trade_id")}
    return Csv(
        name=name,
        dtypes=dtypes,
        arrival="created_time",
        event="created_time",
        units=("ms",),
        tables={"trades": Table(columns, distinct=("id",))},
        **more,
    )


FORMATS: Final = (
    _trades(
        "okx-trades",
        {"instrument_name": pl.String()} | _COLUMNS,
        identity=_by_row,
        labels={"symbol": "instrument_name"},
    ),
    _trades("okx-trades-old", _COLUMNS, identity=_by_name, renamed=re.compile("/.*")),
)
