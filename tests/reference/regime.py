"""The regime of each bar of a second, read off the other columns of finished bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import polars as pl


def regimes(
    bars: pl.DataFrame, params: Any, last_event: Sequence[float], first_record: float, quoted_from: float
) -> list[str]:
    """`last_event`: ns of the last event up to the end of each bar; `first_record`, `quoted_from`: when a liquidation
    feed, and quotes or a book, began to speak (inf: never)."""
    halt, hold = (params.duration_ns(name) for name in ("halt", "stress_hold"))
    names, until = [], -math.inf
    for row, event in zip(bars.with_columns(pl.col("ts").to_physical()).iter_rows(named=True), last_event, strict=True):
        if row["ts"] - event > halt:
            names.append("halted")
            continue
        if row["mid"] is None:
            names.append("one-sided book" if row["ts"] >= quoted_from else "calm")
            continue
        wide = (row["spread_z"] or -math.inf) > params.stress_z
        bare = (row["excess_impact"] or -math.inf) > params.stress_excess
        torn = row["implied_mid"] is not None and row["implied_mid"] != row["mid"]
        toxic = row["toxic_mean"] is not None and (row["toxicity"] or 0.0) > 0.05
        if toxic and (wide or bare or torn):
            until = row["ts"] + hold
        stressed = "stress-labelled" if row["ts"] >= first_record else "stress-inferred"
        names.append(stressed if row["ts"] < until else "calm")
    return names
