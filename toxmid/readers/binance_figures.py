"""Binance public archive, what is no tape of events: `metrics` (open interest), `fundingRate` and `bookDepth`.

Times are text without a zone (`metrics`, `bookDepth`; taken as UTC) or milliseconds (`fundingRate`). `metrics` of a day
may hold the first row of the next one. Open interest is base coin on USD-M; on COIN-M, where it counts contracts, the
column of its value is base coin. `bookDepth` gives sums from the mid outwards, a row per distance, negative ones for
bids, about every half minute; a side of it may stand still for hours, which no market does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import polars as pl

from toxmid.readers.base import Csv, Identity, Table
from toxmid.readers.binance_archive import is_delivery, symbol_of, venue_names
from toxmid.readers.files import Head

__all__ = ["FORMATS"]

_F: Final = pl.Float64()
_STILL: Final = 3  # equal sums in a row: seen in no live band of a day, while frozen ones repeat by the hundred


def _identity(venue: str) -> Callable[[Head], Identity]:
    return lambda head: Identity(venue, symbol_of(head.name))


def _metrics(venue: str) -> Csv:
    column = "sum_open_interest_value" if venue == "binance-delivery" else "sum_open_interest"
    dtypes: dict[str, Any] = {
        "create_time": pl.String(),
        "symbol": pl.String(),
        "sum_open_interest": _F,
        "sum_open_interest_value": _F,
    }
    table = Table(
        {"open_interest": pl.col(column)},
        excluded={"no_value": pl.col(column).is_null()},
        distinct=("create_time", "symbol"),
        base_coin=True,
    )
    return Csv(
        name=f"{venue}-metrics",
        dtypes=dtypes,
        arrival="create_time",
        event="create_time",
        units=("ns",),
        tables={"open_interest": table},
        identity=_identity(venue),
        labels={"symbol": "symbol"},
        excluded_names=venue_names(venue),
    )


def _funding(venue: str) -> Csv:
    columns = {"rate": pl.col("last_funding_rate"), "interval": pl.col("funding_interval_hours")}
    return Csv(
        name=f"{venue}-fundingRate",
        dtypes={"calc_time": pl.Int64(), "funding_interval_hours": _F, "last_funding_rate": _F},
        arrival="calc_time",
        event="calc_time",
        units=("ms",),
        tables={"funding": Table(columns, distinct=("calc_time",))},
        identity=_identity(venue),
        excluded_names=venue_names(venue),
    )


class _Bands:
    """Knows for how long each band has stood still."""

    def __init__(self) -> None:
        self._runs: dict[float, tuple[tuple[float, float], int]] = {}  # by percentage: last sums, how often in a row

    def follow(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Add `stale`: these sums have been the same for some time."""
        stale = []
        for percentage, *sums in frame.select("percentage", "depth", "notional").iter_rows():
            last, count = self._runs.get(percentage, ((), 0))
            count = count + 1 if last == tuple(sums) else 1
            self._runs[percentage] = (tuple(sums), count)
            stale.append(count >= _STILL)
        return frame.with_columns(stale=pl.Series(stale, dtype=pl.Boolean))


_DEPTH: Final = Csv(
    name="binance-bookDepth",
    dtypes={"timestamp": pl.String(), "percentage": _F, "depth": _F, "notional": _F},
    arrival="timestamp",
    event="timestamp",
    units=("ns",),
    tables={
        "depth_bands": Table(
            {
                "side": -pl.col("percentage").sign().cast(pl.Int8),
                "percent": pl.col("percentage").abs(),
                "depth": pl.col("depth"),
                "notional": pl.col("notional"),
                "stale": pl.col("stale"),
            },
            excluded={"no_value": pl.any_horizontal(pl.col("percentage", "depth", "notional").is_null())},
            make_expand=lambda: _Bands().follow,
            base_coin=True,
        )
    },
    identity=lambda head: Identity(
        "binance-delivery" if is_delivery(head.name) else "binance-futures", symbol_of(head.name)
    ),
)

FORMATS: Final = (
    _metrics("binance-futures"),
    _metrics("binance-delivery"),
    _funding("binance-futures"),
    _funding("binance-delivery"),
    _DEPTH,
)
