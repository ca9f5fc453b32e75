"""Errors: one base, each also a builtin, a sentence with file, row and column; they cross process borders whole."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import toxmid
from toxmid.errors import DataError, FileError, NotEnoughDataError, ParameterError, ToxmidError

CHILDREN = {FileError: OSError, DataError: ValueError, ParameterError: ValueError, NotEnoughDataError: ValueError}
FULL = {"file": "tape.csv.gz", "row": 7, "column": "price", "found": "abc", "expected": "a number"}


@pytest.mark.parametrize(("kind", "builtin"), CHILDREN.items(), ids=[kind.__name__ for kind in CHILDREN])
def test_children(kind: type[ToxmidError], builtin: type[Exception]) -> None:
    """Who knows only Python catches them as what they are."""
    assert issubclass(kind, builtin)
    assert issubclass(kind, ToxmidError)
    assert getattr(toxmid, kind.__name__) is kind
    with pytest.raises(builtin, match="went wrong"):
        raise kind("it went wrong")


@pytest.mark.parametrize("kind", CHILDREN)
def test_sentence(kind: type[ToxmidError]) -> None:
    assert str(kind("not a number", **FULL)) == (  # type: ignore[arg-type]
        "tape.csv.gz, row 7, column price: not a number (found 'abc', expected a number)"
    )
    assert str(kind("plain")) == "plain"
    assert str(kind("here", row=0)) == "row 0: here"
    assert str(kind("nothing", found="")) == "nothing (found '')"
    assert "\n" not in str(kind("one line", **FULL))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", CHILDREN)
@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_attributes_survive(kind: type[ToxmidError], again: Any) -> None:
    error = again(kind("not a number", **FULL))  # type: ignore[arg-type]
    assert type(error) is kind
    assert {name: getattr(error, name) for name in FULL} == FULL
    assert error.message == "not a number"
    assert str(error) == str(kind("not a number", **FULL))  # type: ignore[arg-type]


def test_attributes_default_to_none() -> None:
    error = DataError("plain")
    assert [getattr(error, name) for name in FULL] == [None] * 5


def test_base_is_no_builtin_by_itself() -> None:
    """To catch what toxmid raises on purpose is not to catch everything."""
    assert not issubclass(ToxmidError, ValueError | OSError)
    assert not issubclass(ValueError, ToxmidError)


def test_a_strange_file_name_is_one_line_of_text() -> None:
    assert str(DataError("cut", file="a\nb.csv", row=2)) == "'a\\nb.csv', row 2: cut"
    assert str(DataError("cut", file="\udcff.csv")).encode() == b"'\\udcff.csv': cut"
    assert str(DataError("cut", file="ü 1.csv")) == "ü 1.csv: cut"
