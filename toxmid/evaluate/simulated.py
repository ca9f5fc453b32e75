"""Estimators against a hidden mid: simulated markets whose maker's own mid is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.errors import NotEnoughDataError, ParameterError
from toxmid.evaluate.combining import Moments, combine
from toxmid.evaluate.results import Evaluation, Table
from toxmid.evaluate.rivals import Rivals, checked
from toxmid.evaluate.scoring import COMBINED, Extra, Scores, with_extra
from toxmid.params import Params
from toxmid.progress import Progress
from toxmid.replay import replay
from toxmid.simulate import BOOKS, SCENARIOS, Book, Scenario, Simulation, simulate

__all__ = ["SimulatedEvaluation", "evaluate_simulated"]

Inputs = Literal["quotes", "trades", "book"]
Feed = Literal["full", "throttled", "none"]

_SECOND: Final = 1_000_000_000
_WARM: Final = 300  # s until estimators are ready
_STRESS_WINDOW: Final = 120  # s
_STRESS_VOLUME: Final = 50.0  # BTC-equivalents of true liquidation flow in it
_NEWS_WINDOW: Final = 300  # s after the news
_FEWEST_SECONDS: Final = 30  # of stress that make a run count
_EARLY: Final = 60  # s: the first part of an episode
_RESAMPLES: Final = 2_000
_TRAINING_RUNS: Final = 8  # per scenario
_POOLED: Final = ("flush", "news", "mixed", "info")
_CHUNK: Final = 8
_AS_THEY_ARE: Final = {name: pl.col(name) for name in ("estimator", "seconds", "mse", "bias", "fallback")}

_Mask = npt.NDArray[np.bool_]
_Floats = npt.NDArray[np.float64]


class SimulatedEvaluation(Evaluation):
    """Table of `evaluate_simulated`, with what lies under it."""

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


@dataclass(frozen=True)
class _Setup:
    """Everything that the runs of one evaluation share."""

    inputs: Inputs
    book: Book
    feed: Feed
    params: Params | None
    duration: float
    extra: Extra

    def simulated(self, scenario: Scenario, seed: int) -> Simulation:
        return simulate(scenario, seed=seed, book=self.book, duration=self.duration)

    def bars(self, tape: Simulation) -> pl.DataFrame:
        feeds = {"full": "liquidations", "throttled": "liquidations_throttled"}
        played = replay(
            trades=tape.trades,
            quotes=tape.quotes if self.inputs == "quotes" else None,
            book=tape.book if self.inputs == "book" else None,
            liquidations=getattr(tape, feeds[self.feed]) if self.feed in feeds else None,
            params=self.params,
            instrument=tape.instrument,
        )
        return checked(played.bars)


@dataclass(frozen=True, eq=False)
class _Run:
    """One judged run."""

    scenario: str
    seed: int
    maker: str
    stress: pl.DataFrame
    coverage: list[dict[str, Any]]
    moments: dict[str, Moments]


def evaluate_simulated(
    seeds: Iterable[int] = range(100),
    scenarios: Sequence[Scenario] = SCENARIOS,
    *,
    inputs: Inputs = "quotes",
    book: Book = "shallow",
    feed: Feed = "full",
    params: Params | None = None,
    training: Iterable[int] | None = None,
    state_space: bool = True,
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
    params : Params, optional
        Of the engine.
    training : iterable of int, optional
        Seeds on which rivals learn what they must, with the same inputs, book and feed; none of `seeds`. The
        micro-price, MRR and the local level learn on calm runs alone. None: the eight seeds after the greatest of
        `seeds`.
    state_space : bool
        Whether to fit the state space (some seconds).
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
        the quoted mid stood in. ``.runs``, ``.coverage`` and ``.encompassing`` have the rest.

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
    setup = _Setup(inputs, book, feed, params, duration, extra or {})
    judged, learnt = _checked_seeds(seeds, training)
    _check_names(setup, scenarios)
    rivals = _fitted(setup, scenarios, learnt, state_space)
    jobs = [(scenario, seed) for scenario in scenarios for seed in judged]
    runs = _all_runs(partial(_run, setup, rivals), jobs, workers, progress)
    kept = [run for run in runs if run.stress["seconds"][0] >= _FEWEST_SECONDS]
    for scenario in scenarios:
        if not any(run.scenario == scenario for run in kept):
            raise NotEnoughDataError(f"no run of {scenario!r} has {_FEWEST_SECONDS} seconds to judge")
    return _result(setup, scenarios, (judged, learnt), runs, kept)


def _checked_seeds(seeds: Iterable[int], training: Iterable[int] | None) -> tuple[list[int], list[int]]:
    judged = list(seeds)
    if not judged:
        raise ParameterError("no seeds", column="seeds", expected="1 or more")
    last = max(judged)
    learnt = list(range(last + 1, last + 1 + _TRAINING_RUNS)) if training is None else list(training)
    both = sorted(set(judged) & set(learnt))
    if both or not learnt:
        raise ParameterError("rivals must learn on other runs than they are judged on", column="training", found=both)
    return judged, learnt


def _check_names(setup: _Setup, scenarios: Sequence[str]) -> None:
    for name, value, known in (
        ("inputs", setup.inputs, get_args(Inputs)), ("feed", setup.feed, get_args(Feed)), ("book", setup.book, BOOKS),
    ):  # fmt: skip
        if value not in known:
            raise ParameterError("unknown name", column=name, found=value, expected=", ".join(known))
    strange = [scenario for scenario in scenarios if scenario not in SCENARIOS]
    if strange or not scenarios:
        raise ParameterError("unknown scenario", column="scenarios", found=strange, expected=", ".join(SCENARIOS))


def _fitted(setup: _Setup, scenarios: Sequence[Scenario], seeds: Sequence[int], state_space: bool) -> Rivals:
    calm = [setup.bars(setup.simulated("calm", seed)) for seed in seeds]
    stress = [setup.bars(setup.simulated(s, seed)) for s in scenarios if s != "calm" for seed in seeds]
    return Rivals.fit(calm, stress, state_space=state_space)


def _all_runs(run: partial[_Run], jobs: Sequence[tuple[Scenario, int]], workers: int, progress: bool) -> list[_Run]:
    if workers < 1:
        raise ParameterError("out of range", column="workers", found=workers, expected="1 or more")
    with Progress(label="runs", quiet=not progress) as bar:
        done = []
        if workers == 1:
            for job in jobs:
                done.append(run(job))
                bar.advance(1)
            return done
        # A forked polars deadlocks on the locks of its dead threads.
        with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
            for result in pool.map(run, jobs, chunksize=_CHUNK):
                done.append(result)
                bar.advance(1)
        return done


# --- one run ---------------------------------------------------------------------------------------------------------


def _run(setup: _Setup, rivals: Rivals, job: tuple[Scenario, int]) -> _Run:
    scenario, seed = job
    tape = setup.simulated(scenario, seed)
    bars = setup.bars(tape)
    estimates = with_extra(rivals.estimates(bars), bars, setup.extra)
    truth = bars.select("ts").join_asof(tape.truth, on="ts")["mid"]
    scores = Scores.of(estimates, bars, truth)
    stress, calm, early = _phases(tape, bars)
    parts = {"calm": calm} if scenario == "calm" else {"stress": stress, "calm": calm}
    phases = {"all": stress, f"first {_EARLY} s": stress & early, "later": stress & ~early}
    return _Run(
        scenario=scenario,
        seed=seed,
        maker=tape.maker,
        stress=scores.table(stress),
        coverage=[
            dict(zip(("part", "seconds", "covered", "half_width"), (part, *scores.coverage(mask)), strict=True))
            for part, mask in parts.items()
        ],
        moments={phase: scores.moments(mask) for phase, mask in phases.items()},
    )


def _phases(tape: Simulation, bars: pl.DataFrame) -> tuple[_Mask, _Mask, _Mask]:
    """Bars to judge, bars that are calm for certain, and bars in the first part of an episode."""
    ts = bars["ts"].to_physical().to_numpy()
    warm = ts >= tape.start + _WARM * _SECOND
    if tape.scenario == "calm":
        return warm, warm, np.zeros_like(warm)
    before = warm & (ts < _first_shock(tape))
    if tape.scenario == "info":
        since = _since_news(tape, ts)
        return warm & (since > 0) & (since <= _NEWS_WINDOW), before, since <= _EARLY
    stress = warm & (_forced_volume(tape, ts) > _STRESS_VOLUME)
    return stress, before & ~stress, _run_length(stress) <= _EARLY


def _first_shock(tape: Simulation) -> int:
    return tape.start + int(min(shock.start for shock in tape.shocks) * _SECOND)


def _since_news(tape: Simulation, ts: npt.NDArray[np.int64]) -> _Floats:
    """Seconds since the last news; negative before the first."""
    starts = np.array([tape.start + int(shock.start * _SECOND) for shock in tape.shocks])
    last = np.maximum(np.searchsorted(starts, ts, side="right") - 1, 0)
    return np.asarray((ts - starts[last]) / _SECOND, dtype=np.float64)


def _forced_volume(tape: Simulation, ts: npt.NDArray[np.int64]) -> _Floats:
    """True liquidation volume of the last 120 s, BTC-equivalents."""
    forced = tape.liquidations
    times = forced["ts"].to_physical().to_numpy()
    total = np.concatenate([[0.0], np.cumsum(forced["size"].to_numpy())]) / tape.size_scale
    upto, before = (np.searchsorted(times, ts - lag, side="right") for lag in (0, _STRESS_WINDOW * _SECOND))
    return np.asarray(total[upto] - total[before], dtype=np.float64)


def _run_length(mask: _Mask) -> npt.NDArray[np.int64]:
    """How many bars in a row up to each have been in the mask."""
    index = np.arange(len(mask))
    last_outside = np.maximum.accumulate(np.where(mask, -1, index))
    return index - last_outside


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
    pooled: list[str] = [s for s in scenarios if s in _POOLED] or [*scenarios]
    counts = {s: sum(run.scenario == s for run in kept) for s in scenarios}
    settings = {
        "inputs": setup.inputs, "book": setup.book, "feed": setup.feed, "seeds": _span(seeds[0]),
        "training": _span(seeds[1]), "duration": f"{setup.duration:g} s",
        "runs": ", ".join(f"{s} {n}" for s, n in counts.items()),
    }  # fmt: skip
    tables = {
        "table": Table(
            _main_table(long, scenarios, pooled),
            "Root mean square distance from the hidden mid in seconds of stress, bps. Pooled over "
            f"{', '.join(pooled)}; ratio to the quoted mid with its 95 % interval over runs.",
        ),
        "coverage": Table(
            _coverage(runs, scenarios), "How often the 90 % interval of the implied mid holds the hidden mid."
        ),
        "encompassing": Table(
            _encompassing(kept, scenarios),
            "Hidden less quoted mid regressed on estimates less quoted mid, together; errors clustered by run. A "
            "coefficient of zero: the others say all that this one knows.",
        ),
        "runs": Table(long, "Every run that counts."),
    }
    notes = (
        "Simulated markets: rankings and ways of failing carry over to real ones better than the size of any gain.",
        f"Runs with fewer than {_FEWEST_SECONDS} seconds to judge are left out.",
        "Where an estimator says nothing the quoted mid stands in; `fallback` is the share of such seconds.",
        "Rivals that learn do so on runs of other seeds with the same inputs, book and feed.",
    )
    return SimulatedEvaluation("Estimators against a hidden mid", settings, tables, notes)


def _span(seeds: Sequence[int]) -> str:
    whole = list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}–{seeds[-1]}" if whole and len(seeds) > 1 else ", ".join(map(str, seeds))


def _main_table(long: pl.DataFrame, scenarios: Sequence[str], pooled: Sequence[str]) -> pl.DataFrame:
    """A row per estimator, best first."""
    names = long["estimator"].unique(maintain_order=True).to_list()
    errors = {s: _matrix(long.filter(pl.col("scenario") == s), "mse", names) for s in scenarios}
    silent = {s: _matrix(long.filter(pl.col("scenario") == s), "fallback", names) for s in pooled}
    base = names.index("mid")
    total = np.mean([errors[s].mean(axis=0) for s in pooled], axis=0)
    low, high = _ratio_interval([errors[s] for s in pooled], base)
    stacked = np.concatenate([errors[s] for s in pooled])
    return pl.DataFrame(
        {
            "estimator": names,
            **{f"rmse_{s}": np.sqrt(errors[s].mean(axis=0)) for s in scenarios},
            "pooled": np.sqrt(total),
            "ratio": np.sqrt(total / total[base]),
            "ratio_lo": low,
            "ratio_hi": high,
            "better": (stacked < stacked[:, [base]]).mean(axis=0),
            "fallback": np.mean([silent[s].mean(axis=0) for s in pooled], axis=0),
        }
    ).sort("pooled", maintain_order=True)


def _matrix(long: pl.DataFrame, column: str, names: Sequence[str]) -> _Floats:
    """Runs by estimators."""
    return np.asarray(long[column].to_numpy().reshape(-1, len(names)), dtype=np.float64)


def _ratio_interval(errors: Sequence[_Floats], base: int) -> tuple[_Floats, _Floats]:
    """95 % bootstrap interval of the ratio of pooled errors: runs are drawn anew within each scenario, all estimators
    of a run together."""
    rng = np.random.default_rng(0)
    totals = np.zeros((_RESAMPLES, errors[0].shape[1]))
    for error in errors:
        runs = len(error)
        weights = rng.multinomial(runs, np.full(runs, 1.0 / runs), size=_RESAMPLES) / runs
        totals += weights @ error
    low, high = np.quantile(np.sqrt(totals / totals[:, [base]]), [0.025, 0.975], axis=0)
    return low, high


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
    parts = []
    stressed = [s for s in scenarios if s in _POOLED]
    for scenario in [*stressed, *(["all"] if len(stressed) > 1 else [])]:
        chosen = [run for run in runs if run.scenario == scenario or (scenario == "all" and run.scenario in _POOLED)]
        for phase in chosen[0].moments:
            clusters = [run.moments[phase] for run in chosen if run.moments[phase].rows]
            parts.append(combine(clusters, COMBINED, group={"scenario": scenario, "phase": phase}))
    empty = combine([], COMBINED, group={"scenario": "", "phase": ""}).clear()
    return pl.concat(parts) if parts else empty


