"""Types of the compiled core: the state of one engine and the methods that hand it events.

Times are int64 nanoseconds since 1970 UTC, prices quote currency, sizes base coin. Columns are contiguous arrays of one
length per table: ``ts`` and ``lots`` int64, prices and sizes float64, ``side`` int8, ``snapshot`` uint8.
"""

from typing import Any, Final, Self, TypeAlias, final

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from toxmid.instrument import Instrument
from toxmid.params import Params

_Columns: TypeAlias = dict[str, npt.NDArray[Any]]
# Seven (those left out at the end are None), in the order of KIND_NAMES, each sorted by time.
_Tables: TypeAlias = tuple[_Columns | None, ...]
_Int: TypeAlias = int | np.integer[Any]
_Float: TypeAlias = float | np.floating[Any]

KIND_NAMES: Final[tuple[str, ...]]  # kinds of event, in the order in which those of one time are taken
REASON_NAMES: Final[tuple[str, ...]]  # why a row was refused
REGIME_NAMES: Final[tuple[str, ...]]  # by code, column `regime` of bars
OTHER_VENUE_LIMIT: Final[int]  # other venues that one engine can watch
EPISODE_NAMES: Final[tuple[str, ...]]  # by code, column `kind` of episodes

# (name, "i8" or "f8") of the columns of a row, as numpy.dtype takes them; a row is packed, 8 bytes a column.
BAR_FIELDS: Final[list[tuple[str, str]]]
BUCKET_FIELDS: Final[list[tuple[str, str]]]
EPISODE_FIELDS: Final[list[tuple[str, str]]]

def turn(rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> None: ...  # (n, fields) into (fields, n)

@disjoint_base
class Columns:
    """The columns of one table, held for the loop over them."""

    def __new__(cls, columns: _Columns, names: tuple[str, ...], needs_side: bool = False) -> Self: ...

@final
class BucketCore:
    """The volume clock alone."""

    @property
    def used(self) -> int: ...  # rows
    @property
    def rejected(self) -> int: ...  # rows
    def __new__(cls, params: Params, instrument: Instrument) -> Self: ...
    def run(self, trades: _Columns) -> None: ...
    @property
    def buckets_waiting(self) -> int: ...  # rows that `drain_buckets_into` takes
    def drain_buckets_into(self, columns: npt.NDArray[np.int64]) -> None: ...  # (fields, buckets_waiting)

@final
class BookCore:
    """The book alone."""

    def __new__(cls, tick: float = 0.0, need_seed: bool = True) -> Self: ...  # tick: quote currency, 0 is found
    def run(self, book: _Columns) -> None: ...
    def settle(self) -> None: ...
    def levels(self, side: _Int, limit: int = -1) -> list[tuple[float, float]]: ...  # (price, size), best first
    def tally(self) -> dict[str, Any]: ...  # counts; "used" by kind, "rejected" by kind and reason

@disjoint_base
class Core:
    """State of one engine, and the methods that hand it events."""

    def __new__(cls, params: Params | None, instrument: Instrument | None, *args: Any, **kwargs: Any) -> Self: ...
    def __init__(self, params: Params, instrument: Instrument) -> None: ...
    # One event; ts in ns, side +1 / -1 / 0.
    def trade(self, ts: _Int, price: _Float, size: _Float, side: _Int = 0, lots: _Int = 0) -> None: ...
    def quote(self, ts: _Int, bid: _Float, bid_size: _Float, ask: _Float, ask_size: _Float) -> None: ...
    def book(
        self, ts: _Int, side: _Int, price: _Float, size: _Float, snapshot: bool = False, gap: bool = False
    ) -> None: ...
    def liquidation(self, ts: _Int, side: _Int, price: _Float, size: _Float) -> None: ...
    def mark_price(self, ts: _Int, price: _Float, index: _Float = ...) -> None: ...
    def reference_trade_at(self, venue: _Int, ts: _Int, price: _Float, size: _Float, side: _Int = 0) -> None: ...
    def open_interest(self, ts: _Int, open_interest: _Float) -> None: ...  # base coin
    # Many events.
    def run(self, tables: _Tables) -> None: ...
    def feed_without_prints(self) -> None: ...
    def finish(self) -> None: ...
    # What is known.
    def peek(self) -> dict[str, Any] | None: ...  # the open bar: columns of BAR_FIELDS; None before the first event
    def peek_terms(self) -> tuple[float, ...]: ...  # mid, implied mid (price), terms (bps), memory (s)
    def drain_bars(self) -> bytes: ...  # rows of BAR_FIELDS
    @property
    def bars_waiting(self) -> int: ...  # rows that `drain_bars` would give
    def drain_bars_into(self, columns: npt.NDArray[np.int64]) -> None: ...  # (len(BAR_FIELDS), bars_waiting)
    def drain_buckets(self) -> bytes: ...  # rows of BUCKET_FIELDS
    def drain_episodes(self) -> bytes: ...  # rows of EPISODE_FIELDS
    def tally(self) -> dict[str, Any]: ...  # counts; "used" by kind, "rejected" by kind and reason
    def book_levels(self, side: _Int, limit: int = -1) -> list[tuple[float, float]]: ...  # (price, size), best first
    def venues(self) -> dict[int | str, dict[str, Any]]: ...  # other venues by number, "index" and "mark"
    def peek_weights(self) -> dict[int | str, float]: ...
    def open_bucket(self) -> dict[str, Any]: ...
    def first_bucket(self) -> dict[str, Any] | None: ...  # time and price of the trade that opened it
    def open_episodes(self) -> dict[str, int]: ...  # kind: onset, ns
    def feed_figures(self) -> dict[str, float]: ...  # counts, and volumes in base coin
    def warmth(self) -> dict[str, int]: ...  # days, minutes, values, steps
    @property
    def now(self) -> int: ...  # ns; 0 before the first event
    # State as a value.
    def save_state(self) -> bytes: ...
    def load_state(self, state: bytes) -> None: ...

# Compiled callers: these C functions, in capsules, take the address of what a Handle gives.
__pyx_capi__: Final[dict[str, Any]]
READING_FIELDS: Final[tuple[str, ...]]  # what toxmid_read fills, float64 each

@final
class Handle:
    """The state of an engine as memory (a buffer): the engine lives as long as this does."""

    def __new__(cls, engine: Core) -> Self: ...

def event_error(code: int, kind: str, row: int | None, ts: int, now: int) -> Exception: ...  # ts, now in ns
