"""What the tables say, in words: every sentence is made of the figures, whichever way they fall."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import polars as pl

from toxmid.evaluate.rivals import ESTIMATORS
from toxmid.evaluate.text import number_of
from toxmid.evaluate.toxic_weight import POOLED_NAME

__all__ = ["ladder_answers", "referenced_answers", "simulated_answers"]

QUESTION: Final = "Does the mean price of toxic, liquidation-driven flow add to the implied mid?"
_NAMES: Final = {"toxic_mean": "The plain mean", "debiased_mean": "The de-biased mean"}
_SURE: Final = 0.01  # many coefficients are looked at
_MOST_CASES: Final = 6
_LARGER: Final = 1.005  # a ratio that is written as more than 1


def _row(table: pl.DataFrame, **key: Any) -> dict[str, Any]:
    return table.row(by_predicate=pl.all_horizontal(pl.col(name) == value for name, value in key.items()), named=True)


def _listed(parts: Iterable[str]) -> str:
    """
    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    found = list(parts)
    return " and ".join([", ".join(found[:-1]), found[-1]]) if len(found) > 1 else "".join(found)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


# --- the main tables -------------------------------------------------------------------------------------------------


def simulated_answers(
    table: pl.DataFrame, coverage: pl.DataFrame, encompassing: pl.DataFrame, ablation: pl.DataFrame
) -> tuple[str, ...]:
    """How good the estimators are against a hidden mid."""
    implied = _row(table, estimator="implied_mid")
    first = (
        f"The implied mid's error is {number_of(implied['ratio'])} of the quoted mid's (95 % interval "
        f"{number_of(implied['ratio_lo'])} to {number_of(implied['ratio_hi'])}), and smaller in "
        f"{implied['better']:.0%} of the runs. {_rungs(table)} {_best_rival(table)}"
    )
    return tuple(filter(None, (first, _worse_somewhere(table), _covered(coverage), _toxic(encompassing, ablation))))


def _rungs(table: pl.DataFrame) -> str:
    ratios = {name: number_of(_row(table, estimator=name)["ratio"]) for name in _NAMES}
    return (
        f"The de-biased mean's is {ratios['debiased_mean']}, the plain mean's of the toxic flow {ratios['toxic_mean']}."
    )


def _best_rival(table: pl.DataFrame) -> str:
    rivals = table.filter(~pl.col("estimator").is_in([*ESTIMATORS, "mid"])).sort("ratio")
    best = rivals.row(0, named=True)
    return f"The best rival is {best['estimator']} with {number_of(best['ratio'])}."


def _worse_somewhere(table: pl.DataFrame) -> str:
    implied, mid = _row(table, estimator="implied_mid"), _row(table, estimator="mid")
    worse = [
        f"{name.removeprefix('rmse_')} ({number_of(implied[name])} against {number_of(mid[name])} bps)"
        for name in table.columns
        if name.startswith("rmse_") and implied[name] > _LARGER * mid[name]
    ]
    return f"It is farther from the hidden mid than the quoted mid in {_listed(worse)}." if worse else ""


def _covered(coverage: pl.DataFrame) -> str:
    ranges = []
    for part in ("stress", "calm"):
        shares = coverage.filter(pl.col("part") == part)["covered"].to_list()
        if shares:
            low, high = f"{min(shares):.0%}", f"{max(shares):.0%}"
            ranges.append(f"{low if low == high else f'{low} to {high}'} of the seconds of {part}")
    return f"Its 90 % interval holds the hidden mid in {_listed(ranges)}, by scenario." if ranges else ""


def referenced_answers(
    table: pl.DataFrame, coverage: pl.DataFrame, encompassing: pl.DataFrame, ablation: pl.DataFrame
) -> tuple[str, ...]:
    """How good the estimators are against another venue; nothing here has an interval, for one tape is one event."""
    parts = []
    for window in table["window"].unique(maintain_order=True).to_list():
        here = table.filter(pl.col("window") == window)
        ratio = number_of(_row(here, estimator="implied_mid")["ratio"])
        covered = _row(coverage, window=window)["covered"]
        held = "" if math.isnan(covered) else f" The 90 % interval holds the reference in {covered:.0%} of the seconds."
        parts.append(
            f"{_sentence(window)}: the implied mid's error is {ratio} of the quoted mid's. "
            f"{_rungs(here)} {_best_rival(here)}{held}"
        )
    toxic = " ".join(filter(None, (QUESTION, _content(encompassing, ("window",)), _best_weights(ablation))))
    return ("This is one tape, and so one event: nothing below has an interval.", *parts, toxic)


def _best_weights(ablation: pl.DataFrame) -> str:
    """Which of the weights that were tried had the smallest error, by window."""
    best = ablation.group_by("window", maintain_order=True).agg(pl.all().sort_by("rmse_bps").first())
    found = _listed(
        f"{number_of(row['weight'])} in {row['window']} (a factor of {number_of(row['against_without'])})"
        for row in best.iter_rows(named=True)
    )
    return f"Of the weights that were tried inside the implied mid, the best would have been {found}." if found else ""


