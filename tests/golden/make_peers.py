"""Figures of other packages on tapes that anybody can make again: what `tests/test_peers.py` compares ours with.

Needs none of toxmid. In an environment of its own::

    pip install wickra==2.0.0 ob-analytics==0.1.0 orderflow-metrics==0.40.0
    python tests/golden/make_peers.py tests/golden/peers.json [Tardis trades of AVAXUSD_PERP, 2025-10-10, csv.gz]

The real tape may not be redistributed; only figures of it are in the file. `tests/test_peers.py` says how
the packages differ.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import sys

BUCKET, WINDOW, TRADES, EVERY = 40.0, 50, 30_000, 200
REAL_BUCKET = 20_000.0
START = 1_760_054_400  # s
SIDES = {"buy": 1, "sell": -1}

Trade = tuple[int, float, float, int]  # ns, price, size, side


def generated(count: int = TRADES) -> list[Trade]:
    """A walk with runs of one side: sizes in thousandths, about a hundred trades a bucket, now and then a giant."""
    draw = random.Random(7)
    price, side, ts, trades = 10_000, 1, START * 10**9, []
    for _ in range(count):
        ts += draw.randrange(1, 4) * 10**9
        side = -side if draw.random() < 0.35 else side
        price += side * draw.randrange(0, 2)
        size = draw.randrange(1, 800) if draw.random() < 0.999 else 200_000
        trades.append((ts, price / 100, size / 1000, side))
    return trades


def tardis(path: str) -> list[Trade]:
    """Trades in contracts, by local time."""
    with gzip.open(path, "rt") as file:
        return [
            (int(row["local_timestamp"]) * 1000, float(row["price"]), float(row["amount"]), SIDES[row["side"]])
            for row in csv.DictReader(file)
        ]


def wickra_vpin(trades: list[Trade], bucket: float) -> list[float]:
    """Value after each trade, from the first on; it changes where a bucket closes."""
    import wickra

    clock = wickra.Vpin(bucket, WINDOW)
    values = [clock.update(price, size, side > 0) for _, price, size, side in trades]
    return [round(value, 12) for value in values if value is not None]


def ob_analytics_vpin(trades: list[Trade], bucket: float) -> list[float]:
    import pandas as pd
    from ob_analytics.flow_toxicity import compute_vpin

    frame = pd.DataFrame(trades, columns=["timestamp", "price", "volume", "side"])
    frame["direction"] = ["buy" if side > 0 else "sell" for side in frame.pop("side")]
    frame["timestamp"] = pd.to_datetime(frame["timestamp"])
    return [round(value, 12) for value in compute_vpin(frame, bucket, WINDOW)["vpin_avg"]]


def orderflow_metrics_vpin(trades: list[Trade], bucket: float) -> list[float]:
    """From the first full window on."""
    from orderflow_metrics import Trade, bucket_by_volume, vpin

    tape = [Trade(price=price, size=size, side="buy" if side > 0 else "sell") for _, price, size, side in trades]
    buckets = bucket_by_volume(tape, bucket)
    return [round(vpin(buckets[: n + 1], WINDOW), 12) for n in range(WINDOW - 1, len(buckets))]


def figures(trades: list[Trade], bucket: float) -> dict[str, object]:
    """Every 200th value after a trade, or all values by bucket."""
    return {
        "trades": len(trades),
        "volume": sum(size for _, _, size, _ in trades),
        "wickra": wickra_vpin(trades, bucket)[::EVERY],
        "ob_analytics": ob_analytics_vpin(trades, bucket),
        "orderflow_metrics": orderflow_metrics_vpin(trades, bucket),
    }


def main(out: str, real: str | None = None) -> None:
    tables = {"generated": figures(generated(), BUCKET)}
    if real is not None:
        tables["AVAXUSD_PERP 2025-10-10"] = figures(tardis(real), REAL_BUCKET)
    with open(out, "w") as file:
        json.dump(tables, file, indent=0)
        file.write("\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
