"""Cost and memory from 1 M to 1,000 M trades and quotes: ``python scale.py [--events 1_000_000_000]``.

One engine with every metric takes chunks that are made, fed and forgotten. For each decade: nanoseconds of processor
time an event, without the making of it (median and least of its chunks), and the greatest memory of the process so
far. On machines whose clock does not stand still these tell little, so a plain C loop (the job of `toxmid.vpin`, see
``compare.py``) reads the trades of every chunk before and after the engine: the median of how many times as long an
event takes as a row of that loop is what must not grow. At the end the sums that must not drift are held against whole
numbers: buckets closed, and lots in the open one.
"""

from __future__ import annotations

import argparse
import ctypes
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import workloads
from compare import compiled

from toxmid import _core
from toxmid.instrument import Instrument
from toxmid.params import Params

CHUNK = 1_000_000
BUCKET_LOTS = 1_234_567
LOT = 0.001


def chunk(number: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], int]:
    """Half a million trades and as many quotes of 125 s, and the lots traded in them."""
    rng = np.random.default_rng(number)
    n = CHUNK // 2
    ts = workloads.START + number * 125 * 10**9 + np.arange(n) * 250_000
    side = np.where(rng.random(n) < 0.5, 1, -1).astype(np.int8)
    bid = 60_000 + np.round(100 * np.sin(number / 50), 1) + np.round(rng.normal(0, 1, n), 1)
    lots = rng.integers(1, 1000, n)
    trades = {"ts": ts, "price": bid + 0.1 * (side > 0), "size": lots * LOT, "side": side}
    sizes = rng.integers(1, 1000, (2, n)) / 100
    quotes = {"ts": ts + 1000, "bid": bid, "bid_size": sizes[0], "ask": bid + 0.1, "ask_size": sizes[1]}
    return trades, quotes, int(lots.sum())


def plain_loop(folder: Path) -> Callable[[dict[str, np.ndarray]], float]:
    """Seconds of processor time that the C loop takes for the trades of a chunk."""
    loop, rows = compiled(folder).same_job, np.empty(5 * CHUNK)

    def seconds(trades: dict[str, np.ndarray]) -> float:
        columns = [trades[name].ctypes.data_as(ctypes.c_void_p) for name in ("ts", "price", "size", "side")]
        count, per_unit, bucket = ctypes.c_long(len(trades["ts"])), ctypes.c_double(1 / LOT), ctypes.c_long(BUCKET_LOTS)
        start = time.process_time()
        loop(*columns, count, per_unit, bucket, 50, rows.ctypes.data_as(ctypes.c_void_p))
        return time.process_time() - start

    return seconds


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=lambda text: int(text.replace("_", "")), default=1_000_000_000)
    events = arguments.parse_args().events
    volume = BUCKET_LOTS * LOT
    core = _core.Core(Params(bucket_volume=volume), Instrument(tick=0.1, lot=LOT))
    lots, buckets, decade = 0, 0, CHUNK
    seconds: list[float] = []  # of the chunks of this decade
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        plain = plain_loop(Path(folder))
    print("| events | ns an event of this decade, median | least | of the C loop, median | peak memory, MB |")
    print("|---|---|---|---|---|")
    for number in range(events // CHUNK):
        trades, quotes, traded = chunk(number)
        lots += traded
        before = plain(trades)
        start = time.process_time()
        core.run((trades, None, None, quotes, None, None))
        core.drain_bars()
        rows = core.drain_buckets()
        core.drain_episodes()
        seconds.append(time.process_time() - start)
        ratios.append(seconds[-1] / (before + plain(trades)))  # the loop reads half as many rows, twice
        buckets += len(rows) // (8 * len(_core.BUCKET_FIELDS))
        done = (number + 1) * CHUNK
        if done == decade or number == events // CHUNK - 1:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            median, least = (1e9 * figure(seconds) / CHUNK for figure in (np.median, np.min))
            print(f"| {done:,} | {median:.1f} | {least:.1f} | {np.median(ratios):.2f} | {peak:.0f} |", flush=True)
            decade, seconds, ratios = decade * 10, [], []
    held = core.open_bucket()
    whole, rest = divmod(lots, BUCKET_LOTS)
    # The open bucket's volume is a sum of doubles; its fill, and every bucket before it, is a count of lots.
    lots_held = held["filled"] * BUCKET_LOTS
    print(f"buckets {buckets}, lots in the open one {lots_held:.3f}; in whole numbers {whole}, {rest}")
    if (buckets, round(lots_held)) != (whole, rest) or held["bucket"] != whole:
        raise SystemExit("the sums have drifted")


if __name__ == "__main__":
    main()
