"""Random numbers by name, the same on every platform: what is added, or asked for in another
order, changes nothing else.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray

from toxmid import _simulate

__all__ = ["Draw"]


class Draw:
    """Numbers of one seed and one room; every name in the room is a stream of its own."""

    def __init__(self, seed: int, room: str) -> None:
        self._seed = seed
        self._room = room

    def uniforms(self, name: str, n: int) -> NDArray[np.float64]:
        """`n` uniform numbers inside (0, 1)."""
        stream = zlib.crc32(f"{self._room}.{name}".encode())
        return np.asarray(_simulate.uniforms(self._seed, stream, n), dtype=np.float64)

    def normals(self, name: str, n: int) -> NDArray[np.float64]:
        """`n` standard normal numbers."""
        from scipy.special import ndtri

        return np.asarray(ndtri(self.uniforms(name, n)), dtype=np.float64)

    def unit(self, name: str) -> float:
        return float(self.uniforms(name, 1)[0])

    def between(self, name: str, low: float, high: float) -> float:
        return low + (high - low) * self.unit(name)

    def log_between(self, name: str, low: float, high: float) -> float:
        return low * math.exp(math.log(high / low) * self.unit(name))
