"""Speed of the functions on whole tapes: ``pytest bench/bench_functions.py --benchmark-columns=min,median``.

Competitors do the same by polars alone, in the same process on the same columns; quote ratios of one run.
"""

from __future__ import annotations

import os
from typing import Any

import polars as pl
import pytest
import workloads

import toxmid
from toxmid.instrument import Instrument

N = int(os.environ.get("TOXMID_BENCH_ROWS", "10_000_000"))
HORIZONS = ("1s", "5s", "30s", "60s", "300s")
MARKET = Instrument(tick=0.1, lot=0.001)


@pytest.fixture(scope="module")
def trades() -> pl.DataFrame:
    return pl.DataFrame(workloads.trades(N))


@pytest.fixture(scope="module")
def quotes() -> pl.DataFrame:
    return pl.DataFrame(workloads.quotes(N))


@pytest.mark.parametrize("offsets", [1, 10])
def test_vpin_from_several_starts(benchmark: Any, trades: pl.DataFrame, offsets: int) -> None:
    volume = float(trades["size"].sum() / 5000)
    table = benchmark.pedantic(
        toxmid.vpin, (trades,), {"bucket_volume": volume, "offsets": offsets, "instrument": MARKET}, rounds=5
    )
    assert table.height > 4990


def test_markouts(benchmark: Any, trades: pl.DataFrame, quotes: pl.DataFrame) -> None:
    table = benchmark.pedantic(toxmid.markouts, (trades, quotes), rounds=3)
    assert table["trades"].max() > 0.9 * N


def markouts_polars(trades: pl.DataFrame, quotes: pl.DataFrame) -> pl.DataFrame:
    """Means alone, no errors, no checks: one join for each horizon."""
    mids = quotes.select(at="ts", mid=((pl.col("bid") + pl.col("ask")) / 2).log()).set_sorted("at")
    paid = trades.select("ts", "size", "side", paid=pl.col("price").log())
    means = []
    for seconds in (1, 5, 30, 60, 300):
        later = paid.with_columns(at=pl.col("ts") + seconds * 10**9).set_sorted("at").join_asof(mids, on="at")
        gain = pl.col("side") * (pl.col("mid") - pl.col("paid"))
        reached = later.filter(pl.col("at") <= quotes["ts"][-1])
        means.append(reached.group_by("side").agg(mean=(gain * pl.col("size")).sum() / pl.col("size").sum()))
    return pl.concat(means)


def test_markouts_by_joins(benchmark: Any, trades: pl.DataFrame, quotes: pl.DataFrame) -> None:
    assert benchmark.pedantic(markouts_polars, (trades, quotes), rounds=3).height >= len(HORIZONS)
