"""Price grid and size grid of a market, as its own tapes show them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from toxmid.instrument import Instrument, decimal_grid
from toxmid.schema import Kind

__all__ = ["Grids"]

# Index and mark prices and averages of liquidations lie between the ticks.
_PRICES: Final[dict[Kind, tuple[str, ...]]] = {"trades": ("price",), "book": ("price",), "quotes": ("bid", "ask")}
_SIZES: Final[dict[Kind, tuple[str, ...]]] = {"trades": ("size",), "book": ("size",), "liquidations": ("size",)}


class Grids:
    """Tick and lot of canonical frames of one market, piece by piece: the coarsest decimal grids that hold them all.

    Examples
    --------
    >>> grids = Grids()
    >>> grids.add(pl.DataFrame({"price": [20.05, 20.4], "size": [1.0, 3.0]}), "trades")
    >>> grids.found
    {'tick': 0.05, 'lot': 1.0}
    """

    def __init__(self) -> None:
        self._grids = {"tick": _Grid(), "lot": _Grid()}

    def add(self, frame: pl.DataFrame, kind: Kind) -> None:
        """Take in one more canonical frame."""
        for grid, names in ((self._grids["tick"], _PRICES), (self._grids["lot"], _SIZES)):
            for name in names.get(kind, ()):
                grid.add(frame[name])

    def know(self, steps: Mapping[str, float]) -> None:
        """Take in grids that another look at other frames has found."""
        for name, step in steps.items():
            self._grids[name].add(pl.Series([step, 2 * step]))

    @property
    def found(self) -> dict[str, float]:
        """`tick` and `lot`, as far as there are any."""
        return {name: step for name, grid in self._grids.items() if (step := grid.step) is not None}

    def onto(self, instrument: Instrument) -> Instrument:
        """The instrument with these grids where nobody knows better."""
        found = self.found
        if instrument.inverse:  # coin there lies on no grid; what comes out would be an accident
            found.pop("lot", None)
        unknown = {name: step for name, step in found.items() if instrument.origin[name] == "unknown"}
        return instrument.replace(**unknown, origin=dict.fromkeys(unknown, "found"))


def grids_of(kind: Kind, instrument: Instrument) -> set[str]:
    """Grids that a table of this kind can show: some of ``"tick", "lot"``.

    Examples
    --------
    >>> grids_of("quotes", Instrument())
    {'tick'}
    """
    return ({"tick"} if kind in _PRICES else set()) | ({"lot"} if kind in _SIZES and not instrument.inverse else set())


class _Grid:
    """Decimal grid of many values, frame by frame; once there is none, there is none."""

    def __init__(self) -> None:
        self._step: float | None = None
        self._lost = False
        self._least, self._most = math.inf, -math.inf

    def add(self, values: pl.Series) -> None:
        positive = values.filter(values.is_finite() & (values > 0))
        if self._lost or positive.is_empty():
            return
        self._least = min(self._least, float(positive.to_numpy().min()))
        self._most = max(self._most, float(positive.to_numpy().max()))
        if self._step is not None and _holds(self._step, positive.to_numpy()):
            return
        step = decimal_grid(positive.to_numpy())
        if step is not None and self._step is not None:
            step = decimal_grid([step, self._step])
        self._lost = step is None
        self._step = step

    @property
    def step(self) -> float | None:
        """The grid, if there is one; of a single value nothing can be said."""
        return self._step if self._least < self._most else None


def _holds(step: float, values: npt.NDArray[np.float64]) -> bool:
    """Whether all values lie on a decimal grid; False where that is not easily said."""
    per_unit = float(round(1 / step))
    if per_unit * step != 1:
        return False
    return bool((np.rint(values * per_unit) / per_unit == values).all())
