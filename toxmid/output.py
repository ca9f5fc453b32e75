"""The output directory of a replay: three tables and a manifest, written whole or not at all.

A directory cannot be exchanged in one step on every system. So the new one is completed and checked beside the old
one, the old one is set aside under a fixed name, the new one takes its place, and the old one is removed. Whoever comes
next after a kill finds either the directory or the set-aside copy, and :func:`load` and :func:`save` put that back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import enum
import functools
import hashlib
import io
import json
import math
import os
import platform
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from toxmid.errors import FileError

FORMAT = "toxmid-output"
FORMAT_VERSION = 1
TABLES = ("bars", "buckets", "events")
MANIFEST = "manifest.json"
REPORT = "report.html"

_OURS = frozenset({*(f"{table}.parquet" for table in TABLES), MANIFEST, REPORT})
_PARTIAL = ".toxmid-partial"
_ROWS_PER_GROUP = 1 << 17
_PREVIOUS = ".toxmid-previous"
# A save takes seconds; what is still partial after a day was left by a run that was killed.
_ABANDONED_AFTER_S = 86_400.0

Manifest = dict[str, Any]


# --- manifest ---------------------------------------------------------------------------------------------------------


def build_manifest(
    *,
    inputs: Sequence[Mapping[str, Any]],
    params: Any,
    instrument: Any,
    counts: Mapping[str, Any] | None = None,
    request: Mapping[str, Any] | None = None,
    warm_up: Mapping[str, Any] | None = None,
    open_bucket: Mapping[str, Any] | None = None,
    first_bucket: Mapping[str, Any] | None = None,
    open_episodes: Sequence[Mapping[str, Any]] = (),
    memory: Any = None,
    liquidation_feed: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Manifest:
    """Build the manifest of a run.

    Parameters
    ----------
    inputs : sequence of mapping
        What was read, as :func:`describe_inputs` gives it.
    params, instrument : dataclass or mapping
        As used. The instrument may carry where each of its fields came from.
    counts : mapping, optional
        Rows read, used, rejected by reason, duplicates, gaps and so on.
    request : mapping, optional
        What else was asked for that changes the result: period, instrument as given, start state.
    warm_up : mapping, optional
        How much history each trailing reference had, e.g. ``{"vpin_rank": {"has": 2.5, "needs": 90.0, "unit": "d"}}``.
    open_bucket : mapping, optional
        The volume bucket that was open at the end.
    first_bucket : mapping, optional
        The trade with which the first volume bucket opened: another start gives other values of VPIN.
    open_episodes : sequence of mapping
        Episodes that were open at the end.
    memory : optional
        Memory of the estimator at the end.
    liquidation_feed : mapping, optional
        How complete the liquidation feed was, as `Engine.feed_completeness` gives it; None where there was none.
    extra : mapping, optional
        Further top-level entries.

    Returns
    -------
    dict
        Plain JSON values; not-a-number is None.

    Examples
    --------
    >>> manifest = build_manifest(inputs=[], params={"bar": "1s"}, instrument={"tick": float("nan")})
    >>> manifest["params"], manifest["instrument"]
    ({'bar': '1s'}, {'tick': None})
    """
    entries: dict[str, Any] = {
        **(extra or {}),
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "inputs": list(inputs),
        "params": params,
        "instrument": instrument,
        "request": request or {},
        "counts": counts or {},
        "warm_up": warm_up or {},
        "open_bucket": open_bucket,
        "first_bucket": first_bucket,
        "open_episodes": list(open_episodes),
        "memory": memory,
        "liquidation_feed": liquidation_feed,
        "versions": versions(),
    }
    return {key: to_json(entry) for key, entry in entries.items()}


def describe_inputs(files: Mapping[str, Sequence[str | os.PathLike[str]]]) -> list[dict[str, Any]]:
    """Describe input files by kind: path, size in bytes and SHA-256.

    Parameters
    ----------
    files : mapping
        Kind of input ("trades", "book", ...) to its files, in the order in which they are read.

    Raises
    ------
    FileError
        If a file cannot be read.

    Examples
    --------
    >>> describe_inputs({"trades": []})
    []
    """
    return [{"kind": kind, **_describe(Path(path))} for kind, paths in files.items() for path in paths]


def versions() -> dict[str, str]:
    """Return the versions on which the numbers may depend.

    Examples
    --------
    >>> sorted(versions())
    ['numpy', 'polars', 'python', 'toxmid']
    """
    return {
        "toxmid": metadata.version("toxmid"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "polars": pl.__version__,
    }


@functools.singledispatch
def to_json(value: Any) -> Any:
    """Turn a value into what JSON can hold: dataclasses into dicts, times into ISO 8601, NaN into None.

    Infinities are kept as the strings ``"inf"`` and ``"-inf"``: a limit that was switched off is not a missing one.

    Raises
    ------
    TypeError
        For a type that has no plain JSON form; a manifest must not hold the address of an object.

    Examples
    --------
    >>> to_json({"a": (np.float64(1.5), float("nan"), float("inf")), 2: Path("x")})
    {'a': [1.5, None, 'inf'], '2': 'x'}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise TypeError(f"a manifest cannot hold a {type(value).__name__}")


