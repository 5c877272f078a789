"""Pools that share a budget of threads: never more than it, never none, and what one leaves another
takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from goldenami.core.wait import wait_until
from goldenami.core.worker_pool import Budget, WorkerPool

MOST, POOLS = 16, 8


class Load:
    """Counts what is at work at once, over all pools."""

    def __init__(self) -> None:
        self._lock, self._now, self.peak, self.done = threading.Lock(), 0, 0, 0

    def work(self, _item: int, seconds: float = 0.001) -> None:
        with self._lock:
            self._now += 1
            self.peak = max(self.peak, self._now)
        time.sleep(seconds)
        with self._lock:
            self._now -= 1
            self.done += 1


def all_at_work(budget: Budget) -> None:
    """Raise where the pool, all of whose items wait for each other, has fewer threads than the
    budget."""
    all_there = threading.Barrier(MOST, timeout=60)

    def work(_item: int) -> None:
        all_there.wait()

    WorkerPool(64, budget).run(range(MOST), work)


def together(*runs: Callable[[], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=run) for run in runs]
    for thread in threads:
        thread.start()
    return threads


def test_pools_have_no_more_than_their_budget() -> None:
    """One more for a pool may be there that found nothing free: each has one."""
    load, budget = Load(), Budget(MOST)
    for thread in together(*[lambda: WorkerPool(64, budget).run(range(300), load.work)] * POOLS):
        thread.join()
    assert load.done == 300 * POOLS
    assert MOST // 2 <= load.peak <= MOST + POOLS


def test_a_pool_that_hangs_leaves_the_others_their_share_and_one_that_ends_leaves_its_own() -> None:
    budget, release, load = Budget(MOST), threading.Event(), Load()

    def hang(_item: int) -> None:
        release.wait()

    (stuck,) = together(lambda: WorkerPool(64, budget).run(range(64), hang))
    for thread in together(*[lambda: WorkerPool(64, budget).run(range(100), load.work)] * 3):
        thread.join()
    assert load.done == 300, "the pool that hangs had all threads"
    release.set()
    stuck.join()
    all_at_work(budget)


def test_a_failure_ends_a_pool_and_gives_its_threads_back() -> None:
    budget, load = Budget(MOST), Load()

    def fail(item: int) -> None:
        if item == 5:
            raise ValueError(item)

    def items() -> Iterator[int]:
        yield 1
        raise KeyError("source")

    for _ in range(MOST):
        with pytest.raises(ValueError, match="5"):
            WorkerPool(4, budget).run(range(100), fail)
        with pytest.raises(KeyError, match="source"):
            WorkerPool(4, budget).run(items(), load.work)
    all_at_work(budget)


def test_no_item_is_lost_or_done_twice_whatever_comes_and_goes() -> None:
    budget = Budget(3)
    for _ in range(20):
        done: list[int] = []
        threads = together(
            *[lambda done=done: WorkerPool(5, budget).run(range(50), done.append)] * 6
        )
        for thread in threads:
            thread.join()
        assert sorted(done) == sorted([*range(50)] * 6)


def test_nothing_to_do_is_done_at_once() -> None:
    done: list[int] = []
    WorkerPool(0).run([], done.append)
    WorkerPool(4).run([], done.append)
    assert done == []


def test_a_worker_that_waits_ends_with_its_pool() -> None:
    """An hour's wait in a worker does not outlive the work, and nobody sees how it ended."""
    waiting, ended = threading.Event(), threading.Event()

    def work(item: int) -> None:
        if item == 0:
            waiting.set()
            try:
                wait_until(lambda: None, 3600.0, 3600.0)
            finally:
                ended.set()
        waiting.wait()
        raise ValueError(item)

    with pytest.raises(ValueError, match="1"):
        WorkerPool(2).run(range(2), work)
    assert ended.is_set()
