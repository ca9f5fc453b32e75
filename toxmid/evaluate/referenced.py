"""Estimators on a real tape against another venue's price, where the other venue stayed out of the trouble."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.errors import NotEnoughDataError, ParameterError
from toxmid.evaluate.combining import combine
from toxmid.evaluate.results import Evaluation, Table
from toxmid.evaluate.rivals import Rivals, checked
from toxmid.evaluate.scoring import Extra, Scores, with_extra
from toxmid.evaluate.toxic_weight import WEIGHTS, implied_by_weight
from toxmid.evaluate.witnesses import marks_of, with_witnesses
from toxmid.evaluate.words import referenced_answers
from toxmid.instrument import Instrument
from toxmid.merging import formats_by_input
from toxmid.params import Params
from toxmid.readers import read_trades
from toxmid.replay import Replay, replay
from toxmid.schema import parse_time
from toxmid.tapes import with_sides

__all__ = ["ReferencedEvaluation", "Window", "evaluate_referenced"]

Window = tuple[Any, Any]  # start and end: text, int64 ns or datetime
_BPS: Final = 1e4
_FEWEST_BARS: Final = 60  # of basis
_INPUTS: Final = ("quotes", "book", "liquidations", "mark")


class ReferencedEvaluation(Evaluation):
    """Table of `evaluate_referenced`, with what lies under it."""

    kind: ClassVar[str] = "referenced"

    @property
    def coverage(self) -> pl.DataFrame:
        """How often the 90 % interval holds the reference, by window, and how old the reference was."""
        return self.tables["coverage"].frame

    @property
    def encompassing(self) -> pl.DataFrame:
        """What the mean price of toxic flow adds to the implied mid, by window; one tape, so no errors of it."""
        return self.tables["encompassing"].frame

    @property
    def ablation(self) -> pl.DataFrame:
        """What a weight of the way to the de-biased toxic mean does to the implied mid; empty for a finished replay."""
        return self.tables["ablation"].frame


def evaluate_referenced(
    trades: Any,
    truth_trades: Any,
    windows: Mapping[str, Window] | Sequence[Window],
    basis_window: Window,
    *,
    quotes: Any = None,
    book: Any = None,
    liquidations: Any = None,
    mark: Any = None,
    reference: Any = None,
    split_reference: bool = False,
    params: Params | None = None,
    instrument: Instrument | None = None,
    format: str | Mapping[str, str] | None = None,
    training: Sequence[Any] = (),
    state_space: bool = True,
    ablation: Sequence[float] = WEIGHTS,
    extra: Extra | None = None,
) -> ReferencedEvaluation:
    """Judge every estimator and rival on a real tape, another venue's price being the truth.

    The truth at the end of a bar is the last trade of the other venue at or before it, times the usual ratio of both
    venues: the median, over the basis window, of the log of the tape's own mid over the other venue's last price.

    Parameters
    ----------
    trades : path, glob, directory, list, table, or Replay
        The tape, as `toxmid.replay` takes it; a `Replay` is used as it is.
    truth_trades : path, glob, directory, list, or table
        Trades of the venue that serves as truth.
    windows : mapping of str to (start, end), or sequence of (start, end)
        What to judge: bars with ``start < ts <= end``.
    basis_window : (start, end)
        A calm time before, for the basis, and for what rivals have to learn.
    quotes, book, liquidations, mark, params, instrument, format
        As for `toxmid.replay`; the format of the venue of the truth is that of ``"truth"``.
    reference : path, glob, directory, list, table, or mapping of str to such, optional
        Trades of yet another venue, given to the estimator; the rival made of it joins the table.
    split_reference : bool
        Give the estimator every second trade of the venue of the truth as a reference; the others are the truth.
    training : sequence of bars
        Tapes with episodes from which propagator, reversal and state space learn as well.
    state_space : bool
        Whether to fit the state space (some seconds).
    ablation : sequence of float
        Weights of the way to the de-biased toxic mean (``weight_toxic``) that are tried as well; a replay each.
    extra : mapping of str to function, optional
        Further estimators: each takes bars and gives a Series of prices, null where it says nothing.

    Returns
    -------
    ReferencedEvaluation
        ``.table`` has a row per window and estimator: ``rmse_bps``, its ``ratio`` to that of the tape's own mid,
        ``bias_bps`` (mean error), ``seconds`` judged, and ``fallback``, the share of them in which the estimator said
        nothing and the mid stood in. ``.coverage``, ``.encompassing`` and ``.ablation`` have the rest, ``.answers``
        says it in words.

    Raises
    ------
    ParameterError
        No windows, a window that ends before it starts, two references, or settings of a replay together with a
        `Replay`.
    NotEnoughDataError
        Fewer than sixty bars of the basis window have a mid and a truth, or a window has none.
    FileError, DataError
        What is wrong with the tapes.

    Notes
    -----
    One tape is one event: seconds within it are anything but independent, so no interval is given. A constant basis
    is an assumption; so is that the other venue was right.

    Examples
    --------
    >>> import toxmid
    >>> tape = toxmid.simulate("flush", seed=1)
    >>> other = tape.truth.select("ts", price="mid", size=pl.lit(1.0), side=pl.lit(0, pl.Int8))
    >>> windows = {"episode": ("2025-01-01T00:11:00", "2025-01-01T00:20:00")}
    >>> result = evaluate_referenced(tape.trades, other, windows, ("2025-01-01T00:00:00", "2025-01-01T00:10:00"),
    ...                              quotes=tape.quotes, liquidations=tape.liquidations, state_space=False)
    >>> result.table.columns
    ['window', 'estimator', 'seconds', 'rmse_bps', 'ratio', 'bias_bps', 'fallback']
    """
    named = _named(windows)
    formats = _formats(format)
    truth_tape, venues = _elsewhere(truth_trades, reference, split_reference, formats)
    own = {name: text for name, text in formats.items() if name != "truth"}
    settings = {"params": params, "instrument": instrument, "format": own or None}
    given = {"quotes": quotes, "book": book, "liquidations": liquidations, "mark": mark, "reference": _only(venues)}
    bars = checked(_replayed(trades, {**given, **settings}))
    truth = _with_basis(bars, _last_price(bars, truth_tape), _bounds("basis_window", basis_window))
    calm = bars.filter(_inside(bars, _bounds("basis_window", basis_window)))
    rivals = Rivals.fit([calm], training, state_space=state_space)
    estimates = with_witnesses(rivals.estimates(bars), bars, marks_of(mark, formats.get("mark")), venues)
    scores = Scores.of(with_extra(estimates, bars, extra or {}), bars, truth["price"])
    masks = {name: _inside(bars, bounds) for name, bounds in named.items()}
    for name, mask in masks.items():
        if not scores.judged(mask).any():
            raise NotEnoughDataError(f"no bar of the window {name!r} has a mid and a truth")
    weights = () if isinstance(trades, Replay) else ablation
    tapes = {"trades": trades, **given, "format": own or None}
    weighted = implied_by_weight(tapes, bars, weights, params, instrument)
    tried = _ablation(scores, bars, masks if weights else {}, weighted)
    inputs = ["trades", *(name for name in _INPUTS if given[name] is not None), *venues]
    about = {
        "inputs": "+".join(inputs), "basis": f"{float(truth['basis_bps'][0]):.2f} bps",
        "basis_window": " – ".join(map(str, basis_window)),
        **{name: f"{start} – {end}" for name, (start, end) in _as_given(windows).items()},
    }  # fmt: skip
    return _result(scores, masks, truth, tried, about)


def _formats(format: str | Mapping[str, str] | None) -> dict[str, str]:
    """Formats by input, that of the truth among them."""
    if isinstance(format, str):
        return {**formats_by_input(format), "truth": format}
    named = dict(format or {})
    truth = {name: named.pop(name) for name in ("truth",) if name in named}
    return {**formats_by_input(named), **truth}


def _elsewhere(
    truth: Any, reference: Any, split: bool, formats: Mapping[str, str]
) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """Trades of the venue of the truth, and those that the estimator may see."""
    if split and reference is not None:
        raise ParameterError("either another reference or half of the truth", column="reference")
    trades = _trades_of(truth, formats.get("truth"))
    if split:
        every_second = pl.int_range(pl.len()) % 2 == 1
        return trades.filter(~every_second), {"half of the truth's venue": trades.filter(every_second)}
    named = reference if isinstance(reference, Mapping) else {"reference": reference}
    other = formats.get("reference")
    return trades, {name: _trades_of(source, other) for name, source in named.items() if source is not None}


def _only(venues: Mapping[str, pl.DataFrame]) -> Any:
    """One venue as a table, several by name."""
    return next(iter(venues.values()), None) if len(venues) < 2 else dict(venues)


def _is_files(source: Any) -> bool:
    return isinstance(source, str | os.PathLike | list | tuple)


def _trades_of(source: Any, format: str | None) -> pl.DataFrame:
    return with_sides(read_trades(source, format=format) if _is_files(source) else source)


def _replayed(source: Any, settings: Mapping[str, Any]) -> Any:
    if isinstance(source, Replay):
        given = [name for name, value in settings.items() if value is not None]
        if given:
            raise ParameterError("a Replay has its settings already", column=given[0])
        return source
    return replay(trades=source, **settings)


def _as_given(windows: Mapping[str, Window] | Sequence[Window]) -> dict[str, Window]:
    if isinstance(windows, Mapping):
        return dict(windows)
    return {f"{start} – {end}": (start, end) for start, end in windows}


def _named(windows: Mapping[str, Window] | Sequence[Window]) -> dict[str, tuple[int, int]]:
    named = {name: _bounds(name, window) for name, window in _as_given(windows).items()}
    if not named:
        raise ParameterError("no windows", column="windows", expected="1 or more")
    return named


def _bounds(name: str, window: Window) -> tuple[int, int]:
    start, end = map(parse_time, window)
    if end <= start:
        raise ParameterError(f"the window {name!r} ends before it starts", found=window)
    return start, end


def _inside(bars: pl.DataFrame, bounds: tuple[int, int]) -> npt.NDArray[np.bool_]:
    ts = bars["ts"].to_physical().to_numpy()
    return np.asarray((ts > bounds[0]) & (ts <= bounds[1]), dtype=np.bool_)


def _last_price(bars: pl.DataFrame, trades: pl.DataFrame) -> pl.DataFrame:
    """Last price of the other venue at or before the end of every bar, and its age in seconds."""
    aged = bars.select("ts").join_asof(trades.select("ts", "price", traded="ts"), on="ts")
    return aged.with_columns(age=(pl.col("ts") - pl.col("traded")).dt.total_nanoseconds() / 1e9)


def _with_basis(bars: pl.DataFrame, last: pl.DataFrame, bounds: tuple[int, int]) -> pl.DataFrame:
    """The other venue's price in terms of the tape's own market."""
    ratio = (bars["mid"].log() - last["price"].log()).filter(pl.Series(_inside(bars, bounds))).drop_nulls()
    if len(ratio) < _FEWEST_BARS:
        raise NotEnoughDataError(
            "too few bars with both prices in the basis window", found=len(ratio), expected=f"{_FEWEST_BARS} or more"
        )
    basis = float(np.median(ratio.to_numpy()))
    return last.with_columns(price=pl.col("price") * np.exp(basis), basis_bps=pl.lit(_BPS * basis))


def _result(
    scores: Scores,
    masks: Mapping[str, npt.NDArray[np.bool_]],
    truth: pl.DataFrame,
    ablation: pl.DataFrame,
    settings: Mapping[str, Any],
) -> ReferencedEvaluation:
    main = pl.concat(_window_table(scores, name, mask) for name, mask in masks.items())
    coverage = pl.DataFrame([_coverage_row(scores, name, mask, truth) for name, mask in masks.items()])
    encompassing = pl.concat(
        combine([scores.moments(mask)], scores.company, group={"window": window}) for window, mask in masks.items()
    )
    tables = {
        "table": Table(
            main,
            "Root mean square distance from the other venue's price plus basis, and its ratio to the quoted mid's.",
        ),
        "coverage": Table(
            coverage,
            "How often the 90 % interval of the implied mid holds the reference, and how old its last trade was.",
        ),
        "ablation": Table(
            ablation,
            "Error of the implied mid with a weight of the way to the de-biased toxic mean, bps and as a ratio.",
        ),
        "encompassing": Table(
            encompassing, "Reference less quoted mid regressed on estimates less quoted mid, together.", in_full=False
        ),
    }
    notes = (
        "One tape is one event: seconds within it are not independent, so there are no intervals and no tests.",
        "The truth is another venue's last price plus a constant basis; where that venue was in trouble, it is none.",
        "Where an estimator says nothing the quoted mid stands in; `fallback` is the share of such seconds.",
    )
    answers = referenced_answers(main, coverage, encompassing, ablation)
    return ReferencedEvaluation("Estimators against another venue", settings, tables, notes, answers)


def _ablation(
    scores: Scores,
    bars: pl.DataFrame,
    masks: Mapping[str, npt.NDArray[np.bool_]],
    weighted: Mapping[float, pl.Series],
) -> pl.DataFrame:
    rows = []
    for window, mask in masks.items():
        errors = [math.sqrt(scores.error_of(implied, bars, mask)) for implied in weighted.values()]
        own = math.sqrt(scores.error_of(bars["mid"], bars, mask))
        rows += [
            {"window": window, "weight": weight, "rmse_bps": error, "ratio": error / own,
             "against_without": error / errors[0]}
            for weight, error in zip(weighted, errors, strict=True)
        ]  # fmt: skip
    columns = ("weight", "rmse_bps", "ratio", "against_without")
    return pl.DataFrame(rows, schema={"window": pl.String, **dict.fromkeys(columns, pl.Float64)})


def _window_table(scores: Scores, name: str, mask: npt.NDArray[np.bool_]) -> pl.DataFrame:
    table = scores.table(mask).with_columns(rmse_bps=pl.col("mse").sqrt())
    own = table.filter(pl.col("estimator") == "mid")["rmse_bps"][0]
    return table.select(
        "estimator", "seconds", "rmse_bps", (pl.col("rmse_bps") / own).alias("ratio"), pl.col("bias").alias("bias_bps"),
        "fallback",
    ).insert_column(0, pl.Series("window", [name] * table.height)).sort("rmse_bps", maintain_order=True)  # fmt: skip


def _coverage_row(
    scores: Scores, name: str, mask: npt.NDArray[np.bool_], truth: pl.DataFrame
) -> dict[str, str | int | float]:
    seconds, covered, half_width = scores.coverage(mask)
    age = truth["age"].to_numpy()[mask]
    return {
        "window": name, "seconds": seconds, "covered": covered, "half_width_bps": half_width,
        "age_median_s": float(np.nanmedian(age)), "age_max_s": float(np.nanmax(age)),
    }  # fmt: skip
