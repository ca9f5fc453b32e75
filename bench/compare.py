"""The core beside C, numpy and other libraries, in turns in one run: ``python compare.py [--rows N]``.

What is compared is the least time of each over the rounds. The second table has ratios: of the least times and, for
machines whose clock does not stand still, the median over the rounds of the ratio of two that ran in the same round.
The C loops are compiled here, with the compiler that ``CC`` names; everything reads the same columns, those of a polars
frame. Libraries that cannot live beside toxmid's numpy are run by another interpreter, which ``TOXMID_BENCH_PEERS``
names (see ``peers.py``).
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numpy as np
import polars as pl
import workloads

import toxmid
from toxmid import _core, native
from toxmid.instrument import Instrument
from toxmid.params import Params
from toxmid.schema import columns

WINDOW, BUCKETS = 50, 5000
READ, LOOP = "the four columns of trades read once, plain C loop", "VPIN only, plain C loop, two columns, no checks"
WHOLE_LOOP, NUMPY = "the job of toxmid.vpin without ranks, plain C loop", "VPIN, vectorised numpy"
WICKRA, DEPTH = "VPIN, wickra batch of lists", "L2 book, hftbacktest ROI depth loop"
ONE, AROUND = "one trade from Python, every metric", "the loop around it, nothing called"
VPIN, BOOK = "toxmid.vpin, polars frame in and out", "L2 book alone"
QUOTES, BOOK_METRICS = "engine, every metric, trades and quotes", "engine, every metric, L2 book"
BESIDE = (
    *((VPIN, other) for other in (LOOP, WHOLE_LOOP, NUMPY, WICKRA)),
    (QUOTES, LOOP),
    (BOOK, DEPTH),
    (BOOK_METRICS, DEPTH),
)
MARKET = Instrument(tick=0.1, lot=0.001)

C_LOOPS = r"""
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
/* VPIN only: sizes as they come, two columns, no check of anything, no branch on the side. */
long vpin_only(const double *size, const int8_t *side, long n, double bucket, int window, double *out) {
    double net = 0, filled = 0, sum = 0, ring[1024] = {0};
    long closed = 0;
    for (long i = 0; i < n; i++) {
        double left = size[i], sign = side[i];
        while (filled + left >= bucket) {
            double part = bucket - filled;
            net += sign * part;
            left -= part;
            double gap = fabs(net);
            sum += gap - ring[closed % window];
            ring[closed % window] = gap;
            out[closed++] = sum / (window * bucket);
            net = filled = 0;
        }
        net += sign * left;
        filled += left;
    }
    return closed;
}
/* The four columns of trades, read once and nothing done with them: what memory allows. */
long read_only(const int64_t *ts, const int64_t *price, const int64_t *size, const int8_t *side, long n) {
    int64_t bits = 0;
    for (long start = 0; start < n; start += 256) {
        long stop = start + 256 < n ? start + 256 : n;
        for (long i = start; i < stop; i++) bits |= ts[i];
        for (long i = start; i < stop; i++) bits |= price[i];
        for (long i = start; i < stop; i++) bits |= size[i];
        int8_t sides = 0;
        for (long i = start; i < stop; i++) sides |= side[i];
        bits |= sides;
    }
    return bits;
}
/* The job of toxmid.vpin without the rank: four columns, order and numbers checked, whole lots, rows of buckets. */
typedef struct { int64_t open, close, buy, sell; double vpin; } row;
long same_job(const int64_t *ts, const double *price, const double *size, const int8_t *side, long n, double per_unit,
              int64_t bucket, int window, row *out) {
    int64_t buy = 0, filled = 0, sum = 0, ring[1024] = {0}, now = 0, open = 0;
    long closed = 0;
    for (long i = 0; i < n; i++) {
        if (ts[i] < now || !(price[i] > 0 && price[i] < INFINITY) || !(size[i] > 0 && size[i] < INFINITY))
            return -1 - i;
        now = ts[i];
        int64_t left = llrint(size[i] * per_unit);
        while (filled + left >= bucket) {
            int64_t part = bucket - filled;
            if (filled == 0) open = now;
            buy += side[i] > 0 ? part : 0;
            left -= part;
            int64_t gap = llabs(2 * buy - bucket);
            sum += gap - ring[closed % window];
            ring[closed % window] = gap;
            out[closed] = (row) {open, now, buy, bucket - buy, (double) sum / (window * (double) bucket)};
            closed++;
            buy = filled = 0;
        }
        if (left) {
            if (filled == 0) open = now;
            buy += side[i] > 0 ? left : 0;
            filled += left;
        }
    }
    return closed;
}
"""


def compiled(folder: Path) -> ctypes.CDLL:
    source, library = folder / "loops.c", folder / "loops.so"
    source.write_text(C_LOOPS)
    command = [os.environ.get("CC", "cc"), "-O3", "-shared", "-fPIC", str(source), "-o", str(library), "-lm"]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


def vpin_numpy(size: np.ndarray, side: np.ndarray, bucket: float) -> np.ndarray:
    """The vectorised way: cumulative volumes, read off at the edges of buckets."""
    total, bought = np.cumsum(size), np.cumsum(np.where(side > 0, size, 0.0))
    edges = np.arange(1, int(total[-1] // bucket) + 1) * bucket
    at = np.searchsorted(total, edges)
    before = bought[at] - np.where(side[at] > 0, total[at] - edges, 0.0)
    gaps = np.cumsum(np.abs(2 * np.diff(before, prepend=0.0) - bucket))
    return (gaps[WINDOW:] - gaps[:-WINDOW]) / (WINDOW * bucket)


@numba.njit  # type: ignore[untyped-decorator]
def trades_in_numba(state: Any, ts: Any, price: Any, size: Any, side: Any) -> int:
    for i in range(len(ts)):
        code = native.trade(state, ts[i], price[i], size[i], side[i])
        if code < 0:
            return int(code)
    return 0


@numba.njit  # type: ignore[untyped-decorator]
def calls_in_numba(state: Any, n: int) -> int:
    """Calls that do nothing but read a number: what a call itself costs."""
    total = 0
    for _ in range(n):
        total += native.now(state) & 1
    return total


def our_ways(n: int, loops: ctypes.CDLL) -> dict[str, tuple[int, Callable[[], object]]]:
    """Name, rows, and one pass."""
    frame = pl.DataFrame(workloads.trades(n)).with_columns(pl.col("ts").cast(pl.Datetime("ns", "UTC")))
    trades, book = columns(frame, "trades"), workloads.book(n)
    half, quotes = workloads.trades(n // 2), workloads.quotes(n // 2)
    ts, price, size, side = (trades[name].ctypes.data_as(ctypes.c_void_p) for name in ("ts", "price", "size", "side"))
    volume = float(trades["size"].sum() / BUCKETS)
    plain, rows = np.empty(BUCKETS + 2), np.empty(5 * (BUCKETS + 2))
    count, out, table = ctypes.c_long(n), plain.ctypes.data_as(ctypes.c_void_p), rows.ctypes.data_as(ctypes.c_void_p)

    def engine(*tables: Any) -> object:
        core = _core.Core(Params(), MARKET)
        core.run(tables)
        return core

    def alone() -> object:
        core = _core.BookCore(0.1)
        core.run(book)
        return core

    def one_by_one() -> object:
        core = _core.Core(Params(), MARKET)
        for ts, price, size, side in singles:
            core.trade(ts, price, size, side)
        return core

    def loop_alone() -> object:
        for ts, price, size, side in singles:  # noqa: B007
            pass
        return None

    few = min(n, 200_000)
    singles = list(zip(*(trades[name][:few].tolist() for name in ("ts", "price", "size", "side")), strict=True))
    state = native.state(toxmid.Engine(Params(), MARKET))
    calls_in_numba(state, 1)

    def in_numba() -> object:
        fed = toxmid.Engine(Params(), MARKET)
        return trades_in_numba(native.state(fed), *(trades[name] for name in ("ts", "price", "size", "side")))

    return {
        READ: (n, lambda: loops.read_only(ts, price, size, side, count)),
        LOOP: (n, lambda: loops.vpin_only(size, side, count, ctypes.c_double(volume), WINDOW, out)),
        VPIN: (n, lambda: toxmid.vpin(frame, bucket_volume=volume)),
        WHOLE_LOOP: (n, lambda: loops.same_job(
            ts, price, size, side, count, ctypes.c_double(1000.0), ctypes.c_long(int(volume * 1000)), WINDOW, table)),
        NUMPY: (n, lambda: vpin_numpy(trades["size"], trades["side"], volume)),
        "engine, every metric, trades": (n, lambda: engine(trades, None, None, None, None, None)),
        QUOTES: (n // 2 * 2, lambda: engine(half, None, None, quotes, None, None)),
        BOOK_METRICS: (n, lambda: engine(None, None, book, None, None, None)),
        BOOK: (n, alone),
        ONE: (few, one_by_one),
        AROUND: (few, loop_alone),
        "one trade from numba, every metric": (n, in_numba),
        "one call from numba, nothing done": (n, lambda: calls_in_numba(state, n)),
    }  # fmt: skip


@contextmanager
def peers(n: int, folder: Path) -> Iterator[dict[str, tuple[int, Callable[[], object]]]]:
    """The libraries of ``peers.py`` under the interpreter that ``TOXMID_BENCH_PEERS`` names."""
    python = os.environ.get("TOXMID_BENCH_PEERS", sys.executable)
    trades, book = workloads.trades(n), workloads.book(n)
    np.savez(folder / "trades.npz", **trades)
    np.savez(folder / "book.npz", **book)
    volume = str(trades["size"].sum() / BUCKETS)
    command = [python, str(Path(__file__).with_name("peers.py")), str(folder), volume, str(WINDOW)]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        write, read = process.stdin, process.stdout

        def once(name: str) -> float:
            write.write(name + "\n")
            write.flush()
            return float(read.readline())

        names = read.readline().split()
        titles = {"wickra": WICKRA, "hftbacktest": DEPTH}
        yield {titles[name]: (n, lambda name=name: once(name)) for name in names}  # type: ignore[misc]
        write.close()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=10_000_000)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--only", default="", help="pattern of the names of those that take part; all by default")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name, peers(given.rows, Path(name)) as theirs:
        ways = our_ways(given.rows, compiled(Path(name))) | theirs
        ways = {title: way for title, way in ways.items() if re.search(given.only, title, re.IGNORECASE)}
        took: dict[str, list[float]] = {title: [] for title in ways}
        for _ in range(given.rounds):
            for title, (_, once) in ways.items():
                start = time.perf_counter()
                result = once()
                seconds = result if title in theirs and isinstance(result, float) else time.perf_counter() - start
                took[title].append(seconds)
    print("| | ms | M rows/s | ns a row |\n|---|---|---|---|")
    for title, (rows, _) in ways.items():
        seconds = min(took[title])
        print(f"| {title} | {1e3 * seconds:.4g} | {rows / seconds / 1e6:.3g} | {1e9 * seconds / rows:.3g} |")
    print("\n| so many times as fast | as | by the least | by the median of the rounds |\n|---|---|---|---|")
    for title, other in BESIDE:
        if {title, other} <= took.keys():
            ratios = np.array(took[other]) / took[title] * ways[title][0] / ways[other][0]
            least = min(took[other]) / min(took[title]) * ways[title][0] / ways[other][0]
            print(f"| {title} | {other} | {least:.3g} | {np.median(ratios):.3g} |")
    if {ONE, AROUND} <= took.keys():
        calls = 1e9 * (np.array(took[ONE]) - took[AROUND]) / ways[ONE][0]
        least = 1e9 * (min(took[ONE]) - min(took[AROUND])) / ways[ONE][0]
        print(f"\n{ONE}, without the loop around it: {least:.3g} ns by the least, {np.median(calls):.3g} by the median")


if __name__ == "__main__":
    main()
