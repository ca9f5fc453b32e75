"""Simulator."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toxmid import _simulate
from toxmid.errors import ParameterError
from toxmid.instrument import Instrument

__all__ = ["BOOKS", "MAKERS", "SCENARIOS", "MarketParams", "Shock", "Simulation", "simulate"]

SCENARIOS: Final = ("calm", "flush", "news", "mixed", "info")
MAKERS: Final = ("AS", "GM", "DEF", "MIX")
BOOKS: Final = ("shallow", "deep", "sym")
_TIME: Final = pl.Datetime("ns", "UTC")
_SLOT: Final = 1800.0


@dataclass(frozen=True)
class MarketParams:
    volatility: float
    tau_mid: float
    mid_noise: float
    impact: float
    discount: float
    skew: float
    skew_cap: float
    phi: float
    half_spread: float
    widening: float
    vol_spread: float
    tau_inventory: float
    tau_volatility: float
    tau_tox: float
    tox_floor: float
    tox_full: float
    depth: float
    thinning: float
    refill: float
    refill_slowing: float
    hole_share: float
    noise_rate: float
    noise_persistence: float
    noise_size: float
    noise_spread: float
    arb_fee: float
    arb_slope: float
    arb_capacity: float
    tau_arb: float
    tau_mark: float
    engine_rate: float
    cluster_width: float


@dataclass(frozen=True)
class Shock:
    begin: float
    start: float
    news: float = 0.0
    ramp: float = 1.0
    seller: float = 0.0
    seller_seconds: float = 60.0
    thresholds: tuple[float, float, float] = (0.0, 0.0, 0.0)
    positions: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def row(self) -> list[float]:
        return [self.begin, self.start, self.news, self.ramp, self.seller, self.seller_seconds,
                *self.thresholds, *self.positions]


class _Draw:
    """Uniform numbers in a fixed order."""

    def __init__(self, seed: int, stream: int) -> None:
        self._numbers = iter(_simulate.uniforms(seed, stream, 64).tolist())

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * next(self._numbers)

    def log_between(self, low: float, high: float) -> float:
        return math.exp(self.between(math.log(low), math.log(high)))

    def choice(self, options: tuple[str, ...]) -> str:
        return options[int(next(self._numbers) * len(options))]


def draw_params(seed: int, maker: str, book: str) -> MarketParams:
    d = _Draw(seed, 101)
    base = MarketParams(
        volatility=d.between(0.7, 1.3),
        tau_mid=d.between(15.0, 60.0),
        mid_noise=10.0,
        impact=d.between(0.006, 0.02),
        discount=d.between(0.3, 0.9),
        skew=d.log_between(1e-3, 3e-3),
        skew_cap=100.0,
        phi=0.0,
        half_spread=d.between(0.1, 0.4),
        widening=d.between(10.0, 40.0),
        vol_spread=d.between(0.5, 2.0),
        tau_inventory=d.between(60.0, 300.0),
        tau_volatility=20.0,
        tau_tox=10.0,
        tox_floor=25.0,
        tox_full=d.between(150.0, 300.0),
        depth=d.between(15.0, 45.0),
        thinning=8.0,
        refill=d.between(0.3, 1.5),
        refill_slowing=3.0,
        hole_share=0.5 if book == "sym" else 1.0,
        noise_rate=d.between(3.0, 8.0),
        noise_persistence=d.between(0.4, 0.8),
        noise_size=0.15,
        noise_spread=1.3,
        arb_fee=d.between(2.0, 5.0),
        arb_slope=d.between(0.5, 2.0),
        arb_capacity=d.between(200.0, 800.0),
        tau_arb=d.between(60.0, 180.0),
        tau_mark=d.between(0.5, 3.0),
        engine_rate=d.between(15.0, 60.0),
        cluster_width=d.between(3.0, 10.0),
    )
    mix_phi, mix_skew = d.between(-0.75, 1.0), d.between(0.0, 1.0)
    phi, skew = {"AS": (0.0, 1.0), "GM": (1.0, 0.0), "DEF": (-0.5, 0.3), "MIX": (mix_phi, mix_skew)}[maker]
    refill = 1.5 + (base.refill - 0.3) / 1.2 * 3.5 if book == "deep" else base.refill
    return dataclasses.replace(base, phi=phi, skew=base.skew * skew, refill=refill)


def draw_shock(scenario: str, seed: int, slot: int, begin: float, length: float) -> Shock:
    d = _Draw(seed, 1000 + slot)
    start = begin + length * d.between(0.15, 0.3)
    news, ramp = d.between(40.0, 120.0), d.between(5.0, 60.0)
    seller, seconds = d.between(400.0, 1500.0), d.between(20.0, 90.0)
    first, second, third = d.between(12.0, 40.0), d.between(30.0, 120.0), d.between(60.0, 220.0)
    total = d.between(1500.0, 5000.0)
    weights = [d.between(0.5, 1.5) for _ in range(3)]
    positions = tuple(total * w / sum(weights) for w in weights)
    news_share = {"calm": 0.0, "flush": 0.0, "news": 1.0, "mixed": 0.6, "info": 1.0}[scenario]
    seller_share = {"flush": 1.0, "mixed": 0.5}.get(scenario, 0.0)
    leverage = 0.0 if scenario in ("calm", "info") else 1.0
    return Shock(begin, start, news * news_share, ramp, seller * seller_share, seconds,
                 (first, second, third), tuple(p * leverage for p in positions))  # type: ignore[arg-type]


class Simulation:
    def __init__(self, scenario: str, seed: int, params: MarketParams, shocks: tuple[Shock, ...],
                 instrument: Instrument, run: dict[str, Any], first_price: float) -> None:
        self.scenario, self.seed, self.params, self.shocks, self.instrument = scenario, seed, params, shocks, instrument
        self._run = run
        self._first_price = first_price
        self._tape = _simulate.run(**run, levels=0)

    def _price(self, ticks: NDArray[Any]) -> NDArray[np.float64]:
        return _on_grid(ticks, self.instrument.tick)

    def _size(self, lots: NDArray[Any]) -> NDArray[np.float64]:
        return _on_grid(lots, self.instrument.lot)

    def _level(self, bps: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._first_price * np.exp(1e-4 * bps)

    @cached_property
    def trades(self) -> pl.DataFrame:
        t = self._tape["trades"]
        ts = _time(t["ts"])
        return pl.DataFrame({"ts": ts, "ts_event": ts, "price": self._price(t["tick"]), "size": self._size(t["lots"]),
                             "side": t["side"].copy(), "id": np.arange(len(t)), "lots": t["lots"].copy()})

    @cached_property
    def labels(self) -> pl.DataFrame:
        t = self._tape["trades"]
        agent = pl.Series("agent", t["agent"].copy()).replace_strict(
            dict(enumerate(_simulate.AGENTS)), return_dtype=pl.Enum(list(_simulate.AGENTS)))
        return pl.DataFrame({"id": np.arange(len(t)), "order": t["order"].copy(), "agent": agent,
                             "forced": t["agent"] == _simulate.AGENTS.index("liquidation")})

    @cached_property
    def quotes(self) -> pl.DataFrame:
        q = self._tape["quotes"]
        ts = _time(q["ts"])
        return pl.DataFrame({"ts": ts, "ts_event": ts, "bid": self._price(q["bid"]), "bid_size": self._size(q["bid_lots"]),
                             "ask": self._price(q["ask"]), "ask_size": self._size(q["ask_lots"])})

    def book_stream(self, levels: int = 50) -> pl.DataFrame:
        b = _simulate.run(**self._run, levels=levels)["book"]
        ts = _time(b["ts"])
        return pl.DataFrame({"ts": ts, "ts_event": ts, "side": b["side"].copy(), "price": self._price(b["tick"]),
                             "size": self._size(b["lots"]), "snapshot": b["snapshot"] != 0})

    @cached_property
    def book(self) -> pl.DataFrame:
        return self.book_stream()

    @cached_property
    def liquidations(self) -> pl.DataFrame:
        q = self._tape["liquidations"]
        ts = _time(q["ts"])
        return pl.DataFrame({"ts": ts, "ts_event": ts, "side": q["side"].copy(), "price": self._price(q["tick"]),
                             "size": self._size(q["lots"])})

    @cached_property
    def liquidations_throttled(self) -> pl.DataFrame:
        second = pl.col("ts_event").dt.truncate("1s")
        return (self.liquidations.group_by(second.alias("second"), maintain_order=True).last()
                .with_columns(ts=pl.col("second").dt.offset_by("1s")).drop("second")
                .select(self.liquidations.columns))

    @cached_property
    def truth(self) -> pl.DataFrame:
        h = self._tape["hidden"]
        return pl.DataFrame({"ts": _time(h["ts"]), "mid": self._level(h["mid"])})

    @cached_property
    def hidden(self) -> pl.DataFrame:
        h = self._tape["hidden"]
        return pl.DataFrame({"ts": _time(h["ts"]), "mid": self._level(h["mid"]), "efficient": self._level(h["efficient"]),
                             **{n: h[n].copy() for n in ("inventory", "toxicity", "volatility", "depth", "backlog")}})

    @cached_property
    def episodes(self) -> pl.DataFrame:
        gap = (pl.col("ts").diff() > pl.duration(seconds=60)).fill_null(False).cum_sum()
        return (self.liquidations.group_by(gap.alias("episode"), maintain_order=True)
                .agg(ts_start=pl.col("ts").first(), ts_end=pl.col("ts").last(), side=pl.col("side").first(),
                     volume=pl.col("size").sum(), orders=pl.len()).drop("episode"))


def _time(ns: NDArray[Any]) -> pl.Series:
    return pl.Series(values=ns.copy(), dtype=pl.Int64).cast(_TIME)


def _on_grid(units: NDArray[Any], step: float | None) -> NDArray[np.float64]:
    """Multiples of a decimal step, each the double nearest to the decimal."""
    assert step is not None
    per_unit = round(1.0 / step)
    if per_unit >= 1 and math.isclose(per_unit * step, 1.0, rel_tol=1e-12):
        return np.asarray(units / float(per_unit))
    return np.asarray(units * step)


def simulate(scenario: str, *, seed: int = 0, duration: float = 1800.0, maker: str | None = None, book: str = "shallow",
             mirror: bool = False, price: float = 100_000.0, tick: float = 0.1, lot: float = 0.001,
             size_scale: float | None = None, start: datetime | int = datetime(2025, 1, 1, tzinfo=UTC),
             params: MarketParams | None = None, shocks: tuple[Shock, ...] | None = None) -> Simulation:
    if scenario not in SCENARIOS:
        raise ParameterError("no such scenario", found=scenario, expected=", ".join(SCENARIOS))
    maker = maker or _Draw(seed, 100).choice(MAKERS)
    params = params or draw_params(seed, maker, book)
    slots = max(1, round(duration / _SLOT))
    length = duration / slots
    if shocks is None:
        shocks = tuple(draw_shock(scenario, seed, i, i * length, length) for i in range(slots))
    if isinstance(start, datetime):
        start = int(start.timestamp()) * 1_000_000_000
    run = {
        "world": dataclasses.asdict(params), "shocks": np.array([s.row() for s in shocks]).reshape(-1, 12), "seed": seed,
        "steps": round(duration * 10), "start": start, "first_price": price, "tick": tick, "lot": lot,
        "size_scale": 100_000.0 / price if size_scale is None else size_scale, "cell": 0.25, "mirror": mirror,
    }
    return Simulation(scenario, seed, params, shocks, Instrument(tick=tick, lot=lot), run, price)
