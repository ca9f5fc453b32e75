"""Would the implied mid be better if it went a part of the way to the de-biased mean of the toxic flow?

An ablation: the same tapes replayed with other values of ``weight_toxic``. The regression beside it (`combining`) asks
whether the mean knows something that the implied mid does not; this asks whether using it would help.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.evaluate.markets import ratio_interval
from toxmid.instrument import Instrument
from toxmid.params import Params
from toxmid.replay import replay

__all__ = ["POOLED_NAME", "WEIGHTS", "ablation_table", "implied_by_weight"]

WEIGHTS: Final = (0.1, 0.2, 0.3)
POOLED_NAME: Final = "pooled"

_Floats = npt.NDArray[np.float64]


def implied_by_weight(
    tapes: Mapping[str, Any],
    bars: pl.DataFrame,
    weights: Iterable[float],
    params: Params | None,
    instrument: Instrument | None,
) -> dict[float, pl.Series]:
    """The implied mid of every bar by weight; that of the bars given stands first, under the weight they have."""
    base = params or Params()
    result = {base.weight_toxic: bars["implied_mid"]}
    for weight in weights:
        if weight not in result:
            played = replay(**tapes, params=base.replace(weight_toxic=weight), instrument=instrument)
            result[weight] = played.bars["implied_mid"]
    return result


def ablation_table(errors: Mapping[str, _Floats], weights: Sequence[float]) -> pl.DataFrame:
    """A row per group and weight, and over all groups where there are several.

    Parameters
    ----------
    errors : mapping of str to numpy.ndarray, (runs, weights)
        Mean square errors; the first weight is that which the others are measured by.
    weights : sequence of float

    Returns
    -------
    polars.DataFrame
        ``scenario, weight``; ``rmse``; ``ratio`` to the first weight's with a 95 % interval over runs; ``better``, the
        share of runs with a smaller error than with the first weight.
    """
    groups = {name: [error] for name, error in errors.items()}
    if len(errors) > 1:
        groups[POOLED_NAME] = list(errors.values())
    rows = []
    for name, parts in groups.items():
        total = np.mean([part.mean(axis=0) for part in parts], axis=0)
        low, high = ratio_interval(parts, 0)
        stacked = np.concatenate(parts)
        better = (stacked < stacked[:, [0]]).mean(axis=0)
        rows += [
            {"scenario": name, "weight": weight, "rmse": float(np.sqrt(total[i])),
             "ratio": float(np.sqrt(total[i] / total[0])), "ratio_lo": float(low[i]), "ratio_hi": float(high[i]),
             "better": float(better[i])}
            for i, weight in enumerate(weights)
        ]  # fmt: skip
    return pl.DataFrame(rows)
