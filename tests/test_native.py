"""An engine in a compiled loop: the same bits as its methods, codes that become errors, memory that outlives a name."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from feeding import SECOND, START, uncomfortable

from toxmid import Engine, ImpliedMid, Params
from toxmid.errors import DataError

numba = pytest.importorskip("numba", reason="the extra 'numba' is not installed")
native = importlib.import_module("toxmid.native")

LOOP = """
import numba
from toxmid import native

@numba.njit(cache=True)
def feed(state, ts, price, size, side):
    for i in range(len(ts)):
        code = native.trade(state, ts[i], price[i], size[i], side[i])
        if code < 0:
            return i, code
    return len(ts), 0
"""


@numba.njit  # type: ignore[untyped-decorator]
def take(state: Any, kind: Any, ts: Any, side: Any, a: Any, b: Any, c: Any, d: Any, out: Any) -> Any:
    """Events of every kind in their order; a reading after each."""
    for i in range(len(ts)):
        if kind[i] == 0:
            code = native.trade(state, ts[i], a[i], b[i], side[i])
        elif kind[i] == 1:
            code = native.liquidation(state, ts[i], side[i], a[i], b[i])
        elif kind[i] == 2:
            code = native.book(state, ts[i], side[i], a[i], b[i], c[i] > 0, d[i] > 0)
        elif kind[i] == 3:
            code = native.quote(state, ts[i], a[i], b[i], c[i], d[i])
        elif kind[i] == 4:
            code = native.mark_price(state, ts[i], a[i], b[i])
        else:
            code = native.reference_trade(state, ts[i], a[i], b[i], side[i], 0)
        if code == 0:
            code = native.read(state, out[i])
        if code < 0:
            return i, code
    return len(ts), 0


def events(seed: int) -> dict[str, np.ndarray]:
    """The uncomfortable tape as one sequence, by time and then by kind."""
    tables = uncomfortable(seed, 600)
    names = {
        "trades": (0, "price", "size", None, None), "liquidations": (1, "price", "size", None, None),
        "book": (2, "price", "size", "snapshot", None), "quotes": (3, "bid", "bid_size", "ask", "ask_size"),
        "mark": (4, "price", None, None, None), "reference": (5, "price", "size", None, None),
    }  # fmt: skip
    rows = []
    for name, (kind, *columns) in names.items():
        frame = tables.get(name)
        if frame is None:
            continue
        ts = frame["ts"].to_physical().to_list()
        side = frame["side"].to_list() if "side" in frame.columns else [0] * len(ts)
        values = [frame[c].cast(float).to_list() if c is not None else [0.0] * len(ts) for c in columns]
        rows += [(ts[i], kind, i, side[i], *(v[i] for v in values)) for i in range(len(ts))]
    rows.sort(key=lambda row: row[:3])
    ts, kind, _, side, *figures = (np.array(column) for column in zip(*rows, strict=True))
    return dict(zip(("kind", "ts", "side", "a", "b", "c", "d"), (kind, ts, side, *figures), strict=True))


@pytest.mark.parametrize("seed", [1, 2])
def test_compiled_loop_and_methods_agree(seed: int) -> None:
    tape = events(seed)
    assert len(np.unique(tape["kind"])) >= 4
    compiled, plain = Engine(Params(bucket_volume=50.0, window=5)), Engine(Params(bucket_volume=50.0, window=5))
    readings = np.empty((len(tape["ts"]), len(native.READING)))
    assert take(native.state(compiled), **tape, out=readings) == (len(tape["ts"]), 0)
    shown = []
    for kind, ts, side, a, b, c, d in zip(*(tape[name].tolist() for name in tape), strict=True):
        step, values = (
            (plain.trade, (ts, a, b, side)),
            (plain.liquidation, (ts, side, a, b)),
            (plain.book, (ts, side, a, b, c > 0, d > 0)),
            (plain.quote, (ts, a, b, c, d)),
            (plain.mark_price, (ts, a, b)),
            (plain.reference_trade_at, (0, ts, a, b, side)),
        )[kind]
        step(*values)  # type: ignore[operator]
        row = plain.peek()
        shown.append([np.nan] * len(native.READING) if row is None else [row[name] for name in native.READING])
    np.testing.assert_array_equal(readings, np.array(shown))
    assert np.isfinite(readings[-1, 0])
    assert compiled.snapshot() == plain.snapshot()


def test_readings_are_those_of_the_estimator() -> None:
    estimator = ImpliedMid()
    ts = START + np.arange(500) * SECOND
    sides = np.where(np.arange(500) % 3, 1, -1)
    out = np.empty((500, len(native.READING)))
    zeros, ones = np.zeros(500), np.ones(500)
    prices = 100 + sides / 100 + np.arange(500) / 1000
    take(native.state(estimator), np.zeros(500, int), ts, sides, prices, ones, zeros, zeros, out)
    figures = dict(zip(native.READING, out[-1].tolist(), strict=True))
    assert figures["mid"] == estimator.mid
    assert figures["implied_mid"] == estimator.value
    assert (figures["implied_lo"], figures["implied_hi"]) == estimator.interval
    assert figures["toxicity"] == estimator.toxicity


def test_codes_become_the_errors_of_the_methods() -> None:
    engine = Engine()
    state = native.state(engine)
    native.check(engine, native.trade(state, START, 100.0, 1.0, 1))
    code = native.trade(state, START - 1, 100.0, 1.0, 1)
    assert native.now(state) == engine.now == START
    with pytest.raises(DataError, match="time goes back in trades") as caught:
        native.check(engine, code, row=7, ts=START - 1)
    assert (caught.value.row, caught.value.column, caught.value.found) == (7, "ts", START - 1)
    with pytest.raises(DataError, match="time goes back in trades") as method:
        engine.trade(START - 1, 100.0, 1.0, 1)
    assert method.value.expected == caught.value.expected
    with pytest.raises(DataError, match="time of quotes outside"):
        native.check(engine, native.quote(state, 5 * 10**18, 1.0, 1.0, 2.0, 1.0), kind="quotes")
    native.check(engine, native.open_interest(state, START, 500.0), kind="open_interest")
    with pytest.raises(DataError, match="no such venue"):
        native.check(engine, native.reference_trade(state, START, 100.0, 1.0, 1, 99), kind="reference")
    native.check(engine, native.trade(state, START, float("nan"), 1.0, 1))  # a bad row is counted, not an error
    assert engine.tally()["rejected"]["trades"]["bad_price"] == 1
    with pytest.raises(ValueError, match="shorter than READING"):
        native.read(state, np.empty(3))
    with pytest.raises(TypeError):
        native.state(object())  # type: ignore[arg-type]


def test_state_keeps_the_engine_alive() -> None:
    engine = Engine()
    gone = weakref.ref(engine)
    state = native.state(engine)
    assert not state.flags.writeable
    del engine
    gc.collect()
    assert gone() is not None
    assert native.trade(state, START, 100.0, 1.0, 1) == 0
    assert native.now(state) == START
    del state
    gc.collect()
    assert gone() is None


def test_compiled_loops_can_be_cached(tmp_path: Path) -> None:
    """The second import takes the machine code from the file, and it finds the core."""
    source = tmp_path / "strategy.py"
    source.write_text(LOOP)

    def strategy() -> ModuleType:
        spec = importlib.util.spec_from_file_location("strategy", source)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    columns = START + np.arange(50) * SECOND, np.full(50, 100.0), np.ones(50), np.ones(50, np.int8)
    for hits in (0, 1):
        engine = Engine()
        feed = strategy().feed
        assert feed(native.state(engine), *columns) == (50, 0)
        assert sum(feed.stats.cache_hits.values()) == hits
        assert engine.tally()["used"]["trades"] == 50
