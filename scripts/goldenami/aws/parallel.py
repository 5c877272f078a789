"""Work on a stream of items by threads, of which the first failure ends all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

GRACE_S = 2.0
"""Seconds for which an ended crew waits for its threads: local work is done by then, a request may not be."""


class Stopped(Exception):
    """Raised in a worker that was waiting when the work ended; nobody sees it."""


class Crew:
    """Threads that take items from one iterator; `pause` lets a worker wait without missing the end.

    Memory does not grow with the number of items: no queue, each thread holds the one item that it works on. The
    threads are daemons, so that an interrupted process ends at once although a request is still waiting.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def run(self, items: Iterable[T], work: Callable[[T], None]) -> None:
        """Call `work` with each item; raises the first exception of any of them, or of `items` itself."""
        source = iter(items)
        threads = [threading.Thread(target=self._work, args=(source, work), daemon=True) for _ in range(self.workers)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            self._ended.set()
            until = time.monotonic() + GRACE_S
            for thread in threads:
                if thread.is_alive():
                    thread.join(max(0.0, until - time.monotonic()))
        if self._error is not None:
            raise self._error

    def pause(self, seconds: float) -> None:
        """Wait inside `work`; raises Stopped when the work has ended meanwhile."""
        if self._ended.wait(seconds):
            raise Stopped

    def _work(self, source: Iterable[T], work: Callable[[T], None]) -> None:
        marker = object()
        try:
            while not self._ended.is_set():
                with self._lock:
                    item = next(source, marker)  # type: ignore[call-overload]
                if item is marker:
                    return
                work(item)
        except Stopped:
            return
        except BaseException as error:  # handed over to the caller's thread
            with self._lock:
                self._error = self._error or error
            self._ended.set()
