"""Do the figures hang on a constant? ``python plateau.py SEEDS [FOLDER OF THE REAL CASCADE]``.

Every main constant of the implied mid is halved and doubled, one at a time. The first table has the ratio of the
implied mid's error to the quoted mid's: in simulated markets (that many seeds of flush, news, mixed and info, none of
which anything was chosen on), with quotes and a liquidation feed and with trades alone, and in the cascade of 10
October 2025.

The second table leaves one coin out: the setting (of all in the first table) that is best on the other coins, by the
mean logarithm of the ratio over their cascades, is judged on the one that was left out. Nothing is fitted by coin, so
this is what "chosen without the coin" means here; it cannot take back that the shipped constants were chosen with it
in view.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from cascade import CALM, WINDOWS, pairs

import toxmid
from toxmid.durations import nanoseconds
from toxmid.errors import ParameterError
from toxmid.evaluate import evaluate_inputs
from toxmid.evaluate.text import text_table
from toxmid.readers import read_trades
from toxmid.schema import parse_time

CONSTANTS = (
    "kappa", "support", "relax", "lean", "lean_limit", "both_pulled", "idle", "excess_spreads", "pulled_weight",
    "pulled_least", "pulled_limit", "pulled_memory", "drift_memory", "spread_memory", "volume_memory",
    "imbalance_memory", "history",
)  # fmt: skip
FIRST_SEED = 700_000
CASCADE, EARLY = list(WINDOWS)[:2]


def settings() -> Iterator[tuple[str, toxmid.Params]]:
    """The shipped constants, and those with one of them halved or doubled where its range allows that."""
    shipped = toxmid.Params()
    yield "as shipped", shipped
    for name in CONSTANTS:
        for factor in (0.5, 2.0):
            value: Any = getattr(shipped, name)
            with contextlib.suppress(ParameterError):
                yield f"{name} x {factor:g}", shipped.replace(**{name: _scaled(value, name, factor)})


def _scaled(value: Any, name: str, factor: float) -> Any:
    return f"{round(nanoseconds(value, name=name) * factor / 1e6)}ms" if isinstance(value, str) else value * factor


def simulated(params: toxmid.Params, seeds: int) -> dict[str, float]:
    judged = range(FIRST_SEED, FIRST_SEED + seeds)
    result = evaluate_inputs(
        judged, ("flush", "news", "mixed", "info"), ["trades", "quotes+liquidations"], params=params, workers=2
    )
    return {f"simulated, {row['inputs']}": row["ratio"] for row in result.table.iter_rows(named=True)}


class Coin:
    """The tape of one coin and its truth."""

    def __init__(self, perpetual: Path, spot: Path) -> None:
        self.trades = read_trades(perpetual)
        self.spot = read_trades(spot).select("ts", truth="price")

    def ratios(self, params: toxmid.Params) -> dict[str, float]:
        """Error of the implied mid as a ratio to the quoted mid's, by window."""
        bars = toxmid.replay(trades=self.trades, params=params).bars.join_asof(self.spot, on="ts")
        logs = bars.select("ts", *(pl.col(n).log() * 1e4 for n in ("mid", "implied_mid", "truth")))
        basis = logs.filter(inside(CALM)).select((pl.col("mid") - pl.col("truth")).median()).item()
        off = logs.select("ts", *((pl.col(n) - pl.col("truth") - basis).alias(n) for n in ("mid", "implied_mid")))
        found = {}
        for window, bounds in WINDOWS.items():
            squares = off.filter(inside(bounds)).select((pl.col("mid", "implied_mid") ** 2).mean()).row(0)
            found[window] = math.sqrt(squares[1] / squares[0])
        return found


def inside(bounds: tuple[str, str]) -> pl.Expr:
    start, end = map(parse_time, bounds)
    ts = pl.col("ts").to_physical()
    return (ts > start) & (ts <= end)


def main(seeds: int, folder: Path | None) -> None:
    coins = {} if folder is None else {name: Coin(*files) for name, files in pairs(folder).items()}
    rows = []
    for name, params in settings():
        real = {coin: tape.ratios(params) for coin, tape in coins.items()}
        row: dict[str, Any] = {"setting": name, **simulated(params, seeds)}
        row |= {coin: ratios[CASCADE] for coin, ratios in real.items()}
        row |= {"worst of first 5 min": max(ratios[EARLY] for ratios in real.values())} if real else {}
        rows.append(row)
    table = pl.DataFrame(rows)
    print(f"ratio to the quoted mid's error, {seeds} seeds from {FIRST_SEED}; cascades by coin\n")
    print(f"{text_table(table, 120)}\n")
    if coins:
        print(f"leave one coin out\n\n{text_table(left_out(table, list(coins)), 120)}")


def left_out(table: pl.DataFrame, coins: list[str]) -> pl.DataFrame:
    rows = []
    for coin in coins:
        others = [pl.col(other).log() for other in coins if other != coin]
        best = table.sort(pl.mean_horizontal(others), maintain_order=True).row(0, named=True)
        rows.append(
            {"coin": coin, "chosen on the others": best["setting"], "ratio": best[coin], "shipped": table[coin][0]}
        )
    found = pl.DataFrame(rows)
    middle = found.select(pl.lit("median").alias("coin"), pl.lit("").alias("chosen on the others"),
                          pl.col("ratio", "shipped").median())  # fmt: skip
    return pl.concat([found, middle])


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
