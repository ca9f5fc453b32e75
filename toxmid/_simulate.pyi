from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

AGENTS: tuple[str, ...]
SHOCK_COLUMNS: int
MAX_LEVELS: int
TRADE: np.dtype[np.void]
QUOTE: np.dtype[np.void]
BOOK: np.dtype[np.void]
LIQUIDATED: np.dtype[np.void]
HIDDEN: np.dtype[np.void]

def uniforms(seed: int, stream: int, n: int) -> NDArray[np.float64]: ...
def run(
    world: Mapping[str, float],
    shocks: ArrayLike,
    *,
    seed: int,
    steps: int,
    start: int,
    first_price: float,
    tick: float,
    lot: float,
    size_scale: float,
    cell: float,
    levels: int,
    mirror: bool,
) -> dict[str, NDArray[Any]]: ...
