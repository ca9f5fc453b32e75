"""The same bits on a Dask cluster, also when one of its workers is killed in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from toxmid.cli import cli
from toxmid.errors import FileError, ParameterError
from toxmid.jobs import Job, Part, run_jobs

from .conftest import DAYS, contents

# Its threads and sockets end when they please, long after a test.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def test_a_cluster_needs_its_extra(jobs: list[Job], out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ParameterError, match=r"extra 'dask'.*toxmid\[dask\]"):
        run_jobs(jobs, out, dask="tcp://127.0.0.1:8786")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as local:
        yield local


def test_nobody_at_the_address_is_an_error(jobs: list[Job], out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
    monkeypatch.setattr("toxmid.jobs.cluster._CONNECT_S", 0.2)
    with pytest.raises(FileError, match="no Dask scheduler answers"):
        run_jobs(jobs, out, dask="tcp://127.0.0.1:9")


def run_and_kill(cluster: Any, jobs: list[Job], out: Path) -> tuple[list[Part], bool]:
    """Kill a worker once three parts are there: what became of the jobs, and whether the run was still under way."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        running = thread.submit(run_jobs, jobs, out, dask=cluster.scheduler_address)
        deadline = time.monotonic() + 300
        while len(list(out.glob("*/*/manifest.json"))) < 3 and not running.done() and time.monotonic() < deadline:
            time.sleep(0.005)
        victims = (worker.pid for worker in cluster.workers.values())  # none while one is being started again
        os.kill(next(pid for pid in victims if pid is not None), signal.SIGKILL)
        under_way = not running.done()
        return running.result(timeout=300), under_way


def test_a_killed_worker_changes_no_bit(cluster: Any, jobs: list[Job], reference: Path, out: Path) -> None:
    for _ in range(20):
        parts, under_way = run_and_kill(cluster, jobs, out)
        if under_way:
            break
        shutil.rmtree(out)  # it was over before the worker was killed: once more
    assert under_way, "no run was ever hit in the middle: this tested nothing"
    assert {part.status for part in parts} <= {"done", "there"}
    assert [part.job for part in parts] == jobs
    assert contents(out) == contents(reference)


def test_a_client_of_the_user_is_used_and_stays_open(cluster: Any, jobs: list[Job], reference: Path, out: Path) -> None:
    from distributed import Client

    one = jobs[: len(DAYS)]
    with Client(cluster, set_as_default=False) as client:
        first = run_jobs(one, out, dask=client)
        second = run_jobs(one, out, dask=client)
        assert client.status == "running"
    assert [part.status for part in first] == ["done"] * len(one)
    assert [part.status for part in second] == ["there"] * len(one)
    expected = {name: data for name, data in contents(reference).items() if name.startswith(one[0].market)}
    assert contents(out) == expected


def test_the_command_on_a_cluster_writes_what_it_writes_here(cluster: Any, tapes: Path, out: Path) -> None:
    words = ["replay", str(tapes / "*BBBUSDT*"), "-q"]
    here = out.with_name("here")
    for target, arguments in ((here, []), (out, ["--dask", cluster.scheduler_address])):
        done = CliRunner().invoke(cli, [*words, "--out", str(target), *arguments])
        assert done.exit_code == 0, done.output
    assert contents(out) == contents(here)


def test_a_bad_file_ends_its_market_and_no_other(cluster: Any, jobs: list[Job], out: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv.gz"
    bad.write_bytes(jobs[0].files["trades"][0].read_bytes()[:-50])
    broken = Job(jobs[0].symbol, jobs[0].label, {"trades": (bad,)}, jobs[0].venue)
    other = [job for job in jobs if job.symbol != jobs[0].symbol][: len(DAYS)]
    parts = run_jobs([broken, jobs[1], *other], out, dask=cluster.scheduler_address, on_error="keep")
    assert [part.status for part in parts] == ["failed", "skipped", *["done"] * len(other)]
    assert isinstance(parts[0].error, FileError)
    assert str(bad) in str(parts[0].error)
