"""Types of the compiled module; all arrays but `theta` have one length."""

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]

def run(
    y: _Floats,
    forced: _Floats,
    other: _Floats,
    excess: _Floats,
    lean: _Floats,
    theta: _Floats,
    mean: _Floats,
    variance: _Floats,
    loglike: _Floats,
) -> None: ...
