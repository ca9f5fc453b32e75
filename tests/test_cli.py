"""The command line as a user meets it: what it prints, what it leaves behind, how it ends."""

from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from feeding import only, simulated

from toxmid.cli import cli, main
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


def test_one_of_several_instruments(tmp_path: Path) -> None:
    path = tmp_path / "both_trades.csv"
    path.write_text(tape(20) + tape(10).removeprefix(HEADER).replace("BTCUSDT", "ETHUSDT"))
    listed = toxmid("inspect", path)
    assert listed.returncode == 0, listed.stderr
    assert "binance-futures BTCUSDT: 20 rows" in listed.stdout
    assert "--symbol chooses one" in listed.stdout
    refused = toxmid("replay", "--trades", path, "--out", tmp_path / "out")
    assert_one_line(refused, "two instruments", "--symbol")
    chosen = toxmid("replay", "--trades", path, "--out", tmp_path / "out", "--symbol", "ETHUSDT", "--json")
    assert chosen.returncode == 0, chosen.stderr
    counts = json.loads(chosen.stdout)["counts"]
    assert (counts["rows_used"], counts["rejected"]) == (10, {"other_instruments": 20})
    converted = toxmid("convert", path, "--kind", "trades", "-o", tmp_path / "e.parquet", "--symbol", "ETHUSDT")
    assert converted.stdout.strip().endswith("bytes, tick 0.1, lot 1"), converted.stderr


def test_grids_that_the_files_show(trades: Path, tmp_path: Path) -> None:
    found = []
    assert toxmid("convert", trades, "--kind", "trades", "-o", tmp_path / "b_trades.parquet").returncode == 0
    for source, options in ((trades, ()), (trades, ("--by-day",)), (tmp_path / "b_trades.parquet", ())):
        done = toxmid("replay", source, "--find-grids", "--json", "--out", tmp_path / "out", *options)
        assert done.returncode == 0, done.stderr
        instrument = json.loads(done.stdout)["instrument"]
        found.append((instrument["tick"], instrument["lot"], instrument["origin"]["tick"]))
    assert found == [(0.1, 1.0, "found")] * 3


def test_what_toxmid_has_written_is_no_tape(trades: Path, tmp_path: Path) -> None:
    """An output beside the tapes does not stand in the way of the next replay of the folder."""
    assert toxmid("replay", trades.name, "--out", "out", cwd=tmp_path).returncode == 0
    again = toxmid("replay", ".", "--out", "out", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stderr


def test_delimited_text_is_converted_by_a_map_of_its_columns(tmp_path: Path, samples: Path) -> None:
    maps = sorted((samples / "delimited").glob("*.toml"))
    text = next(path for path in sorted((samples / "delimited").iterdir()) if path.suffix != ".toml")
    done = toxmid("convert", text, "--kind", "trades", "--format", maps[0], "-o", tmp_path / "x_trades.parquet")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'x_trades.parquet'}: ")


