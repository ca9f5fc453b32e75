"""Calibration: what weights the terms of the implied mid should have, learnt from past replays.

The implied mid differs from the quoted mid by terms that add up (bps of log price)::

    1e4 ln(implied / mid) = a A + v V + c C + t (1 - k) (D - a A - v V - c C)

with ``A`` the asymmetry of a torn spread, ``V`` what volume does not support, ``C`` what is not credible, ``k`` the
credibility of the price of the moment and ``D = 1e4 ln(debiased_mean / mid)`` the way to the de-biased mean of the
toxic flow. `fit` learns the four weights ``a, v, c >= 0`` and ``0 <= t <= 1``. The target of a second is where the mid
stands *later*: its mean around a horizon. No truth is needed, but the later mid is none where the market is still torn
by then: a dislocation of half an hour, seen with a horizon of five minutes, teaches that the quoted mid was right.

How it learns
-------------
Events, not seconds, are the evidence. An event is a spell in which a term is at work; spells less than five minutes
apart are one, and spells of several replays at the same time are one too, unless it is said that they are independent.
Every event has the same say: the mean square error of its seconds, divided by its scale (variance of the target in calm
seconds plus the mean squared spread of the event). The seconds after it, until the next event, count as much as the
event itself. There only the toxic term can be at work, and what it learnt in stress alone would be paid for in calm.

Given ``t`` the problem is linear in the other weights: non-negative least squares [1]_, inside a search for ``t``. The
weights are drawn towards the shipped ones as by independent normal priors around them; how wide these are is chosen by
cross-validation over events. Whether what was learnt may replace the shipped weights is decided by a second
cross-validation around the first, each event being predicted from all others: only where its gain exceeds the standard
error of the gain over events. Confidence is that of a bootstrap of whole events [2]_.

What the shipped weights rest on
--------------------------------
They were not learnt by `fit`. One, one, one and nought, and the constants of the engine behind them, are round numbers
on plateaus. They were chosen on one real cascade (10 October 2025, five coin-margined perpetuals, trades only, judged
by the spot price of the same coins) and on simulated markets, whose maker's mid is known. One cascade is one event.

References
----------
.. [1] Lawson, C. L. and Hanson, R. J. (1995). Solving Least Squares Problems. SIAM. doi:10.1137/1.9781611971217
.. [2] Cameron, A. C., Gelbach, J. B. and Miller, D. L. (2008). Bootstrap-based improvements for inference with
   clustered errors. Review of Economics and Statistics 90. doi:10.1162/rest.90.3.414
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.optimize import minimize_scalar, nnls
from statsmodels.iolib.summary import Summary
from statsmodels.iolib.table import SimpleTable
from statsmodels.iolib.tableformatting import fmt_2cols, fmt_params

from toxmid import output
from toxmid.durations import nanoseconds
from toxmid.errors import DataError, FileError, NotEnoughDataError, ParameterError
from toxmid.instrument import Instrument
from toxmid.params import Params
from toxmid.replay import Replay
from toxmid.tapes import as_frame

__all__ = ["WEIGHTS", "FitResult", "fit"]

Simultaneous = Literal["one", "apart"]

WEIGHTS: Final = ("weight_asymmetry", "weight_volume", "weight_credibility", "weight_toxic")
FORMAT: Final = "toxmid-coefficients"
FORMAT_VERSION: Final = 1

_SECOND: Final = 1_000_000_000
_BPS: Final = 1e4
_TERMS: Final = ("asymmetry_bps", "volume_bps", "credibility_bps")
_COLUMNS: Final = ("ts", "mid", "spread_bps", *_TERMS, "credibility", "debiased_mean")
_EVENT_GAP: Final = 300 * _SECOND
_ENOUGH_EVENTS: Final = 30  # below this nobody should claim anything
_FEWEST_CALM_BARS: Final = 60  # of which a variance can be taken
_FOLDS: Final = 5
_PRIOR_SDS: Final = (10.0, 3.0, 1.0, 0.5, 0.25, 0.1, 0.03)  # of a weight around its default; 10 is none at all
_TOXIC_GRID: Final = np.linspace(0.0, 1.0, 6)
_IDENTITY: Final = np.eye(3)
_LEVELS: Final = np.linspace(0.0, 1.0, 401)  # quantiles kept of the bootstrap
# Parameters that say how bars are cut, ranked and named, or how wide the interval is. All others shape the terms.
_NOT_OF_TERMS: Final = (
    "bar", "bucket", "volume_days", "window", "rank_days", "weight_", "interval_", "stress_", "widening_",
    "move_sigmas", "cascade_rate", "depth_bps", "halt",
)  # fmt: skip

_SHIPPED: Final = np.array([getattr(Params(), name) for name in WEIGHTS], dtype=np.float64)

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


# --- result ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """Weights of the implied mid, how sure they are, and what they were learnt on.

    Attributes
    ----------
    params : dict of str to float
        The weights to use, by the names of their fields in `Params`: `fitted` where cross-validation says that they are
        better (or where that was forced), else the shipped ones.
    fitted : dict of str to float
        What was learnt, whatever became of it.
    bse : dict of str to float
        Standard errors of `fitted`, by a bootstrap of whole events.
    quantiles : dict of str to tuple of float
        Quantiles of that bootstrap on an even grid from 0 to 1.
    adopted, forced : bool
        Whether `params` are `fitted`, and whether cross-validation was overruled for it.
    r2_mid, r2_mid_defaults : float
        ``1 - error / error of the quoted mid`` in events, of weights learnt without the event that is judged, and of
        the shipped ones. Errors are mean squares against the later mid, in units of the event's scale.
    r2_defaults : float
        ``1 - error / error of the shipped weights``, all seconds, out of sample.
    gain, gain_se : float
        Mean over events of the error that the shipped weights make beyond the learnt ones, out of sample, and its
        standard error: the decision rests on these.
    better : float
        Share of events in which the learnt weights erred less.
    calm_error : float
        Error between events as a ratio to the quoted mid's there: 1 where the weights do nothing in calm.
    prior_sd : float
        Standard deviation of the priors that cross-validation chose; 10 hardly binds, 0.03 binds all.
    events, spells, rows : int
        Independent events; spells that make them up; bars in these.
    left_out : int
        Spells in which the implied mid never left the usual spread, or whose later mid is not known.
    horizon, averaging : str
        The target: the mean mid over `averaging` around the moment `horizon` later.
    feed, instruments, markets : tuple of str
        Kinds of input (``"unknown"`` for a bare table), ``"linear"`` or ``"inverse"``, venue and symbol.
    period : tuple of str
        First and last bar, UTC.
    fitted_on : tuple of str
        The replays.
    engine : dict
        All parameters of the engine that made them, without the weights.
    resamples, seed : int
        Of the bootstrap.
    version : str
        Of toxmid.
    warnings : tuple of str
        What speaks against trusting this.
    """

    params: dict[str, float]
    fitted: dict[str, float]
    bse: dict[str, float]
    quantiles: dict[str, tuple[float, ...]] = dataclasses.field(repr=False)
    adopted: bool
    forced: bool
    r2_mid: float
    r2_mid_defaults: float
    r2_defaults: float
    gain: float
    gain_se: float
    better: float
    calm_error: float
    prior_sd: float
    events: int
    spells: int
    rows: int
    left_out: int
    horizon: str
    averaging: str
    feed: tuple[str, ...]
    instruments: tuple[str, ...]
    markets: tuple[str, ...]
    period: tuple[str, str]
    fitted_on: tuple[str, ...]
    engine: dict[str, Any] = dataclasses.field(repr=False)
    resamples: int
    seed: int
    version: str
    warnings: tuple[str, ...]

    def conf_int(self, alpha: float = 0.05) -> dict[str, tuple[float, float]]:
        """Percentile intervals of `fitted`, from the bootstrap of events.

        Parameters
        ----------
        alpha : float
            One minus the confidence, between 0 and 1.

        Returns
        -------
        dict of str to (float, float)

        Raises
        ------
        ParameterError
            `alpha` outside its range.
        """
        if not 0.0 < alpha < 1.0:
            raise ParameterError("out of range", column="alpha", found=alpha, expected="between 0 and 1")
        ends = (alpha / 2.0, 1.0 - alpha / 2.0)
        intervals = {name: np.interp(ends, _LEVELS, values) for name, values in self.quantiles.items()}
        return {name: (float(low), float(high)) for name, (low, high) in intervals.items()}

    def apply(self, params: Params | None = None) -> Params:
        """Parameters with these weights.

        Parameters
        ----------
        params : Params, optional
            Where all else comes from. None: the parameters with which the replays were made that this was learnt on.

        Returns
        -------
        Params
        """
        return (Params.from_dict(self.engine) if params is None else params).replace(**self.params)

    def summary(self) -> Summary:
        """Table of the fit (statsmodels Summary), followed by what it rests on."""
        summary = Summary()
        bounds = self.conf_int()
        rows = [
            [f"{value:.4f}" for value in (self.fitted[name], self.bse[name], *bounds[name], self.params[name])]
            for name in WEIGHTS
        ]
        columns = ["fitted", "std err", "[0.025", "0.975]", "in use"]
        names = [name.removeprefix("weight_") for name in WEIGHTS]
        summary.tables += [self._head(), SimpleTable(rows, columns, names, txt_fmt=fmt_params)]
        summary.add_extra_txt(self._notes())
        return summary

    def _head(self) -> SimpleTable:
        left = {
            "Events:": f"{self.events}", "Spells:": f"{self.spells}", "Bars in events:": f"{self.rows}",
            "Target:": f"{self.averaging} around {self.horizon}", "Prior sd:": f"{self.prior_sd:g}",
            "Resamples:": f"{self.resamples}",
        }  # fmt: skip
        right = {
            "  R2 vs mid, fitted:": f"{self.r2_mid:.4f}", "  R2 vs mid, shipped:": f"{self.r2_mid_defaults:.4f}",
            "  R2 vs shipped:": f"{self.r2_defaults:.4f}", "  Gain (std err):": f"{self.gain:.3g} ({self.gain_se:.2g})",
            "  Better in:": f"{self.better:.0%} of events", "  Calm error vs mid:": f"{self.calm_error:.4f}",
        }  # fmt: skip
        head, other = (
            SimpleTable(
                [[value] for value in facts.values()], stubs=list(facts), title="Calibration of the implied mid",
                txt_fmt=fmt_2cols,
            )
            for facts in (left, right)
        )  # fmt: skip
        head.extend_right(other)
        return head

    def _notes(self) -> list[str]:
        markets = ", ".join(self.markets) or "unnamed"
        lines = [
            f"{self._verdict()} R2 and gain are out of sample: each event from all others.",
            f"Fitted on {', '.join(self.fitted_on)}.",
            f"Market: {markets}; {', '.join(self.instruments)}; feed: {', '.join(self.feed)}.",
            f"Period: {self.period[0]} to {self.period[1]}. toxmid {self.version}.",
        ]
        if self.left_out:
            lines.append(f"Left out: {self.left_out} spells within the usual spread or without a later mid.")
        return [*lines, *(f"Warning: {warning}" for warning in self.warnings)]

    def _verdict(self) -> str:
        if self.forced:
            return "The fitted weights are in use although cross-validation does not say that they are better."
        if self.adopted:
            return "The fitted weights are in use: better than the shipped ones by more than a standard error."
        return "The shipped weights stay: the fitted ones are not better by more than a standard error."

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything as JSON, whole or not at all.

        Raises
        ------
        FileError
            It cannot be written.
        """
        entries = {"format": FORMAT, "format_version": FORMAT_VERSION, **output.to_json(self)}
        output.write_whole(path, (json.dumps(entries, indent=2, ensure_ascii=False) + "\n").encode())
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FitResult:
        """Read back what `save` wrote.

        Raises
        ------
        FileError
            The file is missing, is no such file, or is damaged.
        """
        entries = _read_json(Path(path))
        names = [field.name for field in dataclasses.fields(cls)]
        strange = sorted(set(names) ^ set(entries))
        if strange:
            raise FileError("entries are missing or unknown", file=str(path), found=strange)
        try:
            return cls(**{name: _from_json(name, entries[name]) for name in names})._checked()
        except (TypeError, AttributeError, ValueError) as error:
            raise FileError(f"does not hold coefficients: {error}", file=str(path)) from error

    def _checked(self) -> FitResult:
        """Itself, if it can be used."""
        by_weight = (self.params, self.fitted, self.bse, self.quantiles)
        if any(set(entries) != set(WEIGHTS) for entries in by_weight):
            raise ParameterError("weights are missing or unknown", expected=", ".join(WEIGHTS))
        self.apply()
        self.conf_int()
        return self


