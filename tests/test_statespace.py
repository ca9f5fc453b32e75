"""The state space: its filter against statsmodels, its parameters on a market that it describes, and no look ahead."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.tsa.statespace.kalman_filter import KalmanFilter

import toxmid
from toxmid import _filter
from toxmid.errors import DataError, NotEnoughDataError, ParameterError
from toxmid.statespace import PARAMETERS, StateSpace, StateSpaceResult, _free, _natural, _Tape, _theta, calm_level

TRUE = dict(zip(PARAMETERS, (0.1, 0.2, 0.5, 0.05, 5.0, 60.0, 0.4, 0.2, 0.3, 0.1, 0.2, 0.05, 0.4, 0.1), strict=True))


def market(n: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A tape that the model describes, and its mid (bps)."""
    rng = np.random.default_rng(seed)
    stress = (np.arange(n) // 150) % 3 == 1
    forced = np.where(stress & (rng.random(n) < 0.3), -rng.exponential(5.0, n), 0.0)
    other = rng.normal(size=n)
    excess = np.where(stress, rng.exponential(4.0, n), 0.0)
    lean = 0.5 * excess * rng.uniform(-1, 1, n)
    p, fast, slow = TRUE, math.exp(-1 / TRUE["tau_fast"]), math.exp(-1 / TRUE["tau_slow"])
    m, u, w = np.zeros(n), 0.0, 0.0
    y = np.zeros(n)
    for t in range(n):
        previous = m[t - 1] if t else 0.0
        shock = rng.normal(size=4)
        m[t] = previous + p["lambda_liq"] * forced[t] + p["lambda_other"] * other[t]
        m[t] += shock[0] * math.hypot(p["s_m"], p["g"] * excess[t])
        u = fast * u + p["k_fast_liq"] * forced[t] + p["k_fast_other"] * other[t] + shock[1] * p["c_fast"] * excess[t]
        w = slow * w + p["k_slow_liq"] * forced[t] + p["k_slow_other"] * other[t] + shock[2] * p["c_slow"] * excess[t]
        y[t] = m[t] + u + w + p["phi"] * lean[t] + shock[3] * p["r"]
    return {"y": y, "forced": forced, "other": other, "excess": excess, "lean": lean}, m


def test_filter_is_that_of_statsmodels() -> None:
    columns, _ = market(300, 0)
    columns["y"][[50, 51, 120]] = np.nan
    mean, variance, loglike = _Tape(**columns).filter(_theta(TRUE, 1.0))
    reference = KalmanFilter(k_endog=1, k_states=3)
    n = 299
    reference.bind(columns["y"][1:])
    reference["design"] = np.ones((1, 3))
    decay = np.array([1.0, math.exp(-1 / TRUE["tau_fast"]), math.exp(-1 / TRUE["tau_slow"])])
    reference["transition"] = np.diag(decay)
    reference["selection"] = np.eye(3)
    reference["obs_intercept"] = TRUE["phi"] * columns["lean"][None, 1:]
    reference["obs_cov"] = np.array([[TRUE["r"] ** 2]])
    impact = np.array([[TRUE["lambda_liq"], TRUE["lambda_other"]], [TRUE["k_fast_liq"], TRUE["k_fast_other"]],
                       [TRUE["k_slow_liq"], TRUE["k_slow_other"]]])  # fmt: skip
    intercept = impact @ np.stack([columns["forced"], columns["other"]])
    e2 = columns["excess"] ** 2
    noise = np.stack([TRUE["s_m"] ** 2 + TRUE["g"] ** 2 * e2, TRUE["c_fast"] ** 2 * e2, TRUE["c_slow"] ** 2 * e2])
    # statsmodels adds intercept and noise after an observation, we before the next one.
    state_cov = np.zeros((3, 3, n))
    state_cov[[0, 1, 2], [0, 1, 2], : n - 1] = noise[:, 2:]
    reference["state_cov"] = state_cov
    reference["state_intercept"] = np.concatenate([intercept[:, 2:], np.zeros((3, 1))], axis=1)
    first = np.array([columns["y"][0] - TRUE["phi"] * columns["lean"][0], 0.0, 0.0])
    known = np.diag([TRUE["r"] ** 2, 0.0, 0.0]) + np.diag(noise[:, 1])
    reference.initialize_known(decay * first + intercept[:, 1], known)
    result = reference.filter()
    np.testing.assert_allclose(mean[1:], result.filtered_state[0], rtol=1e-8)
    np.testing.assert_allclose(variance[1:], result.filtered_state_cov[0, 0], rtol=1e-6)
    np.testing.assert_allclose(loglike[1:], result.llf_obs, rtol=1e-6, atol=1e-9)


def bars_of(columns: dict[str, np.ndarray]) -> pl.DataFrame:
    """Bars in which the model finds these columns: spread and imbalance say what `excess` and `lean` say."""
    n = len(columns["y"])
    ts = pl.Series(1_760_054_400_000_000_000 + 1_000_000_000 * np.arange(1, n + 1)).cast(pl.Datetime("ns", "UTC"))
    wide = columns["excess"] > 0
    total = columns["forced"] + columns["other"]
    return pl.DataFrame(
        {
            "ts": ts, "mid": 100.0 * np.exp(1e-4 * columns["y"]), "spread_bps": 1.0 + columns["excess"],
            "imbalance": np.where(wide, 2.0 * columns["lean"] / np.where(wide, columns["excess"], 1.0), 0.0),
            "buy_volume": np.maximum(total, 0.0), "sell_volume": np.maximum(-total, 0.0),
            "liq_buy_volume": np.maximum(columns["forced"], 0.0),
            "liq_sell_volume": np.maximum(-columns["forced"], 0.0), "bid_size": np.ones(n), "ask_size": np.ones(n),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted() -> StateSpaceResult:
    return StateSpace().fit([bars_of(market(3000, seed)[0]) for seed in (1, 2)])


def test_parameters_are_found(fitted: StateSpaceResult) -> None:
    assert fitted.converged
    assert fitted.depth == "touch"
    for name in ("s_m", "phi", "k_fast_liq", "c_fast", "tau_fast"):
        assert abs(fitted.params[name] - TRUE[name]) < max(4.0 * fitted.bse[name], 0.1 * TRUE[name]), name


def test_filter_is_nearer_to_the_hidden_mid_than_the_quoted_mid(fitted: StateSpaceResult) -> None:
    columns, hidden = market(3000, 9)
    filtered = fitted.filter(bars_of(columns))
    error = 1e4 * np.log(filtered["implied_mid"].to_numpy() / 100.0) - hidden
    quoted = columns["y"] - hidden
    assert np.sqrt(np.mean(error[300:] ** 2)) < 0.8 * np.sqrt(np.mean(quoted[300:] ** 2))


@pytest.mark.parametrize("rows", [1, 2, 60, 61, 1500])
def test_bars_cut_short_give_the_same_bits(fitted: StateSpaceResult, rows: int) -> None:
    bars = bars_of(market(3000, 9)[0])
    assert fitted.filter(bars[:rows]).equals(fitted.filter(bars)[:rows])


def test_a_replay_is_as_good_as_its_bars(fitted: StateSpaceResult) -> None:
    tape = toxmid.simulate("calm", seed=1, duration=400.0)
    run = toxmid.replay(trades=tape.trades, quotes=tape.quotes)
    assert fitted.filter(run).equals(fitted.filter(run.bars))


def test_before_the_first_mid_there_is_nothing(fitted: StateSpaceResult) -> None:
    bars = bars_of(market(300, 9)[0]).with_columns(mid=pl.when(pl.int_range(300) >= 5).then("mid"))
    filtered = fitted.filter(bars)
    assert filtered["implied_mid"].null_count() == 5
    assert filtered["implied_mid"][:5].null_count() == 5


def test_summary_names_every_parameter(fitted: StateSpaceResult) -> None:
    text = fitted.summary()
    assert all(name in text for name in PARAMETERS)
    assert "NOT converged" not in text


bounded = st.floats(-5.0, 5.0)


@given(st.lists(bounded, min_size=14, max_size=14))
def test_parameters_come_back_from_their_free_form(free: list[float]) -> None:
    free = [min(max(z, -3.0), 3.0) if name == "phi" else z for name, z in zip(PARAMETERS, free, strict=True)]
    values = _natural(np.array(free))
    assert 1.0 <= values["tau_fast"] <= 20.0 <= values["tau_slow"] <= 300.0
    assert -1.0 < values["phi"] < 1.0
    assert min(v for name, v in values.items() if name != "phi") > 0.0
    np.testing.assert_allclose(_free(values), free, rtol=1e-6, atol=1e-6)


def test_calm_level_by_hand() -> None:
    """Minutes of mean 1, 2, 3, ...: half of a short history is left out, and never the running minute."""
    n = 60 * 30
    minute = np.arange(n) // 60
    bars = bars_of(market(n, 0)[0]).with_columns(value=pl.Series(1.0 + minute))
    levels = calm_level(bars, pl.col("value")).to_numpy()
    assert np.isnan(levels[:60]).all()
    assert levels[60] == 1.0  # one minute is over: none of it is left out
    assert levels[60 * 3] == 1.5  # three are over: the last one is left out
    assert levels[60 * 29] == np.median(1.0 + np.arange(19))  # ten minutes are left out


def test_filter_checks_its_arrays() -> None:
    short, long = np.zeros(2), np.zeros(3)
    with pytest.raises(ValueError, match="lengths"):
        _filter.run(long, short, long, long, long, np.zeros(14), long.copy(), long.copy(), long.copy())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda bars: bars.drop("imbalance"), DataError),
        (lambda bars: bars[:100], NotEnoughDataError),
        (lambda bars: bars.with_columns(mid=pl.lit(100.0)), NotEnoughDataError),
        (lambda bars: bars.clear(), DataError),
        (lambda bars: bars.filter(pl.int_range(pl.len()) != 100), DataError),
        (lambda bars: [bars, bars.gather_every(2)], DataError),
    ],
)
def test_refusals(change: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        StateSpace().fit(change(bars_of(market(300, 0)[0])))


def test_a_fit_filters_only_what_it_knows(fitted: StateSpaceResult) -> None:
    bars = bars_of(market(300, 0)[0])
    with pytest.raises(DataError, match="length"):
        fitted.filter(bars.gather_every(5))
    with pytest.raises(DataError, match="touch"):
        fitted.filter(bars.drop("bid_size"))


@pytest.mark.parametrize("options", [{"depth": "sea"}, {"iterations": 0}])
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        StateSpace(**options)
