"""What an evaluation gives back: its tables, what they were made with, and what must be said beside them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import polars as pl

from toxmid import output
from toxmid.disk import whole
from toxmid.errors import FileError
from toxmid.evaluate.text import text_table, wrapped
from toxmid.report import Section

__all__ = ["MANIFEST", "Evaluation", "Table"]

MANIFEST: Final = "evaluation.json"
_FORMAT: Final = "toxmid-evaluation"
_FORMAT_VERSION: Final = 1
_WIDTH: Final = 100  # of text where there is no terminal


@dataclass(frozen=True, eq=False)
class Table:
    """A table and the sentence that says how to read it; `in_full` where even a short text shows it."""

    frame: pl.DataFrame
    caption: str
    in_full: bool = True


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
    answers : tuple of str
        What they say, in words made of their figures.
    """

    title: str
    settings: Mapping[str, Any]
    tables: Mapping[str, Table]
    notes: tuple[str, ...]
    answers: tuple[str, ...] = ()

    kind: ClassVar[str] = ""

    @property
    def table(self) -> pl.DataFrame:
        """The main table."""
        return next(iter(self.tables.values())).frame

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.title!r}, tables={list(self.tables)})"

    def summary(self, width: int | None = None) -> str:
        """What it says, the tables but those of single runs and of detail, and the notes, as text.

        Parameters
        ----------
        width : int, optional
            Longest line; None: that of the terminal.
        """
        width = shutil.get_terminal_size((_WIDTH, 24)).columns if width is None else width
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        parts = [self.title, wrapped(settings, width), *(wrapped(answer, width, "> ") for answer in self.answers)]
        for table in self.tables.values():
            if table.in_full and not table.frame.is_empty():
                parts.append(f"{wrapped(table.caption, width)}\n\n{text_table(table.frame, width)}")
        return "\n\n".join([*parts, "\n".join(wrapped(note, width, "* ") for note in self.notes)]) + "\n"

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write every table as Parquet, named after itself, and ``evaluation.json`` with all else.

        Title, caption, settings and notes are also in the metadata of every Parquet file.

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
        about = {"title": self.title, "settings": json.dumps(dict(self.settings), default=str)}
        try:
            target.mkdir(parents=True, exist_ok=True)
            for name, table in self.tables.items():
                said = {**about, "notes": "\n".join(self.notes), "caption": table.caption}
                with whole(target / f"{name}.parquet") as partial:
                    table.frame.write_parquet(partial, metadata=said)
        except OSError as error:
            raise FileError(f"cannot be written: {error.strerror or error}", file=str(target)) from error
        # Last, so that it never speaks of a table that is not there.
        text = json.dumps(self._manifest(), indent=2, ensure_ascii=False) + "\n"
        output.write_whole(target / MANIFEST, text.encode())
        return target

    def _manifest(self) -> dict[str, Any]:
        tables = {
            name: {"caption": table.caption, "in_full": table.in_full, "rows": table.frame.height}
            for name, table in self.tables.items()
        }
        entries = {
            "format": _FORMAT, "format_version": _FORMAT_VERSION, "kind": self.kind, "title": self.title,
            "answers": self.answers, "settings": dict(self.settings), "tables": tables, "notes": self.notes,
            "versions": output.versions(),
        }  # fmt: skip
        return dict(output.to_json(entries))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Evaluation:
        """Read back what `save` wrote; the path is that of the directory, or of a file in it.

        Raises
        ------
        FileError
            There is no evaluation, or it is damaged.
        """
        folder = Path(path)
        folder = folder if folder.is_dir() else folder.parent
        entries = _read_manifest(folder / MANIFEST)
        try:
            tables = {
                name: Table(_read_table(folder / f"{name}.parquet", about["rows"]), about["caption"], about["in_full"])
                for name, about in entries["tables"].items()
            }
            classes: list[type[Evaluation]] = [Evaluation, *Evaluation.__subclasses__()]
            made = {known.kind: known for known in classes}[entries["kind"]]
            said = (tuple(entries["notes"]), tuple(entries["answers"]))
            return made(entries["title"], entries["settings"], tables, *said)
        except (KeyError, TypeError, AttributeError) as error:
            raise FileError(f"is damaged: {error}", file=str(folder / MANIFEST)) from error

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write one page that needs nothing else, with the look of the report.

        Raises
        ------
        FileError
            It cannot be written.
        """
        from toxmid.evaluate.page import render

        output.write_whole(path, render(self).encode())
        return Path(path)

    def section(self) -> Section:
        """What it shows as a part of a report."""
        from toxmid.evaluate.page import section

        return section(self)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        entries = json.loads(path.read_bytes())
    except OSError as error:
        raise FileError(f"no evaluation: {error.strerror}", file=str(path)) from error
    except ValueError as error:
        raise FileError(f"is not valid JSON: {error}", file=str(path)) from error
    known = {"format": _FORMAT, "format_version": _FORMAT_VERSION}
    if not isinstance(entries, dict) or any(entries.get(name) != value for name, value in known.items()):
        raise FileError("is no evaluation of this version", file=str(path), expected=f"{_FORMAT} {_FORMAT_VERSION}")
    return entries


def _read_table(path: Path, rows: int) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise FileError(f"cannot be read: {error}", file=str(path)) from error
    if frame.height != rows:
        raise FileError("is not the table that the evaluation wrote", file=str(path), found=frame.height, expected=rows)
    return frame
