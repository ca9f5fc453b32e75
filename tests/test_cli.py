"""The command line as a user meets it: what it prints, what it leaves behind, how it ends."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from toxmid.replay import replay
from toxmid.simulate import simulate

HEADER = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"


def toxmid(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "toxmid", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, timeout=300)


def tape(rows: int = 900) -> str:
    start = 1_760_054_400_000_000
    lines = [
        f"binance-futures,BTCUSDT,{start + i * 1_000_000},{start + i * 1_000_000 + 5000},{i},"
        f"{'buy' if i % 2 else 'sell'},{100 + 0.1 * (i % 2):.1f},{1 + i % 3}\n"
        for i in range(rows)
    ]
    return HEADER + "".join(lines)


@pytest.fixture
def trades(tmp_path: Path) -> Path:
    path = tmp_path / "binance-futures_trades_2025-10-10_BTCUSDT.csv.gz"
    path.write_bytes(gzip.compress(tape().encode()))
    return path


def assert_one_line(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 3
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


def test_replay_writes_whole_output_and_then_nothing(trades: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = toxmid("replay", "--trades", trades, "--out", out)
    assert first.returncode == 0, first.stderr
    assert "900 read, 900 used" in first.stdout
    assert {path.name for path in out.iterdir()} == {
        "bars.parquet", "buckets.parquet", "events.parquet", "manifest.json"
    }  # fmt: skip
    assert pl.read_parquet(out / "bars.parquet").height == 900
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    second = toxmid("replay", "--trades", trades, "--out", out)
    assert second.returncode == 0
    assert "nothing to do" in second.stderr
    assert second.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_replay_with_another_parameter_is_another_run(trades: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "out", tmp_path / "config.toml"
    assert toxmid("replay", "-q", "--trades", trades, "--out", out).returncode == 0
    config.write_text('[params]\nbar = "5s"\n')
    again = toxmid("replay", "--trades", trades, "--out", out, "--config", config, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["params"]["bar"] == "5s"
    assert pl.read_parquet(out / "bars.parquet").height == 180


def test_state_carries_over(trades: Path, tmp_path: Path) -> None:
    whole, one, two, state = (tmp_path / name for name in ("whole", "one", "two", "state"))
    cut = "2025-10-10T00:07:00.5"
    assert toxmid("replay", "-q", "--trades", trades, "--out", whole).returncode == 0
    first = toxmid("replay", "-q", "--trades", trades, "--out", one, "--to", cut, "--state-out", state)
    assert first.returncode == 0, first.stderr
    second = toxmid("replay", "-q", "--trades", trades, "--out", two, "--from", cut, "--state-in", state)
    assert second.returncode == 0, second.stderr
    for table in ("bars", "buckets", "events"):
        parts = [pl.read_parquet(part / f"{table}.parquet") for part in (one, two)]
        assert pl.concat(parts).equals(pl.read_parquet(whole / f"{table}.parquet"))


def test_report_of_an_output(trades: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert toxmid("replay", "-q", "--trades", trades, "--out", out).returncode == 0
    result = toxmid("report", out, "-o", tmp_path / "page.html")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_dry_run_writes_nothing(trades: Path, tmp_path: Path) -> None:
    result = toxmid("replay", "--trades", trades, "--out", tmp_path / "out", "--dry-run")
    assert result.returncode == 0, result.stderr
    planned = json.loads(result.stdout)
    assert planned["instrument"]["symbol"] == "BTCUSDT"
    assert not (tmp_path / "out").exists()


def test_wrong_path(tmp_path: Path) -> None:
    result = toxmid("replay", "--trades", tmp_path / "none.csv.gz", "--out", tmp_path / "out")
    assert_one_line(result, "none.csv.gz")
    assert not (tmp_path / "out").exists()


def test_page_of_html_under_the_name_of_a_tape(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv.gz"
    path.write_text("<!DOCTYPE html><html><body>Access denied</body></html>\n")
    result = toxmid("replay", "--trades", path, "--out", tmp_path / "out")
    assert_one_line(result, "trades.csv.gz")
    assert not (tmp_path / "out").exists()


def test_truncated_gzip(trades: Path, tmp_path: Path) -> None:
    data = trades.read_bytes()
    trades.write_bytes(data[: len(data) * 2 // 3])
    result = toxmid("replay", "--trades", trades, "--out", tmp_path / "out")
    assert_one_line(result, trades.name)
    assert not (tmp_path / "out").exists()


def test_missing_column(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text(tape(50).replace("price", "prize", 1))
    result = toxmid("replay", "--trades", path, "--out", tmp_path / "out")
    assert_one_line(result, "price")
    assert not (tmp_path / "out").exists()


def test_time_that_goes_back_names_the_row(tmp_path: Path) -> None:
    lines = tape(50).splitlines(keepends=True)
    lines[20], lines[21] = lines[21], lines[20]
    path = tmp_path / "binance-futures_trades_2025-10-10_BTCUSDT.csv"
    path.write_text("".join(lines))
    result = toxmid("replay", "--trades", path, "--out", tmp_path / "out")
    assert_one_line(result, "time goes back", "row 22")
    assert toxmid("replay", "-q", "--trades", path, "--out", tmp_path / "out", "--sort").returncode == 0


def test_usage_errors(tmp_path: Path) -> None:
    assert toxmid("replay", "--out", tmp_path / "out").returncode == 2
    assert toxmid("no-such-command").returncode == 2
    config = tmp_path / "config.toml"
    config.write_text("[params]\nkapa = 3\n")
    result = toxmid("replay", "--trades", "x.csv", "--out", tmp_path / "out", "--config", config)
    assert result.returncode == 2
    assert "kapa" in result.stderr


def test_an_output_directory_of_someone_else_is_left_alone(trades: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    result = toxmid("replay", "-q", "--trades", trades, "--out", out)
    assert result.returncode == 3
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_inspect(trades: Path) -> None:
    result = toxmid("inspect", trades)
    assert result.returncode == 0, result.stderr
    assert "tardis-trades" in result.stdout
    described = json.loads(toxmid("inspect", trades, "--json").stdout)
    assert described[0]["kinds"][0]["rows"] == 900


def test_demo_needs_nothing(tmp_path: Path) -> None:
    result = toxmid("demo", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "implied mid" in result.stdout
    assert (tmp_path / "toxmid-demo" / "report.html").stat().st_size > 50_000
    assert toxmid("demo", "-q", cwd=tmp_path).returncode == 0


def test_fit_and_its_coefficients(tmp_path: Path) -> None:
    """Too few events to learn from are an error; what was learnt from enough is taken by a replay."""
    tapes = [simulate("flush", seed=seed, duration=3600.0) for seed in range(3)]
    for number, market in enumerate(tapes):
        replay(trades=market.trades, quotes=market.quotes).save(tmp_path / f"run{number}")
    coefficients = tmp_path / "coefficients.json"
    few = toxmid("fit", tmp_path / "run0", "--min-events", "400", "-o", coefficients)
    assert few.returncode == 3
    assert not coefficients.exists()
    runs = [tmp_path / f"run{number}" for number in range(3)]
    learnt = toxmid("fit", *runs, "--apart", "--min-events", "3", "-o", coefficients)
    assert learnt.returncode == 0, learnt.stderr
    assert "events" in learnt.stdout
    path = tmp_path / "trades.parquet"
    tapes[0].trades.write_parquet(path)
    again = toxmid("replay", "-q", "--trades", path, "--out", tmp_path / "out", "--coefficients", coefficients)
    assert again.returncode == 0, again.stderr


def test_version_and_help() -> None:
    assert toxmid("--version").stdout.startswith("toxmid, version ")
    assert "replay" in toxmid("--help").stdout
