"""Pieces made ahead in a thread: the same pieces, no thread left over."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from toxmid.prefetch import beside, prefetched


def wait_for(condition: Callable[[], bool]) -> bool:
    """Give other threads all the time that they may need on a slow machine."""
    for _ in range(6000):
        if condition():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("ahead", [1, 2, 10])
def test_same_pieces_in_the_same_order(ahead: int) -> None:
    assert list(prefetched(iter(range(200)), ahead=ahead)) == list(range(200))
    assert list(prefetched(iter([]), ahead=ahead)) == []


def test_pieces_may_be_anything() -> None:
    """An exception that is a piece is not one that was raised."""
    assert list(prefetched(iter([None, 0, "end"]))) == [None, 0, "end"]


def test_error_comes_where_its_piece_would() -> None:
    def make() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("the third is rotten")

    feed = prefetched(make())
    assert [next(feed), next(feed)] == [1, 2]
    with pytest.raises(ValueError, match="rotten"):
        next(feed)


def test_not_too_far_ahead() -> None:
    """`ahead` pieces wait, one is in the hands of the maker and one in those of the taker."""
    made: list[int] = []

    def make() -> Iterator[int]:
        for i in range(50):
            made.append(i)
            yield i

    feed = prefetched(make(), ahead=3)
    assert next(feed) == 0
    assert wait_for(lambda: len(made) == 5)
    time.sleep(0.05)
    assert len(made) == 5
    feed.close()  # type: ignore[attr-defined]


def test_work_goes_on_meanwhile() -> None:
    """The next piece is made while this one is in use."""
    made = threading.Event()

    def make() -> Iterator[int]:
        yield 1
        made.set()
        yield 2

    feed = prefetched(make())
    assert next(feed) == 1
    assert made.wait(60)
    assert list(feed) == [2]


def test_stopping_early_stops_the_thread() -> None:
    # Not how many there are: those of other tests may end meanwhile.
    before = set(threading.enumerate())
    feed = prefetched(iter(range(1000)))
    assert next(feed) == 0
    (worker,) = set(threading.enumerate()) - before
    feed.close()  # type: ignore[attr-defined]
    assert wait_for(lambda: not worker.is_alive())


def test_never_started_is_no_thread() -> None:
    before = set(threading.enumerate())
    prefetched(iter(range(3)))
    assert set(threading.enumerate()) <= before


def test_the_collector_of_garbage_may_end_it() -> None:
    """It may do so in any thread, that of the pieces among them, and with any lock in hand."""
    before = set(threading.enumerate())
    ended = threading.Event()

    def make() -> Iterator[list[object]]:
        try:
            while True:
                yield [gc.collect()]
        finally:
            ended.set()

    feed = prefetched(make())
    next(feed)
    circle: list[object] = [feed]
    circle.append(circle)
    del feed, circle
    gc.collect()
    assert ended.wait(60)
    assert wait_for(lambda: set(threading.enumerate()) <= before)


def test_the_source_is_closed_where_the_consumer_stops() -> None:
    closed = []

    def make() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(threading.current_thread())

    for feed in (prefetched(make()), prefetched(prefetched(make()))):
        next(feed)
        feed.close()  # type: ignore[attr-defined]
        assert wait_for(lambda: len(closed) > 0)
        assert closed.pop() is not threading.current_thread()


def test_what_is_done_meanwhile_is_done_at_the_end() -> None:
    done = []
    with beside(lambda: done.append(threading.current_thread())):
        pass
    assert done != [threading.current_thread()]
    assert len(done) == 1


def test_an_error_of_what_is_done_meanwhile_is_no_error_here() -> None:
    with beside(lambda: 1 / 0):
        pass


def test_an_error_here_is_raised_after_what_is_done_meanwhile() -> None:
    done = []
    with pytest.raises(KeyError), beside(lambda: done.append(1)):
        raise KeyError("here")
    assert done == [1]
