"""Rivals from outside the tape: by hand, causal, and in the tables only where there is an input for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

import toxmid
from toxmid.errors import ParameterError
from toxmid.evaluate import LADDER, Inputs, evaluate_forecasts, evaluate_inputs, evaluate_referenced, evaluate_simulated
from toxmid.evaluate.witnesses import with_witnesses
from toxmid.venues import OTHER_VENUES

CALM = ("2025-01-01T00:00:00", "2025-01-01T00:10:00")
WINDOWS = {"episode": ("2025-01-01T00:10:00", "2025-01-01T00:20:00")}
Played = tuple[toxmid.Simulation, toxmid.Replay]


def beside(bars: pl.DataFrame, *given: Any) -> pl.DataFrame:
    return with_witnesses(bars.select("ts"), bars, *given)


def test_nothing_to_make_them_of(flush: Played) -> None:
    assert beside(flush[1].bars).columns == ["ts"]
    assert beside(flush[1].bars, flush[0].mark.drop("index"), {}).columns == ["ts", "mark"]


def test_mark_is_the_last_one(flush: Played) -> None:
    tape, played = flush
    found = beside(played.bars, tape.mark)
    for i in (400, 900, 1700):
        known = tape.mark.filter(pl.col("ts") <= played.bars["ts"][i])
        assert found["mark"][i] == known["price"][-1]


def test_index_with_its_usual_basis_by_hand(flush: Played) -> None:
    tape, played = flush
    index = played.bars.select("ts", "mid").join_asof(tape.mark, on="ts")["index"].fill_null(np.nan).to_numpy()
    basis = np.log(played.bars["mid"].fill_null(np.nan).to_numpy() / index)
    gain, total, weight = 1.0 / 31.0, 0.0, 0.0
    for i in range(500):
        if np.isfinite(basis[i]):
            total, weight = (1.0 - gain) * total + basis[i], (1.0 - gain) * weight + 1.0
    expected = index[499] * np.exp(total / weight)
    assert beside(played.bars, tape.mark)["index_basis"][499] == pytest.approx(expected, rel=1e-12)


def test_other_venue_by_hand(flush: Played) -> None:
    tape, played = flush
    venues = {name: tape.references[name] for name in ("clean", "toxic")}
    found = beside(played.bars, None, venues)["other_venue"]
    expected = []
    for trades in venues.values():
        last = played.bars.select("ts", "mid", "regime").join_asof(trades.select("ts", "price"), on="ts")[:1200]
        quiet = last.filter(~pl.col("regime").str.starts_with("stress").fill_null(False))
        usual = (quiet["mid"] / quiet["price"]).log().drop_nulls().median()
        expected.append(np.log(last["price"][-1]) + usual)
    assert found[1199] == pytest.approx(np.exp(np.mean(expected)), rel=1e-12)


def test_what_came_later_changes_nothing_before(flush: Played) -> None:
    tape, played = flush
    whole = beside(played.bars, tape.mark, tape.references)
    assert beside(played.bars[:1000], tape.mark, tape.references).equals(whole[:1000])


def test_in_the_simulated_table_where_they_are_given() -> None:
    options: dict[str, Any] = {"training": [50], "state_space": False, "ablation": (), "duration": 1800.0}
    result = evaluate_simulated([1], ["flush"], mark=True, references=["clean"], **options)
    errors = dict(result.table.select("estimator", "pooled").rows())
    assert {"mark", "index_basis", "other_venue"} <= errors.keys()
    assert errors["other_venue"] < errors["mid"]
    assert {"mark", "other_venue"} <= set(result.encompassing["estimator"])
    assert result.settings["inputs"] == "quotes+liquidations+mark+clean"
    assert "mark" not in set(evaluate_simulated([1], ["flush"], **options).table["estimator"])


def test_half_of_the_truth_as_a_reference(flush: Played) -> None:
    tape = flush[0]
    options: dict[str, Any] = {"quotes": tape.quotes, "state_space": False, "instrument": tape.instrument}
    trades = tape.references["clean"]
    split = evaluate_referenced(tape.trades, trades, WINDOWS, CALM, split_reference=True, ablation=(), **options)
    assert split.settings["inputs"] == "trades+quotes+half of the truth's venue"
    even, odd = (trades.gather_every(2, offset) for offset in (0, 1))
    by_hand = evaluate_referenced(tape.trades, even, WINDOWS, CALM, reference=odd, ablation=(), **options)
    assert split.table.equals(by_hand.table)
    ratios = dict(split.table.select("estimator", "ratio").rows())
    alone = evaluate_referenced(tape.trades, even, WINDOWS, CALM, ablation=(), **options)
    assert ratios["implied_mid"] < dict(alone.table.select("estimator", "ratio").rows())["implied_mid"]
    assert ratios["other_venue"] < 1.0
    with pytest.raises(ParameterError):
        evaluate_referenced(tape.trades, trades, WINDOWS, CALM, split_reference=True, reference=odd, **options)


def test_mark_prices_stand_in_the_regression_of_later_mids(flush: Played) -> None:
    tape, played = flush
    given = {"trades": tape.trades, "quotes": tape.quotes, "liquidations": tape.liquidations, "mark": tape.mark}
    result = evaluate_forecasts(played, [60], step="1s", tapes=given)
    assert {"mark", "index_basis"} <= set(result.encompassing["estimator"])
    assert {"mark", "index_basis"} <= set(result.table["estimator"])


# --- inputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", LADDER, ids=str)
def test_words_and_inputs_are_the_same(inputs: Inputs) -> None:
    assert Inputs.parse(str(inputs)) == inputs


@pytest.mark.parametrize("words", ["", "rumours", "quotes+", "liquidations+throttled"])
def test_words_that_mean_nothing(words: str) -> None:
    with pytest.raises(ParameterError):
        Inputs.parse(words)
    with pytest.raises(ParameterError):
        Inputs(venues=("nowhere",))


def test_tapes_of_inputs(flush: Played) -> None:
    tape = flush[0]
    given = Inputs.parse("book+throttled+mark+toxic").tapes(tape)
    assert given["quotes"] is None
    assert given["book"] is tape.book
    assert given["liquidations"] is tape.liquidations_throttled
    assert given["mark"] is tape.mark
    assert given["reference"] is tape.references["toxic"]
    assert set(Inputs(venues=OTHER_VENUES).tapes(tape)["reference"]) == set(OTHER_VENUES)


def test_ladder_by_hand() -> None:
    result = evaluate_inputs([1, 2], ["flush", "calm"], ["trades", "quotes+liquidations"])
    one = evaluate_simulated([1, 2], ["flush", "calm"], training=[50], state_space=False, ablation=())
    rows = {row["inputs"]: row for row in result.table.rows(named=True)}
    errors = dict(one.table.select("estimator", "rmse_flush").rows())
    for name in ("mid", "toxic_mean", "debiased_mean", "implied_mid"):
        assert rows["quotes+liquidations"][name] == pytest.approx(errors[name], rel=1e-6)
    assert rows["trades"]["against_before"] == 1.0
    ratio = rows["quotes+liquidations"]["implied_mid"] / rows["trades"]["implied_mid"]
    assert rows["quotes+liquidations"]["against_before"] == pytest.approx(ratio)
    assert set(result.scenarios["scenario"]) == {"flush", "calm"}
    assert result.table["covered"].is_between(0.0, 1.0).all()
    again = evaluate_inputs([1, 2], ["flush", "calm"], ["trades", "quotes+liquidations"], workers=2)
    assert again.table.equals(result.table)


@pytest.mark.parametrize(
    "options", [{"ladder": ["trades"]}, {"ladder": ["trades", "boom"]}, {"seeds": []}, {"book": "flat"}]
)
def test_ladders_that_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        evaluate_inputs(**{"seeds": [1], "scenarios": ["flush"], **options})
