"""What an evaluation writes: tables that read back, text, and a page that needs nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from toxmid.errors import FileError
from toxmid.evaluate import Evaluation, Table


@pytest.fixture
def evaluation() -> Evaluation:
    names, errors = ["implied_mid", "mid", "<b>"], [0.5, 1234.0, None]
    main = pl.DataFrame({"estimator": names, "rmse_bps": errors, "runs": [1, 2, 3]})
    parts = {"table": (main, "Errors, bps."), "runs": (main.head(1), "All runs.", False), "none": (main.clear(), "-")}
    tables = {name: Table(*part) for name, part in parts.items()}
    return Evaluation("Test & title", {"seeds": "0–9", "n": 3}, tables, ("A note.",), ("An <answer>.",))


def test_main_table_is_the_first(evaluation: Evaluation) -> None:
    assert evaluation.table.columns == ["estimator", "rmse_bps", "runs"]


def test_summary_shows_tables_but_not_single_runs(evaluation: Evaluation) -> None:
    text = evaluation.summary()
    assert "Errors, bps." in text
    assert "All runs." not in text
    assert text.endswith("* A note.\n")
    assert "> An <answer>." in text
    assert "1,234" in text
    assert max(map(len, evaluation.summary(40).splitlines())) <= 40


def test_saved_tables_read_back(evaluation: Evaluation, tmp_path: Path) -> None:
    folder = evaluation.save(tmp_path / "a" / "b")
    assert sorted(path.name for path in folder.iterdir()) == [
        "evaluation.json", "none.parquet", "runs.parquet", "table.parquet"
    ]  # fmt: skip
    assert pl.read_parquet(folder / "table.parquet").equals(evaluation.table)
    about = pl.read_parquet_metadata(folder / "table.parquet")
    assert about["title"] == "Test & title"
    assert about["settings"] == '{"seeds": "0\\u20139", "n": 3}'
    assert about["caption"] == "Errors, bps."


def test_page_needs_nothing_else(evaluation: Evaluation, tmp_path: Path) -> None:
    text = evaluation.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert not re.search(r"<script|<link rel=.stylesheet|src=|https?://", text)
    assert "Test &amp; title" in text
    assert "&lt;b&gt;" in text
    assert '<tr class="implied"><td>implied_mid</td>' in text
    assert "An &lt;answer&gt;." in text
    assert '<td class="num">1,234</td>' in text
    assert list(tmp_path.iterdir()) == [tmp_path / "page.html"]


def test_section_is_part_of_the_page(evaluation: Evaluation, tmp_path: Path) -> None:
    section = evaluation.section()
    assert section.title == "Test & title"
    assert "<html" not in section.body
    assert section.body in evaluation.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "None" not in section.body


@pytest.mark.parametrize("path", ["", "evaluation.json", "table.parquet"])
def test_what_was_saved_reads_back(evaluation: Evaluation, tmp_path: Path, path: str) -> None:
    again = Evaluation.load(evaluation.save(tmp_path / "kept") / path)
    assert again.summary() == evaluation.summary()
    assert again.section() == evaluation.section()
    assert {name: table.in_full for name, table in again.tables.items()} == {"table": True, "runs": False, "none": True}


def test_each_kind_of_evaluation_reads_back_as_itself(tmp_path: Path) -> None:
    for kind in Evaluation.__subclasses__():
        made = kind("T", {}, {"other": Table(pl.DataFrame({"x": [1]}), "-")}, ())
        assert type(Evaluation.load(made.save(tmp_path / kind.kind))) is kind


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("evaluation.json", b"{"),
        ("evaluation.json", b"[]"),
        ("evaluation.json", b'{"format": "toxmid-evaluation", "format_version": 1}'),
        ("evaluation.json", None),
        ("table.parquet", b"PAR1"),
        ("table.parquet", None),
    ],
)
def test_what_is_damaged_is_an_error(evaluation: Evaluation, tmp_path: Path, name: str, data: bytes | None) -> None:
    folder = evaluation.save(tmp_path / "kept")
    (folder / name).unlink()
    if data is not None:
        (folder / name).write_bytes(data)
    with pytest.raises(FileError):
        Evaluation.load(folder)


def test_a_table_of_another_run_is_an_error(evaluation: Evaluation, tmp_path: Path) -> None:
    folder = evaluation.save(tmp_path / "kept")
    evaluation.table.head(1).write_parquet(folder / "table.parquet")
    with pytest.raises(FileError, match="not the table"):
        Evaluation.load(folder)


@pytest.mark.parametrize("write", ["save", "to_html"])
def test_what_cannot_be_written_is_an_error(evaluation: Evaluation, tmp_path: Path, write: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        getattr(evaluation, write)(tmp_path / "file" / "below")