@to_json.register(str)
@to_json.register(int)
@to_json.register(type(None))
def _(value: Any) -> Any:
    return value


@to_json.register
def _(value: float) -> float | str | None:
    # float() because a NumPy double is a float by inheritance.
    return float(value) if math.isfinite(value) else None if math.isnan(value) else str(float(value))


@to_json.register
def _(value: enum.Enum) -> Any:
    return to_json(value.value)


@to_json.register
def _(value: np.generic) -> Any:
    return to_json(value.item())


@to_json.register
def _(value: np.datetime64) -> str | None:
    return None if np.isnat(value) else f"{value}Z"


@to_json.register
def _(value: dt.date) -> str:
    return value.isoformat()


@to_json.register
def _(value: dt.timedelta) -> float:
    return value.total_seconds()


@to_json.register
def _(value: os.PathLike) -> Any:  # type: ignore[type-arg]
    return os.fspath(value)


@to_json.register
def _(value: Mapping) -> dict[str, Any]:  # type: ignore[type-arg]
    return {str(key): to_json(entry) for key, entry in value.items()}


@to_json.register(list)
@to_json.register(tuple)
def _(value: Any) -> list[Any]:
    return [to_json(entry) for entry in value]


@to_json.register(set)
@to_json.register(frozenset)
def _(value: Any) -> list[Any]:
    return sorted(to_json(entry) for entry in value)


# --- directory --------------------------------------------------------------------------------------------------------


def save(
    directory: str | os.PathLike[str],
    bars: pl.DataFrame,
    buckets: pl.DataFrame,
    events: pl.DataFrame,
    manifest: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> Manifest:
    """Write a run to its directory, whole or not at all.

    Parameters
    ----------
    directory : path
        Made with its parents where missing. An empty directory is taken over.
    bars, buckets, events : polars.DataFrame
        The three tables.
    manifest : mapping
        As :func:`build_manifest` gives it.
    overwrite : bool
        Replace an earlier toxmid output there. Anything else is never touched.

    Returns
    -------
    dict
        The manifest as written, with the number of rows of each table.

    Raises
    ------
    FileError
        If the directory holds something else or cannot be written. What was there before is then still there.
    """
    target = _target(directory)
    tables = dict(zip(TABLES, (bars, buckets, events), strict=True))
    entries: Manifest = to_json(manifest)
    entries |= {"format": FORMAT, "format_version": FORMAT_VERSION}
    entries["rows"] = {name: table.height for name, table in tables.items()}
    with _as_file_errors(target, "cannot be written"):
        _finish_interrupted_swap(target)
        _refuse_what_is_not_ours(target, overwrite)
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep_abandoned(target)
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_PARTIAL}")
        partial.mkdir()
        try:
            _fill(partial, tables, entries)
            _put_in_place(partial, target)
        finally:
            # A no-op after success: the directory has its final name by then.
            shutil.rmtree(partial, ignore_errors=True)
    return entries


