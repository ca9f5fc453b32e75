"""Work in threads of its own: the next piece of something while this one is in use, something else meanwhile."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

__all__ = ["beside", "prefetched"]

T = TypeVar("T")

_PATIENCE_S: Final = 5.0  # longer than any piece takes to make


def prefetched(pieces: Iterator[T], *, ahead: int = 2) -> Iterator[T]:
    """The same pieces in the same order, made in a thread of their own, at most `ahead` of them waiting.

    An error in the making is raised where its piece would have come. A consumer that stops early stops the thread,
    which closes the iterator of the pieces.

    Examples
    --------
    >>> list(prefetched(iter([1, 2, 3])))
    [1, 2, 3]
    """
    # The collector of garbage may end this generator inside any thread, whatever locks that one holds at the moment. So
    # only queues made for that are used here, and nothing waits for ever.
    ready: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    room: queue.SimpleQueue[None] = queue.SimpleQueue()
    finished: queue.SimpleQueue[None] = queue.SimpleQueue()
    for _ in range(ahead):
        room.put(None)
    stopped = False

    def work() -> None:
        try:
            for piece in pieces:
                room.get()
                if stopped:
                    return
                ready.put(("piece", piece))
        except BaseException as error:  # whatever it is, the consumer raises it
            ready.put(("error", error))
        else:
            ready.put(("end", None))
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
            finished.put(None)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            room.put(None)
            yield value
    finally:
        stopped = True
        room.put(None)
        if threading.get_ident() != thread.ident:
            _wait(finished)


def _wait(finished: queue.SimpleQueue[None]) -> None:
    try:
        finished.get(timeout=_PATIENCE_S)
    except queue.Empty:
        return  # it has been told, and ends with the piece that it makes now


@contextlib.contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """Have something done in a thread meanwhile, and wait for its end; what it gives is dropped, as is an error.

    For what keeps its result where others look for it, and is asked again where it has none.

    Examples
    --------
    >>> kept = []
    >>> with beside(lambda: kept.append(1)):
    ...     pass
    >>> kept
    [1]
    """

    def attempt() -> None:
        with contextlib.suppress(Exception):
            work()

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()
