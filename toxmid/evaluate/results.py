"""What an evaluation gives back: its tables, what they were made with, and what must be said beside them."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from toxmid.errors import FileError

__all__ = ["Evaluation", "Table"]

_WIDE = {
    "tbl_rows": -1,
    "tbl_cols": -1,
    "tbl_width_chars": 400,
    "fmt_str_lengths": 80,
    "tbl_hide_dataframe_shape": True,
    "tbl_hide_column_data_types": True,
    "tbl_formatting": "NOTHING",
    "float_precision": 3,
}


@dataclass(frozen=True, eq=False)
class Table:
    """A table and the sentence that says how to read it."""

    frame: pl.DataFrame
    caption: str


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Result of an evaluation.

    Attributes
    ----------
    title : str
    settings : mapping
        What it was made with.
    tables : mapping of str to Table
        By name; the first is the one that was asked for.
    notes : tuple of str
        What has to be known to read them, and where not to trust them.
    """

    title: str
    settings: Mapping[str, Any]
    tables: Mapping[str, Table]
    notes: tuple[str, ...]

    @property
    def table(self) -> pl.DataFrame:
        """The main table."""
        return next(iter(self.tables.values())).frame

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.title!r}, tables={list(self.tables)})"

    def summary(self) -> str:
        """All tables but those of single runs or events, and the notes, as text."""
        parts = [self.title, "  " + ", ".join(f"{name} = {value}" for name, value in self.settings.items())]
        for name, table in self.tables.items():
            if self._is_summarised(name):
                with pl.Config(**_WIDE):  # type: ignore[arg-type]
                    parts.append(f"{table.caption}\n{table.frame}")
        return "\n\n".join([*parts, *(f"* {note}" for note in self.notes)]) + "\n"

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write every table as Parquet, named after itself, with title, caption, settings and notes as metadata.

        Returns
        -------
        pathlib.Path
            The directory; made if it is missing.

        Raises
        ------
        FileError
            It cannot be written.
        """
        target = Path(directory)
        settings = json.dumps(dict(self.settings), default=str)
        about = {"title": self.title, "settings": settings, "notes": "\n".join(self.notes)}
        try:
            target.mkdir(parents=True, exist_ok=True)
            for name, table in self.tables.items():
                partial = target / f".{name}.{secrets.token_hex(4)}"
                try:
                    table.frame.write_parquet(partial, metadata={**about, "caption": table.caption})
                    partial.replace(target / f"{name}.parquet")
                finally:
                    partial.unlink(missing_ok=True)
        except OSError as error:
            raise FileError(f"cannot be written: {error.strerror or error}", file=str(target)) from error
        return target

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write one page that needs nothing else, with the look of the report.

        Raises
        ------
        FileError
            It cannot be written.
        """
        from toxmid.evaluate.page import render

        target = Path(path)
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            try:
                partial.write_text(render(self), encoding="utf-8", newline="\n")
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise FileError(f"cannot be written: {error.strerror or error}", file=str(target)) from error
        return target

    def to_html_fragment(self) -> str:
        """The tables and notes alone, for a page that has the report's style sheet."""
        from toxmid.evaluate.page import fragment

        return fragment(self)

    def _is_summarised(self, name: str) -> bool:
        return name not in {"runs", "events"}