def load(directory: str | os.PathLike[str]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, Manifest]:
    """Read a run back: bars, buckets, events and manifest.

    Raises
    ------
    FileError
        If the directory is missing, is no toxmid output, was written by a later format, or a table is damaged.
    """
    target = _target(directory)
    manifest = _check(target)
    with _as_file_errors(target, "cannot be read"):
        bars, buckets, events = (pl.read_parquet(target / f"{table}.parquet") for table in TABLES)
    return bars, buckets, events, manifest


def load_manifest(directory: str | os.PathLike[str]) -> Manifest:
    """Read only the manifest of a run, after checking that its tables are there and whole.

    Raises
    ------
    FileError
        As :func:`load`.
    """
    return _check(_target(directory))


def is_same_run(directory: str | os.PathLike[str], manifest: Mapping[str, Any]) -> bool:
    """Tell whether the directory already holds this run, whole.

    Equal are: every input by kind, size and SHA-256 (whatever its path), the parameters, the request, the versions, and
    the instrument unless `manifest` has none yet (it may be known only after the data was read). An input
    without a SHA-256, such as a frame in memory, is never the same as another.

    Examples
    --------
    >>> is_same_run("no-such-directory", build_manifest(inputs=[], params={}, instrument={}))
    False
    """
    try:
        there = _check(_target(directory))
    except FileError:
        return False
    wanted = to_json(manifest)
    keys = ("params", "request", "versions", *(["instrument"] if wanted.get("instrument") else []))
    if any(there.get(key) != wanted.get(key) for key in keys):
        return False
    prints = [[_fingerprint(entry) for entry in inputs] for inputs in (there["inputs"], wanted["inputs"])]
    return prints[0] == prints[1] and all(sha256 for _, _, sha256 in prints[0])


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all; an earlier one stays until the new one is on the disk.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    target = Path(path).resolve()
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_PARTIAL}")
    with _as_file_errors(target, "cannot be written"):
        if target.exists() and not target.is_file():
            target.write_bytes(data)  # a pipe or a device is written to, never replaced
            return
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                _to_disk(file.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def is_output(directory: str | os.PathLike[str]) -> bool:
    """Tell whether a directory is a toxmid output, whole or damaged."""
    try:
        _read_manifest(Path(directory))
    except FileError:
        return False
    return True


# --- writing ----------------------------------------------------------------------------------------------------------


def _fill(partial: Path, tables: Mapping[str, pl.DataFrame], manifest: Manifest) -> None:
    """Write everything, force it to the disk, and read back that it is there."""
    for name, table in tables.items():
        # By way of memory: where the disk is full the system says so, and not a library that was cut off in a footer.
        packed = io.BytesIO()
        # In groups of their own size: the bytes shall not tell in what pieces the table was made.
        table.write_parquet(packed, compression="zstd", row_group_size=_ROWS_PER_GROUP)
        with (partial / f"{name}.parquet").open("wb") as file:
            file.write(packed.getbuffer())
            file.flush()
            _to_disk(file.fileno())
    # Bytes of a file name that are no text become escapes of JSON, which give the same name back.
    with (partial / MANIFEST).open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        json.dump(manifest, file, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        file.write("\n")
        file.flush()
        _to_disk(file.fileno())
    _sync_directory(partial)
    _check(partial)


def _put_in_place(partial: Path, target: Path) -> None:
    """Exchange the directories; what stood there comes back if the new one cannot take its place."""
    previous = _previous(target)
    if is_output(target):
        target.rename(previous)
    elif target.exists():
        target.rmdir()  # Empty: anything else was refused before.
    try:
        partial.rename(target)
    except OSError:
        if previous.exists():
            previous.rename(target)
        raise
    _sync_directory(target.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _finish_interrupted_swap(target: Path) -> None:
    """Put things right after a kill between the two renames of an exchange, or just after them."""
    previous = _previous(target)
    if not is_output(previous):
        return
    if target.exists():
        shutil.rmtree(previous)
    else:
        previous.rename(target)


def _target(directory: str | os.PathLike[str]) -> Path:
    target = Path(directory).resolve()
    if not target.name:
        raise FileError("is the root of a file system and cannot be an output directory", file=str(target))
    return target


def _previous(target: Path) -> Path:
    return target.with_name(f".{target.name}{_PREVIOUS}")


def _refuse_what_is_not_ours(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise FileError("is a file, not a directory to write into", file=str(target))
    present = sorted(path.name for path in target.iterdir())
    if present and not is_output(target):
        raise FileError(
            "is not a toxmid output and is left as it is; choose another directory", file=str(target), found=present[0]
        )
    foreign = [name for name in present if name not in _OURS]
    if foreign:
        raise FileError(
            "holds files that toxmid did not write and would have to delete; move them away",
            file=str(target),
            found=foreign[0],
        )
    if present and not overwrite:
        raise FileError(
            "already holds the output of another run; allow overwriting or choose another directory", file=str(target)
        )


def _sweep_abandoned(target: Path) -> None:
    for path in target.parent.glob(f".{target.name}.*{_PARTIAL}"):
        with contextlib.suppress(FileNotFoundError):  # Another run may sweep at the same time.
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(path, ignore_errors=True)


def _to_disk(descriptor: int) -> None:
    os.fsync(descriptor)


def _sync_directory(path: Path) -> None:
    if os.name == "nt":  # Windows has no handle of a directory to flush.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _to_disk(descriptor)
    finally:
        os.close(descriptor)


# --- reading ----------------------------------------------------------------------------------------------------------


def _check(target: Path) -> Manifest:
    """Return the manifest of a whole output: every table there, with as many rows as the manifest says."""
    with _as_file_errors(target, "cannot be read"):
        if not target.name.endswith(_PARTIAL):
            _finish_interrupted_swap(target)
    manifest = _read_manifest(target)
    for table in TABLES:
        path = target / f"{table}.parquet"
        expected = manifest["rows"][table]
        found = _rows_of(path)
        if found != expected:
            raise FileError("is damaged: rows are missing", file=str(path), found=found, expected=expected)
    return manifest


def _rows_of(path: Path) -> int:
    with _as_file_errors(path, "is not a whole parquet file"):
        return int(pq.read_metadata(path).num_rows)


def _read_manifest(target: Path) -> Manifest:
    path = target / MANIFEST
    if not target.is_dir():
        raise FileError("no such directory", file=str(target), expected="the output directory of a replay")
    if not path.is_file():
        raise FileError("is not a toxmid output: it has no manifest", file=str(target), expected=MANIFEST)
    with _as_file_errors(path, "cannot be read"):
        text = path.read_bytes()
    try:
        manifest = json.loads(text)
    except ValueError as error:
        raise FileError(f"is not valid JSON: {error}", file=str(path)) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise FileError("is not the manifest of a toxmid output", file=str(path), expected=f'"format": "{FORMAT}"')
    if manifest.get("format_version") != FORMAT_VERSION:
        raise FileError(
            "was written in another format; use the toxmid that wrote it",
            file=str(path),
            found=manifest.get("format_version"),
            expected=FORMAT_VERSION,
        )
    missing = [key for key in ("inputs", "params", "instrument", "counts", "versions", "rows") if key not in manifest]
    if missing or not all(isinstance(manifest["rows"].get(table), int) for table in TABLES):
        raise FileError("is incomplete", file=str(path), expected=", ".join(missing) or "the rows of every table")
    return manifest


@contextlib.contextmanager
def _as_file_errors(path: Path, what: str) -> Iterator[None]:
    """Say which file it was and what the system said, instead of what a library made of it."""
    try:
        yield
    except FileError:
        raise
    except (OSError, pl.exceptions.PolarsError, pa.ArrowException) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        raise FileError(f"{what}: {said}", file=str(path)) from error


# --- inputs and versions ----------------------------------------------------------------------------------------------


def _describe(path: Path) -> dict[str, Any]:
    with _as_file_errors(path, "cannot be read"), path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return {"path": str(path), "bytes": file.tell(), "sha256": sha256}


def _fingerprint(entry: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return entry.get("kind"), entry.get("bytes"), entry.get("sha256")
