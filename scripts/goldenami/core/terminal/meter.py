"""Work that goes on: a row for each step and transfer on a terminal, lines in a log."""

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
"""Seconds between two lines of one transfer in a log: a large upload is a page of them, a small one
none."""
LOOK_S = 1.0
"""Seconds between two looks at how far a step is."""
BYTES = "bytes"
"""What transfers count."""
_NAME_WIDTH, _BAR_WIDTH = 22, 12
"""Columns of a row: what is left of 80 holds its figures."""
Counted = tuple[int, int, str]
"""How much is done, of how much (0: that is not known), of what."""
Counter = Callable[[int, int, str], None]
"""Takes the three parts of a Counted."""


@dataclass(frozen=True)
class _Row:
    name: str
    shown: Progress
    task: TaskID

    def advance(self, count: int) -> None:
        self.shown.advance(self.task, count)

    def count(self, done: int, total: int, unit: str) -> None:
        # What is counted now may have another total than before; rich takes None for "as it was".
        if not total:
            next(task for task in self.shown.tasks if task.id == self.task).total = None
        self.shown.update(self.task, completed=done, total=total or None, unit=unit)


@dataclass
class Meter:
    """Steps and transfers of one command. `say` takes lines where standard error is no terminal."""

    say: Callable[[str], None]
    console: Console = field(default_factory=lambda: Console(stderr=True))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _shown: Progress | None = None
    _rows: list[_Row] = field(default_factory=list)

    @contextmanager
    def transfer(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """What it yields is told of bytes as they arrive, by any thread."""
        began, line = time.monotonic(), _Line(self.say, name, total)
        with self._row(name, total) as row:
            yield row.advance if row else line.advance
        seconds = time.monotonic() - began
        self.say(f"{name}: {units.size(total)} in {units.duration(seconds)}")

    @contextmanager
    def working(self, name: str, expected_s: float = 0.0) -> Iterator[Counter]:
        """`expected_s` is what it took the last time (0: unknown). A log shows nothing of it."""
        with self._row(name, None, expected_s) as row:
            yield row.count if row else lambda *_: None

    @contextmanager
    def watching(self, look: Callable[[str], Counted | None]) -> Iterator[None]:
        if not self.console.is_interactive:
            yield
            return
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(LOOK_S):
                row = self._rows[-1] if self._rows else None
                with suppress(OSError):  # what it counts comes and goes
                    if row and (counted := look(row.name)):
                        row.count(*counted)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    @contextmanager
    def _row(self, name: str, total: int | None, expected_s: float = 0.0) -> Iterator[_Row | None]:
        """One terminal has one display, so all rows share it; None where there is no terminal."""
        if not self.console.is_interactive:
            yield None
            return
        with self._lock:
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
                # An interrupt does not wait for the threads that transfer.
                atexit.register(self._shown.stop)
            row = _Row(
                name,
                self._shown,
                self._shown.add_task(
                    name, total=total, unit="" if total is None else BYTES, expected_s=expected_s
                ),
            )
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
    """How much is done: of what is counted, else of the time that it took before, else a pulse."""

    def __init__(self) -> None:
        super().__init__(_BAR_WIDTH)

    def render(self, task: Task) -> ProgressBar:
        total, done = (
            (task.total, task.completed)
            if task.total
            else (task.fields["expected_s"] or None, task.elapsed or 0.0)
        )
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
    if unit == BYTES:
        return f"{units.size(done)} of {units.size(total)}" if total else units.size(done)
    if unit:
        return f"{unit} {done} of {total}" if total else f"{unit} {done}"
    return ""


def _rate(task: Task) -> str:
    if task.fields["unit"] == BYTES:
        return f"{task.speed / 1e6:.1f} MB/s" if task.speed else ""
    return units.clock(task.elapsed or 0.0)


def _left(task: Task) -> str:
    if task.total and task.completed >= task.total:
        return "finishing"
    expected = task.fields["expected_s"] - (task.elapsed or 0.0)
    left = task.time_remaining if task.fields["unit"] == BYTES else expected
    return f"{units.clock(left)} left" if left and left >= 1 else ""


class _Line:
    """Share, rate since the last line, time left at that rate."""

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
