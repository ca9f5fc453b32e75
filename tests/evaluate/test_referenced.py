"""The table against another venue, where the other venue is a simulated truth; and once on a real cascade."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import toxmid
from toxmid.errors import NotEnoughDataError, ParameterError
from toxmid.evaluate import ReferencedEvaluation, evaluate_referenced

CALM = ("2025-01-01T00:00:00", "2025-01-01T00:10:00")
WINDOWS = {
    "episode": ("2025-01-01T00:10:00", "2025-01-01T00:20:00"),
    "after": ("2025-01-01T00:20:00", "2025-01-01T00:30:00"),
}
Played = tuple[toxmid.Simulation, toxmid.Replay]


def moment(text: str) -> pl.Expr:
    return pl.lit(text).str.to_datetime(time_unit="ns", time_zone="UTC")


def venue(tape: toxmid.Simulation, factor: float = 1.0) -> pl.DataFrame:
    return tape.truth.select("ts", price=factor * pl.col("mid"), size=pl.lit(1.0))


def rmse(result: ReferencedEvaluation, window: str, name: str) -> float:
    return float(result.table.filter(pl.col("window") == window, pl.col("estimator") == name)["rmse_bps"].item())


@pytest.fixture(scope="module")
def result(flush: Played) -> ReferencedEvaluation:
    return evaluate_referenced(flush[1], venue(flush[0]), WINDOWS, CALM, state_space=False)


def test_errors_by_hand(flush: Played, result: ReferencedEvaluation) -> None:
    joined = flush[1].bars.join_asof(flush[0].truth.rename({"mid": "truth"}), on="ts")
    distance = joined.select("ts", d=1e4 * (pl.col("mid") / pl.col("truth")).log())
    start, noon, end = map(moment, (*CALM, WINDOWS["episode"][1]))
    basis = distance.filter(pl.col("ts") > start, pl.col("ts") <= noon)["d"].median()
    judged = distance.filter(pl.col("ts") > noon, pl.col("ts") <= end)["d"] - basis
    assert rmse(result, "episode", "mid") == pytest.approx(np.sqrt((judged**2).mean()), rel=1e-9)
    own = result.table.filter(pl.col("window") == "episode", pl.col("estimator") == "mid")
    assert own["bias_bps"].item() == pytest.approx(judged.mean(), rel=1e-9)
    assert (own["ratio"].item(), own["seconds"].item()) == (1.0, 600)


def test_the_implied_mid_is_nearer_to_the_truth(result: ReferencedEvaluation) -> None:
    assert rmse(result, "episode", "implied_mid") < rmse(result, "episode", "mid")


def test_a_constant_basis_is_taken_off(flush: Played, result: ReferencedEvaluation) -> None:
    other = evaluate_referenced(flush[1], venue(flush[0], factor=1.05), WINDOWS, CALM, state_space=False)
    np.testing.assert_allclose(other.table["rmse_bps"], result.table["rmse_bps"], rtol=1e-6)
    np.testing.assert_allclose(float(other.settings["basis"].split()[0]), -1e4 * np.log(1.05), atol=1.0)


def test_a_replay_and_its_tapes_say_the_same(flush: Played, result: ReferencedEvaluation) -> None:
    tape = flush[0]
    again = evaluate_referenced(
        tape.trades, venue(tape), list(WINDOWS.values()), CALM, quotes=tape.quotes, liquidations=tape.liquidations,
        instrument=tape.instrument, state_space=False,
    )  # fmt: skip
    assert again.table.drop("window").equals(result.table.drop("window"))
    assert again.table["window"][0] == "2025-01-01T00:10:00 – 2025-01-01T00:20:00"


def test_what_came_later_changes_nothing_before(flush: Played, result: ReferencedEvaluation) -> None:
    cut = flush[1].bars.filter(pl.col("ts") <= moment("2025-01-01T00:20:00"))
    early = evaluate_referenced(
        toxmid.Replay(cut, flush[1].buckets, flush[1].events, {}, flush[1].params, flush[1].instrument, {}),
        venue(flush[0]), {"episode": WINDOWS["episode"]}, CALM, state_space=False,
    )  # fmt: skip
    assert early.table.equals(result.table.filter(pl.col("window") == "episode"))


def test_age_of_the_reference(result: ReferencedEvaluation) -> None:
    assert result.coverage["age_max_s"].to_list() == [0.0, 0.0]
    assert result.encompassing.select("window", "estimator").n_unique() == result.encompassing.height


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"windows": {}}, ParameterError),
        ({"windows": {"odd": ("2025-01-01T00:20:00", "2025-01-01T00:10:00")}}, ParameterError),
        ({"windows": {"never": ("2026-01-01", "2026-01-02")}}, NotEnoughDataError),
        ({"basis_window": ("2024-01-01", "2024-01-02")}, NotEnoughDataError),
        ({"params": toxmid.Params()}, ParameterError),
    ],
)
def test_refusals(flush: Played, changes: dict[str, Any], error: type[Exception]) -> None:
    usual: dict[str, Any] = {"windows": WINDOWS, "basis_window": CALM, "state_space": False}
    with pytest.raises(error):
        evaluate_referenced(flush[1], venue(flush[0]), **{**usual, **changes})


def test_the_cascade_of_october_2025(shared_data: Path) -> None:
    """A perpetual collapsed by more than half while the same coin's spot did not."""
    folder = shared_data / "crash-2025-10-10"
    result = evaluate_referenced(
        folder / "binance-delivery_trades_2025-10-10_AVAXUSD_PERP.csv.gz",
        folder / "coinbase_trades_2025-10-10_AVAX-USD.csv.gz",
        {"cascade": ("2025-10-10T21:13", "2025-10-10T21:50")},
        ("2025-10-10T12:00", "2025-10-10T20:50"),
        state_space=False,
    )
    assert rmse(result, "cascade", "mid") == pytest.approx(4630.0, rel=0.01)
    assert rmse(result, "cascade", "implied_mid") < 0.3 * rmse(result, "cascade", "mid")
    ratios = dict(result.table.select("estimator", "ratio").rows())
    assert ratios["ema_60"] == pytest.approx(0.98, abs=0.01)
    assert ratios["ema_1800"] == pytest.approx(0.40, abs=0.01)
