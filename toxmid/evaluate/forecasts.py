"""Estimators on a real tape without a truth: do they say where the mid will be, and is it they who say it?

Everything is in deviations from the quoted mid: ``y`` is the log mid some time later less the log mid now, ``x`` an
estimate less the log mid now, in bps. In levels every estimate would look perfect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.durations import nanoseconds
from toxmid.errors import NotEnoughDataError, ParameterError
from toxmid.evaluate.inference import FEWEST_EVENTS, EventTest, diebold_mariano, event_test, r2_oos
from toxmid.evaluate.placebos import matched, placebo_views, placebos
from toxmid.evaluate.results import Evaluation, Table
from toxmid.evaluate.scoring import Extra
from toxmid.evaluate.views import NEEDED, RUNGS, View, deviations, stress_of, without_nan
from toxmid.evaluate.volatility import vpin_regressions
from toxmid.evaluate.witnesses import marks_of
from toxmid.evaluate.words import QUESTION
from toxmid.merging import formats_by_input
from toxmid.schema import TIME
from toxmid.statespace import StateSpaceResult, bars_of, common_seconds

__all__ = ["ForecastEvaluation", "evaluate_forecasts"]

_SECOND: Final = 1_000_000_000
_EARLY: Final = 300  # s
_SURE: Final = 0.01  # many coefficients are looked at
_FEWEST_ROWS: Final = 100
_COMPANY: Final = ("implied_mid", "ema_60", "mark", "index_basis", "state_space")
_ASKED: Final = ("toxic_mean", "debiased_mean")  # not together: with trades alone they are all but one

_Mask = npt.NDArray[np.bool_]


class ForecastEvaluation(Evaluation):
    """Table of `evaluate_forecasts`, with what lies under it."""

    kind: ClassVar[str] = "forecasts"

    @property
    def encompassing(self) -> pl.DataFrame:
        """What each estimate adds to the others, by horizon and by when."""
        return self.tables["encompassing"].frame

    @property
    def placebos(self) -> pl.DataFrame:
        """Liquidations an hour early or late, or on the other side: the content must go. Empty without `tapes`."""
        return self.tables["placebos"].frame

    @property
    def matched(self) -> pl.DataFrame:
        """Moves of equal size and spread without liquidations: how much is plain reversal."""
        return self.tables["matched"].frame

    @property
    def vpin(self) -> pl.DataFrame:
        """Later volatility on the rank of VPIN, alone and beside volume and past volatility."""
        return self.tables["vpin"].frame

    @property
    def events(self) -> pl.DataFrame:
        """Every event and horizon: mean square losses, and where the implied mid was worse by more than a spread."""
        return self.tables["events"].frame


def evaluate_forecasts(
    replay_or_bars: Any,
    horizons: Sequence[float] = (60, 300, 1800),
    *,
    step: str = "5s",
    tapes: Any = None,
    state_space: StateSpaceResult | None = None,
    extra: Extra | None = None,
) -> ForecastEvaluation:
    """Judge estimators on a tape, or several, by what the quoted mid did later.

    Judged are bars under stress (``regime`` begins with "stress"). An event is a spell of them; spells closer to each
    other than the horizon are one, so that no two events share an outcome. Claims rest on events, not on seconds.

    Parameters
    ----------
    replay_or_bars : Replay or frame, or list of them
        A replay, or its ``bars``; or several with bars of one length, which are judged together.
    horizons : sequence of numbers
        Seconds ahead.
    step : str
        Distance of the rows that are used; a multiple of the bar.
    tapes : mapping, or list of them, optional
        What each replay was made from: ``trades`` and, if there were, ``quotes``, ``book``, ``liquidations`` and
        ``format``, as `toxmid.replay` takes them. With them the placebos are replayed; without them there is no placebo
        table. Where there is no feed, what was inferred of each bar stands in for one. Where every one has a ``mark``,
        the mark price, and the index with its usual basis, are judged as well, and stand in the encompassing
        regression.
    state_space : StateSpaceResult, optional
        A state space fitted on other data, to be judged as well.
    extra : mapping of str to function, optional
        Further estimators: each takes bars and gives a Series of prices, null where it says nothing.

    Returns
    -------
    ForecastEvaluation
        ``.table`` has a row per horizon and estimator: ``a, b, se`` of the regression of Mincer and Zarnowitz
        ``y = a + b x`` with HAC errors, ``p_b0`` (no content) and ``p_b1`` (right size); ``r2_oos`` against the quoted
        mid; ``dm, dm_p``, Diebold and Mariano's test on squared losses; ``better``, the share of events with a smaller
        loss, ``sign_p`` and ``t_p`` of the tests over events; ``verdict``. ``.encompassing``, ``.placebos``,
        ``.matched``, ``.vpin`` and ``.events`` have the rest.

    Raises
    ------
    ParameterError
        No horizons, a step or horizon that is no multiple of the bar, or another number of tapes than of replays.
    NotEnoughDataError
        Fewer than a hundred rows of stress with an outcome at the shortest horizon.

    References
    ----------
    Mincer and Zarnowitz (1969), The evaluation of economic forecasts, NBER. Harvey, Leybourne and Newbold (1997),
    doi:10.1016/S0169-2070(96)00719-4.

    Examples
    --------
    >>> import toxmid
    >>> tape = toxmid.simulate("flush", seed=1)
    >>> run = toxmid.replay(trades=tape.trades, quotes=tape.quotes, liquidations=tape.liquidations)
    >>> result = evaluate_forecasts(run, horizons=[60], step="1s")
    >>> result.table.filter(pl.col("estimator") == "implied_mid")["verdict"].item()
    'not enough events (1)'
    """
    sources = list(replay_or_bars) if isinstance(replay_or_bars, list | tuple) else [replay_or_bars]
    made_from = _parallel(tapes, len(sources))
    runs = [bars_of(source, NEEDED) for source in sources]
    seconds = common_seconds(runs)
    stride = _multiple("step", nanoseconds(step, name="step") / _SECOND, seconds)
    ahead = [_multiple("horizons", float(horizon), seconds) for horizon in horizons]
    if not ahead:
        raise ParameterError("no horizons", column="horizons", expected="1 or more")
    marks = [marks_of(tape.get("mark"), formats_by_input(tape.get("format")).get("mark")) for tape in made_from or ()]
    known = marks if marks and all(mark is not None for mark in marks) else [None] * len(runs)
    estimates = [deviations(bars, state_space, extra or {}, mark) for bars, mark in zip(runs, known, strict=True)]
    views = [
        View.joined([View.of(bars, x, steps, seconds, stride) for bars, x in zip(runs, estimates, strict=True)])
        for steps in ahead
    ]
    rows = min(int(view.used.sum()) for view in views)
    if rows < _FEWEST_ROWS:
        raise NotEnoughDataError(
            "too few rows under stress with a later mid", found=rows, expected=f"{_FEWEST_ROWS} or more"
        )
    encompassing = pl.concat(_encompassing(view) for view in views)
    shifted = {} if made_from is None else placebo_views(sources, runs, made_from, views, stride)
    tables = {
        "table": Table(
            pl.concat(_table(view) for view in views), "Later mid on estimates, in deviations from the quoted mid."
        ),
        "encompassing": Table(
            encompassing,
            "Later mid on a mean of the toxic flow (asked) and all others together: 0 adds nothing.",
            in_full=False,
        ),
        "placebos": Table(
            placebos(shifted),
            "The same with liquidations that are not where they were. What an estimate owes to them must go; what "
            "stays, any slow or stale price would have said.",
        ),
        "matched": Table(
            pl.concat(matched(view) for view in views),
            "What comes back of the last minute's move: at the start of events, and after equal moves at equal spreads "
            "without liquidations.",
        ),
        "vpin": Table(
            pl.concat(vpin_regressions(runs, steps, seconds) for steps in ahead),
            "Log realised volatility to come on the rank of VPIN, alone and beside log volume and past volatility; "
            "regressors in standard deviations.",
        ),
        "events": Table(pl.concat(_events(view) for view in views), "Every event.", in_full=False),
    }
    settings = {
        "tapes": len(runs), "bars": sum(bars.height for bars in runs), "step": step,
        "horizons": ", ".join(f"{steps * seconds:g} s" for steps in ahead),
        "stress": f"{sum(int(stress_of(bars).sum()) for bars in runs)} bars",
    }  # fmt: skip
    answers = (*_verdicts(tables["table"].frame), _answer(encompassing), *_placebo_answer(tables["placebos"].frame))
    return ForecastEvaluation("Estimators against what came later", settings, tables, _notes(views), answers)


def _parallel(tapes: Any, runs: int) -> list[Mapping[str, Any]] | None:
    if tapes is None:
        return None
    several = list(tapes) if isinstance(tapes, list | tuple) else [tapes]
    if len(several) != runs:
        raise ParameterError("one mapping of tapes for each replay", column="tapes", found=len(several), expected=runs)
    return several


def _multiple(name: str, length: float, seconds: float) -> int:
    steps = round(length / seconds)
    if steps < 1 or abs(steps * seconds - length) > 1e-6:
        expected = f"n * {seconds:g} s"
        raise ParameterError("no multiple of the bar", column=name, found=f"{length:g} s", expected=expected)
    return steps


# --- tables ----------------------------------------------------------------------------------------------------------


def _table(view: View) -> pl.DataFrame:
    return without_nan(pl.DataFrame([_row(view, name) for name in view.x]))


def _row(view: View, name: str) -> dict[str, Any]:
    y, x, used = view.y, view.x[name], view.used
    fit = view.regression([x], used)
    test = diebold_mariano(y * y - (y - x) ** 2, used, view.steps)
    mid, estimate = view.losses(name)
    events = event_test(mid - estimate)
    return {
        "horizon_s": view.horizon, "estimator": name, "rows": fit.rows, "a": fit.b[0], "b": fit.b[1], "se": fit.se[1],
        "p_b0": fit.p[1], "p_b1": fit.p_of(1, 1.0), "r2_oos": r2_oos(y[used], x[used]), "dm": test.statistic,
        "dm_p": test.p, "events": events.events, "better": events.better, "sign_p": events.sign_p, "t_p": events.t_p,
        "verdict": _verdict(events),
    }  # fmt: skip


def _verdict(test: EventTest) -> str:
    if not test.is_enough:
        return f"not enough events ({test.events})"
    if not test.sign_p < 0.05:
        return "no difference"
    return "better than the quoted mid" if test.better > 0.5 else "worse than the quoted mid"


def _encompassing(view: View) -> pl.DataFrame:
    """Each mean of the toxic flow with the others, with a constant, in all rows and in parts of them."""
    rows = [
        row for asked in _ASKED for when, mask in _parts(view).items() for row in _together(view, asked, when, mask)
    ]
    return without_nan(pl.DataFrame(rows))


def _together(view: View, asked: str, when: str, mask: _Mask) -> list[dict[str, Any]]:
    names = [asked, *(name for name in _COMPANY if name in view.x)]
    used = view.used & mask
    speaking = [name for name in names if view.x[name][used].any()]
    fit = view.regression([view.x[name] for name in speaking], used)
    found = {name: i for i, name in enumerate(speaking, start=1)}
    return [
        {
            "horizon_s": view.horizon, "asked": asked, "when": when, "estimator": name,
            "b": float(fit.b[found[name]]) if name in found else np.nan,
            "se": float(fit.se[found[name]]) if name in found else np.nan,
            "p": float(fit.p[found[name]]) if name in found else np.nan,
            "rows": fit.rows, "events": len(np.unique(view.event[used])),
        }
        for name in names
    ]  # fmt: skip


def _parts(view: View) -> dict[str, _Mask]:
    """When: early or late in an event, at high or low impact per volume, on which side of the mid the toxic mean is."""
    middle = float(np.median(view.excess[view.used]))
    early = view.elapsed <= _EARLY
    one_side = view.x["toxic_mean"] * view.x["implied_mid"] > 0
    return {
        "all": np.ones_like(view.used), f"first {_EARLY} s": early, "later": ~early,
        "high excess impact": view.excess > middle, "low excess impact": view.excess <= middle,
        "toxic mean on the implied side": one_side, "toxic mean elsewhere": ~one_side,
    }  # fmt: skip


def _events(view: View) -> pl.DataFrame:
    """Losses per event, and whether the implied mid was worse by more than a spread."""
    numbers, (first, last) = view.events(), view.bounds()
    losses = {name: view.losses(name) for name in view.x}
    mid, implied = losses["implied_mid"]
    inside = [view.used & (view.event == number) for number in numbers]
    usual = np.array([np.nanmedian(view.spread[rows]) for rows in inside])
    return pl.DataFrame(
        {
            "horizon_s": np.full(len(numbers), view.horizon),
            "ts_start": pl.Series(view.ts[first]).cast(TIME),
            "ts_end": pl.Series(view.ts[last]).cast(TIME),
            "rows": np.array([int(rows.sum()) for rows in inside], dtype=np.int64),
            "mse_mid": mid,
            **{f"mse_{name}": loss for name, (_, loss) in losses.items()},
            "worse_by_a_spread": np.sqrt(implied) - np.sqrt(mid) > usual,
        }
    )


# --- what to say -----------------------------------------------------------------------------------------------------


def _notes(views: Sequence[View]) -> tuple[str, ...]:
    few = [f"{view.horizon:g} s: {len(view.events())}" for view in views if len(view.events()) < FEWEST_EVENTS]
    return (
        *([f"Too few events to claim anything ({FEWEST_EVENTS} wanted): {', '.join(few)}."] if few else []),
        "Rows in which an estimator says nothing count as the quoted mid.",
        "Regressions use rows of stress alone; errors are HAC over twice the horizon, with calm between kept in time. "
        "They are missing where there are fewer than three times as many rows as lags.",
        "Diebold and Mariano's test is unreliable where horizons overlap and events are few; believe the sign test. "
        "Events of one day on several tapes share causes, so that even theirs says too much.",
        "An estimate that beats the quoted mid but keeps its content under a placebo describes slow prices in general.",
    )


def _verdicts(table: pl.DataFrame) -> list[str]:
    """The three rungs beside the quoted mid, a sentence per horizon."""
    sentences = []
    for (horizon,), rows in table.group_by("horizon_s", maintain_order=True):
        enough = rows["events"][0] >= FEWEST_EVENTS
        said = [
            f"{_spaced(row['estimator'])} {row['r2_oos']:+.0%}, smaller in {row['better']:.0%} of the events"
            + (f" ({row['verdict']})" if enough else "")
            for row in rows.filter(pl.col("estimator").is_in(RUNGS)).iter_rows(named=True)
        ]
        doubt = "" if enough else ", too few to claim anything"
        sentences.append(
            f"Squared error saved against the quoted mid {horizon:g} s ahead ({rows['events'][0]} events{doubt}): "
            f"{'; '.join(said)}."
        )
    return sentences


def _spaced(name: Any) -> str:
    return str(name).replace("_", " ")


def _answer(encompassing: pl.DataFrame) -> str:
    """Does the mean price of toxic flow add to the implied mid, and when?"""
    said = []
    for asked, name in (("toxic_mean", "the plain mean"), ("debiased_mean", "the de-biased mean")):
        sure = encompassing.filter(pl.col("estimator") == asked, pl.col("p") < _SURE)
        plus, minus = (_moments(sure.filter(sign * pl.col("b") > 0)) for sign in (1, -1))
        doubt = "" if (sure["events"] >= FEWEST_EVENTS).all() else ", on too few events to claim it"
        said.append(f"{name} adds {plus or 'nowhere'}, and is to be taken off {minus or 'nowhere'}{doubt}")
    others = [name for name in encompassing["estimator"].unique(maintain_order=True) if name not in RUNGS]
    return f"{QUESTION} Beside it and {', '.join(others)}, {said[0]}; {said[1]}."


def _moments(rows: pl.DataFrame) -> str:
    """Horizons, and when."""
    return "; ".join(
        f"{horizon:g} s ahead ({', '.join(group['when'])})"
        for (horizon,), group in rows.group_by("horizon_s", maintain_order=True)
    )


def _placebo_answer(placebos: pl.DataFrame) -> list[str]:
    """Is what the rungs say due to the liquidations?"""
    if placebos.is_empty():
        return ["Placebos were not replayed."]
    first = placebos.filter(pl.col("horizon_s") == pl.col("horizon_s").min())
    said = []
    for estimator, rows in first.group_by("estimator", maintain_order=True):
        saved = {row["placebo"]: f"{row['r2_oos']:+.0%}" for row in rows.iter_rows(named=True)}
        true, *moved = saved.values()
        said.append(f"{_spaced(estimator[0])} {true}, then {', '.join(moved)}")
    names = ", ".join(first["placebo"].unique(maintain_order=True)[1:])
    horizon = f"{first['horizon_s'][0]:g} s"
    return [f"Squared error saved {horizon} ahead, and with the liquidations elsewhere ({names}): {'; '.join(said)}."]
