"""Tests of forecasts against statsmodels, scipy and hand calculation; gaps in time stay gaps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import ttest_1samp

from toxmid.evaluate.inference import diebold_mariano, event_test, r2_oos, regression


def sample(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = np.stack([np.ones(n), np.convolve(rng.normal(size=n + 9), np.ones(10), "valid")], axis=1)
    return x @ [0.5, 0.3] + np.convolve(rng.normal(size=n + 4), np.ones(5), "valid"), x


def test_without_gaps_it_is_statsmodels() -> None:
    y, x = sample()
    ours = regression(y, x, np.ones(len(y), dtype=bool), lags=8)
    theirs = sm.OLS(y, x).fit(cov_type="HAC", cov_kwds={"maxlags": 8, "use_correction": True})
    np.testing.assert_allclose(ours.b, theirs.params, rtol=1e-9)
    np.testing.assert_allclose(ours.se, theirs.bse, rtol=1e-9)
    np.testing.assert_allclose(ours.p, theirs.pvalues, rtol=1e-6, atol=1e-12)
    assert ours.residual == pytest.approx(theirs.ssr)


def test_gaps_by_hand() -> None:
    """Autocovariances of the scores pair rows by their distance in time, not by their order."""
    y, x = sample(60)
    rng = np.random.default_rng(1)
    used = rng.random(60) < 0.5
    used[20:35] = False
    lags = 6
    fit = regression(y, x, used, lags)
    residual = y - x @ fit.b
    scores = np.where(used[:, None], x * residual[:, None], 0.0)
    middle = scores.T @ scores
    for lag in range(1, lags + 1):
        pair = scores[lag:].T @ scores[:-lag]
        middle += (1.0 - lag / (lags + 1)) * (pair + pair.T)
    inverse = np.linalg.inv(x[used].T @ x[used])
    n = used.sum()
    np.testing.assert_allclose(fit.covariance, inverse @ middle @ inverse * n / (n - 2), rtol=1e-8)


def test_calm_between_episodes_is_as_long_as_it_likes() -> None:
    y, x = sample(200)
    results = []
    for gap in (50, 5000):
        used = np.concatenate([np.ones(100, dtype=bool), np.zeros(gap, dtype=bool), np.ones(100, dtype=bool)])
        wide_y = np.concatenate([y[:100], np.full(gap, np.nan), y[100:]])
        wide_x = np.concatenate([x[:100], np.full((gap, 2), np.nan), x[100:]])
        results.append(regression(wide_y, wide_x, used, lags=10))
    np.testing.assert_allclose(results[0].se, results[1].se, rtol=1e-12)


def test_what_cannot_be_told_apart_is_not_told() -> None:
    y, x = sample()
    twice = np.concatenate([x, x[:, 1:]], axis=1)
    assert np.isnan(regression(y, twice, np.ones(len(y), dtype=bool), 5).b).all()


def test_overlapping_outcomes_of_one_episode_have_no_error() -> None:
    y, x = sample(40)
    fit = regression(y, x, np.ones(40, dtype=bool), lags=20)
    assert np.isfinite(fit.b).all()
    assert np.isnan(fit.se).all()


def test_diebold_mariano_one_step_ahead_is_a_t_test() -> None:
    d = np.random.default_rng(5).normal(0.2, 1.0, size=50)
    ours, theirs = diebold_mariano(d, np.ones(50, dtype=bool), 1), ttest_1samp(d, 0.0)
    assert ours.statistic == pytest.approx(theirs.statistic)
    assert ours.p == pytest.approx(theirs.pvalue)


def test_diebold_mariano_by_hand() -> None:
    d = np.array([1.0, 2.0, 4.0, 3.0, 0.0, 2.0])  # mean 2
    gamma0 = (1 + 0 + 4 + 1 + 4 + 0) / 6
    gamma1 = (0 + 0 + 2 - 2 + 0) / 6
    factor = (6 + 1 - 4 + 2 / 6) / 6
    expected = 2.0 / math.sqrt((gamma0 + 2 * gamma1) / 6) * math.sqrt(factor)
    assert diebold_mariano(d, np.ones(6, dtype=bool), 2).statistic == pytest.approx(expected)


def test_diebold_mariano_keeps_gaps() -> None:
    d = np.array([1.0, 2.0, 4.0, 3.0, 0.0, 2.0])
    apart = np.array([1.0, 2.0, 4.0, 99.0, 3.0, 0.0, 2.0])
    used = np.array([True, True, True, False, True, True, True])
    gamma0, gamma1 = 10 / 6, (0 + 0 - 2 + 0) / 6  # the pair (4, 3) is two steps apart now
    expected = 2.0 / math.sqrt((gamma0 + 2 * gamma1) / 6) * math.sqrt((6 + 1 - 4 + 2 / 6) / 6)
    assert diebold_mariano(apart, used, 2).statistic == pytest.approx(expected)
    assert diebold_mariano(d, np.ones(6, dtype=bool), 2).statistic != pytest.approx(expected)


def test_a_negative_variance_says_nothing() -> None:
    alternating = np.array([1.0, -1.0] * 10)
    assert math.isnan(diebold_mariano(alternating, np.ones(20, dtype=bool), 2).statistic)


def test_diebold_mariano_holds_its_size() -> None:
    rng = np.random.default_rng(6)
    everything = np.ones(200, dtype=bool)
    overlapping = [np.convolve(rng.normal(size=203), np.ones(4), "valid") for _ in range(400)]
    rejected = np.mean([diebold_mariano(d, everything, 4).p < 0.05 for d in overlapping])
    assert 0.02 < rejected < 0.09


def test_sign_test_over_events() -> None:
    differences = np.array([1.0] * 25 + [-1.0] * 5)
    tail = sum(math.comb(30, k) for k in range(25, 31)) / 2**30
    result = event_test(differences)
    assert result.sign_p == pytest.approx(2 * tail)
    assert result.better == pytest.approx(25 / 30)
    assert result.is_enough


def test_ties_decide_nothing() -> None:
    result = event_test(np.zeros(40))
    assert math.isnan(result.sign_p)
    assert result.better == 0.0


@pytest.mark.parametrize("events", [0, 29])
def test_few_events_are_not_enough(events: int) -> None:
    result = event_test(np.ones(events))
    assert not result.is_enough
    assert math.isnan(result.sign_p)
    assert math.isnan(result.t_p)


def test_out_of_sample_gain() -> None:
    y = np.array([2.0, -4.0, 1.0])
    assert r2_oos(y, y) == 1.0
    assert r2_oos(y, np.zeros(3)) == 0.0
    assert r2_oos(y, -y) == -3.0
    assert math.isnan(r2_oos(np.zeros(3), y))
