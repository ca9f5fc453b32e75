"""One symbol-day: replayed from the state of the day before, written whole with its own state beside it.

Running a part twice does nothing the second time, and what it writes does not depend on who runs it, when, or how often
it was killed before. That is all that a process pool or a cluster needs to know.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from toxmid import output
from toxmid.disk import PARTIAL, exclusive, naming
from toxmid.errors import DataError, FileError, ToxmidError
from toxmid.instrument import Instrument
from toxmid.merging import INPUTS, formats_by_input, input_of
from toxmid.pairing import Job
from toxmid.params import Params
from toxmid.readers import Moment, open_tape
from toxmid.replay import Replay, plan, replay

__all__ = ["Part", "Settings", "part_path", "run_part", "state_path"]

LOCK: Final = ".lock"


@dataclass(frozen=True)
class Settings:
    """What all parts of a run have in common.

    Parameters
    ----------
    params : Params
        Parameters of the engine.
    instruments : mapping of str to Instrument
        What you know of an instrument, by symbol or by market (venue and symbol, as `Job.market`).
    start, end, sort, allow_partial, format
        As in `toxmid.replay`.
    silent_feeds : mapping of str to bool
        For each market with a liquidation feed, whether no row of it is there on any day.
    """

    params: Params = field(default_factory=Params)
    instruments: dict[str, Instrument] = field(default_factory=dict, hash=False)
    start: Moment | None = None
    end: Moment | None = None
    sort: bool = False
    allow_partial: bool = False
    format: str | Mapping[str, str] | None = field(default=None, hash=False)
    silent_feeds: Mapping[str, bool] = field(default_factory=dict, hash=False)

    def instrument(self, job: Job) -> Instrument | None:
        """What is known of the instrument of a job."""
        return self.instruments.get(job.market, self.instruments.get(job.symbol))


@dataclass(frozen=True)
class Part:
    """What became of a job.

    Attributes
    ----------
    job : Job
    path : Path
        The output directory of the part.
    status : {"done", "there", "failed", "skipped"}
        Computed now; found whole from an earlier run; gone wrong; not begun, as a day before it has failed.
    rows : int
        Rows of the inputs, as counted in the manifest.
    seconds : float
        Time it took.
    error : ToxmidError or None
        What went wrong.
    notes : tuple of str
        What readers in another process had to say about the files.
    state : bytes
        The engine after the last event; empty where it only lies in its file, as in what `run_jobs` returns.
    digest : str
        SHA-256 of the state.
    """

    job: Job
    path: Path
    status: Literal["done", "there", "failed", "skipped"]
    rows: int = 0
    seconds: float = 0.0
    error: ToxmidError | None = None
    notes: tuple[str, ...] = ()
    state: bytes = field(default=b"", repr=False)
    digest: str = field(default="", repr=False)

    @property
    def ok(self) -> bool:
        """Whether the part is there, whole."""
        return self.status in ("done", "there")

    def light(self) -> Part:
        """The same without the state, which is large and not for people."""
        return dataclasses.replace(self, state=b"")


def part_path(out: Path, job: Job) -> Path:
    """Output directory of a job."""
    return out / job.market / job.label


def state_path(out: Path, job: Job) -> Path:
    """File with the state of the engine after a job."""
    return out / job.market / f"{job.label}.state"


def run_part(job: Job, out: Path, settings: Settings, *, last: bool, before: Part | None = None) -> Part:
    """Run one job, unless its part is there already.

    Parameters
    ----------
    job : Job
    out : Path
        Directory of the run; the part goes to ``out/<market>/<label>``.
    settings : Settings
    last : bool
        Whether the job is the last one of its market, which closes its last bar.
    before : Part, optional
        The part of the day before, with its state or light.
    """
    path = part_path(out, job)
    if before is not None and not before.ok:
        return Part(job, path, "skipped")
    begin = time.perf_counter()
    try:
        # Two runs on one directory share the work: who comes second waits, and then finds the part there.
        with exclusive(path.parent / LOCK):
            part = _there_or_done(job, out, settings, last, None if before is None else _state_after(before, out))
    except ToxmidError as error:
        part = Part(job, path, "failed", error=error)
    return dataclasses.replace(part, seconds=time.perf_counter() - begin)


def _there_or_done(job: Job, out: Path, settings: Settings, last: bool, state: bytes | None) -> Part:
    path = part_path(out, job)
    _check_market(job, settings)
    arguments: dict[str, Any] = {
        **_inputs(job),
        "params": settings.params,
        "instrument": settings.instrument(job),
        "state": state,
        "finish": last,
        "start": settings.start,
        "end": settings.end,
        "sort": settings.sort,
        "allow_partial": settings.allow_partial,
        "format": settings.format,
        "silent_feed": settings.silent_feeds.get(job.market),
    }
    kept = _kept_state(job, out, arguments)
    if kept is not None:
        rows = int(output.load_manifest(path)["counts"]["rows_read"])
        return Part(job, path, "there", rows, state=kept, digest=_digest(kept))
    _sweep(path.parent)
    result = replay(**arguments)
    _keep(result, job, out)
    rows = int(result.counts["rows_read"])
    return Part(job, path, "done", rows, state=result.state, digest=_digest(result.state))


def _inputs(job: Job) -> dict[str, Any]:
    """Files as `toxmid.replay` takes them; those of other venues by name, where they have one."""
    inputs: dict[str, Any] = {}
    for name, files in job.files.items():
        kind, _, venue = name.partition(":")
        if venue:
            inputs.setdefault(kind, {})[venue] = list(files)
        else:
            inputs[kind] = list(files)
    return inputs


def _digest(state: bytes) -> str:
    return hashlib.sha256(state).hexdigest()


def _state_after(part: Part, out: Path) -> bytes:
    """State of the engine after a part: its own, or that in its file."""
    if part.state:
        return part.state
    file = state_path(out, part.job)
    with naming(file, "cannot be read"):
        state = file.read_bytes()
    if _digest(state) != part.digest:
        raise FileError("was written by another run in the meantime", file=str(file), expected=f"SHA-256 {part.digest}")
    return state


def _check_market(job: Job, settings: Settings) -> None:
    """Refuse files of another market: going on from the state of one with the tape of another gives numbers, too."""
    for kind, files in job.files.items():
        if input_of(kind) == "reference":
            continue
        format = formats_by_input(settings.format).get(kind)
        said = open_tape(files, INPUTS[kind], format=format, instrument=settings.instrument(job)).instrument.symbol
        if said is not None and said != job.symbol:
            raise DataError(
                f"not a tape of this job's market ({job.name})", file=str(files[0]), found=said, expected=job.symbol
            )


def _kept_state(job: Job, out: Path, arguments: dict[str, Any]) -> bytes | None:
    """State of a part that an earlier run has finished from the same inputs, state and parameters."""
    path, file = part_path(out, job), state_path(out, job)
    if not output.is_output(path) or not file.is_file():
        return None
    # The instrument may have been completed in the pass over the data; what was given of it stands in the request.
    if not output.is_same_run(path, plan(**arguments) | {"instrument": {}}):
        return None
    with naming(file, "cannot be read"):
        state = file.read_bytes()
    kept = output.load_manifest(path).get("state", {})
    return state if kept.get("sha256") == _digest(state) else None


def _keep(result: Replay, job: Job, out: Path) -> None:
    """State first, part second: a part that is there has its state, or names another one and is done again."""
    file = state_path(out, job)
    output.write_whole(file, result.state)
    entry = {"file": file.name, "bytes": len(result.state), "sha256": _digest(result.state)}
    manifest = {**result.manifest, "state": entry}
    output.save(part_path(out, job), result.bars, result.buckets, result.events, manifest, overwrite=True)


def _sweep(folder: Path) -> None:
    """Remove what killed runs have left half-written: we hold the lock, so nobody is writing here."""
    for path in folder.glob(f".*{PARTIAL}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
