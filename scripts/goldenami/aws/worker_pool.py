"""Work on a stream of items by threads, of which the first failure ends all."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar, cast

T = TypeVar("T")

POLL_S = 0.2
GRACE_S = 2.0
"""Seconds for which an ended pool waits for its threads: local work is done by then, a request may not be."""


class PoolStopped(Exception):
    """Raised in a worker that was waiting when the work ended; nobody sees it."""


class WorkerPool:
    """Threads that take items from one iterator; `pause` lets a worker wait without missing the end.

    Memory does not grow with the number of items: no queue, each thread holds the one item that it works on. The
    threads are daemons, so that an interrupted process ends at once although a request is still waiting.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._gone: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._error: BaseException | None = None

    def run(self, items: Iterable[T], work: Callable[[T], None], give_up: Callable[[], bool] = lambda: False) -> None:
        """Call `work` with each item; raises the first exception of any of them, or of `items` itself.

        Where `give_up` says so, what is under way is left to itself.
        """
        source, left = iter(items), self.workers
        try:
            for _ in range(self.workers):
                threading.Thread(target=self._work, args=(source, work), daemon=True).start()
            while left and self._error is None:  # after an error nobody waits for a request without an answer
                with suppress(queue.Empty):
                    self._gone.get(timeout=POLL_S)
                    left -= 1
                if left and give_up():
                    left = 0
        finally:
            self._ended.set()
            self._let_finish(left)
        if self._error is not None:
            raise self._error

    def _let_finish(self, left: int) -> None:
        """Wait a little for `left` threads. Not by join(): one that a signal interrupts takes its thread for dead."""
        until = time.monotonic() + GRACE_S
        with suppress(queue.Empty):
            for _ in range(left):
                self._gone.get(timeout=max(0.0, until - time.monotonic()))

    def pause(self, seconds: float) -> None:
        """Wait inside `work`; raises Stopped when the work has ended meanwhile."""
        if self._ended.wait(seconds):
            raise PoolStopped

    def _work(self, source: Iterator[T], work: Callable[[T], None]) -> None:
        marker = object()
        try:
            while not self._ended.is_set():
                with self._lock:
                    item = next(source, marker)
                if item is marker:
                    return
                work(cast(T, item))
        except PoolStopped:
            return
        except BaseException as error:
            with self._lock:
                self._error = self._error or error  # raised in the caller's thread
            self._ended.set()
        finally:
            self._gone.put(None)
