"""Types of the compiled module."""

from collections.abc import Sequence
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

LONGEST_WORD: Final[int]
ROLES: Final[dict[str, int]]

def count_lines(data: bytes | bytearray | memoryview, end: int) -> int: ...

@final
class Decoder:
    def __init__(self, fields: Sequence[tuple[str, Any]], separator: bytes = b",") -> None: ...
    def decode(
        self, data: bytes | bytearray | memoryview, start: int, rows: int
    ) -> list[npt.NDArray[Any] | tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]] | None] | None: ...
