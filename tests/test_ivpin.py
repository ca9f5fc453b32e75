"""Improved VPIN: its likelihood against Poisson probabilities, its maximum, known parameters, and when it is null."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from feeding import SECOND, START, simulated
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.ivpin import loglike, share

from toxmid.errors import ParameterError
from toxmid.ivpin import _fit, _loglike, _told, ivpin
from toxmid.vpin import vpin

Floats = npt.NDArray[np.float64]
TRUTH = (0.4, 0.3, 60.0, 40.0)


def drawn(count: int, seed: int, truth: tuple[float, float, float, float] = TRUTH) -> tuple[Floats, Floats, Floats]:
    """Bought, sold and time of buckets that the model makes: counts of equal spans of time."""
    alpha, delta, mu, epsilon = truth
    rng = np.random.default_rng(seed)
    informed, bad = rng.random(count) < alpha, rng.random(count) < delta
    time = rng.exponential(size=count) + 0.3
    bought = rng.poisson((epsilon + mu * (informed & ~bad)) * time)
    sold = rng.poisson((epsilon + mu * (informed & bad)) * time)
    return bought.astype(float), sold.astype(float), time


def moved(alpha: float, delta: float, mu: float, epsilon: float) -> Floats:
    return np.array([math.log(alpha / (1 - alpha)), math.log(delta / (1 - delta)), math.log(mu), math.log(epsilon)])


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1000), alpha=st.floats(0.05, 0.95), delta=st.floats(0.05, 0.95),
    mu=st.floats(1.0, 200.0), epsilon=st.floats(1.0, 200.0),
)  # fmt: skip
def test_the_likelihood_is_that_of_poisson_counts(
    seed: int, alpha: float, delta: float, mu: float, epsilon: float
) -> None:
    """But for what no parameter is in; and its derivatives are those of it."""
    sample = drawn(20, seed)
    buckets = list(zip(*(column.tolist() for column in sample[:2]), sample[2].tolist(), strict=True))
    free = sum((b + s) * math.log(t) - math.lgamma(b + 1) - math.lgamma(s + 1) for b, s, t in buckets)
    x = moved(alpha, delta, mu, epsilon)
    value, slope = _loglike(x, *sample)
    exact = loglike(alpha, delta, mu, epsilon, buckets)
    assert value + free == pytest.approx(exact, rel=1e-8, abs=1e-6)
    steps = 1e-6 * np.eye(4)
    numeric = [(_loglike(x + h, *sample)[0] - _loglike(x - h, *sample)[0]) / 2e-6 for h in steps]
    np.testing.assert_allclose(slope, numeric, rtol=1e-4, atol=1e-3)


def test_finds_what_the_model_was_made_with() -> None:
    """Over many buckets; and a value far better than chance from fifty."""
    alpha, delta, mu, epsilon = TRUTH
    value, *rest = _told(_fit(*drawn(20_000, 1), None))
    assert value == pytest.approx(share(alpha, mu, epsilon), rel=0.02)
    assert rest == pytest.approx([alpha, delta, mu, epsilon], rel=0.03)
    few = [_told(_fit(*drawn(50, seed), None))[0] for seed in range(40)]
    assert np.mean(few) == pytest.approx(share(alpha, mu, epsilon), rel=0.1)


@pytest.mark.parametrize("seed", range(6))
def test_no_point_near_or_of_a_fine_grid_is_likelier(seed: int) -> None:
    sample = drawn(50, seed)
    x = _fit(*sample, None)
    best = _loglike(x, *sample)[0]
    rng = np.random.default_rng(seed)
    assert all(_loglike(x + step, *sample)[0] <= best + 1e-6 for step in rng.normal(0, 0.05, (200, 4)))
    for alpha in np.linspace(0.05, 0.95, 7):
        for delta in np.linspace(0.05, 0.95, 7):
            for mu in (5.0, 20.0, 60.0, 150.0):
                for epsilon in (5.0, 20.0, 40.0, 80.0):
                    assert _loglike(moved(alpha, delta, mu, epsilon), *sample)[0] <= best + 1e-6


def test_sides_may_be_exchanged() -> None:
    bought, sold, time = drawn(60, 3)
    one, two = _told(_fit(bought, sold, time, None)), _told(_fit(sold, bought, time, None))
    assert one[0] == pytest.approx(two[0], rel=1e-4)
    assert one[2] == pytest.approx(1 - two[2], abs=1e-3)


def test_rows_are_those_of_vpin_and_nothing_looks_ahead() -> None:
    tape = simulated()["trades"].head(2500)
    table = ivpin(tape, bucket_volume=8.0, window=20)
    buckets = vpin(tape, bucket_volume=8.0, window=20)
    assert table["vpin"].equals(buckets["vpin"], null_equal=True)
    assert table["ivpin"].null_count() == 19
    assert table["ivpin"].drop_nulls().is_between(0, 1).all()
    part = ivpin(tape.head(1200), bucket_volume=8.0, window=20)
    assert part.height > 25
    assert part.equals(table[: part.height], null_equal=True)


def test_unknown_sides_and_no_time_are_null() -> None:
    ts = START + SECOND * np.arange(200)
    tape = pl.DataFrame({"ts": ts, "price": 1.0, "size": 1.0, "side": np.where(np.arange(200) % 3, 1, -1)})
    unknown = tape.with_columns(side=pl.when(pl.int_range(pl.len()) == 100).then(0).otherwise("side"))
    table = ivpin(unknown, bucket_volume=4.0, window=5)
    assert table["ivpin"].is_null().arg_true().to_list() == [0, 1, 2, 3, *range(25, 30)]
    at_once = ivpin(tape.with_columns(ts=START), bucket_volume=4.0, window=5)
    assert at_once["ivpin"].null_count() == at_once.height == 50
    assert ivpin(tape.clear(), bucket_volume=4.0).height == 0


@pytest.mark.parametrize("units", [0, -1.0, True, "many", 1e9])
def test_wrong_units(units: object) -> None:
    with pytest.raises(ParameterError, match="units"):
        ivpin(simulated()["trades"], bucket_volume=20.0, units=units)  # type: ignore[arg-type]
