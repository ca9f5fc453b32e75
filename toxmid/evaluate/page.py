"""An evaluation as a page: the report's style sheet, plain tables, no script, no network."""

from __future__ import annotations

import math
from functools import cache
from importlib import resources
from typing import Any, Final

import jinja2
import polars as pl
from markupsafe import Markup

from toxmid.evaluate.results import Evaluation

__all__ = ["fragment", "render"]

# Templates live here and not in a file of their own: they are short, and a package needs no data then.
_FRAGMENT: Final = """
{% for table in tables %}
<h2>{{ table.name }}</h2>
<p class="lead">{{ table.caption }}</p>
<div class="scroll"><table class="episodes">
  <thead><tr>{% for column in table.columns %}<th scope="col"{% if column.number %} class="num"{% endif %}>
    <button type="button" disabled>{{ column.name }}</button></th>{% endfor %}</tr></thead>
  <tbody>
  {% for row in table.rows %}
    <tr>{% for cell in row %}<td class="{{ cell.style }}">{{ cell.text }}</td>{% endfor %}</tr>
  {% endfor %}
  </tbody>
</table></div>
{% endfor %}
{% if notes %}
<h2>How to read this</h2>
<div class="columns">{% for note in notes %}<p>{{ note }}</p>{% endfor %}</div>
{% endif %}
"""
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{{ title }} · toxmid</title>
<style>{{ css }}</style>
<style>.episodes td, .episodes thead button { padding: 5px 8px; }
.episodes thead button { color: inherit; cursor: default; }
.episodes thead th:nth-child(n) { max-width: none; } .scroll { max-height: none; }</style>
</head>
<body>
<main>
<header>
  <p class="kicker">toxmid evaluation</p>
  <h1>{{ title }}</h1>
  <ul class="inputs">{% for name, value in settings %}<li><b>{{ name }}</b> {{ value }}</li>{% endfor %}</ul>
</header>
{{ body }}
</main>
</body>
</html>
"""
_ROWS_SHOWN: Final = 1_000


def render(evaluation: Evaluation) -> str:
    """The whole page as text."""
    css = (resources.files("toxmid.report") / "assets" / "report.css").read_text(encoding="utf-8")
    return _template(_PAGE).render(
        title=evaluation.title,
        settings=[(name.replace("_", " "), value) for name, value in evaluation.settings.items()],
        css=Markup(css),
        body=Markup(fragment(evaluation)),
    )


def fragment(evaluation: Evaluation) -> str:
    """Tables and notes, without the page around them."""
    tables = [
        _table(name, table.frame, table.caption)
        for name, table in evaluation.tables.items()
        if not table.frame.is_empty()
    ]
    return _template(_FRAGMENT).render(tables=tables, notes=evaluation.notes)


@cache
def _template(text: str) -> jinja2.Template:
    return jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)


def _table(name: str, frame: pl.DataFrame, caption: str) -> dict[str, Any]:
    cut = f" The first {_ROWS_SHOWN:,} of {frame.height:,} rows." if frame.height > _ROWS_SHOWN else ""
    columns = [{"name": n.replace("_", " "), "number": kind.is_numeric()} for n, kind in frame.schema.items()]
    rows = [
        [_cell(column, value, row) for column, value in zip(frame.columns, row.values(), strict=True)]
        for row in frame.head(_ROWS_SHOWN).iter_rows(named=True)
    ]
    return {"name": name.replace("_", " ").capitalize(), "caption": caption + cut, "columns": columns, "rows": rows}


def _cell(column: str, value: Any, row: dict[str, Any]) -> dict[str, str]:
    styles = ["num"] if isinstance(value, int | float) and not isinstance(value, bool) else []
    if column == "estimator":
        styles += {"implied_mid": ["implied"], "mid": ["quoted"]}.get(row["estimator"], [])
    return {"text": _text(value), "style": " ".join(styles)}


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        large, small = abs(value) >= 1e3, 0 < abs(value) < 1e-2
        return f"{value:,.0f}" if large else f"{value:.1e}" if small else f"{value:.2f}"
    return str(value)
