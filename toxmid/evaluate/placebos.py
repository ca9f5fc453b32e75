"""Is it the liquidations? The same estimates with liquidations moved, and equal moves without any."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.spatial import cKDTree

from toxmid.evaluate.inference import event_test, r2_oos
from toxmid.evaluate.views import RUNGS, View, deviations, without_nan
from toxmid.merging import formats_by_input
from toxmid.readers import read_liquidations
from toxmid.replay import Replay, replay
from toxmid.schema import canonical
from toxmid.statespace import bars_of

__all__ = ["matched", "placebo_views", "placebos"]

_SHIFT: Final = 3600  # s, of the liquidations
_ALIKE: Final = 0.25  # log difference in move and spread that still counts as equal
_PLACEBO_SCHEMA: Final = {
    "placebo": pl.String, "horizon_s": pl.Float64, "estimator": pl.String, "b": pl.Float64, "se": pl.Float64,
    "p": pl.Float64, "r2_oos": pl.Float64, "events": pl.Int64,
}  # fmt: skip

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


def placebo_views(
    sources: Sequence[Any],
    runs: Sequence[pl.DataFrame],
    tapes: Sequence[Mapping[str, Any]],
    views: Sequence[View],
    stride: int,
) -> dict[str, list[View]]:
    """The same views with the estimates of replays whose liquidations are elsewhere."""
    shift = pl.duration(seconds=_SHIFT)
    variants = {
        "none: as they were": pl.col("ts", "side"),
        "an hour later": pl.col("ts") + shift,
        "an hour earlier": pl.col("ts") - shift,
        "the other side": -pl.col("side"),
    }
    result = {}
    for placebo, change in variants.items():
        x = [
            _replayed(source, bars, tape, change)[::stride]
            for source, bars, tape in zip(sources, runs, tapes, strict=True)
        ]
        result[placebo] = [replace(view, x=_padded(x, view.lags + 1)) for view in views]
    return result


def _padded(parts: Sequence[pl.DataFrame], gap: int) -> dict[str, _Floats]:
    """Columns of several tapes after one another, as `View.joined` lays them."""
    idle = np.zeros(gap)
    return {
        name: np.concatenate([np.append(part[name].to_numpy(), idle) for part in parts]) for name in parts[0].columns
    }


def _replayed(source: Any, bars: pl.DataFrame, tapes: Mapping[str, Any], change: pl.Expr) -> pl.DataFrame:
    """The rungs of a replay with changed liquidations, in deviations from the mid."""
    given = tapes.get("liquidations")
    feed = (_feed_of(bars) if given is None else _feed(given, tapes.get("format"))).with_columns(change)
    played = replay(
        **{name: tape for name, tape in tapes.items() if name != "liquidations"},
        liquidations=feed,
        params=source.params if isinstance(source, Replay) else None,
        instrument=source.instrument if isinstance(source, Replay) else None,
    )
    estimates = bars_of(played).select("ts", *RUNGS)
    rungs = bars.select("ts", "mid").join(estimates, on="ts", how="left", maintain_order="left")
    return deviations(rungs, None, {}).select(RUNGS)


def _feed(liquidations: Any, format: str | Mapping[str, str] | None) -> pl.DataFrame:
    is_files = isinstance(liquidations, str | os.PathLike | list | tuple)
    name = formats_by_input(format).get("liquidations")
    table = read_liquidations(liquidations, format=name) if is_files else canonical(liquidations, "liquidations")
    return table.select("ts", "side", "price", "size")


def _feed_of(bars: pl.DataFrame) -> pl.DataFrame:
    """What was inferred of each bar, as records that arrive at its end."""
    sides = [
        bars.filter(pl.col(f"liq_{name}_volume") > 0).select(
            "ts", pl.lit(side, pl.Int8).alias("side"), "price", pl.col(f"liq_{name}_volume").alias("size")
        )
        for name, side in (("buy", 1), ("sell", -1))
    ]
    return pl.concat(sides).sort("ts", maintain_order=True)


def placebos(shifted: Mapping[str, Sequence[View]]) -> pl.DataFrame:
    """What is left of the rungs, in the rows of the true events."""
    rows = []
    for placebo, views in shifted.items():
        for view in views:
            y = view.y[view.used]
            for name in RUNGS:
                fit = view.regression([view.x[name]], view.used)
                rows.append(
                    {
                        "placebo": placebo, "horizon_s": view.horizon, "estimator": name, "b": fit.b[1],
                        "se": fit.se[1], "p": fit.p[1], "r2_oos": r2_oos(y, view.x[name][view.used]),
                        "events": len(view.events()),
                    }
                )  # fmt: skip
    return without_nan(pl.DataFrame(rows, schema=_PLACEBO_SCHEMA))


def matched(view: View) -> pl.DataFrame:
    """What comes back of the last minute's move, at the start of events and after equal moves without liquidations."""
    with np.errstate(divide="ignore", invalid="ignore"):
        features = np.stack([np.log(np.abs(view.move)), np.log(view.spread)], axis=1)
    known = np.isfinite(features).all(axis=1) & np.isfinite(view.y)
    back = -np.sign(view.move) * view.y
    starts, _ = view.bounds()
    starts = starts[known[starts]]
    event, twin = _pairs(features, starts, np.flatnonzero(known & view.quiet))
    difference = back[event] - back[twin]
    test = event_test(difference)
    means = {"back_bps": back[event], "back_without_bps": back[twin], "difference_bps": difference}
    row = {
        "horizon_s": view.horizon, "events": len(starts), "matched": len(event),
        **{name: float(values.mean()) if len(values) else np.nan for name, values in means.items()},
        "sign_p": test.sign_p, "t_p": test.t_p,
    }  # fmt: skip
    return without_nan(pl.DataFrame([row]))


def _pairs(features: _Floats, starts: _Ints, quiet: _Ints) -> tuple[_Ints, _Ints]:
    """Events and the nearest quiet row of each, if both features are alike."""
    if not len(starts) or not len(quiet):
        return starts[:0], quiet[:0]
    distance, place = cKDTree(features[quiet]).query(features[starts], p=np.inf, distance_upper_bound=_ALIKE)
    alike = np.isfinite(distance)
    return starts[alike], quiet[place[alike]]
