"""Files that are whole or not there, and directories that one process writes at a time."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from toxmid.errors import FileError, ToxmidError

__all__ = ["PARTIAL", "exclusive", "naming", "whole"]

# Of names under which files are written; never of a file that anyone may read.
PARTIAL = ".toxmid-partial"


@contextlib.contextmanager
def naming(path: Path, what: str) -> Iterator[None]:
    """Say which file it was and what the system said, instead of what a library made of it.

    Examples
    --------
    >>> with naming(Path("tape.csv"), "cannot be read"):
    ...     raise PermissionError(13, "Permission denied")
    Traceback (most recent call last):
    ...
    toxmid.errors.FileError: tape.csv: cannot be read: Permission denied
    """
    try:
        yield
    except ToxmidError:
        raise
    except OSError as error:
        raise FileError(f"{what}: {error.strerror or error}", file=str(path)) from error


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to beside `path`; it takes the place of `path` when the block ends well, and vanishes otherwise.

    An earlier file stays until the new one is on the disk.

    Raises
    ------
    FileError
        It cannot be written, or put into place.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    with naming(path, "cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            settle(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def settle(partial: Path, path: Path) -> None:
    """Force a finished file to the disk and give it its name."""
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    if os.name == "nt":  # Windows has no handle of a directory to flush.
        return
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made if missing; wait as long as another process or thread holds it.

    The system gives the lock back when its holder dies, so a killed run never blocks the next one. The file stays: who
    deletes it while another waits for it would let two in.

    Raises
    ------
    FileError
        The file cannot be made, or its file system has no locks.
    """
    with contextlib.ExitStack() as stack:
        with naming(path, "cannot be locked"):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("ab"))
            _lock(file)
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        while True:
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            except PermissionError:  # it gives up after ten seconds
                continue
            return

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)
