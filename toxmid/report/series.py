"""What the report draws: its panels, and which column of `bars` each line is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toxmid.report.facts import STRESS

__all__ = ["PANELS", "Panel", "Series", "columns_of", "layout"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One line, band edge or row of stems.

    `color` names a variable of the style sheet; `digits` is how many significant digits of the largest value are
    kept, more on a logarithmic axis, nine at most; `sign` -1 draws downwards what is counted upwards.
    """

    column: str
    label: str
    color: str
    kind: str = "line"  # "line" | "stem" | "edge" (of a band; the legend names the band once)
    axis: str = "left"
    width: float = 1.25
    dash: tuple[int, int] | None = None
    sign: int = 1
    digits: int = 6


@dataclass(frozen=True)
class Axis:
    """A vertical axis: its unit, how it is spaced, and the decimals of its values in the legend.

    `spacing` is "linear", "log" or "asinh" (linear near zero, logarithmic far from it). `decimals` None means the
    decimals of the price. `lane` is the part of the height it takes, so that two noisy lines do not hide each other.
    `floor` is where a logarithmic axis ends below; None leaves it to the values.
    """

    unit: str
    spacing: str = "linear"
    decimals: int | None = 2
    limits: tuple[float, float] | None = None
    lane: tuple[float, float] = (0.0, 1.0)
    floor: float | None = None


@dataclass(frozen=True)
class Panel:
    """Lines over one stretch of time, with one or two vertical axes."""

    name: str
    title: str
    axes: Mapping[str, Axis]
    series: tuple[Series, ...]
    height: int = 190
    band: tuple[str, str] | None = None
    guides: tuple[tuple[str, float], ...] = field(default=())  # axis, value


_PER_BAR: Final = "base coin per bar"
_LOWER: Final = (0.0, 0.55)
_UPPER: Final = (0.62, 1.0)

