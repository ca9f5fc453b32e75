"""The names that users rely on: what can be called and how, which columns there are, what never changes."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from click.testing import CliRunner
from feeding import SECOND, START, simulated

import toxmid
from toxmid.cli import cli
from toxmid.schema import TIME

HORIZONS = ("1s", "5s", "30s", "60s", "300s")
REQUIRED: Any = inspect.Parameter.empty


def signature(function: Any) -> dict[str, Any]:
    """Parameters by name and default; those that must be named begin after a star."""
    out: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in out:
            out["*"] = None
        out[name] = parameter.default
    return out


READ = {"source": REQUIRED, "*": None, "format": None, "start": None, "end": None, "instrument": None}
SIGNATURES: dict[str, dict[str, Any]] = {
    "read_trades": READ,
    "read_book": READ,
    "read_quotes": READ,
    "read_liquidations": READ,
    "vpin": {"trades": REQUIRED, "*": None, "bucket_volume": None, "buckets_per_day": 50, "window": 50,
             "classify": "side", "bar": "60s", "convention": "causal", "quotes": None, "instrument": None},
    "classify": {"trades": REQUIRED, "quotes": None, "*": None, "rule": REQUIRED, "instrument": None},
    "spreads": {"trades": REQUIRED, "quotes": REQUIRED, "*": None, "horizons": HORIZONS, "direction": "side",
                "instrument": None},
    "replay": {"*": None, "trades": None, "book": None, "quotes": None, "liquidations": None, "mark": None,
               "reference": None, "params": None, "instrument": None, "out": None, "workers": 1, "progress": False},
    "simulate": {"scenario": REQUIRED, "*": None, "seed": 0},
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNATURES)
def test_functions_are_called_as_they_always_were(name: str) -> None:
    """More may be asked for, nothing may be named otherwise; what stands before the star keeps its place."""
    found, wanted = signature(getattr(toxmid, name)), SIGNATURES[name]
    assert {key: found.get(key, "missing") for key in wanted} == wanted
    assert list(found)[: list(wanted).index("*")] == list(wanted)[: list(wanted).index("*")]
    assert list(found).index("*") == list(wanted).index("*")


METHODS = {
    "trade": (START, 100.0, 1.0, 1),
    "quote": (START, 99.0, 1.0, 101.0, 1.0),
    "liquidation": (START, -1, 99.0, 1.0),
    "book": (START, 1, 99.0, 1.0, True),
}


@pytest.mark.parametrize("face", [toxmid.ImpliedMid, toxmid.Engine])
@pytest.mark.parametrize("method", METHODS)
def test_one_event_at_a_time(face: Any, method: str) -> None:
    assert list(inspect.signature(face).parameters) == ["params", "instrument"]
    getattr(face(), method)(*METHODS[method])
    getattr(face(params=None, instrument=None), method)(*METHODS[method])


def test_what_an_estimate_tells() -> None:
    estimate = toxmid.ImpliedMid()
    assert all(math.isnan(x) for x in (estimate.value, *estimate.interval, estimate.toxicity, estimate.mid))
    for event in (
        simulated()["quotes"].select(pl.col("ts").to_physical(), "bid", "bid_size", "ask", "ask_size").iter_rows()
    ):
        estimate.quote(*event)
    assert isinstance(estimate.terms, dict)
    assert math.isclose(sum(estimate.terms.values()), estimate.value - estimate.mid, abs_tol=1e-9)
    low, high = estimate.interval
    assert low < estimate.value < high


def test_an_engine_gives_its_tables_and_its_state() -> None:
    engine = toxmid.Engine()
    engine.trade(START, 100.0, 1.0, 1)
    engine = toxmid.Engine.restore(engine.snapshot())
    engine.finish()
    assert engine.take_bars().height == 1
    assert engine.take_buckets().height == engine.take_events().height == 0


def test_parameters_are_a_frozen_dataclass_with_units_defaults_and_ranges() -> None:
    params = toxmid.Params()
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.window = 3  # type: ignore[misc]
    for field in dataclasses.fields(params):
        assert field.default is not dataclasses.MISSING
        assert field.metadata["unit"]
        assert field.metadata["doc"]
        assert field.metadata["unit"] in ("rule", "flag") or {"low", "high"} <= field.metadata.keys()


BARS = [
    "ts",
    "bid",
    "ask",
    "mid",
    "spread_bps",
    "trades",
    "buy_volume",
    "sell_volume",
    "liq_buy_volume",
    "liq_sell_volume",
    "vpin",
    "vpin_rank",
    "spread_z",
    "impact_bps",
    "excess_impact",
    "toxic_mean",
    "debiased_mean",
    "implied_mid",
    "implied_lo",
    "implied_hi",
    "regime",
]
BUCKETS = [
    "bucket",
    "ts_open",
    "ts_close",
    "volume",
    "buy_volume",
    "sell_volume",
    "unknown_volume",
    "imbalance",
    "vpin",
    "vpin_rank",
    "price",
    "spread_bps",
    "impact_bps",
    "liq_buy_volume",
    "liq_sell_volume",
]
EVENTS = [
    "kind",
    "ts_start",
    "ts_end",
    "ts_known",
    "side",
    "move_bps",
    "volume",
    "bps_per_volume",
    "liq_volume",
    "toxic_mean",
    "debiased_mean",
    "implied_mid",
    "mid_before",
    "mid_after",
]
VPIN = BUCKETS[:10]


@pytest.fixture(scope="module")
def result() -> toxmid.Replay:
    tables = {name: simulated()[name] for name in ("trades", "quotes", "liquidations")}
    return toxmid.replay(**tables, params=toxmid.Params(bucket_volume=3.0, window=10))


def test_columns_of_a_replay(result: toxmid.Replay) -> None:
    for table, names in ((result.bars, BARS), (result.buckets, BUCKETS), (result.events, EVENTS)):
        assert not set(names) - set(table.columns)
        for name in table.columns:
            if name.startswith("ts"):
                assert table.schema[name] == TIME == pl.Datetime("ns", "UTC")
    assert set(result.events["kind"]) <= {"widening", "sweep", "vacuum", "liquidation_cascade"}
    assert (result.bars["ts"].to_physical().diff().drop_nulls() == SECOND).all()
    assert pa.table(result).num_rows == result.bars.height


def test_counts_and_figures_of_a_replay(result: toxmid.Replay, tmp_path: Path) -> None:
    counts = {"rows_read", "rows_used", "rows_rejected", "rejected", "duplicates", "gaps", "crossed_books", "resets"}
    assert counts <= result.counts.keys()
    assert isinstance(result.params, toxmid.Params)
    assert isinstance(result.instrument, toxmid.Instrument)
    assert "implied" in result.summary()
    result.save(tmp_path / "out")
    files = {"bars.parquet", "buckets.parquet", "events.parquet", "manifest.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == files
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {"inputs", "params", "instrument", "counts", "versions", "warm_up", "open_bucket"} <= manifest.keys()
    result.report(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_columns_of_the_functions() -> None:
    trades, quotes = simulated()["trades"], simulated()["quotes"]
    assert toxmid.vpin(trades, bucket_volume=3.0).columns == VPIN
    assert toxmid.vpin(trades, bucket_volume=3.0, classify="bvc_normal", convention="pinstimation").columns == VPIN
    table = toxmid.spreads(trades, quotes)
    names = ["ts", "price", "size", "direction", "bid", "ask", "mid", "quoted_spread", "effective_spread"]
    names += [f"{what}_{h}" for h in HORIZONS for what in ("realized_spread", "impact", "ts_known")]
    costs = [name for name in names if name.startswith(("quoted", "effective", "realized", "impact"))]
    assert set(table.columns) == {*names, *(f"{name}_bps" for name in costs)}
    gap = table["effective_spread"] - table["realized_spread_5s"] - 2 * table["impact_5s"]
    assert gap.abs().max() < 1e-9
    rules = {rule: toxmid.classify(trades, quotes, rule=rule) for rule in ("tick", "quote", "lee_ready", "emo")}
    assert {series.dtype for series in rules.values()} == {pl.Int8()}
    fit = toxmid.impact(result_bars())
    assert set(fit.params.index) >= {"const", "flow"}
    assert "HAC" in str(fit.summary())


def result_bars() -> pl.DataFrame:
    return toxmid.replay(trades=simulated()["trades"], quotes=simulated()["quotes"]).bars


def test_a_simulation_has_its_tapes_and_its_truth() -> None:
    market = toxmid.simulate("calm", seed=1, duration=60.0)
    assert {"ts", "mid"} <= set(market.truth.columns)
    for name in ("trades", "quotes", "book", "liquidations"):
        assert {"ts", "ts_event"} & set(getattr(market, name).columns)


def test_with_trades_alone_the_last_prints_stand_for_quotes() -> None:
    """They may have crossed: that is no crossed book."""
    engine = toxmid.Engine()
    engine.trade(START, 100.0, 1.0, 1)
    engine.trade(START + 1, 100.4, 1.0, -1)
    engine.finish()
    bar = engine.take_bars().row(0, named=True) if engine.now == START else engine.take_bars().row(-1, named=True)
    assert (bar["bid"], bar["ask"], bar["mid"]) == (100.0, 100.4, 100.2)


def test_excess_impact_is_the_move_over_what_the_square_root_law_expects() -> None:
    """With sigma and mean volume of the quiet minutes before, which for a market of equal minutes are those of any."""
    engine = toxmid.Engine()
    mids = 100.0 * np.exp(1e-4 * np.where(np.arange(1500) // 60 % 2, 1.0, 0.0))
    for k, mid in enumerate(mids.tolist()):
        engine.trade(START + k * SECOND + 1, mid, 2.0 if k < 1440 else 8.0, 1)
        engine.quote(START + k * SECOND + 1, mid - 0.01, 1.0, mid + 0.01, 1.0)
    engine.finish()
    bars = engine.take_bars()
    usual = bars.filter(pl.col("ts").to_physical() == START + 1440 * SECOND)["impact_bps"].abs().item()
    last = bars.row(-1, named=True)
    assert usual == pytest.approx(1.0, rel=1e-3)
    assert last["excess_impact"] == pytest.approx(abs(last["impact_bps"]) / (1.0 * math.sqrt(4.0)), rel=0.05)


def test_errors_are_one_family_and_say_where() -> None:
    family = (toxmid.DataError, toxmid.FileError, toxmid.ParameterError, toxmid.NotEnoughDataError)
    for error in family:
        assert issubclass(error, toxmid.ToxmidError)
        assert issubclass(error, (ValueError, OSError))
    made = toxmid.DataError("it", file="f", row=1, column="c", found=2, expected=3)
    assert (made.file, made.row, made.column, made.found, made.expected) == ("f", 1, "c", 2, 3)


OPTIONS = {
    "demo": {"--out"},
    "inspect": set(),
    "replay": {"--trades", "--book", "--quotes", "--liquidations", "--out", "--from", "--to", "--state-in",
               "--state-out", "--workers", "--dask", "--config", "--dry-run", "--json", "-q", "-v"},
    "report": {"-o"},
    "fit": {"-o"},
}  # fmt: skip


@pytest.mark.parametrize("command", OPTIONS)
def test_options_of_the_command_line(command: str) -> None:
    known = {option for parameter in cli.commands[command].params for option in parameter.opts}  # type: ignore[attr-defined]
    assert OPTIONS[command] <= known
    assert CliRunner().invoke(cli, [command, "--help"]).exit_code == 0