def _from_json(name: str, value: Any) -> Any:
    """An entry as it was before JSON made lists of tuples and null of what is not a number."""
    if name == "quantiles":
        return {weight: tuple(float(level) for level in levels) for weight, levels in value.items()}
    if name in ("gain_se", "calm_error") and value is None:
        return math.nan
    return tuple(value) if isinstance(value, list) else value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        entries = json.loads(path.read_bytes())
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}", file=str(path)) from error
    except ValueError as error:
        raise FileError(f"is not valid JSON: {error}", file=str(path)) from error
    if not isinstance(entries, dict) or entries.pop("format", None) != FORMAT:
        raise FileError("is no file of coefficients", file=str(path), expected=f'"format": "{FORMAT}"')
    version = entries.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise FileError(
            "was written in another format; use the toxmid that wrote it",
            file=str(path), found=version, expected=FORMAT_VERSION,
        )  # fmt: skip
    return entries


# --- fit -------------------------------------------------------------------------------------------------------------


def fit(
    replays: Any,
    *,
    horizon: str = "300s",
    averaging: str = "60s",
    learn: Sequence[str] = WEIGHTS,
    simultaneous: Simultaneous = "one",
    min_events: int = 5,
    bootstrap: int = 1000,
    seed: int = 0,
    force: bool = False,
) -> FitResult:
    """Learn the weights of the implied mid from past replays.

    Parameters
    ----------
    replays : path, Replay, table of bars, or iterable of these
        Output directories (or directories of them), replays, or bars. Weights other than one that a replay was made
        with are divided out; bare tables are taken to be made with the default parameters.
    horizon : str
        How much later the mid is taken to be right.
    averaging : str
        Length of time around that moment over which the mid is averaged.
    learn : sequence of str
        Which of `WEIGHTS` to learn; the others stay as shipped.
    simultaneous : {"one", "apart"}
        What spells of several replays at the same time are: ``"one"`` event, as several coins in one crash, or events
        that have nothing to do with each other, as simulations.
    min_events : int
        Fewest events to learn from, 3 or more.
    bootstrap : int
        Resamples of the events, 2 or more.
    seed : int
        Of the bootstrap.
    force : bool
        Use what was learnt even where cross-validation does not say that it is better.

    Returns
    -------
    FitResult

    Raises
    ------
    NotEnoughDataError
        Fewer events than `min_events`.
    ParameterError
        A setting out of range, replays of differing engine parameters, or one made with a weight of 0 for a term other
        than the toxic one: that term cannot be recovered.
    DataError, FileError
        A table that is no table of bars, a directory that is no output.

    Notes
    -----
    What the corridor of another venue took off is left aside: the weights are those of the terms before it.

    Examples
    --------
    >>> import toxmid
    >>> def played(seed):
    ...     tape = toxmid.simulate("flush", seed=seed, duration=1800.0)
    ...     return toxmid.replay(trades=tape.trades, quotes=tape.quotes, liquidations=tape.liquidations)
    >>> result = fit((played(seed) for seed in range(8)), simultaneous="apart", bootstrap=50)
    >>> result.events, sorted(result.params) == sorted(WEIGHTS)
    (8, True)
    >>> result.warnings
    ('8 events, fewer than 30: too few to claim anything',)
    """
    settings = _checked_settings(horizon, averaging, learn, simultaneous, min_events, bootstrap)
    parts = [_part_of(source, settings) for source in _sources(replays)]
    _check_alike(parts)
    spells = [spell for part in parts for spell in part.spells]
    left_out = sum(part.left_out for part in parts)
    events = _Events.of(spells, simultaneous)
    if len(events.error) < min_events:
        raise NotEnoughDataError(
            "too few events to learn from", found=f"{len(events.error)} in {len(parts)} replays ({left_out} left out)",
            expected=f"{min_events} or more",
        )  # fmt: skip
    judged = _cross_validate(events.error, settings.learnt)
    prior_sd = _choose_prior(events.error, settings.learnt)
    fitted = _solve(events.error.total(), len(events.error), settings.learnt, prior_sd)
    draws = _bootstrap(events.error, settings.learnt, prior_sd, bootstrap, seed)
    better = judged.gain > judged.gain_se
    return FitResult(
        params=_named(fitted if better or force else _SHIPPED),
        fitted=_named(fitted),
        bse=_named(draws.std(axis=0, ddof=1)),
        quantiles={name: tuple(map(float, np.quantile(draws[:, i], _LEVELS))) for i, name in enumerate(WEIGHTS)},
        adopted=better or force,
        forced=force and not better,
        **_scores(events, judged, fitted),
        prior_sd=prior_sd,
        events=len(events.error),
        spells=len(spells),
        rows=sum(spell.rows for spell in spells),
        left_out=left_out,
        horizon=horizon,
        averaging=averaging,
        **_provenance(parts),
        resamples=bootstrap,
        seed=seed,
        warnings=tuple(_warnings(events, parts)),
    )


