"""Delimited text of any layout, described by a small TOML file that is given as the format.

.. code-block:: toml

    kind = "trades"          # trades, book, quotes, liquidations or mark
    time = "ms"              # s (a fraction is allowed), ms, us, ns, or iso
    separator = ";"          # "," when left out
    header = ["t", "px"]     # names of the columns, only for files without a header
    venue = "kraken"         # optional, as is symbol: they tell what a contract is worth
    symbol = "XBT/USD"

    [columns]                # canonical name = name in the file; ts is required
    ts = "t"
    price = "px"
    size = "qty"
    side = "direction"

    [side]                   # word in the file = buy, sell, unknown; in a book bid, ask
    b = "buy"
    s = "sell"

    [snapshot]               # words in the file, only for a book
    true = ["1"]
    false = ["0"]
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl

from toxmid.errors import FileError, ParameterError
from toxmid.readers.base import Csv, Identity, Table, code
from toxmid.schema import KINDS, TABLES, TIME, Kind

__all__ = ["load"]

_TIMES: Final[Mapping[str, tuple[pl.DataType, str]]] = {
    "s": (pl.Float64(), "us"),  # seconds become microseconds, see Clock
    "ms": (pl.Int64(), "ms"),
    "us": (pl.Int64(), "us"),
    "ns": (pl.Int64(), "ns"),
    "iso": (pl.String(), "ns"),
}
# Tables whose columns are numbers and sides; the others have words and times of their own.
_DESCRIBED: Final = tuple(kind for kind in KINDS if kind not in ("depth_bands", "options"))
_SIDES: Final = {"buy": 1, "sell": -1, "unknown": 0, "bid": 1, "ask": -1}
_KEYS: Final = {"kind", "time", "separator", "header", "venue", "symbol", "columns", "side", "snapshot"}
_NO_SEPARATORS: Final = ('"', "\n", "\r")
_DISTINCT: Final[Mapping[Kind, tuple[str, ...]]] = {"liquidations": ()}


def load(path: Path) -> Csv:
    """Format described by a TOML file.

    Raises
    ------
    FileError
        The file is missing or is no TOML.
    ParameterError
        A key is missing, unknown, or has an impossible value.
    """
    try:
        text = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}", file=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(f"not TOML: {error}", file=str(path)) from None
    return _Description(path, text).format()


class _Description:
    """One TOML file, checked as it is read."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        self._path = path
        self._values = values
        strange = sorted(set(values) - _KEYS)
        if strange:
            raise self._error("unknown key", strange[0], ", ".join(sorted(_KEYS)))
        self._check_words()
        self._kind: Kind = self._one_of("kind", _DESCRIBED)
        self._dtype, self._unit = _TIMES[self._one_of("time", tuple(_TIMES))]
        self._columns = self._checked_columns()

    def format(self) -> Csv:
        header = self._values.get("header")
        arrival = self._columns["ts"]
        identity = Identity(self._values.get("venue"), self._values.get("symbol"))
        return Csv(
            name=f"delimited-{self._path.stem}",
            dtypes=self._dtypes(),
            arrival=arrival,
            event=self._columns.get("ts_event", arrival),
            units=(self._unit,),
            tables={self._kind: self._table()},
            identity=lambda _: identity,
            clock_name="as described",
            separator=self._values.get("separator", ","),
            names=tuple(header) if header is not None else None,
            bare=re.compile(".*") if header is not None else None,
        )

    def _check_words(self) -> None:
        """What is text in the file it describes must be text here."""
        for key in ("venue", "symbol", "separator"):
            if not isinstance(self._values.get(key, ""), str):
                raise self._error(f"{key} is no text", self._values[key], "text")
        separator = self._values.get("separator", ",")
        if len(separator.encode()) != 1 or separator in _NO_SEPARATORS:
            raise self._error("not a separator", separator, "one character of ASCII")
        header = self._values.get("header", [])
        if not isinstance(header, list) or not all(isinstance(name, str) for name in header):
            raise self._error("header is no list of names", header, 'such as ["t", "px"]')

    def _dtypes(self) -> dict[str, pl.DataType]:
        dtypes: dict[str, pl.DataType] = {}
        for field in TABLES[self._kind]:
            if field.name not in self._columns:
                continue
            dtype = self._dtype if field.dtype == TIME else field.dtype
            if field.name in ("side", "snapshot"):
                dtype = pl.Enum(list(self._words(field.name)))
            dtypes[self._columns[field.name]] = dtype
        return dtypes

    def _table(self) -> Table:
        expressions = {
            name: code(column, self._words(name)) if name == "side" else pl.col(column)
            for name, column in self._columns.items()
            if name not in ("ts", "ts_event", "snapshot")
        }
        if "snapshot" in self._columns:
            words = {word: bool(value) for word, value in self._words("snapshot").items()}
            expressions["snapshot"] = pl.col(self._columns["snapshot"]).replace_strict(words, return_dtype=pl.Boolean)
        distinct = (self._columns["id"],) if "id" in self._columns else _DISTINCT.get(self._kind)
        return Table(expressions, distinct=distinct)

    def _words(self, name: str) -> dict[str, int]:
        """Words of the file and their codes."""
        given = self._values.get(name)
        if not isinstance(given, dict) or not given:
            raise self._error(f"[{name}] must say what the words of column {name!r} mean", given, "a table")
        if name == "snapshot":
            lists = [given.get(value, []) for value in ("true", "false")]
            if not all(isinstance(words, list) and all(isinstance(word, str) for word in words) for words in lists):
                raise self._error("[snapshot] must list words", given, 'such as true = ["1"]')
            return {str(word): int(value == "true") for value in ("true", "false") for word in given.get(value, [])}
        wrong = [meaning for meaning in given.values() if not isinstance(meaning, str) or meaning not in _SIDES]
        if wrong:
            raise self._error("not a side", wrong[0], ", ".join(_SIDES))
        return {word: _SIDES[meaning] for word, meaning in given.items()}

    def _checked_columns(self) -> dict[str, str]:
        columns = self._values.get("columns")
        if not isinstance(columns, dict):
            raise self._error("[columns] is missing", None, "canonical name = name in the file")
        names = list(columns.values())
        strange = [name for name in names if not isinstance(name, str)]
        if strange:
            raise self._error("not the name of a column", strange[0], "text")
        twice = sorted({name for name in names if names.count(name) > 1} - {columns.get("ts_event")})
        if twice:
            raise self._error("one column of the file for two of the table", twice[0], None)
        fields = {field.name: field for field in TABLES[self._kind] if not field.nullable}
        strange = sorted(set(columns) - set(fields))
        if strange:
            raise self._error(f"no column of {self._kind}", strange[0], ", ".join(fields))
        missing = [name for name, field in fields.items() if not field.optional and name not in columns]
        if missing:
            raise self._error(f"[columns] lacks {', '.join(missing)}", sorted(columns), None)
        return columns

    def _one_of(self, key: str, choices: tuple[Any, ...]) -> Any:
        value = self._values.get(key)
        if value not in choices:
            raise self._error(f"{key} is missing or unknown", value, ", ".join(choices))
        return value

    def _error(self, message: str, found: Any, expected: str | None) -> ParameterError:
        return ParameterError(message, file=str(self._path), found=found, expected=expected)
