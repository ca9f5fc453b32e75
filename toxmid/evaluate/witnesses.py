"""Rivals that look beyond the tape: the venue's mark price, its index, and what the coin costs elsewhere.

====================  =================================================================================================
name                  estimate of the mid
====================  =================================================================================================
``mark``              the last mark price
``index_basis``       the last index price, times the exponential mean over 30 s of mid over index (the rule by which
                      exchanges make mark prices of indices, without its median)
``other_venue``       mean (of logarithms) over the other venues of their last prices, each times what is usual between
                      it and the tape: the median of mid over last price, over the last six hours outside stress
====================  =================================================================================================

They are in a table only where there is something to make them of.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from toxmid.readers import open_tape
from toxmid.statespace import bar_seconds
from toxmid.tapes import in_order

__all__ = ["WITNESSES", "marks_of", "with_witnesses"]

WITNESSES: Final = ("mark", "index_basis", "other_venue")
_INDEX_MEMORY: Final = 30.0  # s
_USUAL: Final = 6 * 3600.0  # s
_FEWEST: Final = 60  # bars of it


def marks_of(source: Any, format: str | None = None) -> pl.DataFrame | None:
    """Mark prices of files or of a table, in order of time; None of nothing."""
    if source is None:
        return None
    is_files = isinstance(source, str | os.PathLike | list | tuple)
    return pl.concat(open_tape(source, "mark", format=format).frames()) if is_files else in_order(source, "mark")


def with_witnesses(
    estimates: pl.DataFrame,
    bars: pl.DataFrame,
    mark: pl.DataFrame | None = None,
    venues: Mapping[str, pl.DataFrame] | None = None,
) -> pl.DataFrame:
    """Add the rivals for which there is an input, one column each, null until they can say something.

    Parameters
    ----------
    estimates, bars : polars.DataFrame
        A row per bar.
    mark : polars.DataFrame, optional
        ``ts, price`` and, where it is known, ``index``.
    venues : mapping of str to polars.DataFrame, optional
        Trades of other venues: ``ts, price``.

    Returns
    -------
    polars.DataFrame
        `estimates` with columns of `WITNESSES`.
    """
    if mark is not None:
        last = bars.select("ts", "mid").join_asof(mark.select(pl.exclude("ts_event", "mid")), on="ts")
        estimates = estimates.with_columns(mark=last["price"])
        if "index" in last.columns:
            estimates = estimates.with_columns(index_basis=_index_basis(last, bar_seconds(bars)))
    if venues:
        logs = pl.DataFrame({name: _elsewhere(bars, trades) for name, trades in venues.items()})
        estimates = estimates.with_columns(other_venue=logs.mean_horizontal().exp())
    return estimates


def _index_basis(last: pl.DataFrame, seconds: float) -> pl.Series:
    basis = (pl.col("mid") / pl.col("index")).log()
    usual = basis.ewm_mean(com=_INDEX_MEMORY / seconds, ignore_nulls=True).forward_fill()
    return last.select(pl.col("index") * usual.exp()).to_series()


def _elsewhere(bars: pl.DataFrame, trades: pl.DataFrame) -> pl.Series:
    """Log price of the other venue in terms of the tape's own market."""
    last = bars.select("ts", "mid", "regime").join_asof(trades.select("ts", "price"), on="ts")
    quiet = ~pl.col("regime").str.starts_with("stress").fill_null(False)
    basis = pl.when(quiet).then((pl.col("mid") / pl.col("price")).log())
    window = max(round(_USUAL / bar_seconds(bars)), _FEWEST)
    usual = basis.rolling_median(window, min_samples=_FEWEST).forward_fill()
    return last.select(pl.col("price").log() + usual).to_series()