@dataclass(frozen=True)
class _Settings:
    horizon: int
    averaging: int
    learnt: _Mask


def _checked_settings(
    horizon: str, averaging: str, learn: Sequence[str], simultaneous: str, min_events: int, bootstrap: int
) -> _Settings:
    ahead, width = nanoseconds(horizon, name="horizon"), nanoseconds(averaging, name="averaging")
    if width > 2 * ahead:
        raise ParameterError("the target would begin in the past", column="averaging", found=averaging)
    strange = [name for name in learn if name not in WEIGHTS]
    if strange or not learn:
        raise ParameterError("no such weight", column="learn", found=strange, expected=f"some of {', '.join(WEIGHTS)}")
    if simultaneous not in get_args(Simultaneous):
        expected = " or ".join(get_args(Simultaneous))
        raise ParameterError("unknown word", column="simultaneous", found=simultaneous, expected=expected)
    for name, value, least in (("min_events", min_events, 3), ("bootstrap", bootstrap, 2)):
        if value < least:
            raise ParameterError("out of range", column=name, found=value, expected=f"{least} or more")
    return _Settings(ahead, width, np.array([name in learn for name in WEIGHTS]))


def _named(weights: _Floats) -> dict[str, float]:
    return {name: float(weight) for name, weight in zip(WEIGHTS, weights, strict=True)}


