"""The demonstration: a cascade whose hidden truth is known, replayed as if it were not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, cast

import polars as pl

from toxmid import output
from toxmid.params import Params
from toxmid.report import write_report

if TYPE_CHECKING:
    from toxmid.replay import Replay
    from toxmid.simulate import Scenario

__all__ = ["run_demo"]

# Half an hour holds no day of history: buckets of about half a minute, so that there are VPIN values to look at.
_PARAMS = Params(buckets_per_day=2400, window=10)

_RUNGS = {
    "quoted mid": "mid",
    "toxic mean": "toxic_mean",
    "de-biased mean": "debiased_mean",
    "implied mid": "implied_mid",
}


def run_demo(directory: Path, scenario: str, seed: int, *, progress: bool) -> str:
    """Simulate, replay, save, report; what came out, as text."""
    from toxmid.replay import replay
    from toxmid.simulate import simulate

    market = simulate(cast("Scenario", scenario), seed=seed)
    result = replay(
        trades=market.trades,
        quotes=market.quotes,
        book=market.book,
        liquidations=market.liquidations,
        params=_PARAMS,
        instrument=market.instrument,
        progress=progress,
    )
    manifest = {**result.manifest, "simulated": {"scenario": scenario, "seed": seed}}
    output.save(directory, result.bars, result.buckets, result.events, manifest, overwrite=True)
    page = write_report(
        result.bars, result.buckets, result.events, manifest, directory / output.REPORT, truth=market.truth
    )
    head = f"simulated market: scenario {scenario}, seed {seed}"
    return "\n\n".join([head, result.summary(), _errors(result, market.truth), f"report: {page}"])


def _errors(result: Replay, truth: pl.DataFrame) -> str:
    """Root mean square distance of every rung from the hidden mid, in stress and in all bars."""
    bars = result.bars.join_asof(truth.select("ts", truth="mid"), on="ts")
    stress = pl.col("regime").str.starts_with("stress")
    lines = [f"{'distance from the hidden mid, rms bps':<40}{'in stress':>12}{'all bars':>12}"]
    for name, column in _RUNGS.items():
        known = bars.filter(pl.col(column).is_not_null() & pl.col("implied_mid").is_not_null())
        error = 1e4 * (pl.col(column).log() - pl.col("truth").log())
        rms = [known.filter(rows).select((error**2).mean().sqrt()).item() for rows in (stress, pl.lit(True))]
        lines.append(f"  {name:<38}" + "".join(f"{_bps(value):>12}" for value in rms))
    lines.append("One simulated market shows how to read the figures, not how good they are.")
    return "\n".join(lines)


def _bps(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"
