"""What every further input is worth: the same simulated markets, replayed with more and more of what they give."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.errors import NotEnoughDataError, ParameterError
from toxmid.evaluate.inputs import LADDER, Inputs
from toxmid.evaluate.markets import FEWEST_SECONDS, POOLED, all_runs, check_names, phases, ratio_interval, span
from toxmid.evaluate.results import Evaluation, Table
from toxmid.evaluate.words import ladder_answers
from toxmid.params import Params
from toxmid.replay import replay
from toxmid.simulate import SCENARIOS, Book, Scenario, simulate

__all__ = ["InputsEvaluation", "evaluate_inputs"]

_RUNGS: Final = ("mid", "toxic_mean", "debiased_mean", "implied_mid")
_BPS: Final = 1e4

_Floats = npt.NDArray[np.float64]


class InputsEvaluation(Evaluation):
    """Table of `evaluate_inputs`, with what lies under it."""

    kind: ClassVar[str] = "inputs"

    @property
    def scenarios(self) -> pl.DataFrame:
        """The same by scenario, and how often the 90 % interval holds the hidden mid."""
        return self.tables["scenarios"].frame


@dataclass(frozen=True)
class _Setup:
    ladder: tuple[Inputs, ...]
    book: Book
    params: Params | None
    duration: float


@dataclass(frozen=True, eq=False)
class _Run:
    scenario: str
    seconds: int
    errors: _Floats  # (inputs, rungs), mean squares
    covered: _Floats  # (inputs,)


def evaluate_inputs(
    seeds: Iterable[int] = range(100),
    scenarios: Sequence[Scenario] = SCENARIOS,
    ladder: Sequence[Inputs | str] = LADDER,
    *,
    book: Book = "shallow",
    params: Params | None = None,
    duration: float = 1800.0,
    workers: int = 1,
    progress: bool = False,
) -> InputsEvaluation:
    """Judge the implied mid, the means of the toxic flow and the quoted mid by the inputs that they are given.

    Errors, stress and pooling are those of `evaluate_simulated`. Every set of inputs sees the same markets and is
    judged in the same seconds: those in which all of them know a quoted mid.

    Parameters
    ----------
    seeds, scenarios, book, params, duration, workers, progress
        As for `evaluate_simulated`.
    ladder : sequence of Inputs or str
        The sets of inputs, as objects or in words; the first is what the second is compared with, and so on.

    Returns
    -------
    InputsEvaluation
        ``.table`` has a row per set of inputs: pooled error in bps of ``mid``, ``toxic_mean``, ``debiased_mean`` and
        ``implied_mid``; ``ratio`` of the last to that of the mid of the same inputs, and ``against_before`` to that of
        the row before, both with 95 % bootstrap intervals over runs; ``covered``, the share of stress seconds in which
        the 90 % interval holds the hidden mid. ``.scenarios`` has the same by scenario.

    Raises
    ------
    ParameterError
        An unknown name, no seeds, or fewer than two sets of inputs.
    NotEnoughDataError
        No run of a scenario has 30 s of stress.

    Examples
    --------
    >>> result = evaluate_inputs(range(1, 3), ["flush"], ["trades", "quotes"])
    >>> result.table["inputs"].to_list()
    ['trades', 'quotes']
    """
    check_names(scenarios, book)
    rungs = tuple(Inputs.parse(rung) if isinstance(rung, str) else rung for rung in ladder)
    if len(rungs) < 2:
        raise ParameterError("nothing to compare", column="ladder", found=len(rungs), expected="2 or more")
    judged = list(seeds)
    if not judged:
        raise ParameterError("no seeds", column="seeds", expected="1 or more")
    setup = _Setup(rungs, book, params, duration)
    jobs = [(scenario, seed) for scenario in scenarios for seed in judged]
    runs = [run for run in all_runs(partial(_run, setup), jobs, workers, progress) if run.seconds >= FEWEST_SECONDS]
    for scenario in scenarios:
        if not any(run.scenario == scenario for run in runs):
            raise NotEnoughDataError(f"no run of {scenario!r} has {FEWEST_SECONDS} seconds to judge")
    return _result(setup, scenarios, judged, runs)


def _run(setup: _Setup, job: tuple[Scenario, int]) -> _Run:
    scenario, seed = job
    market = simulate(scenario, seed=seed, book=setup.book, duration=setup.duration)
    views = [_view(setup, inputs, market) for inputs in setup.ladder]
    common = views[0].select("ts")
    for view in views[1:]:
        common = common.join(view.select("ts"), on="ts", maintain_order="left")
    stress, *_ = phases(market, common)
    here = common.filter(pl.Series(stress))
    truth = here.join_asof(market.truth, on="ts")["mid"].to_numpy()
    errors, covered = [], []
    for view in views:
        rows = here.join(view, on="ts", how="left", maintain_order="left")
        estimates = rows.select(pl.coalesce(name, "mid") for name in _RUNGS).to_numpy()
        errors.append(_mean((_BPS * np.log(estimates / truth[:, None])) ** 2))
        inside = rows.select(pl.lit(pl.Series(truth)).is_between("implied_lo", "implied_hi")).to_series()
        covered.append(_mean(inside.cast(pl.Float64).fill_null(np.nan).to_numpy()[:, None])[0])
    return _Run(scenario, len(here), np.array(errors), np.array(covered))


def _view(setup: _Setup, inputs: Inputs, market: Any) -> pl.DataFrame:
    played = replay(**inputs.tapes(market), params=setup.params, instrument=market.instrument)
    columns = played.bars.select("ts", pl.col(*_RUNGS, "implied_lo", "implied_hi").fill_nan(None))
    return columns.filter(pl.col("mid").is_not_null())


def _mean(values: _Floats) -> _Floats:
    """Mean over rows of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _result(setup: _Setup, scenarios: Sequence[str], seeds: Sequence[int], runs: Sequence[_Run]) -> InputsEvaluation:
    pooled = [s for s in scenarios if s in POOLED] or [*scenarios]
    counts = {s: sum(run.scenario == s for run in runs) for s in scenarios}
    settings = {
        "book": setup.book, "seeds": span(seeds), "duration": f"{setup.duration:g} s",
        "runs": ", ".join(f"{s} {n}" for s, n in counts.items()),
    }  # fmt: skip
    by_scenario = [_rows(setup.ladder, {s: [run for run in runs if run.scenario == s]}) for s in scenarios]
    main = _rows(setup.ladder, {s: [run for run in runs if run.scenario == s] for s in pooled})
    tables = {
        "table": Table(
            main,
            "Root mean square distance from the hidden mid in seconds of stress, bps, pooled over "
            f"{', '.join(pooled)}; ratio of the implied mid's to that of the quoted mid of the same inputs, and to its "
            "own in the row before, with 95 % intervals over runs.",
        ),
        "scenarios": Table(
            pl.concat(
                table.insert_column(0, pl.Series("scenario", [s] * table.height))
                for s, table in zip(scenarios, by_scenario, strict=True)
            ),
            "The same by scenario.",
            in_full=False,
        ),
    }
    notes = (
        "All rows are judged on the same markets in the same seconds. Without quotes the quoted mid is that of the "
        "last taker buy and the last taker sell.",
        "The mark price is made as exchanges make theirs and holds the venue's own displacement; `clean`, `mixed` and "
        "`toxic` are other venues that hardly, partly or mostly share it.",
        "Where an estimator says nothing the quoted mid stands in.",
    )
    return InputsEvaluation("What every input is worth", settings, tables, notes, ladder_answers(main))


