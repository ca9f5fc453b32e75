"""Which charts an evaluation has: made of its tables, so that one which was read back has them too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import polars as pl

from toxmid.evaluate.results import Evaluation
from toxmid.evaluate.text import number_of
from toxmid.report.charts import Chart, Dot, Line

__all__ = ["charts_of"]

COLORS: Final = {
    "implied_mid": "implied", "debiased_mean": "debiased", "toxic_mean": "toxic", "mid": "mid",
    "none: as they were": "implied",
}  # fmt: skip
_KEYS: Final = (
    ("implied mid", "implied"), ("de-biased mean", "debiased"), ("toxic mean", "toxic"), ("quoted mid", "mid"),
    ("rivals", "quote"),
)  # fmt: skip
_WANTED: Final = (0.85, 0.95)  # coverage of an interval of 90 %
_TWO_SIDED: Final = 1.96
_RUNGS: Final = ("mid", "toxic_mean", "debiased_mean", "implied_mid")
_MOST_LINES: Final = 60


def charts_of(evaluation: Evaluation) -> list[Chart]:
    """The charts of an evaluation, in the order in which to show them."""
    makers: Mapping[str, Callable[[Evaluation], list[Chart]]] = {
        "simulated": _simulated, "referenced": _referenced, "forecasts": _forecasts, "inputs": _inputs,
    }  # fmt: skip
    return [chart for chart in _charts(makers.get(evaluation.kind), evaluation) if chart.lines]


def _charts(make: Callable[[Evaluation], list[Chart]] | None, evaluation: Evaluation) -> list[Chart]:
    return [] if make is None else make(evaluation)


def _simulated(evaluation: Evaluation) -> list[Chart]:
    tables = {name: table.frame for name, table in evaluation.tables.items()}
    return [
        _errors("Error as a ratio to the quoted mid's", tables["table"]),
        _toxic_coefficients(tables["encompassing"], ("scenario", "phase")),
        _ablation(tables["ablation"]),
        _coverage(tables["coverage"], ("scenario", "part")),
    ]


def _referenced(evaluation: Evaluation) -> list[Chart]:
    tables = {name: table.frame for name, table in evaluation.tables.items()}
    main = tables["table"]
    windows = main["window"].unique(maintain_order=True)
    title = "{}: error as a ratio to the quoted mid's"
    errors = [_errors(title.format(window), main.filter(pl.col("window") == window)) for window in windows]
    return [*errors, _coverage(tables["coverage"], ("window",))]


def _forecasts(evaluation: Evaluation) -> list[Chart]:
    tables = {name: table.frame for name, table in evaluation.tables.items()}
    charts = [
        _coefficients(
            f"Later mid on each estimate, {horizon:g} s: 0 is no content, 1 the right size",
            tables["table"].filter(horizon_s=horizon), ("estimator",), guides=(0.0, 1.0),
        )
        for horizon in tables["table"]["horizon_s"].unique(maintain_order=True)
    ]  # fmt: skip
    if not tables["placebos"].is_empty():
        rows = tables["placebos"].filter(pl.col("horizon_s") == tables["placebos"]["horizon_s"].min())
        charts.append(_coefficients("With liquidations elsewhere: content must go", rows, ("estimator", "placebo")))
    return charts


def _inputs(evaluation: Evaluation) -> list[Chart]:
    rows = evaluation.table.rows(named=True)
    lines = [
        Line(row["inputs"], [Dot(row[name], COLORS[name]) for name in _RUNGS], number_of(row["implied_mid"]))
        for row in rows
    ]
    against = [Line(row["inputs"], [_with_interval(row, "ratio", "implied")], number_of(row["ratio"])) for row in rows]
    return [
        Chart("Distance from the hidden mid", lines, "bps, rms in seconds of stress", is_log=True, keys=_KEYS[:4]),
        Chart("Implied mid as a ratio to the quoted mid's error", against, "of the same inputs", guides=(1.0,)),
    ]


# --- kinds of charts -------------------------------------------------------------------------------------------------


def _with_interval(row: Mapping[str, Any], name: str, color: str) -> Dot:
    return Dot(row[name], color, row.get(f"{name}_lo"), row.get(f"{name}_hi"))


def _errors(title: str, table: pl.DataFrame) -> Chart:
    """An estimator a row, best first; those that always say the quoted mid are left out."""
    rows = [row for row in table.rows(named=True) if row["fallback"] < 1.0]
    lines = [
        Line(
            row["estimator"].replace("_", " "),
            [_with_interval(row, "ratio", COLORS.get(row["estimator"], "quote"))],
            number_of(row["ratio"]),
        )
        for row in rows
    ]
    return Chart(title, lines, "below 1 is nearer to the truth", is_log=True, guides=(1.0,), keys=_KEYS)


def _coverage(table: pl.DataFrame, keys: tuple[str, ...]) -> Chart:
    lines = [
        Line(" · ".join(row[key] for key in keys), [Dot(row["covered"], "implied")], f"{row['covered']:.0%}")
        for row in table.rows(named=True)
        if row["seconds"]
    ]
    title = "How often the 90 % interval holds the truth"
    return Chart(title, lines, "shaded: 85 to 95 %", band=_WANTED, limits=(0, 1))


def _ablation(table: pl.DataFrame) -> Chart:
    lines = [
        Line(
            f"{row['scenario']} · {row['weight']:g}",
            [_with_interval(row, "ratio", "debiased")],
            number_of(row["ratio"]),
        )
        for row in table.rows(named=True)
        if row["weight"] > 0 and row["ratio_lo"] != row["ratio_hi"]
    ]
    return Chart(
        "A weight of the de-biased mean in the implied mid", lines, "its error, as a ratio to that without",
        guides=(1.0,),
    )  # fmt: skip


def _toxic_coefficients(table: pl.DataFrame, keys: tuple[str, ...]) -> Chart:
    toxic = table.filter(pl.col("estimator").is_in(["toxic_mean", "debiased_mean"]), pl.col("se").is_not_null())
    chart = _coefficients("What toxic flow adds beside the implied mid", toxic, keys)
    return Chart(chart.title, chart.lines, "coefficient, ± 2 standard errors", guides=(0.0,), keys=_KEYS[1:3])


def _coefficients(title: str, table: pl.DataFrame, keys: tuple[str, ...], guides: tuple[float, ...] = (0.0,)) -> Chart:
    """A row per combination of the keys; estimators that share one stand in it together."""
    lines = []
    for values, rows in table.head(_MOST_LINES).group_by(keys, maintain_order=True):
        dots = [_dot(row) for row in rows.rows(named=True) if row["b"] is not None]
        if dots:
            lines.append(Line(" · ".join(str(value).replace("_", " ") for value in values), dots))
    return Chart(title, lines, "coefficient, ± 2 standard errors", guides=guides)


def _dot(row: Mapping[str, Any]) -> Dot:
    reach = _TWO_SIDED * row["se"] if row["se"] is not None else None
    ends = (None, None) if reach is None else (row["b"] - reach, row["b"] + reach)
    return Dot(row["b"], COLORS.get(row["estimator"], "quote"), *ends)
