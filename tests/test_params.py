"""Parameters: every one has a unit, a range that is checked, and survives the way through a manifest."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from typing import Any

import pytest

from toxmid.durations import nanoseconds
from toxmid.engine import Engine
from toxmid.errors import ParameterError
from toxmid.params import RULES, Params, _check

FIELDS = {field.name: field for field in dataclasses.fields(Params)}
DURATIONS = [name for name, field in FIELDS.items() if field.metadata["unit"] == "duration"]
NUMBERS = [name for name, field in FIELDS.items() if isinstance(field.metadata.get("low"), float | int)]
WHOLE = [name for name, field in FIELDS.items() if field.type == "int"]


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
def test_defaults_are_good(field: dataclasses.Field[Any]) -> None:
    """They are not looked at again where nobody has changed them."""
    _check(field.name, field.default, field.metadata, whole=field.type == "int")


def test_every_parameter_is_described() -> None:
    described = Params.describe()
    assert [entry["name"] for entry in described] == list(FIELDS)
    for entry in described:
        assert entry["unit"]
        assert entry["doc"]
        assert getattr(Params(), entry["name"]) == entry["default"]
    assert set(DURATIONS) | set(NUMBERS) | {"classify", "book_without_snapshot"} == set(FIELDS)


@pytest.mark.parametrize("name", NUMBERS)
def test_range_of_numbers(name: str) -> None:
    """Both ends are in; what lies beyond them is not, nor is what is no number."""
    meta = FIELDS[name].metadata
    kind = int if name in WHOLE else float
    for end in ("low", "high"):
        assert getattr(Params(**{name: kind(meta[end])}), name) == meta[end]
    below, above = meta["low"] - 1, meta["high"] * 1.01 + 1
    for wrong in (below, above, math.nan, math.inf, -math.inf, "1", True, [1]):
        with pytest.raises(ParameterError) as raised:
            Params(**{name: wrong})
        assert raised.value.column == name


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers(name: str) -> None:
    with pytest.raises(ParameterError, match="whole"):
        Params(**{name: FIELDS[name].metadata["low"] + 0.5})


def test_what_may_be_left_to_the_data() -> None:
    assert Params(bucket_volume=None).bucket_volume is None
    assert Params(cost_size=None).cost_size is None
    for name in set(NUMBERS) - {"bucket_volume", "cost_size"}:
        with pytest.raises(ParameterError):
            Params(**{name: None})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DURATIONS)
def test_range_of_durations(name: str) -> None:
    meta = FIELDS[name].metadata
    for end in ("low", "high"):
        params = Params(**{name: meta[end]})
        assert params.duration_ns(name) == (0 if meta[end] == "0s" else nanoseconds(meta[end]))
    over = f"{nanoseconds(meta['high']) + 1}ns"
    wrongs: list[Any] = [over, "", "1", "1 s", "-1s", "1.5s", "s", 1, 1.0, None, True]
    if meta["low"] != "0s":
        wrongs += [f"{nanoseconds(meta['low']) - 1}ns", "0s"]
    for wrong in wrongs:
        with pytest.raises(ParameterError):
            Params(**{name: wrong})


@pytest.mark.parametrize("bar", ["10ms", "100ms", "500ms", "1s", "2s", "15s", "1m", "60s", "1h", "24h", "1d"])
def test_bars_that_fill_a_day(bar: str) -> None:
    params = Params(bar=bar)
    assert params.bar_ns == nanoseconds(bar)
    assert params.step_ns == min(params.bar_ns, 10**9)
    assert params.bar_ns % params.step_ns == 0


@pytest.mark.parametrize("bar", ["7s", "1500ms", "300ms", "11h", "13m", "2d"])
def test_bars_that_do_not(bar: str) -> None:
    with pytest.raises(ParameterError) as raised:
        Params(bar=bar)
    assert raised.value.column == "bar"


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_runs(rule: str) -> None:
    engine = Engine(Params(classify=rule, bucket_volume=1.0, window=2))
    for i in range(20):
        engine.quote(1_760_054_400_000_000_000 + i, 99.0, 1.0, 100.0, 1.0)
        engine.trade(1_760_054_400_000_000_000 + i, 99.0 + i % 2, 1.0, 1)
    engine.finish()
    assert engine.take_bars()["trades"].sum() == 20


@pytest.mark.parametrize("wrong", ["", "SIDE", "Lee-Ready", None, 1])
def test_rules_that_are_none(wrong: Any) -> None:
    with pytest.raises(ParameterError, match="rule"):
        Params(classify=wrong)


@pytest.mark.parametrize("wrong", [1, 0, "yes", None])
def test_flag(wrong: Any) -> None:
    assert Params(book_without_snapshot=True).book_without_snapshot
    with pytest.raises(ParameterError, match="flag"):
        Params(book_without_snapshot=wrong)


def test_parameters_are_a_value() -> None:
    """Frozen, comparable, hashable, keyword only; they survive JSON, pickling and `replace`."""
    params = Params(window=20, bar="5s", bucket_volume=1.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.window = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        Params("5s")  # type: ignore[misc]
    assert Params.from_dict(json.loads(json.dumps(params.to_dict()))) == params
    assert pickle.loads(pickle.dumps(params)) == params
    assert params.replace(window=50, bar="1s", bucket_volume=None) == Params()
    assert len({params, Params(window=20, bar="5s", bucket_volume=1.5), Params()}) == 2
    with pytest.raises(ParameterError, match="out of range"):
        params.replace(window=0)


def test_unknown_name() -> None:
    with pytest.raises(ParameterError, match="no such parameter") as raised:
        Params.from_dict({"windows": 20})
    assert raised.value.column == "windows"
    assert "window" in str(raised.value.expected)
    with pytest.raises(TypeError):
        Params(windows=20)  # type: ignore[call-arg]


def test_defaults_stand_for_none() -> None:
    assert Engine(None).params == Engine().params == Params()
