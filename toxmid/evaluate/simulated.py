"""Estimators against a hidden mid: simulated markets whose maker's own mid is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.errors import NotEnoughDataError, ParameterError
from toxmid.evaluate.combining import Moments, combine
from toxmid.evaluate.inputs import Feed, Inputs
from toxmid.evaluate.markets import (
    EARLY,
    FEWEST_SECONDS,
    POOLED,
    all_runs,
    check_names,
    checked_seeds,
    phases,
    ratio_interval,
    span,
)
from toxmid.evaluate.results import Evaluation, Table
from toxmid.evaluate.rivals import Rivals, checked
from toxmid.evaluate.scoring import Extra, Scores, with_extra
from toxmid.evaluate.toxic_weight import WEIGHTS, ablation_table, implied_by_weight
from toxmid.evaluate.witnesses import with_witnesses
from toxmid.evaluate.words import simulated_answers
from toxmid.params import Params
from toxmid.replay import replay
from toxmid.simulate import SCENARIOS, Book, Scenario, Simulation, simulate

__all__ = ["SimulatedEvaluation", "evaluate_simulated"]

Touch = Literal["quotes", "trades", "book"]

_AS_THEY_ARE: Final = {name: pl.col(name) for name in ("estimator", "seconds", "mse", "bias", "fallback")}

_Floats = npt.NDArray[np.float64]


class SimulatedEvaluation(Evaluation):
    """Table of `evaluate_simulated`, with what lies under it."""

    kind: ClassVar[str] = "simulated"

    @property
    def runs(self) -> pl.DataFrame:
        """Every run: ``scenario, seed, maker, estimator, seconds, mse, bias, fallback``."""
        return self.tables["runs"].frame

    @property
    def coverage(self) -> pl.DataFrame:
        """How often the 90 % interval holds the hidden mid, by scenario, in stress and in calm."""
        return self.tables["coverage"].frame

    @property
    def encompassing(self) -> pl.DataFrame:
        """Whether the mean price of toxic flow adds to the implied mid, by scenario and phase of the episode."""
        return self.tables["encompassing"].frame

    @property
    def ablation(self) -> pl.DataFrame:
        """What a weight of the way to the de-biased toxic mean does to the implied mid, by scenario."""
        return self.tables["ablation"].frame


@dataclass(frozen=True)
class _Setup:
    """Everything that the runs of one evaluation share."""

    inputs: Inputs
    book: Book
    params: Params | None
    duration: float
    extra: Extra
    weights: tuple[float, ...]

    def simulated(self, scenario: Scenario, seed: int) -> Simulation:
        return simulate(scenario, seed=seed, book=self.book, duration=self.duration)

    def bars(self, tape: Simulation) -> pl.DataFrame:
        played = replay(**self.inputs.tapes(tape), params=self.params, instrument=tape.instrument)
        return checked(played.bars)

    def estimates(self, rivals: Rivals, tape: Simulation, bars: pl.DataFrame) -> pl.DataFrame:
        elsewhere = {name: tape.references[name] for name in self.inputs.venues}
        known = with_witnesses(rivals.estimates(bars), bars, tape.mark if self.inputs.mark else None, elsewhere)
        return with_extra(known, bars, self.extra)


@dataclass(frozen=True, eq=False)
class _Run:
    """One judged run."""

    scenario: str
    seed: int
    maker: str
    stress: pl.DataFrame
    coverage: list[dict[str, Any]]
    company: tuple[str, ...]
    moments: dict[str, Moments]
    by_weight: dict[float, float]  # mean square error of the implied mid in stress


def evaluate_simulated(
    seeds: Iterable[int] = range(100),
    scenarios: Sequence[Scenario] = SCENARIOS,
    *,
    inputs: Touch = "quotes",
    book: Book = "shallow",
    feed: Feed = "full",
    mark: bool = False,
    references: Sequence[str] = (),
    params: Params | None = None,
    training: Iterable[int] | None = None,
    state_space: bool = True,
    ablation: Sequence[float] = WEIGHTS,
    extra: Extra | None = None,
    duration: float = 1800.0,
    workers: int = 1,
    progress: bool = False,
) -> SimulatedEvaluation:
    """Judge every estimator and rival against the hidden mid of simulated markets, where it matters.

    An error is the distance from the hidden mid in bps at the end of a bar, in seconds of stress: more than 50
    BTC-equivalents truly liquidated in the last 120 s; in ``"info"``, where nothing is liquidated, the five minutes
    after the news; in ``"calm"`` all seconds after the first 300. The pooled error is the root of the mean over
    scenarios of the mean over runs of the mean square error, without ``"calm"`` where there is anything else.

    Parameters
    ----------
    seeds : iterable of int
        One run per seed and scenario.
    scenarios : sequence of str
        Of `toxmid.simulate`.
    inputs : {"quotes", "trades", "book"}
        What the replay gets beside the trades. With ``"trades"`` the quoted mid is the pseudo-mid of trades.
    book : {"shallow", "deep", "sym"}
        What a sweep leaves behind.
    feed : {"full", "throttled", "none"}
        Every liquidation; at most one per second; no feed, so that the flow's toxicity is inferred.
    mark : bool
        Give the mark price and the index too; rivals made of them join the table.
    references : sequence of str
        Other venues of the coin to give: ``"clean", "mixed", "toxic"``. The rival made of them joins the table.
    params : Params, optional
        Of the engine.
    training : iterable of int, optional
        Seeds on which rivals learn what they must, with the same inputs, book and feed; none of `seeds`. The
        micro-price, MRR and the local level learn on calm runs alone. None: the eight seeds after the greatest of
        `seeds`.
    state_space : bool
        Whether to fit the state space (some seconds).
    ablation : sequence of float
        Weights of the way to the de-biased toxic mean (``weight_toxic``) that are tried as well; a replay each.
    extra : mapping of str to function, optional
        Further estimators: each takes bars and gives a Series of prices, null where it says nothing.
    duration : float
        Seconds per run.
    workers : int
        More than one: a pool of processes, started with ``forkserver``, so a script needs the usual
        ``if __name__ == "__main__"``, and `extra` must be picklable.
    progress : bool
        Show a line on stderr, where that is a terminal.

    Returns
    -------
    SimulatedEvaluation
        ``.table`` has a row per estimator: ``rmse_<scenario>`` and ``pooled`` in bps; ``ratio`` of the pooled error to
        the quoted mid's with a 95 % bootstrap interval over runs (``ratio_lo, ratio_hi``); ``better``, the share of
        runs with a smaller error than the quoted mid's; ``fallback``, the share of seconds in which it said nothing and
        the quoted mid stood in. ``.runs``, ``.coverage``, ``.encompassing`` and
        ``.ablation`` have the rest, ``.answers`` says it in words.

    Raises
    ------
    ParameterError
        An unknown name, no seeds, or a seed both for training and for judging.
    NotEnoughDataError
        No run of a scenario has 30 s of stress.

    Examples
    --------
    >>> result = evaluate_simulated(range(2), ("flush", "calm"), training=[100], state_space=False)
    >>> result.table.row(by_predicate=pl.col("estimator") == "mid", named=True)["ratio"]
    1.0
    """
    check_names(scenarios, book)
    setup = _Setup(_inputs(inputs, feed, mark, references), book, params, duration, extra or {}, tuple(ablation))
    judged, learnt = checked_seeds(seeds, training)
    rivals = _fitted(setup, scenarios, learnt, state_space)
    jobs = [(scenario, seed) for scenario in scenarios for seed in judged]
    runs = all_runs(partial(_run, setup, rivals), jobs, workers, progress)
    kept = [run for run in runs if run.stress["seconds"][0] >= FEWEST_SECONDS]
    for scenario in scenarios:
        if not any(run.scenario == scenario for run in kept):
            raise NotEnoughDataError(f"no run of {scenario!r} has {FEWEST_SECONDS} seconds to judge")
    return _result(setup, scenarios, (judged, learnt), runs, kept)


def _inputs(touch: str, feed: Feed, mark: bool, references: Sequence[str]) -> Inputs:
    if touch not in get_args(Touch):
        raise ParameterError("unknown name", column="inputs", found=touch, expected=", ".join(get_args(Touch)))
    return Inputs(quotes=touch == "quotes", book=touch == "book", feed=feed, mark=mark, venues=tuple(references))


def _fitted(setup: _Setup, scenarios: Sequence[Scenario], seeds: Sequence[int], state_space: bool) -> Rivals:
    calm = [setup.bars(setup.simulated("calm", seed)) for seed in seeds]
    stress = [setup.bars(setup.simulated(s, seed)) for s in scenarios if s != "calm" for seed in seeds]
    return Rivals.fit(calm, stress, state_space=state_space)


# --- one run ---------------------------------------------------------------------------------------------------------


def _run(setup: _Setup, rivals: Rivals, job: tuple[Scenario, int]) -> _Run:
    scenario, seed = job
    tape = setup.simulated(scenario, seed)
    bars = setup.bars(tape)
    truth = bars.select("ts").join_asof(tape.truth, on="ts")["mid"]
    scores = Scores.of(setup.estimates(rivals, tape, bars), bars, truth)
    stress, calm, early = phases(tape, bars)
    parts = {"calm": calm} if scenario == "calm" else {"stress": stress, "calm": calm}
    when = {"all": stress, f"first {EARLY} s": stress & early, "later": stress & ~early}
    weighted = implied_by_weight(setup.inputs.tapes(tape), bars, setup.weights, setup.params, tape.instrument)
    return _Run(
        scenario=scenario,
        seed=seed,
        maker=tape.maker,
        stress=scores.table(stress),
        coverage=[
            dict(zip(("part", "seconds", "covered", "half_width"), (part, *scores.coverage(mask)), strict=True))
            for part, mask in parts.items()
        ],
        company=scores.company,
        moments={phase: scores.moments(mask) for phase, mask in when.items()},
        by_weight={weight: scores.error_of(implied, bars, stress) for weight, implied in weighted.items()},
    )


# --- tables ----------------------------------------------------------------------------------------------------------


def _result(
    setup: _Setup,
    scenarios: Sequence[Scenario],
    seeds: tuple[Sequence[int], Sequence[int]],
    runs: Sequence[_Run],
    kept: Sequence[_Run],
) -> SimulatedEvaluation:
    long = pl.concat(
        run.stress.select(scenario=pl.lit(run.scenario), seed=pl.lit(run.seed), maker=pl.lit(run.maker), **_AS_THEY_ARE)
        for run in kept
    )
    pooled: list[str] = [s for s in scenarios if s in POOLED] or [*scenarios]
    counts = {s: sum(run.scenario == s for run in kept) for s in scenarios}
    settings = {
        "inputs": str(setup.inputs), "book": setup.book, "seeds": span(seeds[0]), "training": span(seeds[1]),
        "duration": f"{setup.duration:g} s", "runs": ", ".join(f"{s} {n}" for s, n in counts.items()),
    }  # fmt: skip
    main, coverage = _main_table(long, scenarios, pooled), _coverage(runs, scenarios)
    encompassing, ablation = _encompassing(kept, scenarios), _ablation(kept, pooled)
    tables = {
        "table": Table(
            main,
            "Root mean square distance from the hidden mid in seconds of stress, bps. Pooled over "
            f"{', '.join(pooled)}; ratio to the quoted mid with its 95 % interval over runs.",
        ),
        "coverage": Table(coverage, "How often the 90 % interval of the implied mid holds the hidden mid."),
        "ablation": Table(
            ablation,
            "Error of the implied mid with a weight of the way to the de-biased toxic mean, and its ratio to that "
            "without, with a 95 % interval over runs.",
        ),
        "encompassing": Table(
            encompassing,
            "Hidden less quoted mid regressed on estimates less quoted mid, together; errors clustered by run. A "
            "coefficient of zero: the others say all that this one knows.",
            in_full=False,
        ),
        "runs": Table(long, "Every run that counts.", in_full=False),
    }
    notes = (
        "Simulated markets: rankings and ways of failing carry over to real ones better than the size of any gain.",
        f"Runs with fewer than {FEWEST_SECONDS} seconds to judge are left out.",
        "Where an estimator says nothing the quoted mid stands in; `fallback` is the share of such seconds.",
        "Rivals that learn do so on runs of other seeds with the same inputs, book and feed.",
    )
    answers = simulated_answers(main, coverage, encompassing, ablation)
    return SimulatedEvaluation("Estimators against a hidden mid", settings, tables, notes, answers)


def _main_table(long: pl.DataFrame, scenarios: Sequence[str], pooled: Sequence[str]) -> pl.DataFrame:
    """A row per estimator, best first."""
    names = long["estimator"].unique(maintain_order=True).to_list()
    errors = {s: _matrix(long.filter(pl.col("scenario") == s), "mse", names) for s in scenarios}
    silent = {s: _matrix(long.filter(pl.col("scenario") == s), "fallback", names) for s in pooled}
    base = names.index("mid")
    total = np.mean([errors[s].mean(axis=0) for s in pooled], axis=0)
    low, high = ratio_interval([errors[s] for s in pooled], base)
    stacked = np.concatenate([errors[s] for s in pooled])
    return pl.DataFrame(
        {
            "estimator": names,
            "ratio": np.sqrt(total / total[base]),
            "ratio_lo": low,
            "ratio_hi": high,
            "better": (stacked < stacked[:, [base]]).mean(axis=0),
            "pooled": np.sqrt(total),
            **{f"rmse_{s}": np.sqrt(errors[s].mean(axis=0)) for s in scenarios},
            "fallback": np.mean([silent[s].mean(axis=0) for s in pooled], axis=0),
        }
    ).sort("pooled", maintain_order=True)


def _matrix(long: pl.DataFrame, column: str, names: Sequence[str]) -> _Floats:
    """Runs by estimators."""
    return np.asarray(long[column].to_numpy().reshape(-1, len(names)), dtype=np.float64)


def _coverage(runs: Sequence[_Run], scenarios: Sequence[str]) -> pl.DataFrame:
    rows = [{"scenario": run.scenario, **row} for run in runs for row in run.coverage if row["seconds"]]
    order = {s: i for i, s in enumerate(scenarios)}
    seconds = pl.col("seconds")
    weighted = [(pl.col(name) * seconds).sum() / seconds.sum() for name in ("covered", "half_width")]
    return (
        pl.DataFrame(rows, schema_overrides={"covered": pl.Float64, "half_width": pl.Float64})
        .group_by("scenario", "part")
        .agg(pl.len().alias("runs"), seconds.sum(), *weighted)
        .select("scenario", "part", "runs", "seconds", "covered", pl.col("half_width").alias("half_width_bps"))
        .sort(pl.col("scenario").replace_strict(order, return_dtype=pl.Int64), "part", descending=[False, True])
    )


def _encompassing(runs: Sequence[_Run], scenarios: Sequence[str]) -> pl.DataFrame:
    parts, company = [], runs[0].company
    stressed = [s for s in scenarios if s in POOLED]
    for scenario in [*stressed, *(["all"] if len(stressed) > 1 else [])]:
        chosen = [run for run in runs if run.scenario == scenario or (scenario == "all" and run.scenario in POOLED)]
        for phase in chosen[0].moments:
            clusters = [run.moments[phase] for run in chosen if run.moments[phase].rows]
            parts.append(combine(clusters, company, group={"scenario": scenario, "phase": phase}))
    empty = combine([], company, group={"scenario": "", "phase": ""}).clear()
    return pl.concat(parts) if parts else empty


def _ablation(runs: Sequence[_Run], pooled: Sequence[str]) -> pl.DataFrame:
    errors = {s: np.array([list(run.by_weight.values()) for run in runs if run.scenario == s]) for s in pooled}
    return ablation_table(errors, list(runs[0].by_weight))
