"""An engine inside a compiled backtest: the steps of `toxmid.Engine`, called from numba without Python in between.

A loop under ``numba.njit`` cannot call methods of Python objects. Here are the same steps as functions that it can
call: C functions of the core, registered with LLVM under their names when this module is imported, so that compiled
loops can be cached (``cache=True``; import `toxmid.native` before a cached loop runs).

Every function takes the array that `state` gives. It is a view of the engine's own memory and keeps the engine alive,
so there is nothing to close and no address to keep. What a loop fed stands in the engine: bars, buckets and episodes
are taken from it afterwards, and a snapshot is a snapshot of it. One engine is for one thread; several engines may run
in several.

Needs numba: ``pip install toxmid[numba]``.

Functions
---------
trade(state, ts, price, size, side)
quote(state, ts, bid, bid_size, ask, ask_size)
book(state, ts, side, price, size, snapshot, gap)
liquidation(state, ts, side, price, size)
mark_price(state, ts, price, index)
reference_trade(state, ts, price, size, side, venue)
open_interest(state, ts, open_interest)
    Take one event, as the methods of `toxmid.Engine` of these names: `ts` in int64 ns since 1970 UTC, prices in quote
    currency, sizes in base coin, sides +1, -1, 0; `index` NaN where it is not known; `venue` as numbered by
    `Engine.venue_number`. They return 0, or a negative code where the event was not taken; `check` turns it into the
    error that the method would have raised.
read(state, out)
    Fill `out`, float64 of length ``len(READING)`` or more, with what `toxmid.ImpliedMid` shows at this moment, in the
    order of `READING`; NaN where nothing is known yet. Returns 0 or a negative code. It closes the open step on a copy,
    which costs as much as dozens of events: call it where a decision is made, not at every event.
now(state)
    Time of the last event used, ns; 0 before the first.

Examples
--------
>>> import numba, numpy as np
>>> from toxmid import Engine, native
>>> @numba.njit
... def backtest(state, ts, price, size, side, implied):
...     figures = np.empty(7)
...     for i in range(len(ts)):
...         code = native.trade(state, ts[i], price[i], size[i], side[i])
...         if code == 0:
...             code = native.read(state, figures)
...         if code < 0:
...             return i, code
...         implied[i] = figures[1]
...     return len(ts), 0
>>> engine = Engine()
>>> ts = 1_760_054_400_000_000_000 + np.arange(400) * 10**9
>>> price, side = 100.0 + 0.01 * (np.arange(400) % 2), np.where(np.arange(400) % 2, 1, -1)
>>> implied = np.empty(400)
>>> row, code = backtest(native.state(engine), ts, price, np.ones(400), side, implied)
>>> native.check(engine, code)
>>> float(implied[0]), round(float(implied[-1]), 3)
(nan, 100.005)
>>> native.READING[1]
'implied_mid'
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from toxmid import _core

try:
    import llvmlite.binding as llvm
    from numba import njit, types
except ImportError as missing:
    raise ImportError("toxmid.native needs numba: pip install toxmid[numba]") from missing

__all__ = [
    "READING",
    "book",
    "check",
    "liquidation",
    "mark_price",
    "now",
    "open_interest",
    "quote",
    "read",
    "reference_trade",
    "state",
    "trade",
]

READING: Final[tuple[str, ...]] = _core.READING_FIELDS

State: TypeAlias = npt.NDArray[np.uint8]

_TIME, _WHOLE, _REAL, _ADDRESS, _CODE = types.int64, types.int64, types.float64, types.intp, types.int32


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., int]:
    """A C function of the core as numba calls it: LLVM learns its address under its name."""
    capsule = _core.__pyx_capi__[name]
    find = ctypes.pythonapi.PyCapsule_GetPointer
    find.restype, find.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    llvm.add_symbol(name, find(capsule, name_of(capsule)))
    function: Callable[..., int] = types.ExternalFunction(name, result(_ADDRESS, *arguments))
    return function


_trade = _function("toxmid_trade", _CODE, _TIME, _REAL, _REAL, _WHOLE)
_quote = _function("toxmid_quote", _CODE, _TIME, _REAL, _REAL, _REAL, _REAL)
_book = _function("toxmid_book", _CODE, _TIME, _WHOLE, _REAL, _REAL, _WHOLE, _WHOLE)
_liquidation = _function("toxmid_liquidation", _CODE, _TIME, _WHOLE, _REAL, _REAL)
_mark_price = _function("toxmid_mark_price", _CODE, _TIME, _REAL, _REAL)
_reference_trade = _function("toxmid_reference_trade", _CODE, _TIME, _REAL, _REAL, _WHOLE, _WHOLE)
_open_interest = _function("toxmid_open_interest", _CODE, _TIME, _REAL)
_now = _function("toxmid_now", _TIME)
_read = _function("toxmid_read", _CODE, types.intp)


def state(engine: _core.Core) -> State:
    """The array by which compiled loops know an engine.

    Parameters
    ----------
    engine : Engine or ImpliedMid
        It lives as long as the array does. What its methods do is seen through the array and the other way round.

    Returns
    -------
    numpy.ndarray
        uint8, read-only. Its bytes are the core's own affair.
    """
    return np.frombuffer(cast(Any, _core.Handle(engine)), np.uint8)  # a buffer, which its type cannot say before 3.12


def check(engine: _core.Core, code: int, *, kind: str = "trades", row: int | None = None, ts: int = 0) -> None:
    """Raise the error that a code of a compiled loop means; nothing where the code is not negative.

    Parameters
    ----------
    engine : Engine or ImpliedMid
        The engine that was fed.
    code : int
        What `trade`, `quote` etc. returned.
    kind : {"trades", "liquidations", "book", "quotes", "mark", "reference", "open_interest"}
        Kind of the event.
    row : int, optional
        Which one it was.
    ts : int
        Its time, ns.

    Raises
    ------
    DataError
        A time that goes back, or outside 2009..2100; a trade of more buckets than can be meant.
    MemoryError
        The machine has none left.
    """
    if code < 0:
        raise _core.event_error(code, kind, row, ts, engine.now)


@njit
def trade(state: State, ts: int, price: float, size: float, side: int) -> int:
    return _trade(state.ctypes.data, ts, price, size, side)


@njit
def quote(state: State, ts: int, bid: float, bid_size: float, ask: float, ask_size: float) -> int:
    return _quote(state.ctypes.data, ts, bid, bid_size, ask, ask_size)


@njit
def book(state: State, ts: int, side: int, price: float, size: float, snapshot: bool, gap: bool) -> int:
    return _book(state.ctypes.data, ts, side, price, size, snapshot, gap)


@njit
def liquidation(state: State, ts: int, side: int, price: float, size: float) -> int:
    return _liquidation(state.ctypes.data, ts, side, price, size)


@njit
def mark_price(state: State, ts: int, price: float, index: float) -> int:
    return _mark_price(state.ctypes.data, ts, price, index)


@njit
def reference_trade(state: State, ts: int, price: float, size: float, side: int, venue: int) -> int:
    return _reference_trade(state.ctypes.data, ts, price, size, side, venue)


@njit
def open_interest(state: State, ts: int, open_interest: float) -> int:
    return _open_interest(state.ctypes.data, ts, open_interest)


@njit
def now(state: State) -> int:
    return _now(state.ctypes.data)


@njit
def read(state: State, out: npt.NDArray[np.float64]) -> int:
    if out.size < len(READING):
        raise ValueError("out is shorter than READING")
    return _read(state.ctypes.data, out.ctypes.data)
