"""Chains of parts on the workers of a Dask cluster: the extra ``dask``.

The state of a market travels from day to day as the result of a task. Tasks write whole parts and do nothing where the
part is there, so the cluster may run any of them again on another worker. All workers must see the inputs and the
output directory under the same paths.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from toxmid.errors import FileError, ParameterError, ToxmidError
from toxmid.jobs.part import Part, Settings, part_path, run_part
from toxmid.jobs.pool import OnPart
from toxmid.pairing import Job

__all__ = ["run_on_cluster"]

_CONNECT_S: Final = 30


def run_on_cluster(
    chains: Sequence[Sequence[Job]], out: Path, settings: Settings, on_part: OnPart, cluster: Any
) -> None:
    """Run chains on a cluster.

    Parameters
    ----------
    cluster : str or distributed.Client
        Address of its scheduler, ``"tcp://host:8786"``, or a client of yours, which stays open.
    """
    distributed = _distributed()
    with _client(distributed, cluster) as client:
        jobs: dict[Any, Job] = {}
        for chain in chains:
            jobs |= _submit(client, chain, out, settings)
        try:
            for future in distributed.as_completed(list(jobs)):
                # The key, not the future: holding on to it would hold the result on a worker.
                on_part(_result(future, jobs.pop(future), out))
        finally:
            client.cancel(list(jobs))


def _distributed() -> Any:
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise ParameterError(
            "running on a cluster needs the package distributed, which comes with the extra 'dask'",
            found=str(error),
            expected="pip install 'toxmid[dask]'",
        ) from None


@contextlib.contextmanager
def _client(distributed: Any, cluster: Any) -> Iterator[Any]:
    if isinstance(cluster, distributed.Client):
        with cluster.as_current():
            yield cluster
        return
    try:
        # Not the default client: the user may have one of his own.
        client = distributed.Client(str(cluster), timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise FileError(f"no Dask scheduler answers: {error}", file=str(cluster)) from None
    with client, client.as_current():
        yield client


def _submit(client: Any, chain: Sequence[Job], out: Path, settings: Settings) -> dict[Any, Job]:
    """Tasks of a chain, each with the result of the one before it; what comes back here is without the state."""
    results: dict[Any, Job] = {}
    before: Any = None
    for job in chain:
        # Not pure: a second call on the cluster must look at the disk again, not at a result the scheduler remembers.
        before = client.submit(
            run_part, job, out, settings, last=job is chain[-1], before=before, pure=False, retries=2
        )
        results[client.submit(Part.light, before, pure=False)] = job
    return results


def _result(future: Any, job: Job, out: Path) -> Part:
    if future.status == "finished":
        part: Part = future.result()
        return part
    problem = future.exception() if future.status == "error" else "the task was cancelled"
    if isinstance(problem, BaseException) and not isinstance(problem, ToxmidError) and not _is_lost(problem):
        raise problem
    error = ToxmidError(f"{job.name}: {problem}")
    return Part(job, part_path(out, job), "failed", error=error)


def _is_lost(problem: BaseException) -> bool:
    """Whether the cluster gave a task up because the workers that ran it died."""
    return type(problem).__name__ in ("KilledWorker", "FutureCancelledError", "FuturesCancelledError")
