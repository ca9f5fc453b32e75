"""How long a simulated half hour takes: ``pytest bench/bench_simulate.py``."""

from __future__ import annotations

import polars as pl
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from toxmid.simulate import Scenario, simulate


@pytest.mark.parametrize("scenario", ["calm", "flush"])
def test_half_an_hour_without_book(benchmark: BenchmarkFixture, scenario: Scenario) -> None:
    def play() -> list[pl.DataFrame]:
        tape = simulate(scenario)
        return [tape.trades, tape.quotes, tape.liquidations, tape.truth]

    benchmark(play)


@pytest.mark.parametrize("levels", [20, 100, 1000])
def test_half_an_hour_of_book(benchmark: BenchmarkFixture, levels: int) -> None:
    benchmark(lambda: simulate("flush", levels=levels).book)