PANELS: Final = (
    Panel(
        "price",
        "Price",
        {
            "left": Axis("quote currency", decimals=None, lane=(0.16, 1.0)),
            "right": Axis(_PER_BAR, decimals=3, lane=(0.0, 0.15)),
        },
        (
            Series("liq_sell_volume", "liquidation-driven sells", "liq-sell", "stem", "right", digits=5),
            Series("liq_buy_volume", "liquidation-driven buys", "liq-buy", "stem", "right", digits=5),
            Series("implied_hi", "implied interval", "implied-band", "edge", digits=8),
            Series("implied_lo", "implied interval", "implied-band", "edge", digits=8),
            Series("bid", "bid", "quote", width=1, digits=8),
            Series("ask", "ask", "quote", width=1, digits=8),
            Series("mid", "quoted mid", "mid", width=1.5, digits=8),
            Series("toxic_mean", "toxic mean", "toxic", width=1.5, digits=8),
            Series("debiased_mean", "debiased mean", "debiased", width=1.5, dash=(6, 3), digits=8),
            Series("true_mid", "true mid (simulated)", "truth", width=2, dash=(2, 3), digits=8),
            Series("implied_mid", "implied mid", "implied", width=2, digits=8),
        ),
        height=420,
        band=("implied_hi", "implied_lo"),
    ),
    Panel(
        "gap",
        "Estimates − quoted mid",
        {"left": Axis("bps", decimals=2)},
        (
            Series("gap_toxic_bps", "toxic mean (in stress)", "toxic", width=1),
            Series("gap_debiased_bps", "debiased mean (in stress)", "debiased", width=1, dash=(6, 3)),
            Series("gap_hi_bps", "interval", "implied-band", "edge"),
            Series("gap_lo_bps", "interval", "implied-band", "edge"),
            Series("gap_bps", "implied mid", "implied", width=1.5),
        ),
        band=("gap_hi_bps", "gap_lo_bps"),
        guides=(("left", 0.0),),
    ),
    Panel(
        "vpin",
        "Toxicity",
        {"left": Axis("0 to 1", decimals=3, limits=(0.0, 1.02))},
        (
            Series("toxicity", "liquidation-driven share", "toxic", width=1, digits=4),
            Series("vpin_rank", "VPIN rank", "rank", width=1.25, digits=4),
            Series("vpin", "VPIN", "vpin", width=1.75, digits=4),
        ),
        guides=(("left", 0.99),),
    ),
    Panel(
        "spread",
        "Spread",
        {"left": Axis("bps", "log", lane=_LOWER), "right": Axis("z against time of day", decimals=1, lane=_UPPER)},
        (
            Series("spread_z", "z (right)", "second", axis="right", width=1, digits=5),
            Series("round_trip_bps", "round trip of a fixed size (left)", "third", width=1, digits=9),
            Series("spread_bps", "quoted spread (left)", "first", width=1.25, digits=9),
        ),
        height=230,
    ),
    Panel(
        "impact",
        "Price impact",
        {
            "left": Axis("times what calm times give", "log", lane=_LOWER, floor=0.03),
            "right": Axis("bps per base coin", "log", decimals=4, lane=_UPPER),
        },
        (
            Series("bps_per_volume", "move per volume (right)", "second", axis="right", width=1, digits=9),
            Series("excess_impact", "excess impact per volume (left)", "first", width=1.25, digits=9),
        ),
        height=230,
        guides=(("left", 1.0),),
    ),
    Panel(
        "lambda",
        "Kyle's lambda",
        {"left": Axis("bps per unit of net taker flow", "log", decimals=4)},
        (Series("kyle_lambda", "price impact of net flow", "first", width=1.5, digits=9),),
    ),
    Panel(
        "depth",
        "Depth and what became of it",
        {
            "left": Axis("base coin within 10 bps of the mid", decimals=1, lane=_LOWER),
            "right": Axis("cancelled, not traded, of what went", decimals=2, lane=_UPPER),
        },
        (
            Series("cancel_share", "cancel share (right)", "third", axis="right", width=1, digits=3),
            Series("depth_bid_10bps", "bids (left)", "buy", width=1.25, digits=4),
            Series("depth_ask_10bps", "asks (left)", "sell", width=1.25, digits=4),
        ),
        height=230,
    ),
    Panel(
        "branching",
        "Liquidations that set off liquidations",
        {"left": Axis("0 to 1", decimals=3, limits=(0.0, 1.02))},
        (
            Series("branching_usual", "its trailing median", "rank", width=1, dash=(6, 3), digits=4),
            Series("liq_branching", "branching ratio", "toxic", width=1.5, digits=4),
        ),
        height=150,
    ),
    Panel(
        "volume",
        "Volume",
        {"left": Axis(_PER_BAR, "asinh", decimals=3)},
        (
            Series("buy_volume", "taker buys", "buy", "stem", digits=5),
            Series("sell_volume", "taker sells", "sell", "stem", sign=-1, digits=5),
            Series("liq_buy_volume", "liquidation-driven buys", "liq-buy", "stem", digits=5),
            Series("liq_sell_volume", "liquidation-driven sells", "liq-sell", "stem", sign=-1, digits=5),
        ),
        guides=(("left", 0.0),),
    ),
)


_DRAWN: Final = ("column", "label", "color", "kind", "axis", "width", "dash", "sign")