def test_a_parameter_that_is_none(trades: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[params]\nwindw = 10\n')
    result = toxmid("replay", "--trades", trades, "--out", tmp_path / "out", "--config", config)
    assert result.returncode == 2
    assert "config.toml, column windw: no such parameter (expected window" in result.stderr


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


def test_a_state_that_is_none_is_named(trades: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text("garbage")
    refused = toxmid("replay", "--trades", trades, "--state-in", state, "--out", tmp_path / "out")
    assert_one_line(refused, str(state), "not a snapshot", "--state-out")


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


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line inside this process: what takes several commands to see need not import everything for each."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        words = [str(argument) for argument in arguments]
        code = 0
        try:
            main(words)
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, said.out, said.err)

    return run


@pytest.fixture
def mapped(tmp_path: Path) -> tuple[Path, Path]:
    """The tape of `trades` as text of a layout that no program knows, and the map of its columns."""
    rows = [line.split(",") for line in tape().splitlines()[1:]]
    text, columns = tmp_path / "mine.txt", tmp_path / "mine.toml"
    text.write_text("t;px;qty;dir\n" + "".join(f"{row[3]};{row[6]};{row[7]};{row[5][0]}\n" for row in rows))
    columns.write_text(
        'kind = "trades"\ntime = "us"\nseparator = ";"\nvenue = "binance-futures"\nsymbol = "BTCUSDT"\n'
        '[columns]\nts = "t"\nprice = "px"\nsize = "qty"\nside = "dir"\n[side]\nb = "buy"\ns = "sell"\n'
    )
    return text, columns


def test_every_command_reads_what_a_map_describes(
    mapped: tuple[Path, Path], trades: Path, tmp_path: Path, here: Run
) -> None:
    text, columns = mapped
    assert here("replay", "-q", trades, "--out", tmp_path / "whole").returncode == 0
    whole = pl.read_parquet(tmp_path / "whole" / "bars.parquet")
    described = ("--format", columns)
    for number, words in enumerate((
        ("--trades", text, *described),
        ("--trades", text, "--format", f"trades={columns}"),
        (text, *described),
        (text, *described, "--by-day", "--find-grids"),
        (text, "--format", f"trades={columns}", "--by-day"),
    )):  # fmt: skip
        out = tmp_path / str(number)
        done = here("replay", "-q", *words, "--out", out)
        assert done.returncode == 0, done.stderr
        bars = pl.read_parquet(out / "bars.parquet")
        assert bars.select("ts", "mid", "buy_volume").equals(whole.select("ts", "mid", "buy_volume"))
    done = here("batch", "-q", text, *described, "--find-grids", "--out", tmp_path / "batch")
    assert done.returncode == 0, done.stderr
    assert "1 symbol-day of 1 market: 1 done" in done.stdout
    told = json.loads(here("inspect", text, *described, "--json").stdout)
    assert told[0]["used_for"] == [{"market": "binance-futures_BTCUSDT", "day": "2025-10-10", "kind": "trades"}]
    for command in ("components", "markouts"):
        refused = here(command, "--trades", text, *(["--quotes", text] if command == "markouts" else []))
        assert refused.returncode == 3
        read = here(
            command, "--trades", text, *(["--quotes", trades] if command == "markouts" else []), "--format",
            f"trades={columns}" if command == "markouts" else columns,
        )  # fmt: skip
        # The tape was read; that trades are no quotes, or that its price never moves, is another matter.
        assert "mine.txt" not in read.stderr, read.stderr


def test_a_format_is_part_of_what_was_asked_for(mapped: tuple[Path, Path], tmp_path: Path, here: Run) -> None:
    text, columns = mapped
    words = ("replay", "--trades", text, "--format", columns, "--out", tmp_path / "out", "--json")
    assert here(*words).returncode == 0
    assert "nothing to do" in here(*words).stderr
    columns.write_text(columns.read_text().replace('b = "buy"\ns = "sell"', 'b = "sell"\ns = "buy"'))
    assert "nothing to do" not in here(*words).stderr


@pytest.mark.filterwarnings("ignore:.*the last line is cut")
def test_what_was_accepted_is_part_of_what_was_asked_for(tmp_path: Path, here: Run) -> None:
    """A run that was told to accept a cut file is no answer to one that was not."""
    path, out = tmp_path / "binance-futures_trades_2025-10-10_BTCUSDT.csv", tmp_path / "out"
    path.write_text(tape(100)[:-3])
    assert here("replay", "-q", path, "--allow-partial", "--out", out).returncode == 0
    before = (out / "manifest.json").read_bytes()
    assert_one_line(here("replay", "-q", path, "--out", out), "the last line")
    assert (out / "manifest.json").read_bytes() == before


@pytest.mark.filterwarnings("ignore:.*the last line is cut")
def test_inspect_and_replay_of_a_folder_take_what_is_allowed(tmp_path: Path, here: Run) -> None:
    folder = tmp_path / "tapes"
    folder.mkdir()
    (folder / "trades.csv").write_text(tape(100)[:-3])
    assert "--allow-partial" in here("inspect", folder).stdout
    told = here("inspect", folder, "--allow-partial")
    assert (told.returncode, "partial last line" in told.stdout) == (0, True)
    assert_one_line(here("replay", "-q", folder, "--out", tmp_path / "out"), "the last line")
    assert here("replay", "-q", folder, "--allow-partial", "--out", tmp_path / "out").returncode == 0


def test_formats_that_do_not_fit(mapped: tuple[Path, Path], trades: Path, tmp_path: Path, here: Run) -> None:
    text, _ = mapped
    out = ("--out", tmp_path / "out")
    for words, code, said in (
        (("--trades", trades, "--format", "bybit"), 3, "not a file of format bybit"),
        (("--trades", trades, "--format", "candles"), 2, "unknown format"),
        (("--trades", trades, "--format", "tardis", "--format", "bybit"), 2, "two formats for all inputs"),
        (("--trades", trades, "--format", "trades=tardis", "--format", "trades=bybit"), 2, "two formats for trades"),
        (("--trades", text, "--format", tmp_path / "none.toml"), 3, "cannot be read"),
        ((trades, "--format", "bybit"), 3, "none of the files"),
    ):
        done = here("replay", *words, *out)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "out").exists()


