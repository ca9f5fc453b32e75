"""How many rows a file is expected to hold, before it is read."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from toxmid.readers import open_tape

HEADER = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
ROW = "binance-futures,BTCUSDT,{0},{0},{1},buy,50000.1,0.001\n"


def text(rows: int) -> str:
    return HEADER + "".join(ROW.format(1_760_054_400_000_000 + i, i) for i in range(rows))


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"trades{suffix}"
    path.write_bytes(gzip.compress(text(5000).encode()) if suffix.endswith("gz") else text(5000).encode())
    tape = open_tape(path, "trades")
    assert tape.expected_rows == pytest.approx(5000, rel=0.1)
    assert tape.frame().height == 5000


def test_parquet_knows(tmp_path: Path) -> None:
    path = tmp_path / "trades.parquet"
    frame = pl.DataFrame({"ts": [1_760_054_400 * 10**9 + i for i in range(7)], "price": 1.0, "size": 1.0, "side": 1})
    frame.with_columns(pl.col("ts").cast(pl.Datetime("ns", "UTC")), pl.col("side").cast(pl.Int8)).write_parquet(path)
    assert open_tape(path, "trades").expected_rows == 7