def columns_of(bars: pl.DataFrame, truth: pl.DataFrame | None) -> dict[str, Array]:
    """Return every column that is drawn, NaN where nothing is known.

    Distances between two columns are formed here, before any thinning, so that both belong to the same bar.
    """
    names = {series.column for panel in PANELS for series in panel.series}
    columns = {name: _numbers(bars[name]) for name in sorted(names) if name in bars.columns}
    if {"liq_branching", "liq_branching_excess"} <= set(bars.columns):
        columns["branching_usual"] = columns["liq_branching"] - _numbers(bars["liq_branching_excess"])
    with np.errstate(divide="ignore", invalid="ignore"):
        for edge, price in (("gap_bps", "implied_mid"), ("gap_lo_bps", "implied_lo"), ("gap_hi_bps", "implied_hi")):
            columns[edge] = _finite(1e4 * np.log(columns[price] / columns["mid"]))
        # In calm the means remember a flow that is long gone.
        stress = bars["regime"].cast(pl.String).str.starts_with(STRESS).fill_null(False).to_numpy()
        for gap, price in (("gap_toxic_bps", "toxic_mean"), ("gap_debiased_bps", "debiased_mean")):
            distance = _finite(1e4 * np.log(columns[price] / columns["mid"]))
            columns[gap] = np.where(stress, distance, np.nan)
    if truth is not None:
        known = truth.select(pl.col("ts").cast(pl.Int64), "mid").sort("ts")
        columns["true_mid"] = _numbers(bars.select(pl.col("ts").cast(pl.Int64)).join_asof(known, on="ts")["mid"])
    return columns


def layout(columns: Mapping[str, Array], *, price_decimals: int) -> list[dict[str, Any]]:
    """Return the panels as the script of the page reads them, without those that have nothing to show.

    The first one, which the others are aligned with, is always there.
    """
    known = {name for name, values in columns.items() if not np.isnan(values).all()}
    first, *others = PANELS
    shown = [first, *(panel for panel in others if any(line.column in known for line in panel.series))]
    return [_panel(panel, _lines(panel, columns, known), columns, price_decimals) for panel in shown]


def _lines(panel: Panel, columns: Mapping[str, Array], known: Set[str]) -> list[Series]:
    """Return the lines that have a column, without those that are empty where another on their axis is not.

    An axis that is empty as a whole stays: nothing is known yet, which is worth seeing beside the other axis.
    """
    lines = [line for line in panel.series if line.column in columns]
    filled = {line.axis for line in lines if line.column in known}
    return [line for line in lines if line.column in known or line.axis not in filled]


def _panel(panel: Panel, lines: Sequence[Series], columns: Mapping[str, Array], price_decimals: int) -> dict[str, Any]:
    used = {side: axis for side, axis in panel.axes.items() if any(line.axis == side for line in lines)}
    axes = {
        side: {
            "unit": axis.unit,
            "spacing": axis.spacing,
            "decimals": price_decimals if axis.decimals is None else axis.decimals,
            "limits": axis.limits,
            "lane": axis.lane if len(used) > 1 else (0.0, 1.0),
            "floor": _floor(axis, _sizes(lines, side, columns)),
            "knee": _knee(axis, _sizes(lines, side, columns)),
        }
        for side, axis in used.items()
    }
    return {
        "name": panel.name,
        "title": panel.title,
        "height": panel.height,
        "axes": axes,
        "series": [{key: getattr(line, key) for key in _DRAWN} for line in lines],
        "band": panel.band if {line.column for line in lines} >= set(panel.band or ()) else None,
        "guides": panel.guides,
    }


def _sizes(lines: Sequence[Series], side: str, columns: Mapping[str, Array]) -> Array:
    """Return the sizes of everything on one axis that is not zero."""
    shown = np.abs(np.concatenate([columns[line.column] for line in lines if line.axis == side]))
    return np.compress(shown > 0, shown)


def _floor(axis: Axis, sizes: Array) -> float | None:
    """Return where a logarithmic axis ends below: a handful of almost-zeros must not take up all its room."""
    if axis.spacing != "log" or axis.floor is not None:
        return axis.floor
    return float(np.quantile(sizes, 0.01)) if sizes.size else None


def _knee(axis: Axis, sizes: Array) -> float | None:
    """Return where an asinh axis turns from linear to logarithmic: at the usual size of what it shows."""
    if axis.spacing != "asinh":
        return None
    return float(np.median(sizes)) if sizes.size else 1.0


def _numbers(column: pl.Series) -> Array:
    return _finite(column.cast(pl.Float64).to_numpy())


def _finite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, np.nan)
