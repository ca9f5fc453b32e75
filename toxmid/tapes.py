"""Trades and quotes as the functions on whole tapes take them: canonical, in order of time, with or without sides."""

from __future__ import annotations

from typing import Any

import polars as pl

from toxmid.errors import DataError
from toxmid.instrument import Instrument
from toxmid.schema import Kind, as_frame, canonical, typed

__all__ = ["any_trades", "as_frame", "found_instrument", "in_order", "with_sides", "without_sizes"]


def with_sides(trades: Any) -> pl.DataFrame:
    """Canonical trades in order of time. A tape without a column `side` is one on which every side is unknown.

    Raises
    ------
    DataError
        As `toxmid.schema.canonical`, or a time that goes back.

    Examples
    --------
    >>> tape = pl.DataFrame({"ts": [1760054400 * 10**9], "price": [100.0], "size": [0.5]})
    >>> with_sides(tape)["side"].to_list()
    [0]
    """
    return in_order(_with_column_of_sides(trades), "trades")


def any_trades(trades: Any) -> pl.DataFrame:
    """As `with_sides`, for those who judge times and sides anyway: where the types are right, nobody has yet."""
    return typed(_with_column_of_sides(trades), "trades")


def _with_column_of_sides(trades: Any) -> pl.DataFrame:
    frame = as_frame(trades)
    return frame if "side" in frame.columns else frame.with_columns(side=pl.lit(0, pl.Int8))


def without_sizes(quotes: Any) -> pl.DataFrame:
    """Canonical quotes in order of time, for those who ask for prices only: sizes may be missing, and are NaN then.

    Raises
    ------
    DataError
        As `toxmid.schema.canonical`, or a time that goes back.
    """
    frame = as_frame(quotes)
    missing = [name for name in ("bid_size", "ask_size") if name not in frame.columns]
    return in_order(frame.with_columns(pl.lit(float("nan")).alias(name) for name in missing), "quotes")


def in_order(table: Any, kind: Kind) -> pl.DataFrame:
    """Canonical table whose time never goes back.

    Raises
    ------
    DataError
        As `toxmid.schema.canonical`, or a time that goes back.
    """
    frame = canonical(table, kind)
    back = frame["ts"].diff().to_physical() < 0
    if back.any():
        row = int(back.arg_max() or 0)
        found = str(frame["ts"][row])
        raise DataError(f"time goes back in the {kind}", row=row, column="ts", found=found, expected="rows by time")
    return frame


def found_instrument(trades: pl.DataFrame) -> Instrument:
    """What canonical trades say of their market: where lots are worth a fixed amount of quote currency, not of coin,
    they are contracts of an inverse market.

    Examples
    --------
    >>> tape = pl.DataFrame({"price": [20.0, 25.0], "size": [1.0, 1.2], "lots": [2, 3]})
    >>> found_instrument(tape).contract_value
    10.0
    """
    if "lots" not in trades.columns or trades.height < 2:
        return Instrument()
    good = trades.filter(pl.col("lots") > 0, pl.col("price") > 0, pl.col("size") > 0)
    coin = good["size"] / good["lots"]
    quote = coin * good["price"]
    if not good.height or _is_constant(coin) or not _is_constant(quote):
        return Instrument()
    value = float(f"{quote[0]:.9g}")
    return Instrument(contract_value=value, lot=1.0, inverse=True, origin={
        "contract_value": "found", "lot": "found", "inverse": "found"
    })  # fmt: skip


def _is_constant(values: pl.Series) -> bool:
    return bool(((values - values[0]).abs() <= 1e-9 * values[0]).all())
