"""Every constant of the engine: its unit, its default, its range. One frozen object, checked when it is made."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toxmid.durations import nanoseconds
from toxmid.errors import ParameterError

RULES = ("side", "tick", "quote", "lee_ready", "emo", "bvc_normal", "bvc_t")

_SECOND = 1_000_000_000


def _duration(default: str, low: str, high: str, doc: str) -> Any:
    return dataclasses.field(default=default, metadata={"unit": "duration", "low": low, "high": high, "doc": doc})


def _number(default: float | None, low: float, high: float, unit: str, doc: str) -> Any:
    return dataclasses.field(default=default, metadata={"unit": unit, "low": low, "high": high, "doc": doc})


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the engine. ``None`` wherever parameters are asked for means these defaults.

    Every field is checked against its range when the object is made; `Params.describe` lists unit, range and meaning.

    Raises
    ------
    ParameterError
        A value outside its range, a bar that is no whole number of seconds (or no whole part of one).

    Examples
    --------
    >>> Params(bar="5s").bar_ns
    5000000000
    >>> Params(window=0)
    Traceback (most recent call last):
    ...
    toxmid.errors.ParameterError: column window: out of range (found 0, expected 2 to 100000 buckets)
    """

    bar: str = _duration("1s", "10ms", "1d", "length of an output bar; under a second it is also the estimator's grid")
    bucket_volume: float | None = _number(
        None, 1e-12, 1e15, "base coin", "volume of a bucket; None: trailing daily volume / buckets_per_day"
    )
    buckets_per_day: float = _number(50.0, 1.0, 100_000.0, "buckets", "bucket volume as a part of daily volume")
    volume_days: int = _number(7, 1, 31, "days", "complete UTC days whose median is the daily volume")
    window: int = _number(50, 2, 100_000, "buckets", "buckets that make one VPIN value")
    rank_days: float = _number(90.0, 1.0, 3650.0, "days", "history in which VPIN is ranked")
    vpin_offsets: int = _number(
        1, 1, 1000, "starts", "volume clocks that begin at shares of a bucket, for a range of VPIN; 1: no range"
    )
    classify: str = dataclasses.field(
        default="side", metadata={"unit": "rule", "doc": "how trades are signed: " + ", ".join(RULES)}
    )
    bvc_bar: str = _duration("60s", "1s", "1d", "bar of bulk volume classification")
    bvc_df: float = _number(0.25, 0.01, 1000.0, "degrees of freedom", "of bulk classification by Student's t")
    history: str = _duration("6h", "10m", "28d", "trailing history of the calm statistics")
    history_lag: str = _duration("10m", "0s", "1d", "youngest part of it that is left out")
    kappa: float = _number(200.0, 1.0, 1e5, "calm sigmas", "what one normal minute at a normal spread explains")
    support: float = _number(15.0, 0.1, 1e4, "calm sigmas", "what a normal minute's volume explains at any spread")
    relax: str = _duration("300s", "1s", "1d", "half-life of what only volume supported")
    lean: float = _number(1 / 3, 0.0, 1.0, "1", "place between the credible (0) and the supported (1) track")
    lean_limit: float = _number(2.5, 0.0, 1e3, "spreads", "farthest from the supported track")
    both_pulled: float = _number(0.4, 0.0, 1.0, "1", "share of the way left when the mid stays as spreads close")
    idle: float = _number(0.1, 0.0, 1.0, "normal volumes", "what a second without trades counts as")
    excess_spreads: float = _number(4.0, 1.0, 1e3, "calm spreads", "spread beyond which one side counts as pulled")
    pulled_prior: float = _number(0.0, -2.0, 2.0, "1", "share of the excess half spread, before anything is learnt")
    pulled_weight: float = _number(50.0, 0.0, 1e6, "calm spreads squared", "learning that outweighs it")
    pulled_least: float = _number(-0.5, -2.0, 0.0, "1", "smallest share that can be learnt")
    pulled_limit: float = _number(1.5, 0.0, 2.0, "1", "largest share that can be learnt")
    pulled_memory: str = _duration("600s", "10s", "1d", "memory of that learning")
    stale_memory: str = _duration("3s", "100ms", "10m", "how long a print tells of a spread, with trades alone")
    drift_memory: str = _duration("40s", "1s", "1d", "memory of the drift that learning takes off")
    spread_memory: str = _duration("10s", "1s", "10m", "memory of the spread in the credibility of a price")
    volume_memory: str = _duration("3s", "1s", "10m", "memory of volume in the belief in a price")
    imbalance_memory: str = _duration("30s", "1s", "1h", "memory of the signed flow")
    imbalance_short: str = _duration("10s", "1s", "1h", "a shorter one, of which only bars tell")
    imbalance_long: str = _duration("60s", "1s", "1d", "and a longer one")
    weight_asymmetry: float = _number(1.0, 0.0, 100.0, "1", "weight of the asymmetry term")
    weight_volume: float = _number(1.0, 0.0, 100.0, "1", "weight of the volume term")
    weight_credibility: float = _number(1.0, 0.0, 100.0, "1", "weight of the credibility term")
    weight_toxic: float = _number(0.0, 0.0, 100.0, "1", "weight of the way to the de-biased toxic mean")
    interval_spread: float = _number(0.45, 0.0, 100.0, "1", "half width of the interval, of the 30 s spread")
    interval_gap: float = _number(0.5, 0.0, 100.0, "1", "... of the distance from the quoted mid")
    interval_wide: float = _number(0.25, 0.0, 100.0, "1", "... of the widest this spread was in the last minutes")
    interval_move: float = _number(0.22, 0.0, 100.0, "1", "... of their moves that volume does not explain")
    interval_age: float = _number(0.5, 0.0, 100.0, "1", "... of the calm move in the age of the older print")
    interval_memory: str = _duration("180s", "1s", "1d", "half-life of those last minutes")
    reference_width: float = _number(6.0, 0.1, 1e3, "deviations", "corridor that another venue allows")
    mark_prior: float = _number(100.0, 0.0, 1e6, "calm spreads squared", "learning it takes to believe a mark price")
    mark_lag: str = _duration("300s", "1s", "1d", "distances of a mark price are averaged over before it is judged")
    toxic_score: float = _number(100.0, 0.0, 1e6, "1", "spread x move x imbalance above which flow is inferred toxic")
    toxic_half_life: float = _number(1.0, 0.01, 1e3, "credible minutes", "memory of the toxic means")
    match_window: str = _duration("1500ms", "1ms", "1m", "how long before its record a liquidation may have traded")
    match_grace: str = _duration("150ms", "1ms", "1m", "how long after its record a liquidation may trade")
    stress_z: float = _number(4.0, 0.0, 1e3, "robust sigmas", "spread z that makes toxic flow stress")
    stress_excess: float = _number(4.0, 0.0, 1e4, "1", "excess impact that makes toxic flow stress")
    stress_hold: str = _duration("60s", "0s", "1h", "how long stress outlives its causes")
    widening_drift: float = _number(2.0, 0.0, 100.0, "robust sigmas", "z that a spread may have for ever")
    widening_alarm: float = _number(30.0, 0.1, 1e4, "robust sigmas", "cumulated excess z that is a widening")
    widening_rearm: float = _number(1.0, 0.0, 1e4, "robust sigmas", "cumulated excess z at which it is over")
    move_sigmas: float = _number(12.0, 1.0, 1e3, "calm sigmas", "size of a 5 s move that is a sweep or a vacuum")
    vacuum_cancelled: float = _number(
        0.7, 0.0, 1.0, "1", "share of the gone depth that was cancelled, above which a move without volume is a vacuum"
    )
    cascade_rate: float = _number(1.0, 0.01, 1e4, "normal volumes", "rate of toxic volume that is a cascade")
    depth_bps: float = _number(10.0, 0.01, 1e3, "bps", "distance from the mid within which depth is counted")
    sign_half_life: float = _number(1000.0, 100.0, 1e7, "taker orders", "memory of the autocorrelation of signs")
    lambda_bar: str = _duration("10s", "1s", "1h", "bar of the recursive Kyle lambda, a whole number of seconds")
    lambda_memory: float = _number(360.0, 30.0, 1e6, "bars", "its memory: a bar keeps 1 - 1 / memory of its weight")
    branching_memory: str = _duration("1h", "10m", "7d", "memory of the counts of liquidation prints")
    cost_size: float | None = _number(
        None, 1e-12, 1e15, "base coin", "size of the round trip; None: the usual volume of a minute"
    )
    gap: str = _duration("10m", "1s", "365d", "silence over which no move, displacement or pseudo-quote is carried")
    halt: str = _duration("60s", "1s", "365d", "silence that makes the regime 'halted'")
    book_without_snapshot: bool = dataclasses.field(
        default=False, metadata={"unit": "flag", "doc": "believe a book that has not begun with a snapshot"}
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not field.default:  # of a default the tests know that it is good
                _check(field.name, value, field.metadata, whole=field.type == "int")
        if self.classify not in RULES:
            raise ParameterError("unknown rule", column="classify", found=self.classify, expected=", ".join(RULES))
        if (self.bar_ns % _SECOND if self.bar_ns >= _SECOND else _SECOND % self.bar_ns) != 0:
            raise ParameterError(
                "a bar is a whole number of seconds or a whole part of one", column="bar", found=self.bar
            )
        if self.bar_ns < 86_400 * _SECOND and (86_400 * _SECOND) % self.bar_ns:
            raise ParameterError("bars must fill a day", column="bar", found=self.bar)
        if self.duration_ns("lambda_bar") % _SECOND:
            raise ParameterError("not a whole number of seconds", column="lambda_bar", found=self.lambda_bar)

    @property
    def bar_ns(self) -> int:
        """Length of an output bar, nanoseconds."""
        return nanoseconds(self.bar, name="bar")

    @property
    def step_ns(self) -> int:
        """Grid of the estimator, nanoseconds: a second, or the bar where that is shorter."""
        return min(self.bar_ns, _SECOND)

    def duration_ns(self, name: str) -> int:
        """A field that is a length of time, nanoseconds."""
        text = getattr(self, name)
        return 0 if text == "0s" else nanoseconds(text, name=name)

    def replace(self, **changes: Any) -> Params:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """All fields, as they go into a manifest."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Params:
        """The inverse of `to_dict`; an unknown name is an error.

        Examples
        --------
        >>> Params.from_dict({"window": 20}).window
        20
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for name in fields:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=3)
                expected = " or ".join(close) if close else ", ".join(sorted(known))
                raise ParameterError("no such parameter", column=name, expected=expected)
        return cls(**fields)

    @classmethod
    def describe(cls) -> list[dict[str, Any]]:
        """Name, default, unit, range and meaning of every parameter."""
        return [{"name": f.name, "default": f.default, **f.metadata} for f in dataclasses.fields(cls)]


def _check(name: str, value: Any, meta: Mapping[str, Any], *, whole: bool) -> None:
    """Type and range of one field."""
    if meta["unit"] == "duration":
        length = 0 if value == "0s" else nanoseconds(value, name=name)
        low = 0 if meta["low"] == "0s" else nanoseconds(meta["low"])
        if not low <= length <= nanoseconds(meta["high"]):
            raise ParameterError("out of range", column=name, found=value, expected=f"{meta['low']} to {meta['high']}")
    elif "low" in meta:
        if value is None and name in ("bucket_volume", "cost_size"):
            return
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not meta["low"] <= value <= meta["high"]:
            expected = f"{meta['low']} to {meta['high']} {meta['unit']}"
            raise ParameterError("out of range", column=name, found=value, expected=expected)
        if whole and not isinstance(value, int):
            raise ParameterError("not a whole number", column=name, found=value)
    elif meta["unit"] == "flag" and not isinstance(value, bool):
        raise ParameterError("not a flag", column=name, found=value, expected="True or False")
