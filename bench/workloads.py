"""Tapes that the benchmarks share: made once, the same for every competitor."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

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
