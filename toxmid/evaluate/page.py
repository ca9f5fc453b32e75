"""An evaluation as a page, and as a section of the report: charts and tables, no script, no network."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Final

import jinja2
from markupsafe import Markup

from toxmid.evaluate.figures import charts_of
from toxmid.evaluate.results import Evaluation, Table
from toxmid.evaluate.text import cells
from toxmid.report import Section
from toxmid.report.charts import draw

__all__ = ["render", "section"]

# Templates live here and not in a file of their own: they are short, and a package needs no data then.
_BODY: Final = """
<ul class="inputs">{% for name, value in settings %}<li><b>{{ name }}</b> {{ value }}</li>{% endfor %}</ul>
{% if answers %}
<ul class="answers">{% for answer in answers %}<li>{{ answer }}</li>{% endfor %}</ul>
{% endif %}
{% if charts %}
<div class="charts">{% for chart in charts %}{{ chart }}{% endfor %}</div>
{% endif %}
{% for table in tables %}
<details class="evaluated"{% if loop.first %} open{% endif %}>
<summary><b>{{ table.name }}</b> <span class="muted">{{ table.caption }}</span></summary>
<div class="scroll"><table class="episodes plain">
  <thead><tr>
  {% for column in table.columns %}
    <th scope="col"{{ column.style }}>{{ column.name }}</th>
  {% endfor %}
  </tr></thead>
  <tbody>
  {% for row in table.rows %}
    <tr{{ row.style }}>
    {%- for text in row.texts %}<td{{ table.columns[loop.index0].style }}>{{ text }}</td>{% endfor %}</tr>
  {% endfor %}
  </tbody>
</table></div>
</details>
{% endfor %}
{% if notes %}
<ul class="notes">{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>
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
</head>
<body>
<main>
<header>
  <p class="kicker">toxmid evaluation</p>
  <h1>{{ title }}</h1>
</header>
{{ body }}
</main>
</body>
</html>
"""
_ROWS_SHOWN: Final = 300


def render(evaluation: Evaluation) -> str:
    """The whole page as text."""
    css = (resources.files("toxmid.report") / "assets" / "report.css").read_text(encoding="utf-8")
    shown = section(evaluation)
    return _template(_PAGE).render(title=shown.title, css=Markup(css), body=shown.body)


def section(evaluation: Evaluation) -> Section:
    """Answers, charts, tables and notes, without the page around them."""
    tables = [_table(name, table) for name, table in evaluation.tables.items() if not table.frame.is_empty()]
    body = _template(_BODY).render(
        settings=[(name.replace("_", " "), value) for name, value in evaluation.settings.items()],
        answers=evaluation.answers,
        charts=[draw(chart) for chart in charts_of(evaluation)],
        tables=tables,
        notes=evaluation.notes,
    )
    return Section(evaluation.title, Markup(body))


@cache
def _template(text: str) -> jinja2.Template:
    return jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)


def _table(name: str, table: Table) -> dict[str, Any]:
    frame = table.frame
    cut = f" The first {_ROWS_SHOWN:,} of {frame.height:,} rows." if frame.height > _ROWS_SHOWN else ""
    names, are_numbers, rows = cells(frame.head(_ROWS_SHOWN))
    estimators = frame["estimator"] if "estimator" in frame.columns else [""] * frame.height
    styles = {"implied_mid": "implied", "mid": "quoted", "toxic_mean": "toxic", "debiased_mean": "debiased"}
    return {
        "name": "Errors" if name == "table" else name.replace("_", " ").capitalize(),
        "caption": table.caption + cut,
        "columns": [
            {"name": n.replace("_", " "), "style": _class("num" if is_number else "")}
            for n, is_number in zip(names, are_numbers, strict=True)
        ],
        "rows": [
            {"style": _class(styles.get(str(estimator), "")), "texts": row}
            for estimator, row in zip(estimators, rows, strict=False)
        ],
    }


def _class(name: str) -> Markup:
    return Markup(' class="{}"').format(name) if name else Markup()
