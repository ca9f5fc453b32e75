"""Whoever runs the jobs, however often they are interrupted: the same bits."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pickle
import random
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from polars.testing import assert_frame_equal

import toxmid
from toxmid import output
from toxmid.cli import cli
from toxmid.errors import DataError, FileError, ParameterError
from toxmid.instrument import Instrument
from toxmid.jobs import Job, Part, Settings, load_market, pair_files, run_jobs, scan_parts, summarise
from toxmid.jobs.part import run_part, state_path
from toxmid.jobs.pool import _run_noting, _run_on, _shares
from toxmid.params import Params
from toxmid.readers import TapeWarning
from toxmid.replay import plan

from .conftest import DAYS, SYMBOLS, VENUE, contents, tardis

needs_posix = pytest.mark.skipif(os.name == "nt", reason="signals and file systems in memory are of POSIX")

A_RUN = textwrap.dedent(
    """
    import sys
    from toxmid.jobs import pair_files, run_jobs
    if __name__ == "__main__":
        tapes, out, workers = sys.argv[1:]
        run_jobs(pair_files(tapes), out, workers=int(workers))
    """
)


def statuses(parts: list[Part]) -> list[str]:
    return [part.status for part in parts]


def start(tapes: Path, out: Path, workers: int, script: Path) -> subprocess.Popen[bytes]:
    script.write_text(A_RUN, encoding="utf-8")
    words = [sys.executable, str(script), str(tapes), str(out), str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(Path(toxmid.__file__).parent.parent)}
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, start_new_session=True)


# --- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_parts_one_below_the_other_are_one_replay(tapes: Path, reference: Path, symbol: str) -> None:
    files = {kind: sorted(map(str, tapes.glob(f"*_{kind}_*_{symbol}.csv.gz"))) for kind in ("trades", "quotes")}
    whole = toxmid.replay(**files, liquidations=sorted(map(str, tapes.glob(f"*_liquidations_*_{symbol}.csv.gz"))))
    for table in ("bars", "buckets", "events"):
        parts = scan_parts(reference, table, market=f"{VENUE}_{symbol}").collect()  # type: ignore[arg-type]
        assert_frame_equal(parts.drop("market", "label"), getattr(whole, table))
    together = load_market(reference, f"{VENUE}_{symbol}")
    assert_frame_equal(together.bars, whole.bars)
    assert (together.state, together.counts, together.params) == (whole.state, whole.counts, whole.params)
    assert together.manifest == whole.manifest


def test_a_second_run_does_nothing(jobs: list[Job], out: Path) -> None:
    one = jobs[: len(DAYS)]
    run_jobs(one, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != ".lock"}
    assert statuses(run_jobs(one, out)) == ["there"] * len(one)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != ".lock"} == before


def test_more_days_redo_the_last_part_only(jobs: list[Job], reference: Path, out: Path) -> None:
    one = jobs[: len(DAYS)]
    run_jobs(one[:2], out)
    assert statuses(run_jobs(one, out)) == ["there", "done", "done", "done"]
    expected = {name: data for name, data in contents(reference).items() if name.startswith(one[0].market)}
    assert contents(out) == expected


def test_other_parameters_and_instruments_are_another_run(jobs: list[Job], out: Path) -> None:
    one = jobs[:2]
    run_jobs(one, out)
    assert statuses(run_jobs(one, out, params=Params(window=10))) == ["done", "done"]
    given = {"AAAUSDT": Instrument(tick=0.1)}
    assert statuses(run_jobs(one, out, params=Params(window=10), instruments=given)) == ["done", "done"]
    assert output.load_manifest(out / one[0].market / one[0].label)["instrument"]["tick"] == 0.1
    by_market = {one[0].market: Instrument(tick=0.1)}
    assert statuses(run_jobs(one, out, params=Params(window=10), instruments=by_market)) == ["there", "there"]


def test_a_changed_input_redoes_its_day_and_all_after_it(tapes: Path, tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "tapes"
    folder.mkdir()
    for path in tapes.glob("*_trades_*AAA*"):
        (folder / path.name).write_bytes(path.read_bytes())
    run_jobs(pair_files(folder), out)
    (folder / f"{VENUE}_trades_{DAYS[1]}_AAAUSDT.csv.gz").unlink()
    with pytest.warns(TapeWarning, match=rf"no files of {DAYS[1]}: a gap"):
        left = pair_files(folder)
    assert statuses(run_jobs(left, out)) == ["there", "done", "done"]


def test_a_file_of_another_market_is_refused(tapes: Path, out: Path) -> None:
    files = [tapes / f"{VENUE}_trades_{DAYS[0]}_AAAUSDT.csv.gz", tapes / f"{VENUE}_trades_{DAYS[1]}_BBBUSDT.csv.gz"]
    mixed = [Job("AAAUSDT", day, {"trades": (path,)}, VENUE) for day, path in zip(DAYS[:2], files, strict=True)]
    parts = run_jobs(mixed, out, on_error="keep")
    assert statuses(parts) == ["done", "failed"]
    assert isinstance(parts[1].error, DataError)
    assert (parts[1].error.found, parts[1].error.expected) == ("BBBUSDT", "AAAUSDT")


@pytest.mark.parametrize("damage", ["state gone", "state changed", "table gone"])
def test_a_damaged_part_is_done_again(jobs: list[Job], reference: Path, out: Path, damage: str) -> None:
    one = jobs[: len(DAYS)]
    run_jobs(one, out)
    folder = out / one[1].market
    if damage == "state gone":
        (folder / f"{DAYS[1]}.state").unlink()
    elif damage == "state changed":
        (folder / f"{DAYS[1]}.state").write_bytes(b"something else")
    else:
        (folder / DAYS[1] / "bars.parquet").unlink()
    assert statuses(run_jobs(one, out)) == ["there", "done", "there", "there"]
    assert contents(folder) == contents(reference / one[1].market)


# --- bad files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_bad_files(tapes: Path, tmp_path: Path) -> list[Job]:
    """Trades only; a file of one market is cut, one of another has something behind its end."""
    folder = tmp_path / "tapes"
    folder.mkdir()
    for path in tapes.glob("*_trades_*"):
        (folder / path.name).write_bytes(path.read_bytes())
    cut = folder / f"{VENUE}_trades_{DAYS[1]}_BBBUSDT.csv.gz"
    cut.write_bytes(cut.read_bytes()[:-100])
    padded = folder / f"{VENUE}_trades_{DAYS[2]}_CCCUSDT.csv.gz"
    padded.write_bytes(padded.read_bytes() + bytes(512))
    return pair_files(folder)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_file_ends_its_market_and_no_other(with_bad_files: list[Job], out: Path, workers: int) -> None:
    # What the readers say in another process is said here.
    with pytest.warns(TapeWarning, match="zero bytes after the gzip"):
        parts = run_jobs(with_bad_files, out, workers=workers, on_error="keep")
    good = ["done"] * 4
    assert statuses(parts) == [*good, "done", "failed", "skipped", "skipped", *good]
    error = parts[5].error
    assert isinstance(error, FileError)
    assert error.file is not None
    assert error.file.endswith(f"{DAYS[1]}_BBBUSDT.csv.gz")
    assert not (out / parts[5].job.market / DAYS[1]).exists()
    with pytest.raises(FileError, match="gzip data end"):
        run_jobs(with_bad_files[:8], out)


# --- killed, interrupted, full ---------------------------------------------------------------------------------------


def wait_for_parts(out: Path, process: subprocess.Popen[bytes], more_than: int = 0) -> None:
    """Until a run has written something, so that what is done to it is not done to its imports."""
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if len(list(out.glob("*/*/manifest.json"))) > more_than:
            return
        time.sleep(0.005)


def descendants(pid: int) -> list[int]:
    """Processes below a process. Workers are children of the fork server, which is its child."""
    if not Path("/proc/self/task").is_dir():
        return []
    found: list[int] = []
    for task in listing(Path(f"/proc/{pid}/task")):
        for child in map(int, text(task / "children").split()):
            found += [child, *descendants(child)]
    return found


def listing(folder: Path) -> list[Path]:
    """Threads and processes end while one looks at them."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def text(path: Path) -> str:
    """What a file of /proc says; nothing, if what it speaks of has ended."""
    try:
        return path.read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def running(pids: list[int]) -> list[int]:
    """Those of them that have not ended."""
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [pid] if state != "Z" else []
    return found


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 120
    while running(pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not running(pids)


def strike(blow: signal.Signals, tapes: Path, out: Path, workers: int, delay: float) -> tuple[int, bytes]:
    """Start a run, hit it in the middle, and see it and all its workers end: exit code and last words."""
    for _ in range(20):
        finished = len(list(out.glob("*/*/manifest.json")))
        process = start(tapes, out, workers, out.with_name("run.py"))
        wait_for_parts(out, process, more_than=finished)
        time.sleep(delay)
        children = descendants(process.pid)
        process.send_signal(blow)
        try:
            _, said = process.communicate(timeout=300)
        finally:
            process.kill()
        wait_until_gone(children)  # workers do not outlive the one that they work for
        if process.returncode != 0:
            return process.returncode, said
        shutil.rmtree(out)  # it was over before it was hit: once more
    pytest.fail("no run was ever hit in the middle")


@needs_posix
@pytest.mark.parametrize(("workers", "kills"), [(1, 2), (2, 1)])
def test_killed_at_any_moment_it_goes_on_to_the_same_bits(
    tapes: Path, jobs: list[Job], reference: Path, out: Path, workers: int, kills: int
) -> None:
    for _ in range(kills):
        delay = random.uniform(0, 0.15)  # about the time that two parts take
        assert strike(signal.SIGKILL, tapes, out, workers, delay)[0] == -signal.SIGKILL
    assert set(statuses(run_jobs(jobs, out))) <= {"there", "done"}
    assert contents(out) == contents(reference)


@needs_posix
def test_an_interrupt_stops_at_once_and_leaves_whole_parts(tapes: Path, jobs: list[Job], out: Path) -> None:
    _, said = strike(signal.SIGINT, tapes, out, 2, 0.0)
    assert b"KeyboardInterrupt" in said
    assert set(statuses(run_jobs(jobs, out))) <= {"there", "done"}


@needs_posix
def test_processes_change_no_bit_even_if_one_of_them_dies(
    jobs: list[Job], reference: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toxmid.jobs.pool._run_noting", die_once)
    parts = run_jobs(jobs, out, workers=2)
    assert [part.job for part in parts] == jobs
    # A part that another process had just written when its pool was lost is found, not computed again.
    assert set(statuses(parts)) <= {"done", "there"}
    assert statuses(parts).count("done") >= len(jobs) - 1
    assert all(part.state == b"" for part in parts)
    written = contents(out)
    assert written.pop("died")
    assert written == contents(reference)


def die_once(job: Job, out: Path, settings: Settings, *, last: bool, before: Part | None) -> Part:
    """In a worker: end as if killed, the first time that one part is under way."""
    if job.symbol == "BBBUSDT" and job.label == DAYS[1] and not (out / "died").exists():
        (out / "died").write_text("yes", encoding="ascii")
        os.kill(os.getpid(), signal.SIGKILL)
    return run_part(job, out, settings, last=last, before=before).light()


def test_what_a_process_sends_home_is_written_at_one_go(jobs: list[Job], out: Path) -> None:
    # A process that is killed between two pieces of a message would leave the others waiting for ever.
    part = _run_noting(jobs[0], out, Settings(), last=False, before=None)
    assert part.ok
    assert len(pickle.dumps(part)) < select.PIPE_BUF
    assert _run_noting(jobs[1], out, Settings(), last=False, before=part).ok


@pytest.mark.parametrize(
    ("cores", "workers", "shares"),
    [
        (range(8), 2, [{0, 1, 2, 3}, {4, 5, 6, 7}]),
        ([2, 3, 5], 2, [{2}, {3, 5}]),
        ([4, 6], 2, [{4}, {6}]),
        ([1], 3, [{1}, {1}, {1}]),
    ],
)
def test_cores_are_divided_among_workers(cores: Iterable[int], workers: int, shares: list[set[int]]) -> None:
    assert _shares(set(cores), workers) == shares


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process may not choose its cores")
def test_work_keeps_to_the_cores_that_it_is_given(jobs: list[Job], out: Path) -> None:
    if sys.platform == "linux":
        allowed = os.sched_getaffinity(0)
        used: list[set[int]] = []

        def work() -> Part:
            used.append(os.sched_getaffinity(0))
            return Part(jobs[0], out, "done")

        try:
            _run_on({min(allowed)}, work)
        finally:
            os.sched_setaffinity(0, allowed)
        assert used == [{min(allowed)}]


def test_a_state_that_another_run_has_written_is_refused(jobs: list[Job], out: Path) -> None:
    part = run_part(jobs[0], out, Settings(), last=False).light()
    state_path(out, jobs[0]).write_bytes(b"something else")
    following = run_part(jobs[1], out, Settings(), last=False, before=part)
    assert following.status == "failed"
    assert "another run" in str(following.error)


@needs_posix
def test_a_part_that_kills_every_process_is_given_up(
    jobs: list[Job], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toxmid.jobs.pool._run_noting", always_die)
    monkeypatch.setattr("toxmid.jobs.pool._DEATHS", 1)
    parts = run_jobs(jobs[: len(DAYS)], out, workers=2, on_error="keep")
    assert statuses(parts) == ["done", "failed", "skipped", "skipped"]
    assert "enough memory" in str(parts[1].error)


def always_die(job: Job, out: Path, settings: Settings, *, last: bool, before: Part | None) -> Part:
    """In a worker: end as if killed, whenever one part is under way."""
    if job.label == DAYS[1]:
        os.kill(os.getpid(), signal.SIGKILL)
    return run_part(job, out, settings, last=last, before=before).light()


def test_two_runs_on_one_directory_share_the_work(tapes: Path, reference: Path, out: Path) -> None:
    runs = [start(tapes, out, 1, out.with_name(f"run{number}.py")) for number in range(2)]
    for process in runs:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said.decode()
    assert contents(out) == contents(reference)


def test_a_full_disk_is_said_and_leaves_the_old_parts(
    jobs: list[Job], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = jobs[:2]
    run_jobs(one, out)
    tables = {name: data for name, data in contents(out).items() if name.endswith(".parquet")}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(FileError, match=os.strerror(errno.ENOSPC)):
            run_jobs(one, out, params=Params(window=10))
    assert {name: data for name, data in contents(out).items() if name.endswith(".parquet")} == tables
    assert statuses(run_jobs(one, out)) == ["there", "there"]


@needs_posix
def test_a_disk_that_fills_up_for_real(jobs: list[Job], reference: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    size = sum(map(len, contents(reference).values()))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size // 2}", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        parts = run_jobs(jobs, small / "out", on_error="keep")
        assert set(statuses(parts)) == {"done", "failed", "skipped"}
        errors = [part.error for part in parts if part.error is not None]
        assert all(os.strerror(errno.ENOSPC) in str(error) for error in errors)
        for part in parts:
            assert output.is_output(part.path) == part.ok
        assert not list(small.rglob("*.toxmid-partial"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_replay_day_by_day_goes_on_where_it_was_killed(
    tapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {kind: str(tapes / f"*_{kind}_*_BBBUSDT.csv.gz") for kind in ("trades", "quotes", "liquidations")}
    words = [word for kind, pattern in files.items() for word in (f"--{kind}", pattern)]
    whole, out = tmp_path / "whole", tmp_path / "out"
    computed: list[str] = []

    def replay_or_die(**arguments: Any) -> Any:
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(str(arguments["trades"][0]))
        return toxmid.replay(**arguments)

    runner = CliRunner()
    with monkeypatch.context() as patch:
        patch.setattr("toxmid.jobs.part.replay", replay_or_die)
        killed = runner.invoke(cli, ["replay", *words, "--by-day", "-q", "--out", str(out)])
    assert killed.exit_code != 0
    assert not out.exists()
    computed.clear()
    monkeypatch.setattr("toxmid.jobs.part.replay", lambda **given: (computed.append(""), toxmid.replay(**given))[1])
    for arguments in (["--by-day", "--out", str(out)], ["--out", str(whole)]):
        done = runner.invoke(cli, ["replay", *words, "-q", *arguments])
        assert done.exit_code == 0, done.output
    assert len(computed) == len(DAYS) - 2
    assert contents(out) == contents(whole)
    assert not out.with_name("out.parts").exists()


@pytest.mark.parametrize("named", [False, True], ids=["one venue", "venues by name"])
@pytest.mark.filterwarnings("ignore:.*has no quotes on")
def test_other_venues_are_the_same_by_day(tapes: Path, tmp_path: Path, named: bool) -> None:
    whole, out, folder = tmp_path / "whole", tmp_path / "out", tmp_path / "tapes"
    folder.mkdir()
    for day in DAYS[1:]:  # one venue is not there on the first day
        name = f"{VENUE}_trades_{day}_CCCUSDT.csv.gz"
        (folder / name).write_bytes((tapes / name).read_bytes())
    others = {"kraken": str(tapes / "*_trades_*_AAAUSDT.csv.gz"), "coinbase": str(folder)}
    given = [f"{name}={files}" for name, files in others.items()] if named else [others["kraken"]]
    words = ["replay", "-q", "--trades", str(tapes / "*_trades_*_BBBUSDT.csv.gz")]
    words += [word for text in given for word in ("--reference", text)]
    runner = CliRunner()
    for target, arguments in ((whole, []), (out, ["--by-day"])):
        done = runner.invoke(cli, [*words, *arguments, "--out", str(target)])
        assert done.exit_code == 0, done.output
    assert contents(out) == contents(whole)
    assert toxmid.Replay.load(out).bars["reference_mid"].null_count() < 600
    assert len(output.load_manifest(out)["references"]) == len(given)


def test_a_day_of_another_venue_without_a_tape_is_said(tapes: Path) -> None:
    own = tapes / f"{VENUE}_trades_{DAYS[1]}_BBBUSDT.csv.gz"
    others = [str(tapes / f"{VENUE}_trades_{day}_AAAUSDT.csv.gz") for day in DAYS[:2]]
    with pytest.warns(TapeWarning, match=rf"{DAYS[0]}_AAAUSDT.*of a day without a tape"):
        (job,) = pair_files({"trades": own, "reference": others})
    assert job.files["reference"] == (Path(others[1]),)


# --- a liquidation feed that begins late, or never speaks ------------------------------------------------------------


def with_feed(tapes: Path, folder: Path, days_of_records: tuple[int, ...], without_file: tuple[int, ...] = ()) -> Path:
    """Tapes of one market whose liquidation files have rows on some days only, or are not there."""
    folder.mkdir()
    records = toxmid.read_liquidations(tapes / f"{VENUE}_liquidations_{DAYS[1]}_BBBUSDT.csv.gz")
    for number, day in enumerate(DAYS):
        for kind in ("trades", "quotes"):
            name = f"{VENUE}_{kind}_{day}_BBBUSDT.csv.gz"
            (folder / name).write_bytes((tapes / name).read_bytes())
        of_day = records.with_columns(pl.col("ts") + pl.duration(minutes=5 * (number - 1)))
        if number not in without_file:
            path = folder / f"{VENUE}_liquidations_{day}_BBBUSDT.csv.gz"
            path.write_bytes(tardis(of_day if number in days_of_records else of_day[:0], "liquidations", "BBBUSDT"))
    return folder


@pytest.mark.filterwarnings("ignore:.*has no liquidations on")
@pytest.mark.parametrize(
    ("records", "without_file"),
    [((1, 2, 3), ()), ((2,), (0,)), ((), ()), ((), (0, 2)), ((3,), (1,))],
    ids=["from the second day", "no file before", "no record at all", "not even all files", "last day only"],
)
def test_a_feed_that_begins_late_is_the_same_by_day(
    tapes: Path, tmp_path: Path, records: tuple[int, ...], without_file: tuple[int, ...]
) -> None:
    folder, whole, out = with_feed(tapes, tmp_path / "tapes", records, without_file), tmp_path / "whole", tmp_path / "o"
    runner = CliRunner()
    for target, arguments in ((whole, []), (out, ["--by-day"])):
        done = runner.invoke(cli, ["replay", str(folder), "-q", "--out", str(target), *arguments])
        assert done.exit_code == 0, done.output
    assert contents(out) == contents(whole)
    said = toxmid.Replay.load(out).bars["toxicity"][1:]
    assert (said.null_count() == 0 and said.max() == 0) == (not records)


def test_the_first_record_of_a_market_on_a_day_that_was_added(tapes: Path, tmp_path: Path, out: Path) -> None:
    folder = with_feed(tapes, tmp_path / "tapes", (2,))
    run_jobs(pair_files(folder)[:2], out)
    assert output.load_manifest(out / f"{VENUE}_BBBUSDT" / DAYS[0])["request"]["silent_feed"] is True
    # One replay over all of its files would not have known of a feed on the first day.
    assert statuses(run_jobs(pair_files(folder), out)) == ["done"] * len(DAYS)
    assert statuses(run_jobs(pair_files(folder), out)) == ["there"] * len(DAYS)


def test_a_feed_that_cannot_be_read_fails_on_its_day(tapes: Path, tmp_path: Path, out: Path) -> None:
    folder = with_feed(tapes, tmp_path / "tapes", ())
    bad = folder / f"{VENUE}_liquidations_{DAYS[1]}_BBBUSDT.csv.gz"
    bad.write_bytes(bad.read_bytes()[:-9])
    parts = run_jobs(pair_files(folder), out, on_error="keep")
    assert statuses(parts) == ["done", "failed", "skipped", "skipped"]
    assert str(bad) in str(parts[1].error)


# --- arguments -------------------------------------------------------------------------------------------------------


def test_what_cannot_be_run_is_refused(jobs: list[Job], reference: Path, out: Path) -> None:
    with pytest.raises(ParameterError, match="no jobs"):
        run_jobs([], out)
    with pytest.raises(ParameterError, match="workers"):
        run_jobs(jobs, out, workers=0)
    with pytest.raises(ParameterError, match="two jobs for one part"):
        run_jobs([jobs[0], jobs[0]], out)
    with pytest.raises(ParameterError, match="a month and a day in it"):
        run_jobs([dataclasses.replace(jobs[0], label="2025-01"), jobs[0]], out)
    with pytest.raises(ParameterError, match="name of a folder"):
        run_jobs([dataclasses.replace(jobs[0], label="../../etc")], out)
    with pytest.raises(ParameterError, match="no such input"):
        run_jobs([dataclasses.replace(jobs[0], files={"candles": ()})], out)
    with pytest.raises(FileError, match="single replay"):
        run_jobs(jobs, reference / jobs[0].market / jobs[0].label)
    assert not out.exists()
    out.write_text("mine", encoding="ascii")
    with pytest.raises(FileError, match="is a file"):
        run_jobs(jobs, out)


def test_a_window_is_one_of_the_whole_run(tapes: Path, jobs: list[Job], out: Path) -> None:
    window = {"start": "2025-01-01T00:06:00", "end": "2025-01-01T00:13:00"}  # the second "day" begins at 00:05
    one = jobs[: len(DAYS)]
    run_jobs(one, out, **window)  # type: ignore[arg-type]
    files = {kind: [str(path) for job in one for path in job.files[kind]] for kind in one[0].files}
    whole = toxmid.replay(**files, **window)
    together = load_market(out, one[0].market)
    assert_frame_equal(together.bars, whole.bars)
    assert together.manifest == whole.manifest
    assert whole.counts["rejected"]["outside_window"] > 0
    assert statuses(run_jobs(one, out, **window)) == ["there"] * len(one)  # type: ignore[arg-type]
    assert statuses(run_jobs(one, out)) == ["done"] * len(one)


def test_a_run_is_summarised(with_bad_files: list[Job], out: Path) -> None:
    parts = run_jobs(with_bad_files[:8], out, on_error="keep")
    said = summarise(parts).splitlines()
    assert said[0] == "8 symbol-days of 2 markets: 5 done, 1 failed, 2 skipped"
    assert "rows computed in" in said[1]
    assert said[2].startswith(f"failed: {VENUE}_BBBUSDT/{DAYS[1]}: ")
    assert summarise([dataclasses.replace(parts[0], status="there")]) == "1 symbol-day of 1 market: 1 there"


def test_a_market_is_saved_and_known_again_as_one_replay(tapes: Path, reference: Path, out: Path) -> None:
    load_market(reference, f"{VENUE}_BBBUSDT").save(out)
    files = {
        kind: sorted(map(str, tapes.glob(f"*_{kind}_*_BBBUSDT.csv.gz")))
        for kind in ("trades", "quotes", "liquidations")
    }
    # The same run in the eyes of a single replay, which has nothing to do then.
    assert output.is_same_run(out, plan(**files) | {"instrument": {}})


def test_parts_that_do_not_follow_each_other_are_refused(jobs: list[Job], reference: Path, out: Path) -> None:
    market = f"{VENUE}_AAAUSDT"
    run_jobs(jobs[:4], out)
    run_jobs([jobs[0], jobs[1], jobs[3]], out)
    with pytest.raises(FileError, match=rf"{DAYS[3]}: does not go on from the part before"):
        load_market(out, market)
    with pytest.raises(FileError, match="holds no parts"):
        load_market(out, "nowhere")
    shutil.copytree(reference / market, out / "copy")
    manifest = output.load_manifest(out / "copy" / DAYS[0])
    (out / "copy" / DAYS[0] / "manifest.json").write_text(
        json.dumps({name: value for name, value in manifest.items() if name != "state"}), encoding="utf-8"
    )
    with pytest.raises(FileError, match="no part of a run"):
        load_market(out, "copy")


def test_parts_are_scanned_as_one_table(reference: Path, tmp_path: Path) -> None:
    bars = scan_parts(reference).select("market", "label", "ts").collect()
    assert bars["market"].unique(maintain_order=True).to_list() == [f"{VENUE}_{symbol}" for symbol in SYMBOLS]
    assert bars["label"].unique().sort().to_list() == list(DAYS)
    assert scan_parts(reference, "events", market=f"{VENUE}_BBBUSDT").select(pl.len()).collect().item() > 0
    with pytest.raises(FileError, match="holds no parts"):
        scan_parts(tmp_path)
    with pytest.raises(ParameterError, match="no such table"):
        scan_parts(reference, "trades")  # type: ignore[arg-type]
