"""Forecasts on tapes made for the purpose: known content is found, no content is not, and placebos are placebos."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

import toxmid
from toxmid.errors import ParameterError
from toxmid.evaluate import evaluate_forecasts
from toxmid.evaluate.views import View, _spells, deviations
from toxmid.evaluate.volatility import vpin_regressions

from .conftest import Maker

EVENTS, APART, LONG = 40, 400, 60


def dislocated(make_bars: Maker, rng: np.random.Generator, knows: float) -> pl.DataFrame:
    """Forty dislocations of a minute; the estimate knows a share of them, the toxic mean is noise."""
    n = EVENTS * APART
    value = np.cumsum(rng.normal(size=n)) * 0.3
    away, stress = np.zeros(n), np.zeros(n, dtype=bool)
    for start in range(APART // 2, n, APART):
        away[start : start + LONG] = rng.normal() * 50.0
        stress[start : start + LONG] = True
    mid = 100.0 * np.exp(1e-4 * (value + away))
    implied = mid * np.exp(-1e-4 * (knows * away + (1.0 - knows) * stress * rng.normal(size=n) * 50.0))
    toxic = np.where(stress, mid * np.exp(1e-4 * rng.normal(size=n) * 20.0), np.nan)
    regime = np.where(stress, "stress-inferred", "calm").tolist()
    return make_bars(mid, implied_mid=implied, toxic_mean=toxic, regime=regime).with_columns(
        pl.col("toxic_mean").fill_nan(None)
    )


def row(table: pl.DataFrame, name: str) -> dict[str, Any]:
    return table.row(by_predicate=pl.col("estimator") == name, named=True)


def test_what_an_estimate_knows_is_found(make_bars: Maker) -> None:
    result = evaluate_forecasts(dislocated(make_bars, np.random.default_rng(0), 1.0), [LONG], step="1s")
    implied = row(result.table, "implied_mid")
    assert abs(implied["b"] - 1.0) < 0.05
    assert implied["p_b0"] < 1e-6
    assert implied["r2_oos"] > 0.9
    assert implied["events"] == EVENTS
    assert implied["verdict"] == "better than the quoted mid"
    together = result.encompassing.filter(pl.col("when") == "all", pl.col("asked") == "toxic_mean")
    assert row(together, "implied_mid")["p"] < 1e-6
    assert row(together, "toxic_mean")["p"] > 0.01
    answer = next(answer for answer in result.answers if answer.startswith("Does the mean price"))
    assert "the plain mean adds nowhere, and is to be taken off nowhere; the de-biased mean adds nowhere" in answer


def test_what_an_estimate_does_not_know_is_not(make_bars: Maker) -> None:
    result = evaluate_forecasts(dislocated(make_bars, np.random.default_rng(1), 0.0), [LONG], step="1s")
    implied = row(result.table, "implied_mid")
    assert implied["p_b0"] > 0.01
    assert implied["r2_oos"] < 0.0
    assert implied["verdict"] == "worse than the quoted mid"


def test_events_by_hand(make_bars: Maker) -> None:
    bars = dislocated(make_bars, np.random.default_rng(2), 1.0)
    events = evaluate_forecasts(bars, [LONG], step="1s").events
    assert events.height == EVENTS
    assert (events["rows"] == LONG).all()
    first = bars[APART // 2 : APART // 2 + LONG]
    assert events["ts_start"][0] == first["ts"][0]
    assert events["ts_end"][0] == first["ts"][-1]
    later = bars["mid"][APART // 2 + LONG : APART // 2 + 2 * LONG]
    moves = 1e4 * np.log(later.to_numpy() / first["mid"].to_numpy())
    assert events["mse_mid"][0] == pytest.approx(np.mean(moves**2))
    assert not events["worse_by_a_spread"].any()


def test_spells_closer_than_the_horizon_are_one_event() -> None:
    stress = np.zeros(30, dtype=bool)
    stress[[2, 3, 8, 20]] = True
    number, start = _spells(stress, apart=5)
    assert number[[2, 3, 8, 20]].tolist() == [0, 0, 0, 1]
    assert start[[2, 3, 8, 20]].tolist() == [2, 2, 2, 20]
    assert _spells(stress, apart=4)[0][[2, 8, 20]].tolist() == [0, 1, 2]
    assert set(number[~stress]) == {-1}


def test_several_tapes_are_judged_together(make_bars: Maker) -> None:
    tapes = [dislocated(make_bars, np.random.default_rng(seed), 1.0) for seed in (3, 4)]
    both = evaluate_forecasts(tapes, [LONG], step="1s")
    single = [evaluate_forecasts(tape, [LONG], step="1s") for tape in tapes]
    assert row(both.table, "implied_mid")["events"] == 2 * EVENTS
    losses = np.concatenate([part.events["mse_implied_mid"].to_numpy() for part in single])
    np.testing.assert_allclose(both.events["mse_implied_mid"], losses)


def test_outcomes_are_taken_from_the_bar_ahead(make_bars: Maker) -> None:
    mid = 100.0 * np.exp(1e-4 * np.arange(20.0))
    bars = make_bars(mid, regime="stress-inferred", implied_mid=mid * np.exp(3e-4))
    view = View.of(bars, deviations(bars, None, {}), ahead=6, seconds=1.0, stride=2)
    np.testing.assert_allclose(view.y[:7], 6.0)
    assert np.isnan(view.y[7:]).all()
    np.testing.assert_allclose(view.x["implied_mid"], 3.0)
    assert view.x["toxic_mean"].tolist() == [0.0] * 10
    assert view.steps == 3
    assert view.elapsed[:3].tolist() == [0.0, 2.0, 4.0]


@pytest.fixture(scope="module")
def replayed_hours() -> tuple[toxmid.Simulation, toxmid.Replay]:
    tape = toxmid.simulate("flush", seed=3, duration=7200.0)
    return tape, toxmid.replay(
        trades=tape.trades, quotes=tape.quotes, liquidations=tape.liquidations, instrument=tape.instrument
    )


def test_placebos(replayed_hours: tuple[toxmid.Simulation, toxmid.Replay]) -> None:
    tape, run = replayed_hours
    tapes = {"trades": tape.trades, "quotes": tape.quotes, "liquidations": tape.liquidations}
    result = evaluate_forecasts(run, [60], step="1s", tapes=tapes)
    true = result.placebos.filter(pl.col("placebo") == "none: as they were")
    for name in ("implied_mid", "toxic_mean", "debiased_mean"):
        expected, found = row(result.table, name), row(true, name)
        assert found["b"] == pytest.approx(expected["b"], rel=1e-9)
        assert found["r2_oos"] == pytest.approx(expected["r2_oos"], rel=1e-9)
    for placebo in ("an hour later", "an hour earlier", "the other side"):
        moved = row(result.placebos.filter(pl.col("placebo") == placebo), "toxic_mean")
        assert moved["b"] != pytest.approx(row(true, "toxic_mean")["b"], rel=1e-6)


def test_what_was_inferred_stands_in_for_a_feed(replayed_hours: tuple[toxmid.Simulation, toxmid.Replay]) -> None:
    tape, _ = replayed_hours
    run = toxmid.replay(trades=tape.trades, quotes=tape.quotes)
    result = evaluate_forecasts(run, [60], tapes={"trades": tape.trades, "quotes": tape.quotes})
    true = row(result.placebos.filter(pl.col("placebo") == "none: as they were"), "toxic_mean")
    assert true["b"] == pytest.approx(row(result.table, "toxic_mean")["b"], rel=0.1)


def test_without_tapes_there_are_no_placebos(replayed_hours: tuple[toxmid.Simulation, toxmid.Replay]) -> None:
    result = evaluate_forecasts(replayed_hours[1].bars, [60])
    assert result.placebos.is_empty()
    assert "not enough events" in result.table["verdict"][0]
    assert any("Too few events" in note for note in result.notes)


def test_matched_windows(make_bars: Maker) -> None:
    """Events give back all of their move; equal moves without liquidations give back nothing."""
    n, half = 16_000, 8_000
    rng = np.random.default_rng(7)
    log_mid, regime, forced = rng.normal(size=n) * 1e-3, np.full(n, "calm", dtype=object), np.zeros(n)
    for start in range(200, half, 200):  # events: down by 40 and back
        log_mid[start : start + 60] -= 40.0
        regime[start : start + 30] = "stress-labelled"
        forced[start] = 1.0
    for start in range(half + 2000, n, 200):  # moves of the same size that stay
        log_mid[start:] += 40.0
    bars = make_bars(
        100.0 * np.exp(1e-4 * log_mid), regime=regime.tolist(), liq_sell_volume=forced, spread_bps=1.0,
    )  # fmt: skip
    found = evaluate_forecasts(bars, [100], step="1s").matched.row(0, named=True)
    assert found["events"] == found["matched"] == 39
    assert found["back_bps"] == pytest.approx(40.0, abs=0.1)
    assert found["back_without_bps"] == pytest.approx(0.0, abs=0.1)
    assert found["sign_p"] < 1e-6


def volatile(make_bars: Maker, rng: np.random.Generator, informed: bool) -> pl.DataFrame:
    """Volatility that persists over quarters of an hour, volume in step with it. The rank of VPIN either knows the next
    quarter or repeats volume."""
    quarters, length = 200, 900
    level = np.zeros(quarters + 1)
    for i in range(quarters):
        level[i + 1] = 0.8 * level[i] + 0.5 * rng.normal()
    scale = np.repeat(np.exp(level), length)
    mid = 100.0 * np.exp(1e-4 * np.cumsum(rng.normal(size=len(scale)) * scale))
    volume = scale * rng.exponential(size=len(scale))
    past = np.log(np.maximum(np.convolve(volume, np.ones(length))[: len(volume)], 1e-9))
    rank = np.roll(np.log(scale), -length) if informed else past + 0.3 * rng.normal(size=len(scale))
    return make_bars(mid, vpin_rank=rank, buy_volume=volume, sell_volume=volume)


def test_vpin_against_its_controls(make_bars: Maker) -> None:
    rng = np.random.default_rng(8)
    for informed in (True, False):
        table = vpin_regressions([volatile(make_bars, rng, informed)], 900, 1.0)
        alone, beside = table.filter(pl.col("regressor") == "vpin_rank").rows(named=True)
        assert alone["p"] < 0.01
        assert (beside["p"] < 0.01) == informed
        assert beside["r2"] > alone["r2"] > 0.0


def test_without_vpin_there_is_nothing_to_say(make_bars: Maker) -> None:
    bars = make_bars(np.full(1000, 100.0)).with_columns(vpin_rank=pl.lit(None, pl.Float64))
    assert vpin_regressions([bars], 60, 1.0).is_empty()


@pytest.mark.parametrize(
    "options",
    [{"horizons": []}, {"horizons": [0.5]}, {"step": "1500ms"}, {"tapes": [{}, {}]}, {"extra": {"ema_60": len}}],
)
def test_refusals(make_bars: Maker, options: dict[str, Any]) -> None:
    bars = dislocated(make_bars, np.random.default_rng(0), 1.0)
    with pytest.raises(ParameterError):
        evaluate_forecasts(bars, **{"horizons": [60], **options})


def test_calm_tapes_have_nothing_to_judge(make_bars: Maker) -> None:
    with pytest.raises(toxmid.NotEnoughDataError, match="stress"):
        evaluate_forecasts(make_bars(np.full(500, 100.0)), [60])
