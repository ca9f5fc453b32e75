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
