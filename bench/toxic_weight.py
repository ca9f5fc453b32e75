"""Is the way to the de-biased toxic mean worth a weight? ``python bench/toxic_weight.py [FOLDER OF THE REAL CASCADE]``.

Two kinds of evidence. Simulated markets: weights learnt on some seeds from later mids (`toxmid.estimator.fit`), judged
on others against the hidden mid, beside a few fixed weights. The cascade of 10 October 2025 where its folder is given:
weight chosen on four coins, judged on the fifth, against the spot price of the coin plus the calm basis.

Fixed weights act on the de-biased mean of a replay with the shipped ones, which itself depends on the weights a little.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

import toxmid
from toxmid.estimator import WEIGHTS, FitResult, fit
from toxmid.evaluate import evaluate_referenced, evaluate_simulated
from toxmid.simulate import Scenario

SCENARIOS: tuple[Scenario, ...] = ("flush", "news", "mixed", "info")
TOXIC = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
TRAINING, TEST = range(40), range(1000, 1040)
COINS = ("AAVE", "AVAX", "BCH", "DOT", "UNI")
CALM = ("2025-10-10T19:00:00", "2025-10-10T21:00:00")
WINDOWS = {
    "cascade": ("2025-10-10T21:13:00", "2025-10-10T21:50:00"),
    "its first 5 min": ("2025-10-10T21:13:00", "2025-10-10T21:18:00"),
    "calm before": CALM,
    "hours after": ("2025-10-10T21:50:00", "2025-10-11T00:00:00"),
}


def weighted(bars: pl.DataFrame, asymmetry: float, volume: float, credibility: float, toxic: float) -> pl.Series:
    """The implied mid of bars made with the shipped weights, had the weights been these."""
    gap = (
        asymmetry * pl.col("asymmetry_bps") + volume * pl.col("volume_bps") + credibility * pl.col("credibility_bps")
    )
    way = 1e4 * (pl.col("debiased_mean") / pl.col("mid")).log() - gap
    gap = gap + (toxic * (1.0 - pl.col("credibility")) * way).fill_null(0.0)
    return bars.select(pl.col("mid") * (1e-4 * gap).exp()).to_series()


def played(
    inputs: Literal["quotes", "trades"], feed: Literal["full", "none"], seeds: range
) -> Iterator[toxmid.Replay]:
    for scenario in SCENARIOS:
        for seed in seeds:
            tape = toxmid.simulate(scenario, seed=seed)
            yield toxmid.replay(
                trades=tape.trades,
                quotes=tape.quotes if inputs == "quotes" else None,
                liquidations=tape.liquidations if feed == "full" else None,
                instrument=tape.instrument,
            )


def simulated(inputs: Literal["quotes", "trades"], feed: Literal["full", "none"]) -> None:
    def learnt(*weights: str) -> FitResult:
        return fit(played(inputs, feed, TRAINING), learn=weights, simultaneous="apart", bootstrap=100, force=True)

    fits = {"fitted": learnt(*WEIGHTS), "fitted without toxic": learnt(*WEIGHTS[:3]), "toxic alone": learnt(WEIGHTS[3])}
    for name, result in fits.items():
        weights = ", ".join(f"{result.fitted[w]:.3f} ({result.bse[w]:.3f})" for w in WEIGHTS)
        verdict = "forced" if result.forced else "adopted"
        print(f"{inputs}, feed {feed}: {name}: {weights}; {result.events} events, R2 vs mid {result.r2_mid:.3f}, "
              f"vs shipped {result.r2_defaults:.4f}, prior sd {result.prior_sd}, {verdict}")  # fmt: skip
    extra = {f"toxic {t:g}": partial(weighted, asymmetry=1, volume=1, credibility=1, toxic=t) for t in TOXIC}
    extra |= {name: partial(weighted, **{w.removeprefix("weight_"): v for w, v in result.fitted.items()})
              for name, result in fits.items()}  # fmt: skip
    judged = evaluate_simulated(
        TEST, SCENARIOS, inputs=inputs, feed=feed, training=[2000], state_space=False, extra=extra
    )
    kept = ["mid", "implied_mid", "toxic_mean", "debiased_mean", *extra]
    print(judged.table.filter(pl.col("estimator").is_in(kept)).select(pl.exclude("ratio_lo", "ratio_hi", "fallback")))


def errors(folder: Path, coin: str) -> pl.DataFrame:
    """Ratio to the quoted mid's error, by window and weight."""
    extra = {f"toxic {t:g}": partial(weighted, asymmetry=1, volume=1, credibility=1, toxic=t) for t in TOXIC}
    table = evaluate_referenced(
        str(folder / f"binance-delivery_trades_2025-10-10_{coin}USD_PERP.csv.gz"),
        str(folder / f"coinbase_trades_2025-10-10_{coin}-USD.csv.gz"),
        WINDOWS, CALM, state_space=False, extra=extra,
    ).table  # fmt: skip
    kept = ["mid", "implied_mid", "toxic_mean", "debiased_mean", *extra]
    return table.filter(pl.col("estimator").is_in(kept)).select("window", "estimator", pl.col("ratio").alias(coin))


def cascade(folder: Path) -> None:
    table = errors(folder, COINS[0])
    for coin in COINS[1:]:
        table = table.join(errors(folder, coin), on=["window", "estimator"])
    table = table.sort("window", "estimator")
    print(table)
    for window in WINDOWS:
        rows = {row[1]: np.array(row[2:]) for row in table.filter(pl.col("window") == window).iter_rows()}
        for i, coin in enumerate(COINS):
            others = [np.mean(np.delete(rows[f"toxic {t:g}"], i) ** 2) for t in TOXIC]
            chosen = TOXIC[int(np.argmin(others))]
            ratio, without = rows[f"toxic {chosen:g}"][i], rows["toxic 0"][i]
            print(f"{window}: {coin}: weight from the others {chosen:g}: {ratio:.3f}; without {without:.3f}")


if __name__ == "__main__":
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, float_precision=3):
        if len(sys.argv) > 1:
            cascade(Path(sys.argv[1]))
        simulated("quotes", "full")
        simulated("quotes", "none")
        simulated("trades", "none")
