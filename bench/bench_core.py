"""Speed of the core beside plain competitors in the same run: ``pytest bench/bench_core.py --benchmark-sort=name``.

Absolute times are of one machine on one day; ratios within a run are what counts. The C competitor is compiled here,
with the compiler that ``CC`` names.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
import workloads

import toxmid
from toxmid import _core
from toxmid.instrument import Instrument
from toxmid.params import Params

N = int(os.environ.get("TOXMID_BENCH_ROWS", "10_000_000"))
WINDOW = 50
BUCKETS = 5000
MARKET = Instrument(tick=0.1, lot=0.001)

C_LOOP = r"""
#include <math.h>
#include <stdint.h>
long vpin(const double *size, const int8_t *side, long n, double bucket, int window, double *out) {
    double buy = 0, sell = 0, filled = 0, sum = 0, ring[1024] = {0};
    long closed = 0;
    for (long i = 0; i < n; i++) {
        double left = size[i];
        while (filled + left >= bucket) {
            double part = bucket - filled;
            if (side[i] > 0) buy += part; else sell += part;
            left -= part;
            double gap = fabs(buy - sell);
            sum += gap - ring[closed % window];
            ring[closed % window] = gap;
            out[closed++] = sum / (window * bucket);
            buy = sell = filled = 0;
        }
        if (side[i] > 0) buy += left; else sell += left;
        filled += left;
    }
    return closed;
}
"""


@pytest.fixture(scope="module")
def c_loop(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., int]:
    """The least that VPIN can be: one loop over two columns, no check of anything."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("c")
    (folder / "loop.c").write_text(C_LOOP)
    library = folder / "loop.so"
    subprocess.run([compiler, "-O3", "-shared", "-fPIC", str(folder / "loop.c"), "-o", str(library), "-lm"], check=True)
    function = ctypes.CDLL(str(library)).vpin
    function.restype = ctypes.c_long
    return function


def bucket_volume() -> float:
    return float(workloads.trades(N)["size"].sum() / BUCKETS)


def vpin_numpy(size: np.ndarray, side: np.ndarray, bucket: float) -> np.ndarray:
    """The vectorised way: cumulative volumes, read off at the edges of buckets."""
    total, bought = np.cumsum(size), np.cumsum(np.where(side > 0, size, 0.0))
    edges = np.arange(1, int(total[-1] // bucket) + 1) * bucket
    at = np.searchsorted(total, edges)
    before = bought[at] - np.where(side[at] > 0, total[at] - edges, 0.0)
    buys = np.diff(before, prepend=0.0)
    gaps = np.cumsum(np.abs(2 * buys - bucket))
    return (gaps[WINDOW:] - gaps[:-WINDOW]) / (WINDOW * bucket)


@pytest.mark.benchmark(group="vpin")
def test_vpin_c_loop(benchmark: Any, c_loop: Callable[..., int]) -> None:
    tape = workloads.trades(N)
    out = np.empty(BUCKETS + 2)
    size, side, result = (column.ctypes.data_as(ctypes.c_void_p) for column in (tape["size"], tape["side"], out))
    volume = ctypes.c_double(bucket_volume())
    assert benchmark(c_loop, size, side, ctypes.c_long(N), volume, WINDOW, result) >= BUCKETS - 1


@pytest.mark.benchmark(group="vpin")
def test_vpin_numpy(benchmark: Any) -> None:
    tape = workloads.trades(N)
    assert benchmark(vpin_numpy, tape["size"], tape["side"], bucket_volume()).size > BUCKETS - WINDOW - 2


@pytest.mark.benchmark(group="vpin")
def test_vpin_function(benchmark: Any) -> None:
    """Everything included: checks, conversion, lots found in the pass, ranks, a polars table in and out."""
    frame = pl.DataFrame(workloads.trades(N)).with_columns(pl.col("ts").cast(pl.Datetime("ns", "UTC")))
    volume = bucket_volume()
    assert benchmark(lambda: toxmid.vpin(frame, bucket_volume=volume)).height >= BUCKETS - 1


def run(tables: tuple[Any, ...]) -> _core.Core:
    core = _core.Core(Params(), MARKET)
    core.run(tables)
    return core


@pytest.mark.benchmark(group="engine")
def test_engine_trades(benchmark: Any) -> None:
    tables = (workloads.trades(N), None, None, None, None, None)
    assert benchmark(run, tables).tally()["used"]["trades"] == N


@pytest.mark.benchmark(group="engine")
def test_engine_trades_and_quotes(benchmark: Any) -> None:
    tables = (workloads.trades(N // 2), None, None, workloads.quotes(N // 2), None, None)
    assert benchmark(run, tables).tally()["used"]["quotes"] == N // 2


@pytest.mark.benchmark(group="engine")
def test_engine_book(benchmark: Any) -> None:
    tables = (None, None, workloads.book(N), None, None, None)
    assert benchmark(run, tables).tally()["used"]["book"] == N


@pytest.mark.benchmark(group="one event")
def test_one_trade(benchmark: Any) -> None:
    core = _core.Core(Params(), MARKET)
    trade = core.trade
    tape = workloads.trades(100_000)
    rows = list(zip(*(tape[name].tolist() for name in ("ts", "price", "size", "side")), strict=True))

    def pass_over() -> None:
        for row in rows:
            trade(*row)

    benchmark.pedantic(pass_over, setup=lambda: core.__init__(Params(), MARKET), rounds=10)