def _scores(events: _Events, judged: _Judged, fitted: _Floats) -> dict[str, Any]:
    """What the result says about errors out of sample, and about calm."""
    quoted, calm = float(events.stress.yy.sum()), float(events.calm.yy.sum())
    return {
        "r2_mid": 1.0 - float(events.stress.losses(judged.weights).sum()) / quoted,
        "r2_mid_defaults": 1.0 - float(events.stress.losses(_SHIPPED).sum()) / quoted,
        "r2_defaults": 1.0 - float(events.error.losses(judged.weights).sum() / events.error.losses(_SHIPPED).sum()),
        "gain": judged.gain,
        "gain_se": judged.gain_se,
        "better": judged.better,
        "calm_error": float(events.calm.losses(fitted).sum()) / calm if calm > 0 else math.nan,
    }


def _provenance(parts: Sequence[_Part]) -> dict[str, Any]:
    """What was fitted on, as it stands in the result."""
    kinds = {kind for part in parts for kind in part.source.feed}
    engine = parts[0].source.params.to_dict()
    return {
        "feed": tuple(sorted(kinds)),
        "instruments": tuple(sorted({part.source.instrument for part in parts})),
        "markets": tuple(sorted({part.source.market for part in parts if part.source.market})),
        "period": (_moment(min(part.start for part in parts)), _moment(max(part.end for part in parts))),
        "fitted_on": tuple(sorted(part.source.name for part in parts)),
        "engine": {name: value for name, value in engine.items() if name not in WEIGHTS},
        "version": output.versions()["toxmid"],
    }


