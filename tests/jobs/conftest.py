"""Tapes of three markets over four days, small enough for many runs, and what one replay makes of each market."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from toxmid.jobs import Job, pair_files, run_jobs

SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT")
DAYS = ("2025-01-01", "2025-01-02", "2025-01-03", "2025-01-04")
VENUE = "binance-futures"

_SIDES = {1: "buy", -1: "sell", 0: "unknown"}
_COLUMNS = {
    "trades": {"id": "id", "side": "side", "price": "price", "amount": "size"},
    "liquidations": {"id": "id", "side": "side", "price": "price", "amount": "size"},
    "quotes": {"ask_amount": "ask_size", "ask_price": "ask", "bid_price": "bid", "bid_amount": "bid_size"},
}


def tardis(frame: pl.DataFrame, kind: str, symbol: str) -> bytes:
    """Canonical rows as a file of Tardis."""
    time = pl.col("ts").dt.epoch("us")
    frame = frame.with_columns(side=pl.col("side").replace_strict(_SIDES)) if "side" in frame.columns else frame
    frame = frame if "id" in frame.columns else frame.with_columns(id=pl.lit(None, pl.String))
    columns = [pl.col(column).alias(name) for name, column in _COLUMNS[kind].items()]
    table = frame.select(
        pl.lit(VENUE).alias("exchange"),
        pl.lit(symbol).alias("symbol"),
        time.alias("timestamp"),
        time.alias("local_timestamp"),
        *columns,
    )
    # A fixed time in the header: the same rows give the same bytes.
    return gzip.compress(table.write_csv().encode(), 1, mtime=0)


def contents(out: Path) -> dict[str, bytes]:
    """Everything that a run has written, but locks."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="session")
def tapes(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    """Folder of tapes. A "day" has five minutes here: the name of a file says which day it is."""
    folder = tmp_path_factory.mktemp("tapes")
    for number, symbol in enumerate(SYMBOLS):
        for kind in ("trades", "quotes", "liquidations"):
            rows = pl.read_parquet(samples / "simulated" / f"{kind}.parquet")
            begin = pl.datetime(2025, 1, 1, time_unit="ns", time_zone="UTC")
            scaled = rows.with_columns(pl.col("^(price|bid|ask)$") * (1 + number))
            for index, day in enumerate(DAYS):
                since = pl.col("ts") - begin
                piece = scaled.filter(
                    since.is_between(pl.duration(minutes=5 * index), pl.duration(minutes=5 * index + 5), closed="left")
                )
                path = folder / f"{VENUE}_{kind}_{day}_{symbol}.csv.gz"
                path.write_bytes(tardis(piece, kind, symbol))
    return folder


@pytest.fixture(scope="session")
def jobs(tapes: Path) -> list[Job]:
    return pair_files(tapes)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, jobs: list[Job]) -> Path:
    """What one process makes of all jobs, undisturbed."""
    out = tmp_path_factory.mktemp("reference") / "out"
    run_jobs(jobs, out)
    return out


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "out"
    assert not list(tmp_path.rglob("*.toxmid-partial")), "half-written files were left behind"
