"""The table against a hidden mid: its definitions, its arithmetic, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

import toxmid
from toxmid.errors import DataError, NotEnoughDataError, ParameterError
from toxmid.evaluate import ESTIMATORS, RIVALS, SimulatedEvaluation, evaluate_simulated
from toxmid.evaluate.markets import forced_volume, phases, ratio_interval, run_length


def the_mid(bars: pl.DataFrame) -> pl.Series:
    return bars["mid"]


def halfway(bars: pl.DataFrame) -> pl.Series:
    return (bars["mid"] * bars["implied_mid"]).sqrt()


def too_short(bars: pl.DataFrame) -> pl.Series:
    return bars["mid"][1:]


@pytest.fixture(scope="module")
def result() -> SimulatedEvaluation:
    extra = {"the_mid": the_mid, "halfway": halfway}
    return evaluate_simulated(range(1, 4), ("flush", "info", "calm"), training=[50, 51], extra=extra)


def row(result: SimulatedEvaluation, name: str) -> dict[str, Any]:
    return result.table.row(by_predicate=pl.col("estimator") == name, named=True)


def test_every_estimator_is_in_the_table(result: SimulatedEvaluation) -> None:
    assert set(result.table["estimator"]) == {*ESTIMATORS, *RIVALS, "the_mid", "halfway"}
    assert result.table["pooled"].is_sorted()


def test_the_quoted_mid_is_the_measure(result: SimulatedEvaluation) -> None:
    own = {name: value for name, value in row(result, "mid").items() if name != "estimator"}
    assert {name: value for name, value in row(result, "the_mid").items() if name != "estimator"} == own
    assert (own["ratio"], own["ratio_lo"], own["ratio_hi"], own["better"]) == (1.0, 1.0, 1.0, 0.0)


def test_pooling_by_hand(result: SimulatedEvaluation) -> None:
    runs = result.runs.filter(pl.col("estimator") == "implied_mid")
    means = [runs.filter(pl.col("scenario") == s)["mse"].mean() for s in ("flush", "info")]
    assert row(result, "implied_mid")["pooled"] == pytest.approx(np.sqrt(np.mean(means)))
    assert row(result, "implied_mid")["rmse_flush"] == pytest.approx(np.sqrt(means[0]))
    mids = result.runs.filter(pl.col("estimator") == "mid")
    worse = runs["mse"].to_numpy() < mids["mse"].to_numpy()
    stressed = (runs["scenario"] != "calm").to_numpy()
    assert row(result, "implied_mid")["better"] == pytest.approx(worse[stressed].mean())


def test_errors_of_a_run_by_hand(result: SimulatedEvaluation) -> None:
    tape = toxmid.simulate("flush", seed=1)
    bars = toxmid.replay(
        trades=tape.trades, quotes=tape.quotes, liquidations=tape.liquidations, instrument=tape.instrument
    ).bars
    judged = []
    for ts, mid in bars.select("ts", "mid").rows():
        recent = tape.liquidations.filter((pl.col("ts") > ts - pl.duration(seconds=120)) & (pl.col("ts") <= ts))
        if recent["size"].sum() > 50.0:
            judged.append(1e4 * np.log(mid / tape.truth.filter(pl.col("ts") <= ts)["mid"][-1]))
    this_run = (pl.col("seed") == 1) & (pl.col("scenario") == "flush") & (pl.col("estimator") == "mid")
    found = result.runs.row(by_predicate=this_run, named=True)
    assert found["seconds"] == len(judged)
    assert found["mse"] == pytest.approx(np.mean(np.square(judged)), rel=1e-9)
    assert found["bias"] == pytest.approx(np.mean(judged), rel=1e-9)


def test_silence_is_counted(result: SimulatedEvaluation) -> None:
    """Nothing is liquidated in "info", so the toxic mean says nothing there, and has the error of the quoted mid."""
    info = result.runs.filter(pl.col("scenario") == "info")
    toxic, mid = (info.filter(pl.col("estimator") == name) for name in ("toxic_mean", "mid"))
    assert toxic["fallback"].to_list() == [1.0] * toxic.height
    assert toxic["mse"].to_list() == mid["mse"].to_list()
    assert (info["seconds"] == 300).all()


def test_coverage_and_encompassing_are_there(result: SimulatedEvaluation) -> None:
    assert result.coverage["covered"].is_between(0.0, 1.0).all()
    assert set(result.coverage["part"]) == {"stress", "calm"}
    parts = result.encompassing.filter(pl.col("scenario") == "flush").group_by("phase").agg(pl.col("rows").first())
    rows = dict(parts.rows())
    assert rows["all"] == rows["first 60 s"] + rows["later"]
    silent = result.encompassing.filter(pl.col("scenario") == "info", pl.col("estimator") == "toxic_mean")
    assert silent["b"].is_null().all()


def test_workers_change_nothing(result: SimulatedEvaluation) -> None:
    extra = {"the_mid": the_mid, "halfway": halfway}
    options: dict[str, Any] = {"training": [50, 51], "extra": extra, "ablation": (0.2,)}
    again = evaluate_simulated(range(1, 4), ("flush", "info", "calm"), workers=2, **options)
    assert again.table.equals(result.table)
    assert again.runs.equals(result.runs)
    tried = pl.col("weight") <= 0.2
    assert again.ablation.filter(tried).equals(result.ablation.filter(tried, pl.col("weight") != 0.1))


def test_a_weight_by_hand(result: SimulatedEvaluation) -> None:
    """What the ablation says of a weight is what the table says of the implied mid of a replay with that weight."""
    params = toxmid.Params(weight_toxic=0.2)
    other = evaluate_simulated(range(1, 4), ["flush"], training=[50], params=params, state_space=False, ablation=())
    found = result.ablation.row(by_predicate=(pl.col("scenario") == "flush") & (pl.col("weight") == 0.2), named=True)
    assert found["rmse"] == pytest.approx(row(other, "implied_mid")["rmse_flush"], rel=1e-9)
    assert found["ratio"] == pytest.approx(found["rmse"] / row(result, "implied_mid")["rmse_flush"], rel=1e-9)
    assert other.ablation["weight"].to_list() == [0.2]


@pytest.mark.parametrize(
    "options", [{"inputs": "trades"}, {"inputs": "book"}, {"feed": "throttled"}, {"feed": "none"}, {"book": "sym"}]
)
def test_other_markets_and_feeds(options: dict[str, Any]) -> None:
    other = evaluate_simulated([1], ["flush"], training=[50], state_space=False, ablation=(), **options)
    assert row(other, "mid")["ratio"] == 1.0
    assert row(other, "state_space")["fallback"] == 1.0
    words = {"trades": "liquidations", "book": "book+liquidations", "throttled": "quotes+throttled", "none": "quotes"}
    word = options.get("inputs") or options.get("feed") or ""
    assert other.settings["inputs"] == words.get(word, "quotes+liquidations")
    assert other.settings["book"] == options.get("book", "shallow")
    assert (row(other, "micro_price")["fallback"] == 1.0) == (options.get("inputs") == "trades")


def test_calm_alone_is_judged_by_itself() -> None:
    calm = evaluate_simulated([1], ["calm"], training=[50], state_space=False, ablation=())
    assert calm.table["pooled"].equals(calm.table["rmse_calm"].rename("pooled"))
    assert calm.encompassing.is_empty()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"seeds": []}, ParameterError),
        ({"training": [1]}, ParameterError),
        ({"scenarios": ["boom"]}, ParameterError),
        ({"inputs": "rumours"}, ParameterError),
        ({"workers": 0}, ParameterError),
        ({"extra": {"mid": the_mid}}, ParameterError),
        ({"extra": {"short": too_short}}, DataError),
        ({"seeds": [3]}, NotEnoughDataError),
    ],
)
def test_refusals(options: dict[str, Any], error: type[Exception]) -> None:
    usual = {
        "seeds": [1],
        "scenarios": ["flush"],
        "training": [50],
        "state_space": False,
        "ablation": (),
        "duration": 900.0,
    }
    with pytest.raises(error):
        evaluate_simulated(**{**usual, **options})


def test_forced_volume_is_that_of_two_minutes() -> None:
    tape = toxmid.simulate("flush", seed=1)
    ts = np.array([tape.start + seconds * 10**9 for seconds in (1, 800, 900)])
    expected = []
    for moment in ts:
        times = tape.liquidations["ts"].to_physical().to_numpy()
        recent = (times > moment - 120 * 10**9) & (times <= moment)
        expected.append(tape.liquidations["size"].to_numpy()[recent].sum())
    np.testing.assert_allclose(forced_volume(tape, ts), expected, atol=1e-6)


def test_phases_do_not_overlap() -> None:
    tape = toxmid.simulate("news", seed=2)
    bars = pl.DataFrame({"ts": tape.truth["ts"][9::10]})
    stress, calm, early = phases(tape, bars)
    assert stress.any()
    assert calm.any()
    assert not (stress & calm).any()
    assert (stress & early).sum() >= 60


def test_run_length() -> None:
    assert run_length(np.array([True, True, False, True])).tolist() == [1, 2, 0, 1]


def test_interval_of_equal_runs_is_a_point() -> None:
    errors = [np.tile([4.0, 1.0], (5, 1)), np.tile([4.0, 1.0], (3, 1))]
    low, high = ratio_interval(errors, base=0)
    assert low.tolist() == high.tolist() == [1.0, 0.5]
