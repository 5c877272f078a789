"""The one polling loop; what asks AWS waits by `aws.calls.wait_for`, which knows AWS's refusals."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class WorkEnded(Exception):
    """Raised in a worker that was waiting when its pool's work ended; nobody sees it."""


class _Worker(threading.local):
    """What ends the work that this thread is part of; None in a thread of no pool."""

    ended: threading.Event | None = None


WORKER = _Worker()


def pause(seconds: float) -> None:
    """Sleep. A worker of a pool sleeps no longer than the pool's work lasts, then WorkEnded."""
    if WORKER.ended is None:
        time.sleep(seconds)
    elif WORKER.ended.wait(seconds):
        raise WorkEnded


def wait_until(
    condition: Callable[[], T | None], limit_s: float, poll_s: float | Iterable[float]
) -> T | None:
    """The first value of `condition` that is not None, or None after `limit_s` seconds. It is asked
    at once, and a last time at the limit. `poll_s` is the pause in seconds, or one pause after
    another, of which the last is repeated."""
    ends, pauses = time.monotonic() + limit_s, _pauses(poll_s)
    while (value := condition()) is None and (left := ends - time.monotonic()) > 0:
        pause(min(next(pauses), left))
    return value


def growing(first_s: float, factor: float, most_s: float) -> Iterator[float]:
    """Pauses in seconds of which each is `factor` times the one before, up to `most_s`."""
    pause = first_s
    while True:
        yield pause
        pause = min(most_s, pause * factor)


def _pauses(poll_s: float | Iterable[float]) -> Iterator[float]:
    pause = 0.0
    for pause in poll_s if isinstance(poll_s, Iterable) else [poll_s]:
        yield pause
    yield from itertools.repeat(pause)
