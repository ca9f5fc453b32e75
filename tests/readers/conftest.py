"""Tapes made on the spot, for the ways in which they can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

HEADER = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
T0 = 1_760_130_960_000_000  # microseconds


def trade(index: int, *, symbol: str = "AVAXUSDT", side: str = "buy", price: str = "20", amount: str = "1") -> str:
    """One row of Tardis trades, a second after the one before."""
    at = T0 + index * 1_000_000
    return f"binance-futures,{symbol},{at},{at + 5000},{index},{side},{price},{amount}\n"


def trades(count: int) -> str:
    """Text of a file of Tardis trades."""
    return HEADER + "".join(map(trade, range(count)))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write a file into a fresh folder."""

    def _write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return _write
