"""Tapes that the benchmarks share: made once, the same for every competitor."""

from __future__ import annotations

import functools
import gzip
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

START = 1_760_054_400_000_000_000

Columns = dict[str, npt.NDArray[Any]]


@functools.cache
def trades(n: int) -> Columns:
    """Trades of a liquid market: uneven times, sizes on a lot of 0.001, sides that persist."""
    rng = np.random.default_rng(1)
    flips = rng.random(n) < 0.3
    side = np.where(np.cumsum(flips) % 2, 1, -1).astype(np.int8)
    mid = np.round(60_000 + np.cumsum(rng.normal(0, 0.1, n)), 1)
    return {
        "ts": START + np.cumsum(rng.integers(0, 16_000_000, n)),
        "price": mid + 0.1 * (side > 0),
        "size": rng.integers(1, 1000, n) / 1000,
        "side": side,
    }


@functools.cache
def quotes(n: int) -> Columns:
    """A quote between any two trades of `trades`."""
    rng = np.random.default_rng(2)
    tape = trades(n)
    bid = tape["price"] - 0.1 * (tape["side"] > 0)
    return {
        "ts": np.sort(tape["ts"] + rng.integers(0, 1000, n)),
        "bid": bid,
        "bid_size": rng.integers(1, 1000, n) / 100,
        "ask": bid + 0.1,
        "ask_size": rng.integers(1, 1000, n) / 100,
    }


@functools.cache
def book(n: int) -> Columns:
    """Rows of an L2 book after a snapshot: levels are set and deleted around a wandering mid, a few to a message."""
    rng = np.random.default_rng(3)
    mid = 600_000 + np.cumsum(rng.integers(-1, 2, n) * (rng.random(n) < 0.05))
    side = rng.choice(np.array([-1, 1], np.int8), n)
    tick = mid - side * (1 + np.minimum(rng.geometric(0.02, n), 400))
    snapshot = np.zeros(n, np.uint8)
    snapshot[:2] = 1
    side[:2], tick[:2] = (1, -1), (599_999, 600_001)
    size = np.where(rng.random(n) < 0.35, 0.0, rng.integers(1, 5000, n) / 1000)
    size[:2] = 1.0
    return {
        "ts": START + np.cumsum(rng.random(n) < 0.25).astype(np.int64) * 10_000_000,
        "side": side,
        "price": tick / 10,
        "size": size,
        "snapshot": snapshot,
    }


# --- files -----------------------------------------------------------------------------------------------------------

_CHUNK = 1_000_000
_LEVELS = 1000  # of either side in the snapshot at the start
_DAY_US = 86_400 * 10**6


def book_messages(rows: int) -> Iterator[Columns]:
    """A day of an L2 feed as a vendor records it, in chunks: a snapshot, then messages of two to some thirty rows.

    The mid wanders by single ticks. What stands in its way is deleted by the message that moves it, so that the book
    is never crossed; other rows set and delete levels at distances that thin out. Rows of a message share both clocks.
    """
    rng = np.random.default_rng(4)
    mid, left = 600_000, max(0, rows - 2 * _LEVELS)
    step = _DAY_US / max(1, left / 8)  # mean time between messages of eight rows
    now = START // 1000
    yield _snapshot(now, mid)
    while left > 0:
        lengths = 2 + rng.geometric(1 / 6.0, _CHUNK // 8)
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        n = int(lengths.sum())
        moves = rng.integers(-1, 2, lengths.size) * (rng.random(lengths.size) < 0.2)
        mids = mid + np.cumsum(moves)
        times = now + np.cumsum(rng.exponential(step, lengths.size).astype(np.int64) + 1)
        side = rng.choice(np.array([-1, 1], np.int8), n)
        tick = np.repeat(mids, lengths) - side * (1 + np.minimum(rng.geometric(0.02, n) - 1, 900))
        size = np.where(rng.random(n) < 0.35, 0, rng.integers(1, 50_000, n))
        moved = starts[moves != 0]
        side[moved] = -moves[moves != 0]  # the level that the mid has reached is gone,
        tick[moved] = mids[moves != 0]
        size[moved] = 0
        side[moved + 1] = moves[moves != 0]  # and there is one behind it
        tick[moved + 1] = mids[moves != 0] - moves[moves != 0]
        size[moved + 1] = 1000
        latency = rng.integers(2_000, 9_000, lengths.size)
        arrival = np.maximum.accumulate(times + latency)
        chunk = {
            "timestamp": np.repeat(times, lengths),
            "local_timestamp": np.repeat(arrival, lengths),
            "is_snapshot": np.zeros(n, np.bool_),
            "side": side,
            "price": tick / 10,
            "amount": size / 1000,
        }
        yield {name: column[:left] for name, column in chunk.items()}
        left -= n
        mid, now = int(mids[-1]), int(arrival[-1])


def _snapshot(now: int, mid: int) -> Columns:
    away = np.arange(1, _LEVELS + 1)
    n = 2 * _LEVELS
    return {
        "timestamp": np.full(n, now),
        "local_timestamp": np.full(n, now),
        "is_snapshot": np.ones(n, np.bool_),
        "side": np.repeat(np.array([1, -1], np.int8), _LEVELS),
        "price": np.concatenate([mid - away, mid + away]) / 10,
        "amount": np.ones(n),
    }


def write_tardis_book(path: Path, rows: int, *, level: int = 6) -> None:
    """`book_messages` as a Tardis file; `level` is that of gzip."""
    header = b"exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"
    with path.open("wb") as raw, gzip.GzipFile("", "wb", level, raw, mtime=0) as file:
        file.write(header)
        for chunk in book_messages(rows):
            frame = pl.DataFrame(chunk).select(
                pl.lit("binance-futures").alias("exchange"),
                pl.lit("BTCUSDT").alias("symbol"),
                "timestamp",
                "local_timestamp",
                "is_snapshot",
                pl.when(pl.col("side") > 0).then(pl.lit("bid")).otherwise(pl.lit("ask")).alias("side"),
                "price",
                "amount",
            )
            text = frame.write_csv(include_header=False).encode()
            file.write(text.replace(b".0,", b",").replace(b".0\n", b"\n"))  # the vendor writes 1, not 1.0


@contextmanager
def folder(kept: Path | None) -> Iterator[Path]:
    """A folder for tapes: the one that is to be kept, or one that is gone afterwards."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
