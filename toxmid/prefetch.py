"""Decode the next piece of a tape while the engine works on this one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

__all__ = ["prefetched"]

T = TypeVar("T")


def prefetched(pieces: Iterator[T], *, ahead: int = 2) -> Iterator[T]:
    """The same pieces in the same order, made in a thread of their own, at most `ahead` of them waiting.

    An error in the making is raised where its piece would have come. A consumer that stops early stops the thread.

    Examples
    --------
    >>> list(prefetched(iter([1, 2, 3])))
    [1, 2, 3]
    """
    ready: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def put(kind: str, value: T | BaseException | None) -> None:
        while not stop.is_set():
            try:
                ready.put((kind, value), timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for piece in pieces:
                put("piece", piece)
                if stop.is_set():
                    return
        except BaseException as error:  # whatever it is, the consumer raises it
            put("error", error)
            return
        put("end", None)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if isinstance(value, BaseException):
                raise value
            yield value  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
