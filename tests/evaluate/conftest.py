"""Bars made by hand, and a few simulated ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

import toxmid
from toxmid.evaluate.views import NEEDED

Maker = Callable[..., pl.DataFrame]
START = 1_760_054_400_000_000_000


@pytest.fixture(scope="session")
def make_bars() -> Maker:
    """Bars of one second with the columns that estimators need; what is not given is calm and balanced."""

    def make(mid: Any, **given: Any) -> pl.DataFrame:
        mid = np.asarray(mid, dtype=float)
        n = len(mid)
        usual: dict[str, Any] = dict.fromkeys(NEEDED, 0.0)
        usual |= {
            "bid": mid - 0.5, "ask": mid + 0.5, "bid_size": 1.0, "ask_size": 1.0, "mid": mid, "price": mid,
            "spread_bps": 1e4 * np.log((mid + 0.5) / (mid - 0.5)), "trades": 1, "buy_volume": 1.0, "sell_volume": 1.0,
            "toxic_mean": None, "debiased_mean": None, "implied_mid": mid, "implied_lo": mid - 1.0,
            "implied_hi": mid + 1.0, "vpin_rank": 0.5, "regime": "calm",
        }  # fmt: skip
        ts = pl.Series(START + 1_000_000_000 * np.arange(1, n + 1)).cast(pl.Datetime("ns", "UTC"))
        kinds = {"regime": pl.String, "trades": pl.Int64}
        filled = {name: [value] * n if np.ndim(value) == 0 else value for name, value in {**usual, **given}.items()}
        columns = [pl.Series(name, v, dtype=kinds.get(name, pl.Float64), strict=False) for name, v in filled.items()]
        return pl.DataFrame([ts.alias("ts"), *columns])

    return make


def replayed(scenario: Any, seed: int, **options: Any) -> tuple[toxmid.Simulation, toxmid.Replay]:
    tape = toxmid.simulate(scenario, seed=seed, **options)
    played = toxmid.replay(
        trades=tape.trades, quotes=tape.quotes, liquidations=tape.liquidations, instrument=tape.instrument
    )
    return tape, played


@pytest.fixture(scope="session")
def calm_bars() -> pl.DataFrame:
    return replayed("calm", 900)[1].bars


@pytest.fixture(scope="session")
def flush() -> tuple[toxmid.Simulation, toxmid.Replay]:
    return replayed("flush", 1)