# --- the mission's own quantity --------------------------------------------------------------------------------------


def _toxic(encompassing: pl.DataFrame, ablation: pl.DataFrame) -> str:
    if encompassing.is_empty():
        return ""
    return " ".join(filter(None, (QUESTION, _content(encompassing, ("scenario", "phase")), _ablated(ablation))))


def _content(encompassing: pl.DataFrame, keys: Sequence[str]) -> str:
    """Where each mean has a coefficient of its own beside the implied mid and the others."""
    sentences = []
    for estimator, name in _NAMES.items():
        rows = encompassing.filter(pl.col("estimator") == estimator, pl.col("b").is_not_null())
        tested = bool(rows["p"].count())
        sure = rows.filter(pl.col("p") < _SURE) if tested else rows
        plus, minus = (_cases(sure.filter(sign * pl.col("b") > 0), keys) for sign in (1, -1))
        verb = "adds" if tested else "has a positive coefficient"
        found = f"{verb} in {plus}" if plus else f"{verb} nowhere"
        against = f", and what it says is to be taken off in {minus}" if minus else ""
        sentences.append(f"{name} {found}{against}.")
    company = _listed(n for n in encompassing["estimator"].unique(maintain_order=True) if n not in _NAMES)
    told = "" if encompassing["p"].count() else " Coefficients of one event have no errors."
    return f"Beside {company}: {' '.join(s[0].lower() + s[1:] if i == 0 else s for i, s in enumerate(sentences))}{told}"


def _cases(rows: pl.DataFrame, keys: Sequence[str]) -> str:
    """The cases in which it matters most."""
    most = rows.top_k(_MOST_CASES, by="gain") if rows.height > _MOST_CASES else rows
    return _listed(
        f"{_case([row[key] for key in keys])} (b = {number_of(row['b'])}, {row['gain']:.0%} of what the others leave)"
        for row in most.iter_rows(named=True)
    )


def _case(values: Sequence[str]) -> str:
    """
    >>> [_case(values) for values in (["all", "all"], ["flush", "all"], ["all", "later"])]
    ['everything together', 'flush', 'all scenarios, later']
    """
    group, *parts = values
    inside = [part for part in parts if part != "all"]
    if group == "all":
        return ", ".join(["all scenarios", *inside]) if inside else "everything together"
    return ", ".join([group, *inside])


def _ablated(ablation: pl.DataFrame) -> str:
    """What the weights do, and the conclusion."""
    tried = ablation.filter(pl.col("ratio_lo") != pl.col("ratio_hi"))
    if tried.is_empty():
        return ""
    whole = POOLED_NAME if POOLED_NAME in tried["scenario"] else tried["scenario"][0]
    overall = tried.filter(pl.col("scenario") == whole)
    changes = _listed(
        f"{number_of(row['weight'])} by a factor of {number_of(row['ratio'])} [{number_of(row['ratio_lo'])}, "
        f"{number_of(row['ratio_hi'])}]"
        for row in overall.iter_rows(named=True)
    )
    said = f"As a weight inside the implied mid it changes the error: {changes}."
    helps, hurts = (
        tried.filter(pl.col("scenario") != POOLED_NAME, condition)["scenario"].unique(maintain_order=True).to_list()
        for condition in (pl.col("ratio_hi") < 1.0, pl.col("ratio_lo") > 1.0)
    )
    return f"{said} {_conclusion(bool((overall['ratio_hi'] < 1.0).any()), helps, hurts)}"


def _conclusion(on_the_whole: bool, helps: Sequence[str], hurts: Sequence[str]) -> str:
    where = f"it helps in {_listed(helps)}" if helps else "it helps nowhere"
    cost = f" and costs in {_listed(hurts)}" if hurts else " and costs nowhere"
    if on_the_whole:
        return f"So a weight pays on the whole: {where}{cost}."
    return f"So no weight pays on the whole: {where}{cost}."


# --- the ladder of inputs --------------------------------------------------------------------------------------------


def ladder_answers(table: pl.DataFrame) -> tuple[str, ...]:
    """Whether every input makes the estimate better."""
    rows = table.rows(named=True)
    first, last = rows[0], min(rows, key=lambda row: float(row["implied_mid"]))
    said = (
        f"With {first['inputs']} the implied mid is {number_of(first['implied_mid'])} bps from the hidden mid, with "
        f"{last['inputs']} {number_of(last['implied_mid'])} bps."
    )
    harm = [
        f"{row['inputs']} (a factor of {number_of(row['against_before'])})"
        for row in rows[1:]
        if row["against_before_lo"] > 1.0
    ]
    none = "No row is worse than the one before it, beyond chance."
    return said, f"Worse than the row before, beyond chance: {_listed(harm)}." if harm else none