def _moment(ns: int) -> str:
    return dt.datetime.fromtimestamp(ns // _SECOND, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _warnings(events: _Events, parts: Sequence[_Part]) -> Iterator[str]:
    count = len(events.error)
    if count < _ENOUGH_EVENTS:
        yield f"{count} events, fewer than {_ENOUGH_EVENTS}: too few to claim anything"
    if len({part.source.feed for part in parts}) > 1:
        yield "replays of several kinds of feed together; weights are specific to a feed"
    if len({part.source.instrument for part in parts}) > 1:
        yield "linear and inverse instruments together"


# --- replays ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """Bars, and how they came about."""

    bars: pl.DataFrame
    params: Params
    name: str
    feed: tuple[str, ...] = ("unknown",)
    instrument: str = "unknown"
    market: str = ""

    @classmethod
    def of_replay(cls, replay: Replay, name: str | None) -> _Source:
        instrument: Instrument = replay.instrument
        market = " ".join(part for part in (instrument.venue, instrument.symbol) if part)
        return cls(
            bars=replay.bars,
            params=replay.params,
            name=name or market or "a replay in memory",
            feed=tuple(sorted({entry["kind"] for entry in replay.manifest["inputs"]})),
            instrument="inverse" if instrument.inverse else "linear",
            market=market,
        )


def _sources(replays: Any) -> Iterator[_Source]:
    """One replay after the other, so that one is in memory at a time."""
    if isinstance(replays, str | os.PathLike):
        for directory in _directories(Path(replays)):
            yield _Source.of_replay(Replay.load(directory), str(directory))
    elif isinstance(replays, Replay):
        yield _Source.of_replay(replays, None)
    elif isinstance(replays, pl.LazyFrame) or hasattr(replays, "__arrow_c_stream__"):
        yield _Source(as_frame(replays), Params(), "a table of bars")
    elif hasattr(replays, "__iter__"):
        for replay in replays:
            yield from _sources(replay)
    else:
        expected = "directories, replays or tables of bars"
        raise DataError("nothing to learn from", found=type(replays).__name__, expected=expected)


def _directories(path: Path) -> list[Path]:
    """An output directory itself, or all those inside."""
    inside = [] if (path / output.MANIFEST).is_file() else sorted(path.rglob(output.MANIFEST))
    return [manifest.parent for manifest in inside] or [path]


def _shaping(params: Params) -> dict[str, Any]:
    """The parameters on which the terms depend."""
    return {name: value for name, value in params.to_dict().items() if not name.startswith(_NOT_OF_TERMS)}


def _check_alike(parts: Sequence[_Part]) -> None:
    """Terms that were made with other constants are other terms."""
    if not parts:
        raise NotEnoughDataError("no replays to learn from")
    first = _shaping(parts[0].source.params)
    for part in parts[1:]:
        other = _shaping(part.source.params)
        differing = [name for name in first if first[name] != other[name]]
        if differing:
            raise ParameterError(
                f"{part.source.name} was made with other parameters than {parts[0].source.name}",
                column=differing[0], found=other[differing[0]], expected=first[differing[0]],
            )  # fmt: skip


# --- rows and events -------------------------------------------------------------------------------------------------

# The gap is linear in seven columns, with coefficients that the four weights make: the terms A, V, C; the same times
# 1 - credibility, which the toxic term takes back; and the way D times 1 - credibility.
_DESIGN: Final = 7


@dataclass(frozen=True, eq=False)
class _Rows:
    """What one replay says, a row a bar."""

    ts: _Ints
    x: _Floats  # (n, 7), NaN until ready
    y: _Floats  # bps, NaN where the later mid is not known
    spread: _Floats  # bps
    known: _Mask  # all of the above is known
    active: _Mask  # a term is at work
    calm: _Mask  # none is, nor until the time of the target is over


def _rows_of(source: _Source, settings: _Settings) -> _Rows:
    bars, step = _checked_bars(source.bars)
    columns = {name: bars[name].to_numpy() for name in _COLUMNS}
    weights = [getattr(source.params, name) for name in WEIGHTS[:3]]
    for name, weight in zip(WEIGHTS, weights, strict=False):
        if weight == 0.0:
            raise ParameterError(f"{source.name} was made without this term", column=name, found=weight, expected="> 0")
    terms = np.stack([columns[name] for name in _TERMS], axis=1) / weights
    with np.errstate(invalid="ignore"):
        way = _BPS * np.log(columns["debiased_mean"] / columns["mid"])
    doubt = np.where(np.isfinite(way), 1.0 - columns["credibility"], 0.0)[:, None]
    x = np.concatenate([terms, doubt * terms, doubt * np.nan_to_num(way)[:, None]], axis=1)
    y = _later(columns["mid"], step, settings)
    ready = np.isfinite(x).all(axis=1)
    known = ready & np.isfinite(y) & np.isfinite(columns["spread_bps"])
    active = ready & (terms != 0.0).any(axis=1)
    return _Rows(
        ts=columns["ts"],
        x=x,
        y=y,
        spread=columns["spread_bps"],
        known=known,
        active=active,
        calm=known & ~_soon(active, (settings.horizon + settings.averaging // 2) // step),
    )


def _checked_bars(table: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The columns needed, as plain numbers, and the step of the bars."""
    missing = [name for name in _COLUMNS if name not in table.columns]
    if missing:
        raise DataError("bars lack a column", column=missing[0], expected=", ".join(_COLUMNS))
    ts = pl.col("ts").dt.epoch("ns") if isinstance(table.schema["ts"], pl.Datetime) else pl.col("ts").cast(pl.Int64)
    bars = table.select(ts, *(pl.col(name).cast(pl.Float64).fill_null(math.nan) for name in _COLUMNS[1:]))
    steps = np.diff(bars["ts"].to_numpy())
    if len(steps) == 0:
        raise NotEnoughDataError("a replay of fewer than two bars", found=bars.height)
    uneven = np.flatnonzero(steps != steps[0])
    if steps[0] <= 0 or len(uneven):
        row = int(uneven[0]) + 1 if len(uneven) else 1
        raise DataError("bars must follow each other without holes", row=row, column="ts")
    return bars, int(steps[0])


def _later(mid: _Floats, step: int, settings: _Settings) -> _Floats:
    """Mean mid around the horizon less the mid of the moment, bps; NaN where less than half of that time has a mid."""
    first = -(-(settings.horizon - settings.averaging // 2) // step)
    last = (settings.horizon + settings.averaging // 2) // step
    if last < max(first, 1):
        raise ParameterError("no bar in the time of the target", found=f"bars of {step / _SECOND:g} s")
    later = np.full(len(mid), math.nan)
    n = len(mid) - last
    if n <= 0:
        return later
    there = np.isfinite(mid)
    sums = np.concatenate([[0.0], np.cumsum(np.where(there, mid, 0.0))])
    counts = np.concatenate([[0], np.cumsum(there)])
    total, count = (a[last + 1 : last + 1 + n] - a[first : first + n] for a in (sums, counts))
    enough = (2 * count >= last - first + 1) & there[:n]
    later[:n][enough] = _BPS * np.log(total[enough] / count[enough] / mid[:n][enough])
    return later


def _soon(active: _Mask, bars: int) -> _Mask:
    """Where a term is at work at the moment or in one of the next `bars`."""
    count = np.concatenate([[0], np.cumsum(active)])
    ends = np.minimum(np.arange(len(active)) + bars + 1, len(active))
    return np.asarray(count[ends] > count[:-1])


@dataclass(frozen=True, eq=False)
class _Spell:
    """A stretch of time in which terms were at work, and the calm after it."""

    start: int
    end: int
    rows: int
    stress: _Sums
    calm: _Sums


@dataclass(frozen=True, eq=False)
class _Part:
    """What one replay contributes."""

    source: _Source
    start: int
    end: int
    spells: list[_Spell]
    left_out: int


def _part_of(source: _Source, settings: _Settings) -> _Part:
    rows = _rows_of(source, settings)
    # The bars themselves are not needed any more; replays may be many.
    kept = dataclasses.replace(source, bars=source.bars.clear())
    found = _spells_of(rows)
    spells = [spell for spell in found if spell is not None]
    return _Part(kept, int(rows.ts[0]), int(rows.ts[-1]), spells, len(found) - len(spells))


def _spells_of(rows: _Rows) -> list[_Spell | None]:
    """Events of one replay; None for one that says nothing."""
    places = np.flatnonzero(rows.active)
    if not len(places):
        return []
    edges = np.flatnonzero(np.diff(rows.ts[places]) >= _EVENT_GAP)
    firsts, lasts = places[np.r_[0, edges + 1]], places[np.r_[edges, len(places) - 1]]
    calm = np.flatnonzero(rows.calm)
    if len(calm) < _FEWEST_CALM_BARS:
        return [None] * len(firsts)
    usual = float(np.median(rows.spread[calm]))
    chosen = [places[(places >= first) & (places <= last)] for first, last in zip(firsts, lasts, strict=True)]
    telling = [_is_telling(rows, each, usual) for each in chosen]
    kept = firsts[telling]
    # A calm bar belongs to the event before it, one before all events to the first.
    owner = np.maximum(np.searchsorted(kept, calm, side="right") - 1, 0)
    after = iter([calm[owner == i] for i in range(len(kept))])
    variance = float(np.mean(rows.y[calm] ** 2))
    return [
        _spell(rows, each, next(after), variance) if tells else None
        for each, tells in zip(chosen, telling, strict=True)
    ]


def _is_telling(rows: _Rows, places: _Ints, usual: float) -> bool:
    """Whether the terms ever exceed the usual spread, and the later mid is known."""
    return bool(rows.known[places].any() and np.abs(rows.x[places, :3]).sum(axis=1).max() >= usual)


def _spell(rows: _Rows, places: _Ints, after: _Ints, variance: float) -> _Spell:
    used = places[rows.known[places]]
    scale = variance + float(np.mean(rows.spread[used] ** 2))
    stress, calm = (_Sums.of(rows.x[i], rows.y[i], scale) for i in (used, after))
    return _Spell(int(rows.ts[places[0]]), int(rows.ts[places[-1]]), len(used), stress, calm)


@dataclass(frozen=True, eq=False)
class _Sums:
    """Mean products of the rows of each event in units of its scale: all that least squares needs.

    Attributes
    ----------
    xx : numpy.ndarray, (n, 7, 7)
    xy : numpy.ndarray, (n, 7)
    yy : numpy.ndarray, (n,)
    """

    xx: _Floats
    xy: _Floats
    yy: _Floats

    @classmethod
    def of(cls, x: _Floats, y: _Floats, scale: float) -> _Sums:
        """Those of one event."""
        weight = 1.0 / (scale * max(len(y), 1))
        return cls((weight * x.T @ x)[None], (weight * x.T @ y)[None], np.array([weight * float(y @ y)]))

    @classmethod
    def stacked(cls, sums: Sequence[_Sums]) -> _Sums:
        """Those of several events, one below the other."""
        xx, xy, yy = (np.concatenate(each) for each in zip(*((s.xx, s.xy, s.yy) for s in sums), strict=True))
        return cls(xx, xy, yy)

    def __len__(self) -> int:
        return len(self.yy)

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(self.xx + other.xx, self.xy + other.xy, self.yy + other.yy)

    def take(self, chosen: _Mask | _Ints) -> _Sums:
        """Those of some of the events."""
        return _Sums(self.xx[chosen], self.xy[chosen], self.yy[chosen])

    def total(self, counts: _Ints | None = None) -> _Sums:
        """Mean over the events, each as often as `counts` says."""
        share = np.full(len(self), 1.0 / len(self)) if counts is None else counts / counts.sum()
        xx, xy, yy = (np.tensordot(share, each, axes=1)[None] for each in (self.xx, self.xy, self.yy))
        return _Sums(xx, xy, yy)

    def losses(self, weights: _Floats) -> _Floats:
        """Mean square error of each event; `weights` are (4,), or one set for each event, (n, 4)."""
        beta = np.atleast_2d(_coefficients(weights))
        linear = (beta * self.xy).sum(axis=1)
        quadratic = ((self.xx @ beta[:, :, None])[:, :, 0] * beta).sum(axis=1)
        return np.asarray(self.yy - 2.0 * linear + quadratic, dtype=np.float64)


def _coefficients(weights: _Floats) -> _Floats:
    """Coefficients of the seven columns, (..., 7), that the four weights, (..., 4), make."""
    terms, toxic = weights[..., :3], weights[..., 3:]
    return np.concatenate([terms, -toxic * terms, toxic], axis=-1)


@dataclass(frozen=True, eq=False)
class _Events:
    """Independent events: `error` is what counts, `stress` and `calm` are its two halves."""

    stress: _Sums
    calm: _Sums

    @property
    def error(self) -> _Sums:
        return self.stress + self.calm

    @classmethod
    def of(cls, spells: Sequence[_Spell], simultaneous: Simultaneous) -> _Events:
        # In an order of their own, so that it does not matter in which order replays came.
        ordered = sorted(spells, key=lambda s: (s.start, s.end, s.rows, float(s.stress.yy[0]), float(s.calm.yy[0])))
        groups: list[list[_Spell]] = []
        end = 0
        for spell in ordered:
            if groups and simultaneous == "one" and spell.start < end + _EVENT_GAP:
                groups[-1].append(spell)
            else:
                groups.append([spell])
            end = max(end, spell.end)
        empty = _Sums(np.zeros((0, _DESIGN, _DESIGN)), np.zeros((0, _DESIGN)), np.zeros(0))
        stress = [_Sums.stacked([spell.stress for spell in group]).total() for group in groups]
        calm = [_Sums.stacked([spell.calm for spell in group]).total() for group in groups]
        return cls(_Sums.stacked([empty, *stress]), _Sums.stacked([empty, *calm]))


# --- least squares ---------------------------------------------------------------------------------------------------


def _solve(total: _Sums, events: int, learnt: _Mask, prior_sd: float) -> _Floats:
    """Weights that minimise ``error(w) + noise / (events prior_sd^2) sum (w - w0)^2``, ``w0`` being the shipped ones.

    The noise is the error that the shipped weights make, so that an event counts as one observation, however many
    seconds it has. `total` is the mean over the events.
    """
    noise = float(total.losses(_SHIPPED)[0])
    if noise <= 0.0:
        return _SHIPPED.copy()
    pull = noise / (events * prior_sd**2)

    def solved(toxic: float) -> _Floats:
        return np.append(_terms_given(total, toxic, learnt[:3], pull), toxic)

    def objective(toxic: float) -> float:
        weights = solved(toxic)
        return float(total.losses(weights)[0] + pull * ((weights - _SHIPPED) ** 2).sum())

    if not learnt[3] or total.xx[0, 6, 6] == 0.0:
        return solved(float(_SHIPPED[3]))
    coarse = int(np.argmin([objective(toxic) for toxic in _TOXIC_GRID]))
    bounds = _TOXIC_GRID[max(coarse - 1, 0)], _TOXIC_GRID[min(coarse + 1, len(_TOXIC_GRID) - 1)]
    fine = float(minimize_scalar(objective, bounds=bounds, method="bounded", options={"xatol": 1e-3}).x)
    # The search never tries the ends themselves, and at nought the estimator is exactly the shipped one.
    return solved(min((float(_TOXIC_GRID[coarse]), fine), key=objective))


def _terms_given(total: _Sums, toxic: float, learnt: _Mask, pull: float) -> _Floats:
    """Weights of the other terms where that of the toxic one is given: non-negative least squares."""
    weights = _SHIPPED[:3].copy()
    if not learnt.any():
        return weights
    xx, xy = total.xx[0], total.xy[0]
    cross = xx[:3, 3:6]
    # The regressors are the terms less `toxic` times the doubted terms; the way D is on the other side.
    products = xx[:3, :3] - toxic * (cross + cross.T) + toxic**2 * xx[3:6, 3:6] + pull * _IDENTITY
    moments = xy[:3] - toxic * (xy[3:6] + xx[:3, 6]) + toxic**2 * xx[3:6, 6] + pull * weights
    moments = moments[learnt] - products[learnt][:, ~learnt] @ weights[~learnt]
    root = np.linalg.cholesky(products[learnt][:, learnt])
    weights[learnt] = nnls(root.T, np.linalg.solve(root, moments))[0]
    return weights


def _choose_prior(events: _Sums, learnt: _Mask) -> float:
    """Width of the prior under which events are best predicted from others; of equals the narrowest."""
    fold = np.arange(len(events)) % min(_FOLDS, len(events))
    errors = np.zeros(len(_PRIOR_SDS))
    for held in range(int(fold.max()) + 1):
        rest, out = events.take(fold != held), events.take(fold == held)
        total = rest.total()
        fits = (_solve(total, len(rest), learnt, prior_sd) for prior_sd in _PRIOR_SDS)
        errors += [out.losses(weights).sum() for weights in fits]
    return _PRIOR_SDS[len(errors) - 1 - int(np.argmin(errors[::-1]))]


@dataclass(frozen=True, eq=False)
class _Judged:
    """Weights for every event learnt from all others, and what they gain over the shipped ones."""

    weights: _Floats  # (n, 4)
    gain: float
    gain_se: float
    better: float


def _cross_validate(events: _Sums, learnt: _Mask) -> _Judged:
    n = len(events)
    weights = np.empty((n, len(WEIGHTS)))
    for i in range(n):
        rest = events.take(np.arange(n) != i)
        weights[i] = _solve(rest.total(), n - 1, learnt, _choose_prior(rest, learnt))
    gains = events.losses(_SHIPPED) - events.losses(weights)
    return _Judged(weights, float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(n)), float((gains > 0).mean()))


def _bootstrap(events: _Sums, learnt: _Mask, prior_sd: float, resamples: int, seed: int) -> _Floats:
    """Weights of resamples of whole events, (resamples, 4)."""
    n = len(events)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=resamples)
    return np.stack([_solve(events.total(each), n, learnt, prior_sd) for each in counts])
