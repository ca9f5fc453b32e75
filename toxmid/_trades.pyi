"""Types of the compiled module; one-dimensional arrays of one length per group."""

from typing import Final

import numpy as np
import numpy.typing as npt

RULES: Final[dict[str, int]]

def sign_trades(
    ts: npt.NDArray[np.int64],
    price: npt.NDArray[np.float64],
    side: npt.NDArray[np.int8],
    quote_ts: npt.NDArray[np.int64],
    bid: npt.NDArray[np.float64],
    ask: npt.NDArray[np.float64],
    rule: int,
    slack: float,
    out: npt.NDArray[np.int8],
) -> None: ...
def last_up_to(
    ts: npt.NDArray[np.int64],
    clock: npt.NDArray[np.int64],
    shift: int,
    out: npt.NDArray[np.int64],
) -> None: ...
def claim_orders(
    ts: npt.NDArray[np.int64],
    side: npt.NDArray[np.int8],
    units: npt.NDArray[np.float64],
    price: npt.NDArray[np.float64],
    record_ts: npt.NDArray[np.int64],
    record_side: npt.NDArray[np.int8],
    record_units: npt.NDArray[np.float64],
    record_price: npt.NDArray[np.float64],
    window: int,
    grace: int,
    slack: float,
    price_slack: float,
    out: npt.NDArray[np.float64],
) -> int: ...
def add_markouts(
    ts: npt.NDArray[np.int64],
    sign: npt.NDArray[np.float64],
    size: npt.NDArray[np.float64],
    paid: npt.NDArray[np.float64],
    group: npt.NDArray[np.int64],
    quote_ts: npt.NDArray[np.int64],
    log_mid: npt.NDArray[np.float64],
    length: int,
    span: int,
    weight: npt.NDArray[np.float64],  # (blocks, groups, 2), and the two that follow
    weighted: npt.NDArray[np.float64],
    count: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64],  # (groups, 2)
) -> None: ...
