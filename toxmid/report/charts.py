"""Charts of dots: numbers with their intervals on one axis, a row each, as SVG that needs no script.

Colours are variables of the style sheet, so that a chart follows the page into the dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

from markupsafe import Markup

__all__ = ["Chart", "Dot", "Line", "draw"]

_ROW: Final = 22  # px
_TOP, _BOTTOM, _RIGHT = 8, 30, 12  # px around the rows
_CHARACTER: Final = 7.2  # px
_VALUES: Final = 52  # px for the number that stands at the end of a row
_WIDTH: Final = 560  # px
_TICKS: Final = 5


@dataclass(frozen=True)
class Dot:
    """A number, perhaps with an interval; `color` names a variable of the style sheet."""

    value: float
    color: str = "quote"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """A row of a chart: its name, its dots, and what stands at its end."""

    label: str
    dots: Sequence[Dot]
    text: str = ""


@dataclass(frozen=True)
class Chart:
    """Rows over one axis; `guides` are values to draw a line at, `band` a stretch to shade, `keys` name colours."""

    title: str
    lines: Sequence[Line]
    unit: str = ""
    is_log: bool = False
    guides: Sequence[float] = ()
    band: tuple[float, float] | None = None
    limits: tuple[float, float] | None = None
    keys: Sequence[tuple[str, str]] = field(default=())


def draw(chart: Chart) -> Markup:
    """The chart as a figure of HTML.

    >>> "<svg" in draw(Chart("Errors", [Line("mid", [Dot(1.0)])], is_log=True))
    True
    """
    left = 14 + _CHARACTER * max((len(line.label) for line in chart.lines), default=0)
    inside = (left, _WIDTH - _RIGHT - (_VALUES if any(line.text for line in chart.lines) else 0))
    height = _TOP + _ROW * len(chart.lines) + _BOTTOM
    axis = _Axis(*_limits(chart), chart.is_log, *inside)
    rows = "".join(_row(line, i, axis) for i, line in enumerate(chart.lines))
    foot = _TOP + _ROW * len(chart.lines)
    keys = "".join(f'<span><i style="background:var(--{color})"></i>{escape(key)}</span>' for key, color in chart.keys)
    return Markup(  # every text in it is escaped where it is put in
        f'<figure class="chart"><figcaption><b>{escape(chart.title)}</b> {escape(chart.unit)}'
        f'<span class="chart-keys">{keys}</span></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(chart.title)}">'
        f"{_ground(chart, axis, foot)}{rows}{_ticks(axis, foot)}</svg></figure>"
    )


@dataclass(frozen=True)
class _Axis:
    """Where a value stands, px; what lies beyond the limits stands at them."""

    low: float
    high: float
    is_log: bool
    left: float
    right: float

    def __call__(self, value: float) -> float:
        low, high, at = (self._scaled(v) for v in (self.low, self.high, min(max(value, self.low), self.high)))
        return self.left + (self.right - self.left) * (at - low) / (high - low)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.is_log else value

    def marks(self) -> list[float]:
        if not self.is_log:
            step = _step((self.high - self.low) / _TICKS)
            return [step * k for k in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]
        powers = range(math.floor(math.log10(self.low)) - 1, math.ceil(math.log10(self.high)) + 1)
        for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(range(10, 100, 5))):
            values = [digit / (10 if digit >= 10 else 1) * 10.0**power for power in powers for digit in digits]
            inside = [value for value in values if self.low <= value * 1.0000001 and value <= self.high * 1.0000001]
            if len(inside) >= 3:
                break
        return inside


def _step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least * 0.999)


def _limits(chart: Chart) -> tuple[float, float]:
    if chart.limits is not None:
        return chart.limits
    dots = [dot for line in chart.lines for dot in line.dots]
    known = [v for dot in dots for v in (dot.value, dot.low, dot.high) if v is not None and math.isfinite(v)]
    values = [v for v in (*known, *chart.guides, *(chart.band or ())) if v > 0 or not chart.is_log] or [1.0]
    low, high = min(values), max(values)
    if chart.is_log:
        margin = max((high / low) ** 0.04, 1.02)
        return low / margin, high * margin
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def _ground(chart: Chart, axis: _Axis, foot: float) -> str:
    shade = ""
    if chart.band is not None:
        x0, x1 = (axis(value) for value in chart.band)
        shade = f'<rect class="band" x="{x0:.1f}" y="{_TOP}" width="{x1 - x0:.1f}" height="{foot - _TOP}"/>'
    grid = "".join(_vertical("grid", axis(value), foot) for value in axis.marks())
    return shade + grid + "".join(_vertical("guide", axis(value), foot) for value in chart.guides)


def _vertical(style: str, x: float, foot: float) -> str:
    return f'<line class="{style}" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{foot}"/>'


def _row(line: Line, number: int, axis: _Axis) -> str:
    y = _TOP + _ROW * (number + 0.5)
    name = f'<text class="name" x="{axis.left - 10:.1f}" y="{y + 4:.1f}">{escape(line.label)}</text>'
    value = f'<text class="value" x="{_WIDTH - 4}" y="{y + 4:.1f}">{escape(line.text)}</text>' if line.text else ""
    return name + "".join(_dot(dot, y, axis) for dot in line.dots if math.isfinite(dot.value)) + value


def _dot(dot: Dot, y: float, axis: _Axis) -> str:
    paint = f"var(--{dot.color})"
    bar = ""
    if dot.low is not None and dot.high is not None and math.isfinite(dot.low) and math.isfinite(dot.high):
        ends = f'x1="{axis(dot.low):.1f}" x2="{axis(dot.high):.1f}" y1="{y}" y2="{y}"'
        bar = f'<line class="interval" {ends} style="stroke:{paint}"/>'
    return bar + f'<circle cx="{axis(dot.value):.1f}" cy="{y}" r="4.5" style="fill:{paint}"/>'


def _ticks(axis: _Axis, foot: float) -> str:
    return "".join(
        f'<text class="tick" x="{axis(value):.1f}" y="{foot + 18}">{_number(value)}</text>' for value in axis.marks()
    )


def _number(value: float) -> str:
    return f"{value:,.6g}".replace("-", "−") if abs(value) > 1e-12 else "0"
