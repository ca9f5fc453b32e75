"""Chains of parts on the processes of this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Final

from toxmid.errors import ToxmidError
from toxmid.jobs.part import Part, Settings, part_path, run_part
from toxmid.pairing import Job
from toxmid.readers import TapeWarning

__all__ = ["run_here", "run_in_processes"]

# What libraries do in a process that does nothing but parts, unless you have said otherwise: no threads of algebra, and
# memory that was used once is kept for the next part. New memory costs more than what is written into it.
_IN_WORKERS: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    "GLIBC_TUNABLES": f"glibc.malloc.mmap_threshold={1 << 25}:glibc.malloc.trim_threshold={1 << 29}",
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:60000,muzzy_decay_ms:60000,background_thread:false",
}
# Deaths of a process with one and the same part under way before that part is given up.
_DEATHS: Final = 3

OnPart = Callable[[Part], None]


def run_here(chains: Sequence[Sequence[Job]], out: Path, settings: Settings, on_part: OnPart) -> None:
    """One part after the other, in this process."""
    for chain in chains:
        before: Part | None = None
        for job in chain:
            before = run_part(job, out, settings, last=job is chain[-1], before=before)
            on_part(before.light())


def run_in_processes(
    chains: Sequence[Sequence[Job]], out: Path, settings: Settings, on_part: OnPart, workers: int
) -> None:
    """Parts of different chains beside each other; the chain with most left to do goes first.

    A process that dies (killed, out of memory) costs the parts under way, which are begun again.
    """
    waiting = [_Chain(chain) for chain in chains]
    deaths: Counter[str] = Counter()
    while waiting:
        shares = _shares(_cores(), min(workers, len(waiting)))
        with _processes(len(shares)) as pool:
            waiting = _drain(pool, waiting, out, settings, on_part, deaths=deaths, shares=shares)


class _Chain:
    """The parts of one market that are still to come, and the one they go on from."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = deque(jobs)
        self.bytes = sum(job.bytes for job in jobs)  # still to come
        self.before: Part | None = None

    def advance(self, part: Part) -> None:
        """Take the result of the first job that is left."""
        self.bytes -= self.jobs.popleft().bytes
        self.before = part


def _drain(
    pool: ProcessPoolExecutor,
    waiting: list[_Chain],
    out: Path,
    settings: Settings,
    on_part: OnPart,
    *,
    deaths: Counter[str],
    shares: list[set[int]],
) -> list[_Chain]:
    """Run until all chains are done, or a process dies; what is left is returned.

    Every part keeps to a share of the cores that no other one has: threads which the system moves about wait longer for
    each other, and lose what their core has cached. Where fewer chains are left than shares, each may use all cores.
    """
    running: dict[Future[Part], _Chain] = {}
    free, taken = list(shares), dict[Future[Part], set[int]]()
    try:
        while waiting or running:
            waiting.sort(key=lambda chain: chain.bytes)
            while waiting and len(running) < len(shares):
                chain = waiting[-1]
                cores = free[-1] if len(waiting) + len(running) >= len(shares) else _cores()
                last = len(chain.jobs) == 1
                work = functools.partial(_run_noting, chain.jobs[0], out, settings, last=last, before=chain.before)
                future = pool.submit(_run_on, cores, work)
                running[future], taken[future] = waiting.pop(), free.pop()
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            # Those that died come last, so that no result which has arrived is lost with them.
            for future in sorted(done, key=_has_died):
                part = future.result()
                chain = running.pop(future)
                free.append(taken.pop(future))
                chain.advance(part)
                on_part(part)
                if chain.jobs:
                    waiting.append(chain)
    except BrokenProcessPool:
        for chain in running.values():
            _count_death(chain, out, deaths, on_part)
        return [chain for chain in (*waiting, *running.values()) if chain.jobs]
    return []


def _has_died(future: Future[Part]) -> bool:
    return isinstance(future.exception(), BrokenProcessPool)


def _count_death(chain: _Chain, out: Path, deaths: Counter[str], on_part: OnPart) -> None:
    job = chain.jobs[0]
    deaths[job.name] += 1
    if deaths[job.name] >= _DEATHS:
        error = ToxmidError(f"{job.name}: the process was killed {_DEATHS} times, or there is not enough memory for it")
        part = Part(job, part_path(out, job), "failed", error=error)
        chain.advance(part)
        on_part(part)


# --- processes -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes end with this one, however it ends.

    They never come of a fork of a process that has loaded polars: its threads hold locks that no fork would open again.
    """
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    _start_fork_server(workers)
    # Only this process holds the writing end: when it is closed, by us or by our death, the workers see it.
    reader, writer = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker, initargs=(reader,))
    try:
        yield pool
    except BaseException:
        writer.close()
        raise
    finally:
        # After an interrupt the workers are gone, so nothing is waited for.
        pool.shutdown(wait=True, cancel_futures=True)
        writer.close()
        reader.close()


def _start_fork_server(workers: int) -> None:
    """Start the process that workers are forked from: nothing is loaded in it, and libraries will share the cores."""
    if sys.platform == "win32":
        return
    from multiprocessing import forkserver

    forkserver.set_forkserver_preload([])
    settings = {"POLARS_MAX_THREADS": str(max(1, len(_cores()) // workers)), **_IN_WORKERS}
    ours = {name: value for name, value in settings.items() if not os.environ.get(name)}
    before = {name: os.environ.get(name) for name in ours}
    os.environ |= ours
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _cores() -> set[int]:
    """The cores that this process may use; on systems that do not say which, as many as there are."""
    return os.sched_getaffinity(0) if sys.platform == "linux" else set(range(os.cpu_count() or 1))


def _shares(cores: set[int], workers: int) -> list[set[int]]:
    """Cores divided among workers; where there are fewer than that, each may use all."""
    if len(cores) < workers:
        return [set(cores) for _ in range(workers)]
    order = sorted(cores)
    bounds = [number * len(order) // workers for number in range(workers + 1)]
    return [set(order[begin:end]) for begin, end in itertools.pairwise(bounds)]


def _run_on(cores: set[int], work: Callable[[], Part]) -> Part:
    """Do work on these cores, its threads included."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # the cores of a container may have changed: then the system chooses
            os.sched_setaffinity(0, cores)
    return work()


def _run_noting(job: Job, out: Path, settings: Settings, *, last: bool, before: Part | None) -> Part:
    """Run a part and bring home what the readers say: nobody looks at the warnings of a worker.

    States stay on the disk. What passes between processes is so small that it is written at one go: one that is killed
    in the middle of a long message would leave all others waiting for the rest of it.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TapeWarning)
        part = run_part(job, out, settings, last=last, before=before)
    notes = dict.fromkeys(str(entry.message) for entry in caught if issubclass(entry.category, TapeWarning))
    return dataclasses.replace(part.light(), notes=tuple(notes))


def _begin_worker(lifeline: Connection) -> None:
    """What is written is written whole, so a worker may end at any moment: at once, and without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def watch() -> None:
        wait_for([lifeline])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
