"""Simulated markets to judge on: which seeds, when a second is one of stress, and how sure a ratio of errors is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.errors import ParameterError
from toxmid.progress import Progress
from toxmid.simulate import BOOKS, SCENARIOS, Scenario, Simulation

__all__ = [
    "EARLY", "FEWEST_SECONDS", "POOLED", "all_runs", "check_names", "checked_seeds", "forced_volume", "phases",
    "ratio_interval", "run_length", "span",
]  # fmt: skip

POOLED: Final = ("flush", "news", "mixed", "info")
FEWEST_SECONDS: Final = 30  # of stress that make a run count
EARLY: Final = 60  # s: the first part of an episode

_SECOND: Final = 1_000_000_000
_WARM: Final = 300  # s until estimators are ready
_STRESS_WINDOW: Final = 120  # s
_STRESS_VOLUME: Final = 50.0  # BTC-equivalents of true liquidation flow in it
_NEWS_WINDOW: Final = 300  # s after the news
_RESAMPLES: Final = 2_000
_TRAINING_RUNS: Final = 8  # per scenario
_CHUNK: Final = 8

_Mask = npt.NDArray[np.bool_]
_Floats = npt.NDArray[np.float64]
_R = TypeVar("_R")


def checked_seeds(seeds: Iterable[int], training: Iterable[int] | None) -> tuple[list[int], list[int]]:
    judged = list(seeds)
    if not judged:
        raise ParameterError("no seeds", column="seeds", expected="1 or more")
    last = max(judged)
    learnt = list(range(last + 1, last + 1 + _TRAINING_RUNS)) if training is None else list(training)
    both = sorted(set(judged) & set(learnt))
    if both or not learnt:
        raise ParameterError("rivals must learn on other runs than they are judged on", column="training", found=both)
    return judged, learnt


def check_names(scenarios: Sequence[str], book: str) -> None:
    """Refuse what the simulator does not know."""
    if book not in BOOKS:
        raise ParameterError("unknown name", column="book", found=book, expected=", ".join(BOOKS))
    strange = [scenario for scenario in scenarios if scenario not in SCENARIOS]
    if strange or not scenarios:
        raise ParameterError("unknown scenario", column="scenarios", found=strange, expected=", ".join(SCENARIOS))


def all_runs(
    run: Callable[[tuple[Scenario, int]], _R], jobs: Sequence[tuple[Scenario, int]], workers: int, progress: bool
) -> list[_R]:
    """Every run, in a pool of processes where there are several workers."""
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


def phases(tape: Simulation, bars: pl.DataFrame) -> tuple[_Mask, _Mask, _Mask]:
    """Bars to judge, bars that are calm for certain, and bars in the first part of an episode."""
    ts = bars["ts"].to_physical().to_numpy()
    warm = ts >= tape.start + _WARM * _SECOND
    if tape.scenario == "calm":
        return warm, warm, np.zeros_like(warm)
    before = warm & (ts < _first_shock(tape))
    if tape.scenario == "info":
        since = _since_news(tape, ts)
        return warm & (since > 0) & (since <= _NEWS_WINDOW), before, since <= EARLY
    stress = warm & (forced_volume(tape, ts) > _STRESS_VOLUME)
    return stress, before & ~stress, run_length(stress) <= EARLY


def _first_shock(tape: Simulation) -> int:
    return tape.start + int(min(shock.start for shock in tape.shocks) * _SECOND)


def _since_news(tape: Simulation, ts: npt.NDArray[np.int64]) -> _Floats:
    """Seconds since the last news; negative before the first."""
    starts = np.array([tape.start + int(shock.start * _SECOND) for shock in tape.shocks])
    last = np.maximum(np.searchsorted(starts, ts, side="right") - 1, 0)
    return np.asarray((ts - starts[last]) / _SECOND, dtype=np.float64)


def forced_volume(tape: Simulation, ts: npt.NDArray[np.int64]) -> _Floats:
    """True liquidation volume of the last 120 s, BTC-equivalents."""
    forced = tape.liquidations
    times = forced["ts"].to_physical().to_numpy()
    total = np.concatenate([[0.0], np.cumsum(forced["size"].to_numpy())]) / tape.size_scale
    upto, before = (np.searchsorted(times, ts - lag, side="right") for lag in (0, _STRESS_WINDOW * _SECOND))
    return np.asarray(total[upto] - total[before], dtype=np.float64)


def run_length(mask: _Mask) -> npt.NDArray[np.int64]:
    """How many bars in a row up to each have been in the mask."""
    index = np.arange(len(mask))
    last_outside = np.maximum.accumulate(np.where(mask, -1, index))
    return index - last_outside


def ratio_interval(errors: Sequence[_Floats], base: int) -> tuple[_Floats, _Floats]:
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


def span(seeds: Sequence[int]) -> str:
    """Seeds as a person writes them."""
    whole = list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}–{seeds[-1]}" if whole and len(seeds) > 1 else ", ".join(map(str, seeds))