def _rows(ladder: Sequence[Inputs], runs: dict[str, list[_Run]]) -> pl.DataFrame:
    """A row per set of inputs, pooled over the scenarios given."""
    errors = {s: np.stack([run.errors for run in group]) for s, group in runs.items()}  # (runs, inputs, rungs)
    covered = _mean(np.concatenate([np.stack([run.covered for run in group]) for group in runs.values()]))
    total = np.mean([part.mean(axis=0) for part in errors.values()], axis=0)
    rows = []
    for i, inputs in enumerate(ladder):
        own = _ratio([part[:, i, [_RUNGS.index("mid"), _RUNGS.index("implied_mid")]] for part in errors.values()])
        before = _ratio([part[:, [max(i - 1, 0), i], _RUNGS.index("implied_mid")] for part in errors.values()])
        rows.append(
            {
                "inputs": str(inputs),
                **dict(zip(_RUNGS, map(float, np.sqrt(total[i])), strict=True)),
                **dict(zip(("ratio", "ratio_lo", "ratio_hi"), own, strict=True)),
                **dict(zip(("against_before", "against_before_lo", "against_before_hi"), before, strict=True)),
                "covered": float(covered[i]),
            }
        )
    return pl.DataFrame(rows).with_columns(pl.col("covered").fill_nan(None))


def _ratio(errors: Sequence[_Floats]) -> tuple[float, float, float]:
    """Ratio of the second column's pooled error to the first's, with its interval."""
    total = np.mean([part.mean(axis=0) for part in errors], axis=0)
    low, high = ratio_interval(errors, 0)
    return float(np.sqrt(total[1] / total[0])), float(low[1]), float(high[1])
