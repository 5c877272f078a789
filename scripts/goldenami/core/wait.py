"""The only polling loop. Code that asks AWS waits with `aws.calls.wait_for`, which also handles
AWS's refusals."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class WorkEnded(Exception):
    """Ends a worker that is waiting when the pool's work ends. Only the pool catches it."""


class _Worker(threading.local):
    """Event that ends the work of this thread's pool; None in a thread outside a pool."""

    ended: threading.Event | None = None


WORKER = _Worker()


def pause(seconds: float) -> None:
    """Sleep. In a worker of a pool, raises WorkEnded as soon as the pool's work ends."""
    if WORKER.ended is None:
        time.sleep(seconds)
    elif WORKER.ended.wait(seconds):
        raise WorkEnded


def wait_until(
    condition: Callable[[], T | None], limit_s: float, poll_s: float | Iterable[float]
) -> T | None:
    """Return the first value of `condition()` that is not None, or None after `limit_s` seconds.
    It is called at once, and a last time at the limit. `poll_s` is the pause in seconds, or several
    pauses of which the last is repeated."""
    deadline, pauses = time.monotonic() + limit_s, _pauses(poll_s)
    while (value := condition()) is None and (seconds_left := deadline - time.monotonic()) > 0:
        pause(min(next(pauses), seconds_left))
    return value


def growing(first_s: float, factor: float, most_s: float) -> Iterator[float]:
    """Yield pauses in seconds, each `factor` times the one before, up to `most_s`."""
    pause = first_s
    while True:
        yield pause
        pause = min(most_s, pause * factor)


def _pauses(poll_s: float | Iterable[float]) -> Iterator[float]:
    if not isinstance(poll_s, Iterable):
        poll_s = [poll_s]
    pause = 0.0
    for pause in poll_s:
        yield pause
    yield from itertools.repeat(pause)
