"""Sentences follow the figures, whichever way they fall; text fits its width; charts show what the tables hold."""

from __future__ import annotations

import re

import polars as pl
import pytest

from toxmid.evaluate import Evaluation, SimulatedEvaluation, Table
from toxmid.evaluate.figures import charts_of
from toxmid.evaluate.text import text_table
from toxmid.evaluate.words import ladder_answers, simulated_answers
from toxmid.report.charts import Chart, Dot, Line, draw

NAMES = ("implied_mid", "debiased_mean", "toxic_mean", "mid", "state_space", "ema_60")


def main_table(ratio: float, calm: float = 0.1) -> pl.DataFrame:
    ratios = [ratio, 0.7, 2.0, 1.0, 0.9, 0.8]
    return pl.DataFrame(
        {
            "estimator": NAMES, "ratio": ratios, "ratio_lo": ratios, "ratio_hi": ratios, "better": [0.75] * 6,
            "fallback": [0.0] * 6, "rmse_flush": [10.0 * r for r in ratios], "rmse_calm": [calm, *[0.1] * 5],
        }
    )  # fmt: skip


def coefficients(b: float, p: float | None) -> pl.DataFrame:
    rows = [
        {"scenario": "flush", "phase": "later", "estimator": name, "b": b if name == "toxic_mean" else 0.1,
         "se": 0.1, "p": p if name == "toxic_mean" else 0.5, "gain": 0.25}
        for name in ("implied_mid", "toxic_mean", "debiased_mean", "ema_60")
    ]  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"p": pl.Float64})


def ablation(low: float, high: float) -> pl.DataFrame:
    rows = [
        {"scenario": s, "weight": w, "rmse": 1.0, "ratio": r, "ratio_lo": lo, "ratio_hi": hi, "better": 0.5}
        for s in ("flush", "pooled")
        for w, r, lo, hi in ((0.0, 1.0, 1.0, 1.0), (0.2, 0.5 * (low + high), low, high))
    ]
    return pl.DataFrame(rows)


COVERAGE = pl.DataFrame({"scenario": ["flush"], "part": ["stress"], "seconds": [100], "covered": [0.92]})


def said(**changes: pl.DataFrame) -> str:
    usual = {
        "table": main_table(0.4), "coverage": COVERAGE, "encompassing": coefficients(0.3, 0.5),
        "ablation": ablation(0.9, 1.1),
    }  # fmt: skip
    return " ".join(simulated_answers(**{**usual, **changes}))


def test_the_three_rungs_are_always_together() -> None:
    text = said()
    for words in ("implied mid's error is 0.40", "de-biased mean's is 0.70", "toxic flow 2.00", "best rival is ema_60"):
        assert words in text
    assert "75% of the runs" in text
    assert "92% of the seconds of stress" in text


def test_where_it_is_worse_is_said() -> None:
    assert "farther from the hidden mid than the quoted mid in calm (0.20 against 0.10 bps)" in said(
        table=main_table(0.4, calm=0.2)
    )
    assert "farther" not in said()


@pytest.mark.parametrize(
    ("b", "p", "words"),
    [
        (0.3, 0.5, "the plain mean adds nowhere."),
        (0.3, 0.001, "the plain mean adds in flush, later (b = 0.30, 25% of what the others leave)."),
        (-0.3, 0.001, "the plain mean adds nowhere, and what it says is to be taken off in flush, later (b = -0.30"),
        (0.3, None, "the plain mean has a positive coefficient in flush"),
    ],
)
def test_coefficients_in_words(b: float, p: float | None, words: str) -> None:
    table = coefficients(b, p)
    if p is None:
        table = table.with_columns(p=pl.lit(None, pl.Float64))
    assert words in said(encompassing=table)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.9, 1.1, "So no weight pays on the whole: it helps nowhere and costs nowhere."),
        (0.8, 0.9, "So a weight pays on the whole: it helps in flush and costs nowhere."),
        (1.1, 1.2, "So no weight pays on the whole: it helps nowhere and costs in flush."),
    ],
)
def test_ablation_in_words(low: float, high: float, words: str) -> None:
    assert words in said(ablation=ablation(low, high))


def test_ladder_in_words() -> None:
    rows = [
        {"inputs": "trades", "implied_mid": 9.0, "against_before": 1.0, "against_before_lo": 1.0},
        {"inputs": "quotes", "implied_mid": 7.0, "against_before": 0.8, "against_before_lo": 0.7},
    ]
    assert "No row is worse" in " ".join(ladder_answers(pl.DataFrame(rows)))
    rows.append({"inputs": "book", "implied_mid": 8.0, "against_before": 1.14, "against_before_lo": 1.05})
    text = " ".join(ladder_answers(pl.DataFrame(rows)))
    assert "with quotes 7.00 bps" in text
    assert "Worse than the row before, beyond chance: book (a factor of 1.14)." in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_tables_fit_and_lose_nothing(width: int) -> None:
    frame = pl.DataFrame({"horizon_s": [60.0], "estimator": ["mid"], **{f"column_{i}": [i + 0.25] for i in range(12)}})
    text = text_table(frame, width)
    assert max(map(len, text.splitlines())) <= width
    for i in range(12):
        assert f"{i}.25" in text
    assert text.count("60.00") == len(text.split("\n\n"))


def test_an_interval_stands_with_its_number() -> None:
    frame = pl.DataFrame({"estimator": ["mid"], "ratio": [0.5], "ratio_lo": [0.4], "ratio_hi": [0.6]})
    assert "0.50 [0.40, 0.60]" in text_table(frame, 80)
    assert "ratio lo" not in text_table(frame, 80)


def test_charts_show_every_estimator_that_speaks() -> None:
    tables = {
        "table": main_table(0.4).with_columns(fallback=pl.when(pl.col("estimator") == "state_space").then(1.0)
                                              .otherwise(0.0)),
        "coverage": COVERAGE, "ablation": ablation(0.9, 1.1), "encompassing": coefficients(0.3, 0.5),
    }  # fmt: skip
    made = SimulatedEvaluation("T", {}, {name: Table(frame, "-") for name, frame in tables.items()}, ())
    errors, toxic, weights, covered = charts_of(made)
    assert [line.label for line in errors.lines] == [n.replace("_", " ") for n in NAMES if n != "state_space"]
    assert [dot.value for line in toxic.lines for dot in line.dots] == [0.3, 0.1]
    assert [line.label for line in weights.lines] == ["flush · 0.2", "pooled · 0.2"]
    assert [line.text for line in covered.lines] == ["92%"]
    assert charts_of(Evaluation("T", {}, {"table": Table(main_table(0.4), "-")}, ())) == []


@pytest.mark.parametrize("is_log", [True, False])
def test_a_dot_stands_where_its_value_is(is_log: bool) -> None:
    values = [0.1, 1.0, 10.0] if is_log else [-1.0, 0.0, 1.0]
    chart = Chart("<T>", [Line("<a>", [Dot(v, low=v, high=v)]) for v in values], is_log=is_log, guides=(values[1],))
    text = str(draw(chart))
    left, middle, right = map(float, re.findall(r'<circle cx="([\d.]+)"', text))
    assert middle - left == pytest.approx(right - middle, abs=0.11)
    guide = float(re.findall(r'class="guide" x1="([\d.]+)"', text)[0])
    assert guide == pytest.approx(middle, abs=0.11)
    assert "<a>" not in text
    assert "&lt;T&gt;" in text


def test_a_chart_of_nothing_known() -> None:
    assert "<circle" not in draw(Chart("T", [Line("a", [Dot(float("nan"))])], is_log=True))
    assert draw(Chart("T", [])).startswith("<figure")
