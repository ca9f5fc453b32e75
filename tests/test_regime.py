"""Regimes against what the other columns of the bars say."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import polars as pl
import pytest
from feeding import SECOND, START, Tables, only, order, simulated, times, whole
from reference.regime import regimes

from toxmid.engine import Engine, bars_frame
from toxmid.params import Params

EAGER = Params(bucket_volume=2.0, window=5, toxic_score=20.0, halt="5s", stress_hold="20s")


def with_holes(tables: Tables) -> Tables:
    """Nothing at all for some seconds, twice; and nobody bids for twenty."""
    second = (pl.col("ts").to_physical() - START) // SECOND
    silent = second.is_between(330, 349) | second.is_between(480, 487)
    out = {name: table.filter(~silent) for name, table in tables.items()}
    if "quotes" in out:
        nobody = second.is_between(560, 579)
        out["quotes"] = out["quotes"].with_columns(bid=pl.when(~nobody).then("bid").otherwise(math.nan))
    return out


@pytest.mark.parametrize("late", [False, True], ids=["hold of 20 s", "hold of a minute"])
@pytest.mark.parametrize("kinds", [("trades",), ("trades", "quotes"), ("trades", "quotes", "liquidations")])
@pytest.mark.parametrize("holes", [False, True], ids=["whole", "holes"])
def test_regime_of_every_bar(kinds: tuple[str, ...], holes: bool, late: bool) -> None:
    params = EAGER.replace(stress_hold="60s", stress_z=1.0) if late else EAGER
    tables = only(simulated("flush", 8, 700.0), *kinds)
    tables = with_holes(tables) if holes else tables
    bars = bars_frame(whole(Engine(params), tables)[0])
    ends, events = np.array(times(bars)), np.array([ts for ts, _, _ in order(tables)])
    last_event = events[np.searchsorted(events, ends, side="right") - 1]
    record, quoted = (times(tables[name])[0] if name in tables else math.inf for name in ("liquidations", "quotes"))
    expected = regimes(bars, params, last_event.tolist(), record, quoted)
    assert bars["regime"].to_list() == expected
    seen = Counter(expected)
    assert seen["calm"] > 300
    assert seen["stress-inferred"] + seen["stress-labelled"] > 20
    assert seen["halted"] == (20 if holes else 0)
    assert seen["one-sided book"] == (20 if holes and "quotes" in tables else 0)


_UNMOVED = {"weight_asymmetry": 0.0, "weight_volume": 0.0, "weight_credibility": 0.0}  # implied mid: the quoted one


@pytest.mark.parametrize(
    "alone",
    [
        {"stress_z": 3.0, "stress_excess": 1e4, **_UNMOVED},
        {"stress_z": 1e3, "stress_excess": 1.5, **_UNMOVED},
        {"stress_z": 1e3, "stress_excess": 1e4},
    ],
    ids=["a wide spread", "a move without volume", "a mid that is not the maker's"],
)
def test_each_cause_of_stress_alone(alone: dict[str, float]) -> None:
    params = EAGER.replace(stress_hold="1s", **alone)
    tables = only(simulated("flush", 8, 700.0), "trades", "quotes")
    bars = bars_frame(whole(Engine(params), tables)[0])
    expected = regimes(bars, params, times(bars), math.inf, times(tables["quotes"])[0])
    assert bars["regime"].to_list() == expected
    assert 5 < Counter(expected)["stress-inferred"] < 300
    eased = params.replace(stress_z=min(2 * params.stress_z, 1e3), stress_excess=min(2 * params.stress_excess, 1e4))
    assert eased == params or regimes(bars, eased, times(bars), math.inf, times(tables["quotes"])[0]) != expected