def test_the_options_of_reading_are_the_same_everywhere() -> None:
    reading = {"format", "symbol", "sort", "allow_partial", "start", "end"}
    grids = {"find_grids"}
    expected = {
        "replay": reading | grids, "batch": reading | grids, "convert": reading, "markouts": reading,
        "components": reading, "hawkes": reading, "inspect": {"format", "symbol"},
    }  # fmt: skip
    for name, wanted in expected.items():
        there = {str(option.name).replace("formats", "format") for option in cli.commands[name].params}
        assert wanted <= there, name
    evaluate = cli.commands["evaluate"].commands["referenced"]  # type: ignore[attr-defined]
    assert {"formats", "symbol", "find_grids"} <= {option.name for option in evaluate.params}


def test_one_of_several_instruments_everywhere(tmp_path: Path, here: Run) -> None:
    """The first row is of another instrument than the one that is asked for."""
    path, other = tmp_path / "both_trades_2025-10-10.csv", tmp_path / "x_trades_2025-10-10_XRPUSDT.csv"
    path.write_text(tape(20) + tape(900).removeprefix(HEADER).replace("BTCUSDT", "ETHUSDT"))
    other.write_text(tape(30).replace("BTCUSDT", "XRPUSDT"))
    for command, target in (("replay", "one"), ("replay --by-day", "two"), ("batch", "three")):
        words = (*command.split(), "-q", path, other, "--symbol", "ETHUSDT", "--out", tmp_path / target)
        done = here(*words)
        assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "three").iterdir()] == ["binance-futures_ETHUSDT"]
    for folder in ("one", "two", "three/binance-futures_ETHUSDT/2025-10-10"):
        assert pl.read_parquet(tmp_path / folder / "bars.parquet").height == 900
    for symbol, code in (("BTCUSDT", 0), ("SOLUSDT", 3)):
        done = here("replay", "-q", path, "--symbol", symbol, "--out", tmp_path / symbol)
        assert done.returncode == code, done.stderr


def test_a_batch_goes_on_where_a_file_is_not_even_a_tape(tmp_path: Path, here: Run) -> None:
    """Days of two markets; of one a day is the page that a server sent instead."""
    tapes, out = tmp_path / "tapes", tmp_path / "out"
    tapes.mkdir()
    for symbol in ("BTCUSDT", "ETHUSDT"):
        for day in (10, 11, 12):
            path = tapes / f"binance-futures_trades_2025-10-{day}_{symbol}.csv"
            path.write_text(tape(30).replace("BTCUSDT", symbol).replace(",17600", f",1760{day - 10}"))
    bad = tapes / "binance-futures_trades_2025-10-11_BTCUSDT.csv"
    bad.write_text("<!DOCTYPE html><html>404</html>")
    refused = here("batch", "-q", tapes, "--out", out)
    assert_one_line(refused, str(bad), "a web page")
    done = here("batch", "-q", tapes, "--out", out, "--keep-going")
    assert done.returncode == 4
    assert "6 symbol-days of 2 markets: 4 done, 1 failed, 1 skipped" in done.stdout
    assert f"failed: binance-futures_BTCUSDT/2025-10-11: {bad}: a web page" in done.stdout
    bad.write_text(tape(30))  # of the day before
    again = here("batch", "-q", tapes, "--out", out)
    assert_one_line(again, str(bad), "begin before the state ends", "found '2025-10-10T00:00:00")


