"""Bytes on their way, as a person sees them: bars on a terminal, now and then a line in a log."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from goldenami.core import units

LINE_S = 15.0
"""Seconds between two lines of one transfer in a log: a large upload is a page of them, a small one none."""


@dataclass
class Meter:
    """Transfers of one command, which may run at once. `say` takes lines where standard error is no terminal."""

    say: Callable[[str], None]
    console: Console = field(default_factory=lambda: Console(stderr=True))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _bars: Progress | None = None
    _running: int = 0

    @contextmanager
    def transfer(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a transfer of `total` bytes; what it yields is told of bytes as they arrive, by any thread."""
        began, line = time.monotonic(), _Line(self.say, name, total)
        with self._bar(name, total) as advance:
            yield advance or line.advance
        seconds = time.monotonic() - began
        self.say(f"{name}: {units.size(total)} in {units.duration(seconds)}")

    @contextmanager
    def _bar(self, name: str, total: int) -> Iterator[Callable[[int], None] | None]:
        """A bar among those that run, for one terminal shows one display; None where there is no terminal."""
        if not self.console.is_terminal:
            yield None
            return
        with self._lock:
            self._running += 1
            if self._bars is None:
                self._bars = Progress(
                    TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True),
                    TransferSpeedColumn(), TimeRemainingColumn(), console=self.console, transient=True)
                self._bars.start()
                atexit.register(self._bars.stop)  # an interrupt does not wait for the threads that transfer
            bars = self._bars
            task = bars.add_task(name, total=total)
        try:
            yield lambda count: bars.advance(task, count)
        finally:
            with self._lock:
                bars.remove_task(task)
                self._running -= 1
                if not self._running:
                    bars.stop()
                    atexit.unregister(bars.stop)
                    self._bars = None


class _Line:
    """One transfer as lines: share, rate since the last line, time left at that rate."""

    def __init__(self, say: Callable[[str], None], name: str, total: int) -> None:
        self._say, self._name, self._total = say, name, total
        self._lock, self._done, self._seen, self._at = threading.Lock(), 0, 0, time.monotonic()

    def advance(self, count: int) -> None:
        """`count` bytes more have arrived."""
        with self._lock:
            self._done += count
            passed = time.monotonic() - self._at
            if passed < LINE_S or self._done >= self._total:
                return
            rate = (self._done - self._seen) / passed
            self._seen, self._at = self._done, time.monotonic()
        left = units.duration((self._total - self._done) / rate)
        self._say(f"{self._name}: {units.percent(self._done, self._total)}, {rate / 1e6:.0f} MB/s, about {left} left")
