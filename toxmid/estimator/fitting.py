"""The fit itself: settings, order of steps, and what the result says about them."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt

from toxmid import output
from toxmid.durations import nanoseconds
from toxmid.errors import NotEnoughDataError, ParameterError
from toxmid.estimator.likelihood import Judged, bootstrapped, choose_prior, cross_validate, solve
from toxmid.estimator.result import LEVELS, FitResult
from toxmid.estimator.sums import SHIPPED, WEIGHTS
from toxmid.estimator.training import Events, Part, Simultaneous, Target, check_alike, parts_of

__all__ = ["fit"]

_SECOND: Final = 1_000_000_000
_ENOUGH_EVENTS: Final = 30  # below this nobody should claim anything
_ENOUGH_ERRORS: Final = 2.0  # standard errors by which learnt weights must be better

_Floats = npt.NDArray[np.float64]
_Mask = npt.NDArray[np.bool_]


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
    What the corridor of another venue took off is left aside: the weights are those of the terms before it. The
    de-biased mean is taken as it stands in the replay. It depends on the weights a little, as the displacement that a
    print met is part of what was taken off it; where a toxic weight was learnt, replay with it and fit once more.

    Examples
    --------
    >>> import toxmid
    >>> def played(seed):
    ...     tape = toxmid.simulate("flush", seed=seed, duration=1800.0)
    ...     return toxmid.replay(trades=tape.trades, quotes=tape.quotes, liquidations=tape.liquidations)
    >>> result = fit((played(seed) for seed in range(8)), simultaneous="apart", bootstrap=50)
    >>> result.events, sorted(result.params) == sorted(WEIGHTS)
    (9, True)
    >>> result.warnings
    ('9 events, fewer than 30: too few to claim anything',)
    """
    target, learnt = _checked_settings(horizon, averaging, learn, simultaneous, min_events, bootstrap)
    parts = parts_of(replays, target)
    check_alike(parts)
    spells = [spell for part in parts for spell in part.spells]
    left_out = sum(part.left_out for part in parts)
    events = Events.of(spells, simultaneous)
    if len(events) < min_events:
        raise NotEnoughDataError(
            "too few events to learn from", found=f"{len(events)} in {len(parts)} replays ({left_out} left out)",
            expected=f"{min_events} or more",
        )  # fmt: skip
    judged = cross_validate(events, learnt)
    prior_sd = choose_prior(events, learnt)
    fitted = solve(events, learnt, prior_sd)
    draws = bootstrapped(events, learnt, prior_sd, start=fitted, resamples=bootstrap, seed=seed)
    scores = _scores(events, judged, fitted)
    better = judged.gain > _ENOUGH_ERRORS * judged.gain_se and scores["r2_mid"] > 0.0
    return FitResult(
        params=_named(fitted if better or force else SHIPPED),
        fitted=_named(fitted),
        bse=_named(draws.std(axis=0, ddof=1)),
        quantiles={name: tuple(map(float, np.quantile(draws[:, i], LEVELS))) for i, name in enumerate(WEIGHTS)},
        adopted=better or force,
        forced=force and not better,
        **scores,
        prior_sd=prior_sd,
        events=len(events),
        spells=len(spells),
        rows=sum(spell.rows for spell in spells),
        left_out=left_out,
        horizon=horizon,
        averaging=averaging,
        **_provenance(parts),
        resamples=bootstrap,
        seed=seed,
        warnings=tuple(_warnings(len(events), parts)),
    )


def _checked_settings(
    horizon: str, averaging: str, learn: Sequence[str], simultaneous: str, min_events: int, bootstrap: int
) -> tuple[Target, _Mask]:
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
    return Target(ahead, width), np.array([name in learn for name in WEIGHTS])


def _named(weights: _Floats) -> dict[str, float]:
    return {name: float(weight) for name, weight in zip(WEIGHTS, weights, strict=True)}


def _scores(events: Events, judged: Judged, fitted: _Floats) -> dict[str, Any]:
    """What the result says about errors out of sample, and about calm."""
    mid, shipped, learnt = (events.stress.losses(w) for w in (np.zeros(len(WEIGHTS)), SHIPPED, judged.weights))
    # In units of what the quoted mid misses in the event, so that no event decides alone.
    share = 1.0 / (1.0 + mid)
    calm = float(events.calm.yy.sum())
    return {
        "r2_mid": 1.0 - float(share @ learnt / (share @ mid)),
        "r2_mid_defaults": 1.0 - float(share @ shipped / (share @ mid)),
        "r2_defaults": 1.0 - float(share @ learnt / (share @ shipped)),
        "gain": judged.gain,
        "gain_se": judged.gain_se,
        "better": judged.better,
        "calm_error": float(events.calm.losses(fitted).sum()) / calm if calm > 0 else math.nan,
    }


def _provenance(parts: Sequence[Part]) -> dict[str, Any]:
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


def _warnings(count: int, parts: Sequence[Part]) -> Iterator[str]:
    if count < _ENOUGH_EVENTS:
        yield f"{count} events, fewer than {_ENOUGH_EVENTS}: too few to claim anything"
    if len({part.source.feed for part in parts}) > 1:
        yield "replays of several kinds of feed together; weights are specific to a feed"
    if len({part.source.instrument for part in parts}) > 1:
        yield "linear and inverse instruments together"
