"""Calibration: known weights are found, noise and news are not learnt, nothing depends on order or on the future."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import toxmid
from toxmid.errors import DataError, FileError, NotEnoughDataError, ParameterError
from toxmid.estimator import WEIGHTS, FitResult, fit
from toxmid.estimator.likelihood import errors, solve
from toxmid.estimator.sums import SHIPPED, Sums, coefficients
from toxmid.estimator.training import Events, Source, Target, _rows_of

START = 1_700_000_000 * 10**9
ALL = np.ones(4, dtype=bool)
TERMS = ("asymmetry_bps", "volume_bps", "credibility_bps")
SHIPPED_WEIGHTS = dict(zip(WEIGHTS, SHIPPED.tolist(), strict=True))


def market(
    seed: int = 0,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 0.0),
    *,
    events: int = 32,
    news: int = 0,
    informative: bool = True,
    far_in_calm: float = 0.0,
    sign: int = 1,
    step: int = 1,
) -> pl.DataFrame:
    """Bars of a market whose quoted mid is displaced by exactly what the weights say, and comes back.

    Every twenty minutes terms are at work for a minute. In the first `news` events the price itself then falls by 300
    bps for good. `far_in_calm` is how far (bps) the toxic mean lies from the price between events.
    """
    rng = np.random.default_rng(seed)
    period, length = 1200, 60
    n = events * period
    belief = np.cumsum(rng.normal(0.0, 0.05, n))
    x = np.zeros((n, 3))
    credibility, toxic_way = np.where(far_in_calm, 0.5, 1.0) * np.ones(n), far_in_calm * np.ones(n)
    for i in range(events):
        during = slice(i * period + 600, i * period + 600 + length)
        x[during] = rng.gamma(2.0, 10.0, (1, 3)) * rng.uniform(0.5, 1.5, (length, 3))
        credibility[during] = 0.2
        toxic_way[during] = rng.normal(0.0, 30.0) + rng.normal(0.0, 5.0, length)
        if i < news:
            belief[during.stop :] -= 300.0
    *terms, toxic = weights
    doubt = toxic * (1.0 - credibility)
    active = x.any(axis=1)
    gap = np.where(active, x @ terms + doubt * toxic_way / (1.0 - doubt), 0.0) * informative
    mid, debiased = (100.0 * np.exp(1e-4 * sign * each) for each in (belief - gap, belief + toxic_way))
    bars = pl.DataFrame(
        {"ts": START + (1 + np.arange(n)) * 10**9, "mid": mid, "spread_bps": np.ones(n), "credibility": credibility,
         "debiased_mean": debiased, **dict(zip(TERMS, sign * x.T, strict=True))}
    )  # fmt: skip
    return bars.gather_every(step, offset=step - 1).with_columns(pl.from_epoch("ts", "ns").dt.replace_time_zone("UTC"))


def vector(weights: dict[str, float]) -> list[float]:
    return [weights[name] for name in WEIGHTS]


# --- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(0.5, 2.0, 1.5, 0.0), (1.5, 0.0, 0.7, 0.3), (1.0, 1.0, 0.0, 0.8)])
def test_known_weights_are_found_and_adopted(weights: tuple[float, ...]) -> None:
    result = fit(market(weights=weights), bootstrap=20)
    assert vector(result.fitted) == pytest.approx(weights, abs=0.05)
    assert result.adopted
    assert not result.forced
    assert result.params == result.fitted
    assert (result.events, result.rows, result.left_out) == (32, 32 * 60, 0)
    assert 0.9 < result.r2_mid < 1.0
    assert result.r2_mid > result.r2_mid_defaults
    assert result.warnings == ()


def test_intervals_hold_the_known_weights_and_tighten_with_events() -> None:
    weights = (0.5, 2.0, 1.5, 0.2)
    few, many = (fit(market(weights=weights, events=n), bootstrap=60) for n in (8, 36))
    for name, known in zip(WEIGHTS, weights, strict=True):
        low, high = many.conf_int(0.01)[name]
        assert low - 0.02 <= known <= high + 0.02
        assert 0.0 < many.bse[name] < few.bse[name]
    assert many.warnings == ()
    assert few.warnings == ("8 events, fewer than 30: too few to claim anything",)


def test_what_would_have_to_be_negative_is_nought() -> None:
    result = fit(market(weights=(-1.0, 1.0, 1.0, 0.0), events=10), learn=WEIGHTS[:3], bootstrap=20)
    assert result.fitted["weight_asymmetry"] == 0.0


def test_news_while_terms_are_at_work_does_not_turn_the_weights() -> None:
    bars = market(weights=(0.5, 1.0, 1.0, 0.0), events=30, news=6)
    result = fit(bars, bootstrap=20)
    assert vector(result.fitted) == pytest.approx((0.5, 1.0, 1.0, 0.0), abs=0.1)
    # Least squares on the same rows is ruled by the six falls.
    rows = _rows_of(Source(bars, toxmid.Params(), ""), Target(300 * 10**9, 60 * 10**9))
    used = rows.active & rows.known
    plain = np.linalg.lstsq(rows.x[used][:, :3], rows.y[used])[0]
    assert np.abs(plain - [0.5, 1.0, 1.0]).max() > 0.5


def test_where_terms_say_nothing_the_shipped_weights_stay_unless_forced() -> None:
    bars = market(seed=3, informative=False)
    kept, forced = fit(bars, bootstrap=20, learn=WEIGHTS[:1]), fit(bars, bootstrap=20, learn=WEIGHTS[:1], force=True)
    assert kept.r2_mid < 0.0
    assert not kept.adopted
    assert kept.params == SHIPPED_WEIGHTS
    assert "shipped weights stay" in str(kept.summary())
    assert (forced.adopted, forced.forced) == (True, True)
    assert forced.params == forced.fitted == kept.fitted != SHIPPED_WEIGHTS


def test_shipped_weights_that_are_right_stay() -> None:
    result = fit(market(), bootstrap=20)
    assert result.params == SHIPPED_WEIGHTS
    assert vector(result.fitted) == pytest.approx(SHIPPED.tolist(), abs=0.01)


def test_what_is_not_learnt_stays_as_shipped() -> None:
    result = fit(market(weights=(0.5, 2.0, 1.5, 0.4), events=8), learn=["weight_volume"], bootstrap=20)
    assert {name: result.fitted[name] for name in WEIGHTS if name != "weight_volume"} == {
        name: SHIPPED_WEIGHTS[name] for name in WEIGHTS if name != "weight_volume"
    }


def test_a_toxic_weight_is_paid_for_in_calm() -> None:
    weights = (1.0, 1.0, 1.0, 0.3)
    near, far = (fit(market(weights=weights, events=12, far_in_calm=bps), bootstrap=20) for bps in (0.0, 500.0))
    assert near.fitted["weight_toxic"] == pytest.approx(0.3, abs=0.03)
    assert far.fitted["weight_toxic"] < 0.05
    assert near.calm_error == pytest.approx(1.0)


def test_falling_and_rising_markets_teach_the_same() -> None:
    falling, rising = (
        fit(market(weights=(0.5, 2.0, 1.5, 0.2), events=10, sign=sign), bootstrap=20) for sign in (1, -1)
    )
    assert vector(rising.fitted) == pytest.approx(vector(falling.fitted), abs=2e-3)


def test_bars_of_five_seconds() -> None:
    result = fit(market(weights=(0.5, 2.0, 1.5, 0.0), events=12, step=5), bootstrap=20)
    assert vector(result.fitted) == pytest.approx((0.5, 2.0, 1.5, 0.0), abs=0.05)


# --- how it is found -------------------------------------------------------------------------------------------------


def random_events(seed: int, events: int) -> Events:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.0, 2.0, 4) * (1.0, 1.0, 1.0, 0.5)

    def one(scale: float) -> Sums:
        terms, doubt = rng.normal(0.0, scale, (30, 3)), rng.uniform(0.0, 1.0, (30, 1))
        x = np.concatenate([terms, doubt * terms, doubt * rng.normal(0.0, 5.0, (30, 1))], axis=1)
        y = x @ coefficients(truth) + rng.standard_t(2.0) * rng.normal(0.0, 3.0, 30)
        return Sums.of(x, y, 1.0)

    return Events(*(Sums.stacked([one(scale) for _ in range(events)]) for scale in (3.0, 0.0)))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), prior_sd=st.sampled_from([0.1, 1.0, 3.0]))
def test_weights_are_a_minimum_of_what_is_minimised(seed: int, prior_sd: float) -> None:
    events = random_events(seed, 12)

    def objective(weights: npt.NDArray[np.float64]) -> float:
        return float(errors(events, weights).sum() + (((weights - SHIPPED) / prior_sd) ** 2).sum())

    found = solve(events, ALL, prior_sd)
    bounds = [(0.0, None)] * 3 + [(0.0, 1.0)]
    polished = minimize(objective, found, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-9})
    assert objective(found) <= polished.fun + 1e-3
    assert objective(found) <= objective(SHIPPED)
    assert found.min() >= 0.0
    assert found[3] <= 1.0


def test_least_squares_is_that_of_the_textbook_where_noise_is_alike() -> None:
    rng = np.random.default_rng(1)
    x = np.zeros((50, 40, 7))
    x[:, :, :3] = rng.normal(size=(50, 40, 3))
    y = x[:, :, :3] @ [0.5, 2.0, 1.5] + 1e-4 * rng.normal(size=(50, 40))
    # Where errors are small beside the scale, the logarithm is the square.
    stress = Sums.stacked([Sums.of(a, b, 1.0) for a, b in zip(x, y, strict=True)])
    events = Events(stress, Sums.stacked([Sums.of(x[0, :0], y[0, :0], 1.0)] * 50))
    textbook = np.linalg.lstsq(x.reshape(-1, 7)[:, :3], y.ravel())[0]
    np.testing.assert_allclose(solve(events, ALL, 1e4)[:3], textbook, atol=1e-6)


def test_an_event_counts_as_often_as_it_is_drawn() -> None:
    events = random_events(5, 8)
    counts = np.array([0, 2, 1, 1, 0, 3, 1, 0])
    repeated = events.take(np.repeat(np.arange(8), counts))
    np.testing.assert_allclose(solve(events, ALL, 1.0, counts=counts), solve(repeated, ALL, 1.0), atol=1e-9)


def test_rows_know_no_more_than_the_time_of_their_target() -> None:
    bars, target = market(events=3), Target(300 * 10**9, 60 * 10**9)
    whole, cut = (_rows_of(Source(each, toxmid.Params(), ""), target) for each in (bars, bars.head(2000)))
    np.testing.assert_array_equal(cut.x, whole.x[:2000])
    np.testing.assert_array_equal(cut.y[: 2000 - 330], whole.y[: 2000 - 330])
    assert np.isnan(cut.y[2000 - 330 :]).all()


def test_target_is_the_mean_mid_around_the_horizon() -> None:
    bars = market(events=1).with_columns(mid=pl.when(pl.col("ts").rank() == 700).then(None).otherwise("mid"))
    rows = _rows_of(Source(bars, toxmid.Params(), ""), Target(300 * 10**9, 60 * 10**9))
    mid = bars["mid"].to_numpy()
    later = mid[400 + 270 : 400 + 331]
    assert np.isnan(later).sum() == 1
    assert rows.y[400] == pytest.approx(1e4 * np.log(np.nanmean(later) / mid[400]), abs=1e-6)


@pytest.mark.parametrize("toxic", [0.0, 0.25])
def test_the_gap_is_that_of_the_engine(toxic: float) -> None:
    """The weights of a replay are divided out of its columns, and make its implied mid when they are put back."""
    tape = toxmid.simulate("flush", seed=2, duration=1800.0)
    params = toxmid.Params(weight_asymmetry=0.7, weight_volume=1.4, weight_credibility=0.6, weight_toxic=toxic)
    inputs: dict[str, Any] = {"trades": tape.trades, "quotes": tape.quotes, "liquidations": tape.liquidations}
    made, shipped = (toxmid.replay(**inputs, params=each).bars for each in (params, toxmid.Params()))
    target = Target(300 * 10**9, 60 * 10**9)
    rows, usual = _rows_of(Source(made, params, ""), target), _rows_of(Source(shipped, toxmid.Params(), ""), target)
    gap = (1e4 * (made["implied_mid"] / made["mid"]).log()).to_numpy()
    ready = np.isfinite(gap)
    assert np.abs(gap[ready]).max() > 5.0
    weights = np.array([getattr(params, name) for name in WEIGHTS])
    np.testing.assert_allclose((rows.x @ coefficients(weights))[ready], gap[ready], atol=1e-8)
    np.testing.assert_allclose(rows.x[ready, :6], usual.x[ready, :6], atol=1e-9)


# --- replays ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def replays() -> list[toxmid.Replay]:
    """Simulated markets, one after the other in time."""
    played = []
    for seed, scenario in enumerate(("flush", "news", "mixed", "flush")):
        tape = toxmid.simulate(scenario, seed=seed, duration=3600.0, start=f"2025-01-0{seed + 1}")  # type: ignore[arg-type]
        played.append(toxmid.replay(trades=tape.trades, quotes=tape.quotes, liquidations=tape.liquidations))
    return played


@pytest.fixture(scope="module")
def result(replays: list[toxmid.Replay]) -> FitResult:
    return fit(replays, bootstrap=50)


def test_result_says_what_it_was_fitted_on(result: FitResult) -> None:
    assert result.feed == ("liquidations", "quotes", "trades")
    assert result.instruments == ("linear",)
    assert result.period == ("2025-01-01T00:00:00Z", "2025-01-04T01:00:00Z")
    assert result.version == toxmid.__version__
    assert (result.horizon, result.averaging, result.resamples, result.seed) == ("300s", "60s", 50, 0)
    assert result.apply() == toxmid.Params(**result.params)


def test_order_of_replays_does_not_matter(replays: list[toxmid.Replay], result: FitResult) -> None:
    assert fit(reversed(replays), bootstrap=50) == result


def test_the_same_time_is_one_event_unless_said_otherwise(replays: list[toxmid.Replay], result: FitResult) -> None:
    twice = fit([*replays, *replays], bootstrap=50)
    assert (twice.events, twice.spells) == (result.events, 2 * result.spells)
    assert vector(twice.fitted) == pytest.approx(vector(result.fitted), abs=1e-9)
    apart = fit([*replays, *replays], simultaneous="apart", bootstrap=50)
    assert apart.events == apart.spells == 2 * result.spells


def test_directories(replays: list[toxmid.Replay], result: FitResult, tmp_path: Path) -> None:
    directories = [replay.save(tmp_path / "market" / f"day{i}") for i, replay in enumerate(replays)]
    for given_as in (directories, tmp_path, [str(tmp_path / "market")]):
        from_disk = fit(given_as, bootstrap=50)
        assert from_disk.fitted == result.fitted
        assert from_disk.conf_int() == result.conf_int()
        assert from_disk.fitted_on == tuple(sorted(map(str, directories)))


def test_tables_of_all_kinds(replays: list[toxmid.Replay], result: FitResult) -> None:
    bars = [replay.bars for replay in replays]
    mixed = [bars[0].lazy(), bars[1].to_arrow(), bars[2].with_columns(pl.col("ts").dt.epoch("ns")), bars[3]]
    from_tables = fit(mixed, bootstrap=50)
    assert from_tables.fitted == result.fitted
    assert (from_tables.feed, from_tables.instruments) == (("unknown",), ("unknown",))


def test_seed_decides_the_bootstrap_alone(replays: list[toxmid.Replay], result: FitResult) -> None:
    other = fit(replays, bootstrap=50, seed=1)
    assert other.fitted == result.fitted
    assert other.bse != result.bse


def test_kinds_of_feed_together_are_warned_of(replays: list[toxmid.Replay]) -> None:
    tape = toxmid.simulate("flush", seed=9, duration=1800.0, start="2025-02-01")
    without_feed = toxmid.replay(trades=tape.trades, quotes=tape.quotes)
    assert any("kinds of feed" in warning for warning in fit([*replays, without_feed], bootstrap=2).warnings)


def test_parameters_of_the_replays_come_back() -> None:
    params = toxmid.Params(kappa=300.0, weight_asymmetry=2.0)
    played = []
    for seed in range(4):
        tape = toxmid.simulate("flush", seed=seed, duration=1800.0, start=f"2025-01-0{seed + 1}")
        played.append(toxmid.replay(trades=tape.trades, quotes=tape.quotes, params=params))
    result = fit(played, bootstrap=2, min_events=3)
    assert result.apply() == toxmid.Params(kappa=300.0).replace(**result.params)
    assert result.apply(toxmid.Params(bar="5s")) == toxmid.Params(bar="5s").replace(**result.params)
    plain = toxmid.replay(trades=tape.trades, quotes=tape.quotes)
    with pytest.raises(ParameterError, match="other parameters") as error:
        fit([*played, plain])
    assert error.value.column == "kappa"


# --- result ----------------------------------------------------------------------------------------------------------


def test_result_comes_back_from_its_file(result: FitResult, tmp_path: Path) -> None:
    path = result.save(tmp_path / "coefficients.json")
    assert FitResult.load(path) == result
    assert [entry.name for entry in tmp_path.iterdir()] == ["coefficients.json"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "something else"}, "no file of coefficients"),
        ({"format_version": 99}, "another format"),
        ({"horizon": None, "extra": 1}, "missing or unknown"),
        ({"params": {"weight_volume": 1.0}}, "missing or unknown"),
        ({"params": dict.fromkeys(WEIGHTS, -1.0)}, "out of range"),
        ({"params": dict.fromkeys(WEIGHTS, "much")}, "out of range"),
        ({"quantiles": 3}, "does not hold coefficients"),
        ({"engine": {"kapa": 1.0}}, "no such parameter"),
    ],
)
def test_damaged_files_are_refused(result: FitResult, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    path = result.save(tmp_path / "coefficients.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FileError, match=says) as error:
        FitResult.load(path)
    assert error.value.file == str(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read"):
        FitResult.load(tmp_path / "missing.json")
    (tmp_path / "text.json").write_text("weights: 1")
    with pytest.raises(FileError, match="not valid JSON"):
        FitResult.load(tmp_path / "text.json")


def test_intervals_widen_with_confidence(result: FitResult) -> None:
    for name in WEIGHTS:
        (inner_low, inner_high), (outer_low, outer_high) = (result.conf_int(alpha)[name] for alpha in (0.5, 0.01))
        assert outer_low <= inner_low <= inner_high <= outer_high
    with pytest.raises(ParameterError):
        result.conf_int(0.0)


def test_summary_shows_weights_errors_and_warnings(result: FitResult) -> None:
    text = str(result.summary())
    assert max(map(len, text.splitlines())) <= 80
    assert "The shipped weights: not fitted; round numbers, chosen on" in " ".join(text.split())
    for word in ("asymmetry", "toxic", "std err", "[0.025", "R2 vs mid", "Events:", "Warning:", "feed: liquidations"):
        assert word in text
    assert f"{result.fitted['weight_volume']:.4f}" in text


# --- what cannot be --------------------------------------------------------------------------------------------------


def test_too_few_events_are_counted() -> None:
    with pytest.raises(NotEnoughDataError, match="too few events") as error:
        fit(market(events=3))
    assert error.value.found == "3 in 1 replays (0 left out)"
    with pytest.raises(NotEnoughDataError, match="no replays"):
        fit([])


def test_spells_within_the_usual_spread_say_nothing() -> None:
    quiet = market(events=6).with_columns(pl.col(name) * 1e-3 for name in TERMS)
    with pytest.raises(NotEnoughDataError) as error:
        fit(quiet)
    assert error.value.found == "0 in 1 replays (6 left out)"


@pytest.mark.parametrize(
    ("setting", "column"),
    [
        ({"horizon": "soon"}, None),
        ({"horizon": "10s"}, "averaging"),
        ({"learn": ["weight_luck"]}, "learn"),
        ({"learn": []}, "learn"),
        ({"simultaneous": "both"}, "simultaneous"),
        ({"min_events": 2}, "min_events"),
        ({"bootstrap": 1}, "bootstrap"),
    ],
)
def test_settings_out_of_range(setting: dict[str, Any], column: str | None) -> None:
    with pytest.raises(ParameterError) as error:
        fit(market(events=6), **setting)
    assert error.value.column == column


def test_tables_that_are_no_bars() -> None:
    bars = market(events=6)
    with pytest.raises(DataError, match="lack a column") as missing:
        fit(bars.drop("volume_bps"))
    assert missing.value.column == "volume_bps"
    with pytest.raises(DataError, match="without holes") as hole:
        fit(bars.filter(pl.int_range(pl.len()) != 100))
    assert hole.value.row == 100
    with pytest.raises(DataError, match="nothing to learn from"):
        fit(7)
    with pytest.raises(FileError):
        fit("no-such-directory")


def test_bars_longer_than_the_time_of_the_target() -> None:
    with pytest.raises(ParameterError, match="no bar in the time"):
        fit(market(events=6, step=120), horizon="100s", averaging="10s")


def test_a_term_that_was_switched_off_cannot_be_learnt() -> None:
    tape = toxmid.simulate("flush", seed=1, duration=600.0)
    played = toxmid.replay(trades=tape.trades, quotes=tape.quotes, params=toxmid.Params(weight_volume=0.0))
    with pytest.raises(ParameterError, match="without this term") as error:
        fit(played)
    assert error.value.column == "weight_volume"


def test_the_real_cascade_teaches_no_more_than_it_can(shared_data: Path) -> None:
    """One afternoon of five coins is one crash: whatever is learnt says so."""
    folder = shared_data / "crash-2025-10-10"

    def played(params: toxmid.Params) -> list[toxmid.Replay]:
        return [
            toxmid.replay(
                trades=folder / f"binance-delivery_trades_2025-10-10_{coin}USD_PERP.csv.gz",
                start="2025-10-10T15:00:00",
                params=params,
            )
            for coin in ("AVAX", "BCH")
        ]

    with pytest.raises(NotEnoughDataError, match=r"too few events to learn from .*1 in 2 replays"):
        fit(played(toxmid.Params()), bootstrap=50, min_events=3)
    # Where only the widest spreads count as torn, the afternoon falls into three.
    result = fit(played(toxmid.Params(excess_spreads=10.0)), bootstrap=50, min_events=3)
    assert result.instruments == ("inverse",)
    assert result.feed == ("trades",)
    assert result.events < result.spells
    assert any("too few to claim anything" in warning for warning in result.warnings)
    assert not result.adopted
