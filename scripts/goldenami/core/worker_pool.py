"""A pool of threads that works on a stream of items. The first failure ends all of them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

from goldenami.core.wait import WORKER, WorkEnded

T = TypeVar("T")

POLL_S = 0.2
GRACE_S, GRACE_POLL_S = 2.0, 0.01
"""Seconds for which an ended pool waits for its threads, and between two looks at them. Local work
is done by then; a request may not be."""
_END = object()


class Budget:
    """A limit of `most` workers that several pools share. Each pool may have an equal part of it,
    and always one worker."""

    def __init__(self, most: float = math.inf) -> None:
        self._most, self._free, self._pools = most, most, 0
        self._lock = threading.Lock()

    @contextmanager
    def joined(self) -> Iterator[None]:
        with self._lock:
            self._pools += 1
        try:
            yield
        finally:
            with self._lock:
                self._pools -= 1

    def take(self, held: int) -> bool:
        with self._lock:
            # A pool without a worker gets one even above the limit, else it would wait for ever.
            if held and (self._free < 1 or held >= self._most / self._pools):
                return False
            self._free -= 1
            return True

    def is_over(self, held: int) -> bool:
        with self._lock:
            return held > max(1, self._most / max(1, self._pools))

    def give(self) -> None:
        with self._lock:
            self._free += 1


class WorkerPool:
    """At most `workers` threads that take items from one iterator. There is no queue: each thread
    holds the one item that it works on. The threads are daemons, so that an interrupted process
    ends at once although a request is still waiting."""

    def __init__(self, workers: int, budget: Budget | None = None) -> None:
        self.workers, self._budget = workers, budget or Budget()
        self._ended, self._left = threading.Event(), threading.Event()
        self._lock, self._active, self._drained = threading.Lock(), 0, False
        self._error: BaseException | None = None

    def run(self, items: Iterable[T], work: Callable[[T], None]) -> None:
        """Call `work` for each item. Raises the first exception of any `work` or of `items`."""
        with self._budget.joined():
            try:
                self._hire(iter(items), work)
                # After an error nobody waits for a request without an answer.
                while self.workers and not self._left.wait(POLL_S):
                    pass
            finally:
                self._ended.set()
                self._let_finish()
        if self._error is not None:
            raise self._error

    def _let_finish(self) -> None:
        # Not with join(): if a signal interrupts it, it takes its thread for dead.
        until = time.monotonic() + GRACE_S
        while self._active and time.monotonic() < until:
            time.sleep(GRACE_POLL_S)

    def _hire(self, source: Iterator[T], work: Callable[[T], None]) -> None:
        with self._lock:
            if (
                self._ended.is_set()
                or self._drained
                or self._active >= self.workers
                or not self._budget.take(self._active)
            ):
                return
            self._active += 1
        threading.Thread(target=self._work, args=(source, work), daemon=True).start()

    def _work(self, source: Iterator[T], work: Callable[[T], None]) -> None:
        WORKER.ended = self._ended
        try:
            while True:
                with self._lock:
                    if self._ended.is_set() or self._budget.is_over(self._active):
                        break
                    item = next(source, _END)
                    if item is _END:
                        self._drained = True
                        break
                self._hire(source, work)
                work(cast(T, item))
        except WorkEnded:
            pass
        except BaseException as error:
            with self._lock:
                self._error = self._error or error  # raised in the caller's thread
            self._ended.set()
        self._leave()

    def _leave(self) -> None:
        self._budget.give()
        with self._lock:
            self._active -= 1
            if not self._active or self._error is not None:
                self._left.set()
