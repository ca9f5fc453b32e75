"""Types of the compiled module."""

from typing import Final

import numpy as np
import numpy.typing as npt

LIMITS: Final[tuple[int, int]]  # kinds, kernels

def loglike(
    t: npt.NDArray[np.float64],
    kind: npt.NDArray[np.int64],
    span: float,
    mu: npt.NDArray[np.float64],
    n: npt.NDArray[np.float64],  # (kinds excited, kinds exciting, kernels)
    b: npt.NDArray[np.float64],
    by_mu: npt.NDArray[np.float64],
    by_n: npt.NDArray[np.float64],
    by_b: npt.NDArray[np.float64],
) -> float: ...