def test_a_full_disk_is_a_failure_and_no_bad_data(
    trades: Path, tmp_path: Path, here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert here("replay", "-q", trades, "--to", "2025-10-10T00:10", "--out", out).returncode == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    to_write = ("convert", trades, "--kind", "trades", "-o", tmp_path / "t")
    for words in (("replay", "-q", trades, "--out", out), to_write):
        refused = here(*words)
        assert refused.returncode == 1
        assert "No space left" in refused.stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(tmp_path.iterdir()) == sorted([trades, out])


def test_a_dry_run_by_day_writes_nothing(trades: Path, tmp_path: Path, here: Run) -> None:
    done = here("replay", trades, "--by-day", "--dry-run", "--out", tmp_path / "out")
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == [trades]


def test_an_evaluation_is_kept_and_shown_in_the_report(trades: Path, tmp_path: Path, here: Run) -> None:
    out, kept = tmp_path / "out", tmp_path / "kept"
    common = ("evaluate", "simulated", "-q", "--seeds", "1:3", "--scenario", "flush", "--inputs", "trades")
    judged = here(*common, "--inputs", "quotes+throttled", "--out", kept)
    assert judged.returncode == 0, judged.stderr
    assert "quotes+throttled" in judged.stdout
    assert max(map(len, judged.stdout.splitlines())) <= 80
    assert here("replay", "-q", "--trades", trades, "--out", out).returncode == 0
    shown = here("report", out, "--evaluation", kept, "--evaluation", kept / "table.parquet")
    assert shown.returncode == 0, shown.stderr
    page = (out / "report.html").read_text()
    assert page.count("What every input is worth</h2>") == 2
    assert page.count('<section class="evaluation"') == 2
    assert_one_line(here("report", out, "--evaluation", tmp_path), "evaluation.json")
    wrong = here("evaluate", "simulated", "--inputs", "rumours")
    assert wrong.returncode == 2
    assert "rumours" in wrong.stderr


def test_forecasts_and_their_placebos(tmp_path: Path, here: Run) -> None:
    market = simulate("flush", seed=1)
    path, venue = tmp_path / "trades.parquet", tmp_path / "venue.parquet"
    market.trades.write_parquet(path)
    market.references["clean"].write_parquet(venue)
    given = ("--trades", path, "--reference", f"clean={venue}", "--reference", f"again={venue}")
    assert here("replay", "-q", *given, "--out", tmp_path / "out").returncode == 0
    arguments = ("evaluate", "forecasts", tmp_path / "out", "--horizon", "60", "--step", "1s")
    result = here(*arguments, "--placebos", "--html", tmp_path / "page.html")
    assert result.returncode == 0, result.stderr
    assert "an hour later" in result.stdout
    assert "<svg" in (tmp_path / "page.html").read_text()
    path.unlink()
    assert_one_line(here(*arguments, "--placebos"), "no longer there", "trades.parquet")
    assert here(*arguments).returncode == 0


def test_version_and_help() -> None:
    assert toxmid("--version").stdout.startswith("toxmid, version ")
    assert "replay" in toxmid("--help").stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two days of one market: trades in one folder, liquidations of the first day in another."""
    day = 86_400_000_000
    for name, text in {
        "binance-futures_trades_2025-10-10_BTCUSDT.csv": tape(300),
        "binance-futures_trades_2025-10-11_BTCUSDT.csv": tape(300).replace("17600", f"{17600 + day // 10**12}"[:5]),
        "more/binance-futures_liquidations_2025-10-10_BTCUSDT.csv": HEADER
        + "binance-futures,BTCUSDT,1760054410000000,1760054410005000,,sell,99,1\n",
    }.items():
        path = tmp_path / "tapes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "tapes"


def test_files_of_a_folder_find_each_other(folder: Path, tmp_path: Path) -> None:
    (folder / "binance-futures_trades_2025-10-11_BTCUSDT.csv").unlink()
    named = {
        "trades": folder / "binance-futures_trades_2025-10-10_BTCUSDT.csv",
        "liquidations": folder / "more" / "binance-futures_liquidations_2025-10-10_BTCUSDT.csv",
    }
    one = toxmid("replay", folder, "--out", tmp_path / "one")
    assert one.returncode == 0, one.stderr
    options = [word for name, path in named.items() for word in (f"--{name}", path)]
    assert toxmid("replay", *options, "--out", tmp_path / "two").returncode == 0
    bars = [pl.read_parquet(tmp_path / out / "bars.parquet") for out in ("one", "two")]
    assert bars[0].equals(bars[1])
    assert bars[0]["liq_sell_volume"].sum() == 1.0
    told = json.loads(toxmid("inspect", folder, "--json").stdout)
    market = "binance-futures_BTCUSDT"
    assert {Path(file["path"]): file["used_for"] for file in told} == {
        path: [{"market": market, "day": "2025-10-10", "kind": kind}] for kind, path in named.items()
    }
    text = toxmid("inspect", str(folder / "*"), folder / "more").stdout
    assert "together" in text
    assert f"  {market}/2025-10-10\n    trades         {named['trades']}" in text


def test_folder_of_several_markets_is_for_batch(folder: Path, tmp_path: Path) -> None:
    other = folder / "binance-futures_trades_2025-10-10_ETHUSDT.csv"
    other.write_text(tape(5).replace("BTCUSDT", "ETHUSDT"))
    result = toxmid("replay", folder, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert "toxmid batch" in result.stderr
    assert not (tmp_path / "out").exists()


def test_inspect_says_why_files_do_not_go_together(folder: Path) -> None:
    for index in (1, 2):
        (folder / f"part{index}.csv").write_text(HEADER)
    result = toxmid("inspect", folder)
    assert result.returncode == 0, result.stderr
    assert "problem: cannot be put together" in result.stdout


def said(*arguments: str | Path) -> str:
    """What a command prints, without the seconds that a process of its own takes to start."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_estimates_of_tapes_and_replays(tmp_path: Path) -> None:
    tables, out = only(simulated(), "trades", "quotes", "liquidations"), tmp_path / "out"
    for name, table in tables.items():
        table.write_parquet(tmp_path / f"{name}.parquet")
    replay(**tables).save(out)
    figures = json.loads(said("impact", out, "--json"))
    assert figures["kyle"]["bps"] > 0
    assert figures["params"].keys() == figures["bse"].keys()
    assert "Kyle's lambda" in said("impact", out)

    trades, quotes, feed = (tmp_path / f"{name}.parquet" for name in ("trades", "quotes", "liquidations"))
    rows = json.loads(
        said("markouts", "--trades", trades, "--quotes", quotes, "--liquidations", feed, "--horizon", "5s", "--json")
    )
    assert {(row["group"], row["side"]) for row in rows} == {
        (group, side) for group in ("all", "forced", "other") for side in ("all", "buy", "sell")
    }
    assert "markout_bps" in said("markouts", "--trades", trades, "--quotes", quotes)
    for model, name in (("mrr", "theta"), ("glosten-harris", "z0")):
        assert name in json.loads(said("components", "--trades", trades, "--model", model, "--json"))["params"]
    assert json.loads(said("hawkes", "--liquidations", feed, "--json"))["branching"] >= 0
    assert "Branching ratio" in said("hawkes", "--liquidations", feed)


def test_estimates_of_too_little(trades: Path) -> None:
    assert_one_line(toxmid("components", "--trades", trades, "--to", "2025-10-10T00:00:10"), "too few")


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="file names are text there")
def test_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff_trades.csv"))
    path.write_text(tape(20))
    assert CliRunner().invoke(cli, ["replay", "--trades", str(path), "--out", str(tmp_path / "out")]).exit_code == 0
    assert CliRunner().invoke(cli, ["report", str(tmp_path / "out")]).exit_code == 0
    assert "\\udcff_trades.csv" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_what_comes_through_a_pipe_is_refused(tmp_path: Path) -> None:
    """It had been taken for an empty file, with exit code 0."""
    reading, writing = os.pipe()
    os.write(writing, tape(20).encode())
    os.close(writing)
    try:
        command = [sys.executable, "-m", "toxmid", "replay", "--trades", f"/dev/fd/{reading}"]
        command += ["--out", str(tmp_path / "out")]
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=300, pass_fds=[reading]
        )
    finally:
        os.close(reading)
    assert_one_line(result, "a pipe or device, not a file")
    assert not (tmp_path / "out").exists()


def test_inspect_tells_in_json_what_does_not_go_together(trades: Path, tmp_path: Path) -> None:
    later = tmp_path / "binance-futures_trades_2025-10-13_BTCUSDT.csv"
    later.write_text(tape(1).replace("17600", "17603"))
    files = json.loads(toxmid("inspect", "--json", trades, later).stdout)
    assert all("has no files of 2025-10-11, 2025-10-12" in file["pairing_problems"][0] for file in files)
