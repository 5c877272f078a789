"""Display of work in progress: on a terminal a row for each step and transfer, in a log lines."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

from goldenami.core import units

LINE_S = 15.0
"""Seconds between two lines of one transfer in a log: a page of lines for a large upload, none for
a small one."""
LOOK_S = 1.0
"""Seconds between two calls that ask how far a step is."""
BYTES = "bytes"
"""The unit of transfers."""
_NAME_WIDTH, _BAR_WIDTH = 22, 12
"""Widths of a row's name and bar in characters; the figures get the rest of 80."""
Counted = tuple[int, int, str]
"""Units done, units in all (0: unknown), and the unit's name."""
Counter = Callable[[int, int, str], None]
"""Function that takes the three parts of a Counted."""


@dataclass(frozen=True)
class _Row:
    name: str
    shown: Progress
    task: TaskID

    def advance(self, count: int) -> None:
        self.shown.advance(self.task, count)

    def count(self, done: int, total: int, unit: str) -> None:
        # The total may have become unknown. rich's update() takes None for "unchanged", so it is
        # set at the task itself.
        if not total:
            next(task for task in self.shown.tasks if task.id == self.task).total = None
        self.shown.update(self.task, completed=done, total=total or None, unit=unit)


@dataclass
class Meter:
    """Display of one command's steps and transfers. `say` prints a line."""

    say: Callable[[str], None]
    console: Console = field(default_factory=lambda: Console(stderr=True))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _shown: Progress | None = None
    _rows: list[_Row] = field(default_factory=list)

    @contextmanager
    def transfer(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Yield a function that any thread calls with the number of bytes that have arrived."""
        began, line = time.monotonic(), _Line(self.say, name, total)
        with self._row(name, total) as row:
            yield (row or line).advance
        seconds = time.monotonic() - began
        self.say(f"{name}: {units.size(total)} in {units.duration(seconds)}")

    @contextmanager
    def working(self, name: str, expected_s: float = 0.0) -> Iterator[Counter]:
        """Yield a function that takes how far the work is. `expected_s` is how long it took the
        last time (0: unknown). A log shows nothing of it."""
        with self._row(name, None, expected_s) as row:
            yield row.count if row else lambda *_: None

    @contextmanager
    def watching(self, look: Callable[[str], Counted | None]) -> Iterator[None]:
        """During the block, show the result of `look(step name)` once in LOOK_S seconds."""
        if not self.console.is_interactive:
            yield
            return
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(LOOK_S):
                row = self._rows[-1] if self._rows else None
                with suppress(OSError):  # files that `look` counts come and go
                    if row and (how_far := look(row.name)):
                        row.count(*how_far)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    @contextmanager
    def _row(self, name: str, total: int | None, expected_s: float = 0.0) -> Iterator[_Row | None]:
        """Yield a new row, or None if standard error is no terminal."""
        if not self.console.is_interactive:
            yield None
            return
        with self._lock:
            # A terminal can have one display of rich's only, so all rows share it.
            if self._shown is None:
                name_column = TextColumn(
                    "{task.description}",
                    markup=False,
                    table_column=Column(width=_NAME_WIDTH, no_wrap=True, overflow="ellipsis"),
                )
                self._shown = Progress(
                    SpinnerColumn(table_column=Column(width=1)),
                    name_column,
                    _Bar(),
                    _Figures(),
                    console=self.console,
                    transient=True,
                    redirect_stdout=False,
                )
                self._shown.start()
                # An interrupt doesn't wait for threads that transfer, so their rows don't end: the
                # display has to be stopped at exit, to leave the terminal in order.
                atexit.register(self._shown.stop)
            unit = "" if total is None else BYTES
            task = self._shown.add_task(name, total=total, unit=unit, expected_s=expected_s)
            row = _Row(name, self._shown, task)
            self._rows.append(row)
        try:
            yield row
        finally:
            with self._lock:
                row.shown.remove_task(row.task)
                self._rows.remove(row)
                if not self._rows:
                    row.shown.stop()
                    atexit.unregister(row.shown.stop)
                    self._shown = None


class _Bar(BarColumn):
    """A bar of the counted units, else of the time that the step took before, else a pulse."""

    def __init__(self) -> None:
        super().__init__(_BAR_WIDTH)

    def render(self, task: Task) -> ProgressBar:
        total, done = task.total, task.completed
        if not total:
            total, done = task.fields["expected_s"] or None, task.elapsed or 0.0
        if total and done >= total:
            total = None  # a full bar would say that the step has ended
        return ProgressBar(
            total=total,
            completed=done,
            width=_BAR_WIDTH,
            pulse=not total,
            animation_time=task.get_time(),
        )


class _Figures(ProgressColumn):
    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True, overflow="ellipsis"))

    def render(self, task: Task) -> Text:
        return Text(", ".join(filter(None, (_done(task), _rate(task), _left(task)))))


def _done(task: Task) -> str:
    done, total, unit = int(task.completed), int(task.total or 0), str(task.fields["unit"])
    if not unit:
        return ""
    text, limit = f"{unit} {done}", str(total)
    if unit == BYTES:
        text, limit = units.size(done), units.size(total)
    if total:
        text += f" of {limit}"
    return text


def _rate(task: Task) -> str:
    if task.fields["unit"] != BYTES:
        return units.clock(task.elapsed or 0.0)
    if not task.speed:
        return ""
    return f"{task.speed / 1e6:.1f} MB/s"


def _left(task: Task) -> str:
    if task.total and task.completed >= task.total:
        return "finishing"
    left = task.fields["expected_s"] - (task.elapsed or 0.0)
    if task.fields["unit"] == BYTES:
        left = task.time_remaining
    if left is None or left < 1:
        return ""
    return f"{units.clock(left)} left"


class _Line:
    """Lines about a transfer in a log: share, rate since the last line, time left at that rate."""

    def __init__(self, say: Callable[[str], None], name: str, total: int) -> None:
        self._say, self._name, self._total = say, name, total
        self._lock, self._done, self._seen, self._at = threading.Lock(), 0, 0, time.monotonic()

    def advance(self, count: int) -> None:
        with self._lock:
            self._done += count
            passed = time.monotonic() - self._at
            if passed < LINE_S or self._done >= self._total:
                return
            rate = (self._done - self._seen) / passed
            self._seen, self._at = self._done, time.monotonic()
        left = units.duration((self._total - self._done) / rate)
        self._say(
            f"{self._name}: {units.percent(self._done, self._total)}, {rate / 1e6:.0f} "
            f"MB/s, about {left} left"
        )
