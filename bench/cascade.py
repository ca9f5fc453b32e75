"""The cascade of 10 October 2025, all coins side by side: ``python cascade.py FOLDER [--rivals]``.

FOLDER holds trades of coin-margined perpetuals, ``binance-delivery_trades_2025-10-10_<COIN>USD_PERP.csv.gz``, and of
the same coins on a spot venue, ``coinbase_trades_2025-10-10_<COIN>-USD.csv.gz``. The truth is the spot price plus the
median basis of calm hours; figures are root mean square distances from it as ratios to that of the perpetual's own mid.

The first table gives the estimators trades alone. In the second they also get every second spot trade as a reference,
and the others are the truth: there ``other_venue``, that reference with its usual basis, is the rival. ``--rivals``
shows all of them. One event is one event.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from toxmid.evaluate import evaluate_referenced
from toxmid.evaluate.text import text_table

CALM = ("2025-10-10T12:00:00", "2025-10-10T20:50:00")
WINDOWS = {
    "cascade 21:13-21:50": ("2025-10-10T21:13:00", "2025-10-10T21:50:00"),
    "its first 5 min": ("2025-10-10T21:13:00", "2025-10-10T21:18:00"),
    "aftermath 21:50-24:00": ("2025-10-10T21:50:00", "2025-10-11T00:00:00"),
    "calm 12:00-20:50": CALM,
}
SHOWN = ("implied_mid", "debiased_mean", "toxic_mean", "other_venue")


def pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Perpetual and spot trades by coin."""
    found = {}
    for perpetual in sorted(folder.glob("binance-delivery_trades_*USD_PERP.csv.gz")):
        coin = perpetual.name.split("_")[3].removesuffix("USD")
        spot = list(folder.glob(f"coinbase_trades_*_{coin}-USD.csv.gz"))
        if spot:
            found[coin] = (perpetual, spot[0])
    return found


def table(folder: Path, *, split: bool, rivals: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A row per window and estimator and a column per coin; and how often the interval holds the truth."""
    errors, coverage = [], []
    for coin, (perpetual, spot) in pairs(folder).items():
        result = evaluate_referenced(
            perpetual, spot, WINDOWS, CALM, split_reference=split, state_space=rivals, ablation=()
        )
        errors.append(result.table.select("window", "estimator", "ratio", "rmse_bps", coin=pl.lit(coin)))
        coverage.append(result.coverage.select("window", "covered", coin=pl.lit(coin)))
    long = pl.concat(errors)
    wide = long.pivot("coin", index=["window", "estimator"], values="ratio", maintain_order=True)
    coins = wide.columns[2:]
    wide = wide.with_columns(
        median=pl.concat_list(coins).list.median(), worst=pl.max_horizontal(coins)
    ).sort(pl.col("window").replace_strict({name: i for i, name in enumerate(WINDOWS)}), "median")
    shown = wide if rivals else wide.filter(pl.col("estimator").is_in(SHOWN))
    mid = long.filter(pl.col("estimator") == "mid").pivot("coin", index="window", values="rmse_bps")
    own = mid.with_columns(estimator=pl.lit("quoted mid, bps"), median=None, worst=None).select(wide.columns)
    held = pl.concat(coverage).pivot("coin", index="window", values="covered")
    return pl.concat([shown, own.cast(shown.schema)]), held


if __name__ == "__main__":
    folder, rivals = Path(sys.argv[1]), "--rivals" in sys.argv
    for title, split in (("trades alone", False), ("half of the spot trades as a reference", True)):
        ratios, held = table(folder, split=split, rivals=rivals)
        print(f"{title}: ratio to the quoted mid's error\n\n{text_table(ratios, 120)}\n")
        print(f"share of seconds in which the 90 % interval holds the truth\n\n{text_table(held, 120)}\n")
