"""Episodes read off finished bars: four triggers as arrays, spells of them by one rule, figures from slices.

For bars of one second, of a market without a liquidation feed and without volume of unknown side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from reference.implied import Seconds, norms

Floats = npt.NDArray[np.float64]
KINDS = ("widening", "sweep", "vacuum", "liquidation_cascade")
PATIENCE = {"widening": 60, "sweep": 10, "vacuum": 10, "liquidation_cascade": 60}
NAN = math.nan


@dataclass
class Bars:
    """Columns as arrays, NaN for null, and the thresholds."""

    frame: pl.DataFrame
    params: Any

    def __getitem__(self, name: str) -> Floats:
        return self.frame[name].cast(pl.Float64).fill_null(NAN).to_numpy()

    @property
    def log_mid(self) -> Floats:
        return np.array(1e4 * np.log(self["mid"]))

    @property
    def volume(self) -> Floats:
        return self["buy_volume"] + self["sell_volume"]

    @property
    def flow(self) -> Floats:
        return self["buy_volume"] - self["sell_volume"]


def last(values: Floats, seconds: int) -> Floats:
    """Sum of the last so many seconds; of all there are in the first ones."""
    total = np.concatenate([np.zeros(seconds), np.cumsum(values)])
    return total[seconds:] - total[:-seconds]


def ago(values: Floats, seconds: int) -> Floats:
    return np.concatenate([np.full(seconds, NAN), values[:-seconds]])


def quiet_norms(bars: Bars) -> tuple[Floats, Floats]:
    """Rms 60 s move and mean 60 s volume of quiet minutes, as they are known during each second."""
    p, n = bars.params, bars.frame.height
    window, lag = (p.duration_ns(name) // (60 * 10**9) for name in ("history", "history_lag"))
    ends = bars.frame["ts"].to_physical().to_numpy() % (60 * 10**9) == 0
    move, volume = np.abs(bars["impact_bps"]), last(bars.volume, 60)
    loud = bars["excess_impact"] > p.stress_excess
    rms, mean = np.full(n, NAN), np.full(n, NAN)
    known_from = int(np.argmax(np.isfinite(bars.log_mid)))
    minutes: list[tuple[float, float, bool]] = []
    began, now = 0, (NAN, NAN)
    for t in range(n):
        rms[t], mean[t] = now
        if not ends[t] or t < known_from:
            continue
        minutes.append((move[t], volume[t], not loud[began : t + 1].any()))
        began = t + 1
        count = len(minutes)
        if count <= 4 or t - known_from < 299:
            continue
        end = max(count - (lag if 2 * lag < count else count // 2), 5)
        known = [minute for minute in minutes[max(0, end - window) : end] if not math.isnan(minute[0])]
        quiet = [minute for minute in known if minute[2]]
        chosen = quiet if 2 * len(quiet) >= len(known) else known
        if len(chosen) >= 4:
            now = (math.sqrt(np.mean([m**2 for m, _, _ in chosen])), float(np.mean([v for _, v, _ in chosen])))
    return rms, mean


def moves(bars: Bars, usual_spread: Floats) -> tuple[Floats, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Strength of the 5 s move in calm sigmas; is it a sweep; is it a vacuum."""
    p = bars.params
    rms, mean_volume = quiet_norms(bars)
    move = bars.log_mid - ago(bars.log_mid, 5)
    strength = np.nan_to_num(np.abs(move) / (rms * math.sqrt(5 / 60)))
    moved = (strength > p.move_sigmas) & (np.abs(move) > usual_spread)
    net, volume = np.abs(last(bars.flow, 5)), last(bars.volume, 5)
    depth = np.where(move > 0, ago(bars["depth_ask"], 5), ago(bars["depth_bid"], 5))
    bare = strength > p.move_sigmas * np.sqrt(volume / (mean_volume / 12))
    cancelled, traded = (
        np.where(move > 0, *(last(np.nan_to_num(bars[f"{side}_{what}"]), 5) for side in ("ask", "bid")))
        for what in ("cancelled", "traded")
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        pulled = ~(cancelled / (cancelled + traded) <= p.vacuum_cancelled)
    with_book = depth > 0
    sweep = np.where(with_book, net >= 0.5 * depth, ~bare)
    vacuum = np.where(with_book, (net < 0.2 * depth) & pulled, bare)
    return strength, moved & sweep, moved & vacuum


def cascade_rate(bars: Bars, usual_volume: Floats) -> Floats:
    """Toxic volume a second, 60 s memory, over what is normal."""
    rate, out = 0.0, np.zeros(bars.frame.height)
    toxic = np.nan_to_num(bars["liq_buy_volume"] + bars["liq_sell_volume"])
    for t in range(out.size):
        rate = rate * math.exp(-1 / 60) + toxic[t] * (1 - math.exp(-1 / 60))
        out[t] = rate / (usual_volume[t] / 60) if usual_volume[t] > 0 else 0.0
    return out


def spells(kind: str, bars: Bars, trigger: Any) -> list[tuple[int, list[int], int]]:
    """(last quiet second before, hot seconds, second in which it was known to be over)."""
    out, before, hot = [], 0, list[int]()
    for t in range(bars.frame.height):
        is_hot, is_quiet = trigger(t, bool(hot))
        if hot:
            if is_hot:
                hot.append(t)
            elif t - hot[-1] >= PATIENCE[kind]:
                out.append((before, hot, t))
                before, hot = t, []
        elif is_hot and t:
            hot = [t]
        elif is_quiet:
            before = t
    return out


def episodes(frame: pl.DataFrame, params: Any) -> list[dict[str, Any]]:
    """Rows of closed episodes, by kind."""
    bars = Bars(frame, params)
    market = Seconds(bars.log_mid, bars["spread_bps"], np.zeros(frame.height), bars["buy_volume"], bars["sell_volume"])
    _, usual_volume, usual_spread = norms(market)
    young = slice(0, int(np.argmax(np.isfinite(bars.log_mid))) + 301)  # only the estimator follows norms so young
    usual_volume[young] = usual_spread[young] = NAN
    strength, sweep, vacuum = moves(bars, usual_spread)
    rate, z = cascade_rate(bars, usual_volume), bars["spread_z"]
    gathered = [0.0]  # cumulated excess z

    def widening(t: int, is_open: bool) -> tuple[bool, bool]:
        if not math.isnan(z[t]):
            gathered[0] = min(max(gathered[0] + z[t] - params.widening_drift, 0.0), 20 * params.widening_alarm)
        return gathered[0] > (params.widening_rearm if is_open else params.widening_alarm), gathered[0] == 0.0

    limit = params.cascade_rate
    triggers = {
        "widening": (widening, z),
        "sweep": (lambda t, _: (sweep[t], not _moved(t)), strength),
        "vacuum": (lambda t, _: (vacuum[t], not _moved(t)), strength),
        "liquidation_cascade": (lambda t, _: (rate[t] > limit, rate[t] < 0.1 * limit), rate),
    }
    move = np.abs(bars.log_mid - ago(bars.log_mid, 5))

    def _moved(t: int) -> bool:
        return bool(strength[t] > params.move_sigmas and move[t] > usual_spread[t])

    rows = []
    for kind in KINDS:
        trigger, measure = triggers[kind]
        rows += [row(kind, bars, measure, *spell) for spell in spells(kind, bars, trigger)]
    return rows


def row(kind: str, bars: Bars, measure: Floats, before: int, hot: list[int], known: int) -> dict[str, Any]:
    ts, mid, end = bars.frame["ts"], bars["mid"], hot[-1]
    shifts = [1e4 * math.log(mid[t] / mid[before]) for t in hot if mid[t] > 0 and mid[before] > 0]
    move = max(shifts, key=abs, default=NAN)
    inside = slice(before + 1, end + 1)
    volume = float(bars.volume[inside].sum())
    forced = sum(float(bars["liq_buy_volume"][t] - bars["liq_sell_volume"][t]) for t in hot)
    direction = forced if kind == "liquidation_cascade" and forced else move
    hit = "ask" if move > 0 else "bid"
    moved = abs(move) > 0  # else nobody can say which side was hit
    depth = bars[f"depth_{hit}"][before]
    traded, cancelled = (float(np.nansum(bars[f"{hit}_{what}"][inside])) for what in ("traded", "cancelled"))
    wide = [t for t in range(hot[0], known + 1) if not bars["spread_z"][t] <= bars.params.widening_drift]
    tight = max(wide, default=hot[0] - 1) + 1
    return {
        "kind": kind, "ts_start": ts[before], "ts_end": ts[end], "ts_known": ts[known],
        "side": int(np.sign(np.nan_to_num(direction))), "move_bps": move, "volume": volume,
        "bps_per_volume": abs(move) / volume if volume else NAN,
        "liq_volume": float((bars["liq_buy_volume"] + bars["liq_sell_volume"])[inside].sum()),
        **{name: bars[name][end] for name in ("toxic_mean", "debiased_mean", "implied_mid")},
        "mid_before": mid[before], "mid_after": mid[known], "peak": max(measure[t] for t in hot),
        "depth_share": abs(float(bars.flow[inside].sum())) / depth if depth > 0 and moved else NAN,
        "cancelled_share": cancelled / (cancelled + traded) if cancelled + traded > 0 and moved else NAN,
        "gap": not bars["trades"][inside].any(),
        "ts_tightened": ts[tight] if kind == "widening" and tight <= known else None,
    }  # fmt: skip
