"""How far other packages' figures are from ours: ``python differences.py [FOLDER]``.

Stored figures of wickra, ob-analytics and orderflow-metrics (`tests/golden/make_peers.py` makes them) on a generated
tape. FOLDER: ``pinstimation/hfdata.csv.gz`` and ``vpin_default_bucketdata.csv`` (the sample data of that R package and
what it says of them) and ``highfrequency/B_liquidity_win300.csv.gz`` (liquidity measures of that R package on its own).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from golden.make_peers import BUCKET, EVERY, WINDOW, generated  # noqa: E402

from toxmid.spreads import spreads  # noqa: E402
from toxmid.vpin import vpin  # noqa: E402

START = 1_760_054_400 * 10**9


def row(package: str, what: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    gap = np.abs(ours - theirs)
    known = np.isfinite(gap)
    one_alone = int((np.isfinite(ours) != np.isfinite(theirs)).sum())
    print(f"| {package} | {what} | {known.sum():,} | {gap[known].max():.1e} | {one_alone} |")


def on_the_generated_tape() -> None:
    figures = json.loads((ROOT / "tests" / "golden" / "peers.json").read_text())["generated"]
    tape = pl.DataFrame(generated(), schema=["ts", "price", "size", "side"], orient="row")
    buckets = vpin(tape, bucket_volume=BUCKET, window=WINDOW)
    values = buckets["vpin"].fill_null(np.nan).to_numpy()
    lots = np.rint(tape["size"].to_numpy() * 1000).astype(np.int64)
    closed = np.searchsorted(np.cumsum(lots), np.arange(1, buckets.height + 1) * round(BUCKET * 1000))
    after = np.searchsorted(closed, np.arange(closed[WINDOW - 1], tape.height), side="right") - 1
    row("wickra 2.0", "VPIN after every 200th trade", values[after][::EVERY], np.array(figures["wickra"]))
    row("ob-analytics 0.1", "VPIN by bucket", values[WINDOW - 1 :], np.array(figures["ob_analytics"])[WINDOW - 1 :])
    theirs = np.array(figures["orderflow_metrics"])
    row("orderflow-metrics 0.40", "VPIN by bucket", values[-theirs.size :], theirs)


def on_the_samples_of_r_packages(folder: Path) -> None:
    day = pl.read_csv(folder / "pinstimation" / "hfdata.csv.gz")
    ts = pl.col("timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ns")
    tape = day.select(ts=ts, price="price", size=pl.col("volume").cast(pl.Float64))
    ours = vpin(tape, classify="bvc_normal", convention="pinstimation")
    theirs = pl.read_csv(folder / "pinstimation" / "vpin_default_bucketdata.csv", null_values="NA")
    row("PINstimation 0.2", "VPIN by bucket", *(x["vpin"].fill_null(np.nan).to_numpy() for x in (ours, theirs)))
    path = folder / "highfrequency" / "B_liquidity_win300.csv.gz"
    sample = pl.read_csv(path, infer_schema_length=None, null_values="NA").with_row_index("row")
    second = START + pl.col("row").cast(pl.Int64) * 10**9  # that package counts its horizon in rows
    table = spreads(
        sample.select(ts=second, price="PRICE", size="SIZE"),
        sample.select(ts=second - 1, bid="BID", ask="OFR"),
        horizons=["300s"],
        direction="lee_ready",
    )
    names = ("quotedSpread", "effectiveSpread", "realizedSpread", "priceImpact")
    ours_named = ("quoted_spread", "effective_spread", "realized_spread_300s", "impact_300s")
    for our, their in zip(ours_named, names, strict=True):
        one, other = (column.cast(pl.Float64).fill_null(np.nan).to_numpy() for column in (table[our], sample[their]))
        row("highfrequency", their, one, other)


def main() -> None:
    print("| package | figure | compared | largest difference | known to one alone |\n|---|---|---|---|---|")
    on_the_generated_tape()
    if len(sys.argv) > 1:
        on_the_samples_of_r_packages(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
