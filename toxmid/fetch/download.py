"""One file over HTTP, from a server that may cut, stall, refuse or send the wrong bytes.

Bytes that have arrived are never asked for twice: they wait in a ``.part`` file for the rest. Only what has the right
checksum gets the name of the file.
"""

from __future__ import annotations

import email.utils
import hashlib
import http.client
import os
import random
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Final, Literal, NoReturn

from toxmid.disk import naming, settle
from toxmid.errors import FileError, ParameterError

__all__ = ["Downloader", "Fetched"]

_CHUNK: Final = 1 << 18
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_NOT_THERE: Final = frozenset({404, 410})
_RANGE: Final = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_FIRST_BACKOFF_S = 1.0
_LONGEST_BACKOFF_S: Final = 60.0


@dataclass(frozen=True)
class Fetched:
    """What became of one file: fetched now, present before, or missing from the archive."""

    path: Path
    url: str
    status: Literal["fetched", "present", "missing"]
    bytes: int = 0


class _MissingError(Exception):
    """The server has no such file."""


class _TransientError(Exception):
    """What may go away by waiting: `args[0]` says what it was, `pause` how long the server wants us to wait."""

    def __init__(self, what: str, pause: float | None = None) -> None:
        super().__init__(what)
        self.pause = pause


@dataclass(frozen=True)
class Downloader:
    """Fetches files and small texts, with patience.

    Parameters
    ----------
    retries : int
        Failures in a row after which a file is given up; a failure after new bytes have arrived begins a new row.
    timeout : float
        Silence that counts as a failure, seconds.
    patience : float
        Longest pause that a server may ask for, seconds.
    on_bytes : callable
        Told how many bytes have arrived.
    stop : threading.Event
        Ends all downloads soon after it is set, in the middle of a file or of a pause.
    """

    retries: int = 6
    timeout: float = 30.0
    patience: float = 300.0
    on_bytes: Callable[[int], None] = field(default=lambda _: None)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise ParameterError("out of range", column="retries", found=self.retries, expected="0 or more")
        if self.timeout <= 0:
            raise ParameterError("out of range", column="timeout", found=self.timeout, expected="more than 0 s")

    def text(self, url: str) -> str | None:
        """A small file as text; None where the server has none.

        Raises
        ------
        FileError
            The server refuses, or cannot be reached.
        """
        failures = 0
        while True:
            try:
                with self._open(url) as response:
                    return self._read(response, 1 << 20).decode("utf-8", "replace")
            except _MissingError:
                return None
            except _TransientError as problem:
                failures += 1
                self._wait(url, problem, failures)

    def file(self, url: str, path: Path, sha256: str) -> bool:
        """Fetch a file, or what is missing of it; False where the server has none.

        Raises
        ------
        FileError
            The server refuses, cannot be reached, or sends other bytes than those of the checksum, twice; or the disk
            does not take them. What has arrived waits in the ``.part`` file, unless it was wrong.
        """
        part = path.with_name(f"{path.name}.part")
        resumed = part.exists()
        while True:
            try:
                self._complete(url, part)
            except _MissingError:
                return False
            with naming(part, "cannot be read"), part.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found == sha256:
                with naming(path, "cannot be written"):
                    settle(part, path)
                return True
            part.unlink()
            if not resumed:
                raise FileError("other bytes than the archive's checksum says", file=url, found=found, expected=sha256)
            # An old part may be of a file that the archive has replaced since: once more, from the start.
            resumed = False

    def _complete(self, url: str, part: Path) -> None:
        """Ask until the part is as long as the file."""
        failures, longest = 0, _size(part)
        while True:
            try:
                self._go_on(url, part, _size(part))
                return
            except _TransientError as problem:
                # Only bytes that were never there are progress: a server may begin anew and break off again and again.
                failures = 1 if _size(part) > longest else failures + 1
                longest = max(longest, _size(part))
                self._wait(url, problem, failures)

    def _go_on(self, url: str, part: Path, have: int) -> None:
        """One request for the bytes after the first `have`."""
        try:
            response = self._open(url, {"Range": f"bytes={have}-"} if have else {})
        except urllib.error.HTTPError as error:
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                _refuse(url, error)
            if _total(error.headers) != have:
                part.unlink()
                raise _TransientError("the file has become shorter") from None
            return
        with response:
            begin, total = _extent(response, have)
            if begin not in (0, have):
                raise FileError("the server sent another range than asked for", file=url, found=begin, expected=have)
            # Failures of reading pass through as transient errors; what is named here are failures of writing.
            with naming(part, "cannot be written"):
                part.parent.mkdir(parents=True, exist_ok=True)
                with part.open("ab" if begin else "wb") as file:
                    while piece := self._read(response, _CHUNK):
                        file.write(piece)
                        self.on_bytes(len(piece))
                        self._heed(url)
        if total is not None and _size(part) < total:
            raise _TransientError(f"the connection ended after {_size(part)} of {total} bytes")

    def _open(self, url: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
        agent = {"User-Agent": f"toxmid/{metadata.version('toxmid')}", "Accept-Encoding": "identity"}
        request = urllib.request.Request(url, headers={**agent, **(headers or {})})
        try:
            response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            error.close()  # it holds the connection, and all that is wanted of it is in its head
            if error.code in _NOT_THERE:
                raise _MissingError from None
            if error.code in _TRANSIENT:
                raise _TransientError(f"HTTP {error.code} {error.reason}", _pause(error.headers)) from None
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and headers:
                raise
            _refuse(url, error)
        except urllib.error.URLError as error:
            raise _TransientError(_words(error.reason)) from None
        except (OSError, http.client.HTTPException) as error:
            raise _TransientError(_words(error)) from None
        return response

    def _read(self, response: http.client.HTTPResponse, size: int) -> bytes:
        try:
            return response.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise _TransientError(_words(error)) from None

    def _wait(self, url: str, problem: _TransientError, failures: int) -> None:
        if failures > self.retries:
            raise FileError(f"given up after {failures} failures in a row: {problem}", file=url) from None
        if problem.pause is not None and problem.pause > self.patience:
            raise FileError(
                f"the server wants us to wait: {problem}", file=url, found=f"{problem.pause:.0f} s",
                expected=f"{self.patience:.0f} s or less",
            ) from None  # fmt: skip
        # Many clients that fail at one moment should not come back at one moment.
        backoff = min(_FIRST_BACKOFF_S * 2.0 ** (failures - 1), _LONGEST_BACKOFF_S) * random.uniform(0.5, 1.0)
        self.stop.wait(backoff if problem.pause is None else problem.pause)
        self._heed(url)

    def _heed(self, url: str) -> None:
        if self.stop.is_set():
            raise FileError("stopped, because another download has failed or was interrupted", file=url)


def checked_base(url: str) -> str:
    """A base address without its last slash; anything but http and https is refused."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ParameterError("not an address of an archive", column="base_url", found=url, expected="http(s)://host")
    return url.rstrip("/")


def digest(path: Path) -> str:
    """SHA-256 of a file as hexadecimal text."""
    with naming(path, "cannot be read"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _refuse(url: str, error: urllib.error.HTTPError) -> NoReturn:
    raise FileError(f"the server refuses: HTTP {error.code} {error.reason}", file=url) from None


def _extent(response: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """Where the bytes of an answer begin in the file, and how long the file is, if the server says so."""
    if response.status == http.client.PARTIAL_CONTENT:
        match = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if match is None or match[1] is None:
            return have, None
        return int(match[1]), None if match[3] == "*" else int(match[3])
    length = response.headers.get("Content-Length")
    return 0, int(length) if length is not None and length.isdigit() else None


def _total(headers: Message) -> int | None:
    match = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
    return int(match[3]) if match is not None and match[3] != "*" else None


def _pause(headers: Message) -> float | None:
    """Seconds to wait that the server names, as a number or as a moment."""
    text = headers.get("Retry-After")
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _words(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return text or type(error).__name__
