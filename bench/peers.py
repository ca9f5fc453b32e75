"""Other libraries on the same tapes, run by an interpreter of their own: hftbacktest wants an older numpy than toxmid.

``compare.py`` starts this file, writes the name of a measurement to its standard input and reads the seconds of one
pass from its standard output, so that ours and theirs take turns. It needs numpy, and hftbacktest or wickra, nothing of
toxmid.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Columns = dict[str, np.ndarray]


def wickra_batch(trades: Columns, bucket: float, window: int) -> Callable[[], object]:
    """Its fastest way: whole lists at once (arrays take seven times as long). Making the lists is not counted."""
    from wickra import Vpin

    price, size, bought = trades["price"].tolist(), trades["size"].tolist(), (trades["side"] > 0).tolist()
    return lambda: Vpin(bucket, window).batch(price, size, bought)


def hftbacktest_loop(book: Columns) -> Callable[[], object]:
    """Its depth within a range of interest, in the loop of its tutorials: wait for the next feed, read the touch."""
    import hftbacktest as hft
    from numba import njit

    events = np.zeros(len(book["ts"]), hft.event_dtype)
    kind = np.where(book["snapshot"] > 0, hft.DEPTH_SNAPSHOT_EVENT, hft.DEPTH_EVENT)
    events["ev"] = kind | hft.EXCH_EVENT | hft.LOCAL_EVENT | np.where(book["side"] > 0, hft.BUY_EVENT, hft.SELL_EVENT)
    events["exch_ts"], events["local_ts"] = book["ts"], book["ts"] + 1
    events["px"], events["qty"] = book["price"], book["size"]
    low, high = book["price"].min() - 10, book["price"].max() + 10

    @njit
    def loop(hbt):  # type: ignore[no-untyped-def]
        wakes, total = 0, 0.0
        while hbt.wait_next_feed(False, 3_600_000_000_000) == 2:
            depth = hbt.depth(0)
            total += 0.5 * (depth.best_bid + depth.best_ask)
            wakes += 1
        return wakes, total

    def backtest(rows: np.ndarray) -> object:
        asset = (
            hft.BacktestAsset()
            .data([rows])
            .linear_asset(1.0)
            .constant_order_latency(0, 0)
            .risk_adverse_queue_model()
            .no_partial_fill_exchange()
            .trading_value_fee_model(0.0, 0.0)
            .tick_size(0.1)
            .lot_size(0.001)
            .roi_lb(low)
            .roi_ub(high)
        )
        return hft.ROIVectorMarketDepthBacktest([asset])

    loop(backtest(events[:1000]))  # compiles

    def once() -> float:
        hbt = backtest(events)
        start = time.perf_counter()
        wakes, _ = loop(hbt)
        seconds = time.perf_counter() - start
        assert wakes >= len(np.unique(book["ts"])) - 2, wakes
        hbt.close()
        return seconds

    return once


def main(folder: Path, bucket: float, window: int) -> None:
    tapes = {name: dict(np.load(folder / f"{name}.npz")) for name in ("trades", "book")}
    makers = {
        "wickra": lambda: wickra_batch(tapes["trades"], bucket, window),
        "hftbacktest": lambda: hftbacktest_loop(tapes["book"]),
    }
    ready = {}
    for name, make in makers.items():
        try:
            ready[name] = make()
        except ImportError as missing:
            print(f"without {name}: {missing}", file=sys.stderr)
    print(" ".join(ready), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        result = ready[line.strip()]()
        # hftbacktest times its loop itself: handing over the data is not counted, nor is ours.
        seconds = result if isinstance(result, float) else time.perf_counter() - start
        print(seconds, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
