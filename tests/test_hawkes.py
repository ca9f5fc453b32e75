"""Hawkes processes: the likelihood from its definition, its derivatives by differences, known processes recovered."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from feeding import SECOND, START, simulated
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.hawkes import loglike as reference
from scipy.optimize import approx_fprime

from toxmid import _hawkes
from toxmid.errors import DataError, NotEnoughDataError, ParameterError
from toxmid.hawkes import hawkes

Floats = npt.NDArray[np.float64]


def cluster(
    span: float, mu: tuple[float, ...], n: Any, b: tuple[float, ...], seed: int
) -> dict[str, npt.NDArray[np.int64]]:
    """A process by its families: immigrants at constant rates, each event with its Poisson number of children."""
    rng = np.random.default_rng(seed)
    waiting = [(t, d) for d, rate in enumerate(mu) for t in rng.uniform(0, span, rng.poisson(rate * span))]
    times: list[list[float]] = [[] for _ in mu]
    while waiting:
        time, of = waiting.pop()
        if time > span:
            continue
        times[of].append(time)
        for to in range(len(mu)):
            for p, decay in enumerate(b):
                children = rng.poisson(n[to][of][p])
                waiting += [(time + delay, to) for delay in rng.exponential(1 / decay, children)]
    return {f"k{d}": START + np.sort(np.array(part) * 1e9).astype(np.int64) for d, part in enumerate(times)}


def single(span: float, mu: float, n: float, decay: float, seed: int = 0) -> npt.NDArray[np.int64]:
    return cluster(span, (mu,), [[[n]]], (decay,), seed)["k0"]


EVENTS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1)), min_size=1, max_size=15).map(sorted)
RATES = st.floats(0.05, 2.0)


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.lists(RATES, min_size=12, max_size=12), st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2)]))
def test_likelihood_and_derivatives(events: list[tuple[int, int]], draws: list[float], shape: tuple[int, int]) -> None:
    kinds, kernels = shape
    halved = [(time / 2, kind % kinds) for time, kind in events]  # with ties, within kinds and between them
    entries = kinds * kinds * kernels
    values = np.array(draws[: kinds + entries + kernels])
    t, kind = np.array([time for time, _ in halved]), np.array([kind for _, kind in halved])
    span = 21.0

    def parts(flat: Floats) -> tuple[Floats, Floats, Floats]:
        mu, n, b = np.split(flat, [kinds, kinds + entries])
        return mu.copy(), n.reshape(kinds, kinds, kernels).copy(), b.copy()

    def value(flat: Floats) -> float:
        mu, n, b = parts(flat)
        return _hawkes.loglike(t, kind, span, mu, n, b, *(np.zeros_like(part) for part in (mu, n, b)))

    mu, n, b = parts(values)
    slopes = tuple(np.zeros_like(part) for part in (mu, n, b))
    found = _hawkes.loglike(t, kind, span, mu, n, b, *slopes)
    assert found == pytest.approx(reference(halved, span, mu.tolist(), n.tolist(), b.tolist()), rel=1e-9, abs=1e-9)
    numeric = approx_fprime(values, value, 1e-6)
    np.testing.assert_allclose(np.concatenate([slope.ravel() for slope in slopes]), numeric, rtol=1e-3, atol=1e-3)


def test_recovers_what_it_was_given() -> None:
    times = single(40_000.0, 0.05, 0.6, 0.5)
    result = hawkes(times, start=START, end=START + 40_000 * SECOND)
    for name, value in {"mu": 0.05, "n": 0.6, "decay": 0.5}.items():
        assert abs(result.params[name] - value) < 4 * result.bse[name] < value
    assert (result.branching, result.branching_bse) == (result.params["n"], pytest.approx(result.bse["n"]))
    assert result.half_lives == (pytest.approx(np.log(2) / result.params["decay"]),)
    assert result.loglike > result.poisson_loglike + 100
    assert result.converged
    assert (result.events, result.merged, result.seconds) == ({"": times.size}, 0, 40_000.0)


def test_recovers_two_kernels() -> None:
    times = cluster(60_000.0, (0.05,), [[[0.3, 0.4]]], (2.0, 0.05), 3)["k0"]
    one, two = (hawkes(times, exponentials=k) for k in (1, 2))
    assert two.half_lives[0] < two.half_lives[1]
    for name, value in {"n[1]": 0.3, "n[2]": 0.4, "decay[1]": 2.0, "decay[2]": 0.05}.items():
        assert abs(two.params[name] - value) < 4 * two.bse[name] < 1.2 * value
    assert abs(two.branching - 0.7) < 4 * two.branching_bse < 0.4
    assert two.aic < one.aic
    assert two.bic < one.bic


def test_recovers_who_excites_whom() -> None:
    n = [[[0.4], [0.0]], [[0.5], [0.2]]]  # the first excites the second, not the other way
    prints = cluster(40_000.0, (0.05, 0.04), n, (0.5,), 5)
    result = hawkes({"forced": prints["k0"], "other": prints["k1"]}, start=START, end=START + 40_000 * SECOND)
    assert result.kinds == ("forced", "other")
    for name, value in {"n[forced<-forced]": 0.4, "n[other<-forced]": 0.5, "n[other<-other]": 0.2}.items():
        assert abs(result.params[name] - value) < 4 * result.bse[name] < 0.4
    assert result.params["n[forced<-other]"] < 0.05
    assert abs(result.branching - 0.4) < 4 * result.branching_bse < 0.4
    assert result.matrix[1, 0] == result.params["n[other<-forced]"]


def test_prints_without_memory_breed_nothing() -> None:
    times = START + np.sort(np.random.default_rng(1).integers(0, 20_000 * SECOND, 1000))
    result = hawkes(times)
    assert result.branching < 0.1
    assert 0 <= result.loglike - result.poisson_loglike < 6


def test_errors_are_the_spread_over_samples() -> None:
    fits = [hawkes(single(8_000.0, 0.05, 0.5, 0.5, seed)) for seed in range(20)]
    for name in ("mu", "n"):
        spread = np.std([fit.params[name] for fit in fits])
        assert np.mean([fit.bse[name] for fit in fits]) == pytest.approx(spread, rel=0.45)


def test_explosive_prints_are_called_so() -> None:
    times = START + np.cumsum(np.maximum(1e9 * 0.985 ** np.arange(600), 2e6)).astype(np.int64)  # faster and faster
    result = hawkes(times)
    assert result.branching > 1
    assert "no stationary process" in str(result.summary())


def test_prints_of_one_time_are_one_event() -> None:
    times = single(10_000.0, 0.05, 0.5, 0.5)
    doubled = hawkes(np.sort(np.concatenate([times, times])))
    assert doubled.merged == times.size
    assert doubled.params.equals(hawkes(times).params)


def test_ways_to_give_times() -> None:
    times = single(5_000.0, 0.05, 0.5, 0.5)
    expected = hawkes(times)
    moments = pl.Series("ts", times).cast(pl.Datetime("ns", "UTC"))
    for same in (times.tolist(), pl.Series(times), moments, moments.to_frame(), moments.to_frame().to_arrow()):
        assert hawkes(same).params.equals(expected.params)
    assert hawkes(times, start="2025-10-10", end="2025-10-10T02:00").seconds == 7200.0


def test_result_is_a_value_that_prints_itself() -> None:
    result = hawkes(single(5_000.0, 0.05, 0.5, 0.5))
    for words in ("Hawkes process", "Branching ratio", "Half-lives", "decay", "usual level", "[0.025"):
        assert words in str(result.summary())
    assert pickle.loads(pickle.dumps(result)).params.equals(result.params)
    assert result.bic - result.aic == pytest.approx(3 * (np.log(result.events[""]) - 2))


@pytest.mark.parametrize(
    ("prints", "options", "error", "message"),
    [
        (START + SECOND * np.arange(10), {}, NotEnoughDataError, "too few prints"),
        ({"a": START + SECOND * np.arange(50), "b": [START]}, {}, NotEnoughDataError, "too few prints of b"),
        ({}, {}, ParameterError, "kinds of prints"),
        (START + SECOND * np.arange(50), {"exponentials": 3}, ParameterError, "exponentials"),
        (START + SECOND * np.arange(50), {"start": START + SECOND}, ParameterError, "outside of the time"),
        (START + SECOND * np.arange(50), {"end": START + SECOND}, ParameterError, "outside of the time"),
        (np.linspace(0.0, 1.0, 50), {}, DataError, "not times"),
        (pl.DataFrame({"time": [1]}), {}, DataError, "column is missing"),
    ],
)
def test_what_cannot_be_fitted(prints: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        hawkes(prints, **options)


def test_simulated_cascade_breeds() -> None:
    tables = simulated()
    span = tables["trades"]["ts"].dt.epoch("ns")
    result = hawkes(tables["liquidations"], start=span[0], end=span[-1])
    assert result.loglike > result.poisson_loglike + 20
    assert result.branching > 0.2


def test_real_feed(shared_data: Path) -> None:
    """Liquidations of all coins in a recorded afternoon come in bursts."""
    table = pl.read_csv(shared_data / "recorder" / "binance.csv", has_header=False)
    times = table.select(pl.col(column) for column in table.columns if table[column].dtype == pl.Int64)
    ts = times.to_series(0).unique().sort() * 1_000_000
    hour = ts.filter(ts < ts[0] + 3600 * SECOND)
    result = hawkes(hour)
    assert result.converged
    assert result.branching > 0.2
    assert result.branching_bse < 0.2
    assert result.loglike > result.poisson_loglike
