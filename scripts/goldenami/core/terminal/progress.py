"""Progress of a stage, as a person sees it. The cache keeps the times of the last run on this
machine, which are the expected times of the next."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goldenami.core import records, units
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput
from goldenami.core.terminal import command_name
from goldenami.core.terminal.meter import BYTES, Counted, Counter, Meter

STARTED = time.monotonic()
"""When this command began, for the one clock of all its stages."""
TELL_S = 60.0
"""Seconds between two lines about the same wait."""


def tell(stage: str, text: str) -> None:
    """Print a stage's line, with the minutes and seconds that the command has taken so far."""
    clock = units.clock(time.monotonic() - STARTED)
    print(f"{stage:>7} {clock}  {command_name.as_typed(text)}", file=sys.stderr, flush=True)


class LongWait:
    """A long wait, about which a line is printed once in TELL_S seconds."""

    def __init__(self) -> None:
        self.began = self._told = time.monotonic()

    def tell(self, activity: str) -> None:
        now = time.monotonic()
        if now >= self._told + TELL_S:
            self._told = now
            tell("wait", f"{activity}, for {units.clock(now - self.began)} so far")


@dataclass
class Progress:
    """Progress of one stage on one image. `timings` has seconds by step, in order of completion;
    `memory` is the file with those of the last run."""

    stage: str
    image: str
    memory: Path
    timings: dict[str, float] = field(default_factory=dict)
    _meter: Meter = field(init=False)
    _open: list[str] = field(default_factory=list)
    _within: set[str] = field(default_factory=set)
    _relayed: dict[str, ExitStack] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)
    _beside_s: float = 0.0

    def __post_init__(self) -> None:
        self._meter = Meter(self.say)

    @classmethod
    def of(cls, stage: str, image: str, cache: CachePaths) -> Progress:
        return cls(stage, image, cache.timings / f"{stage}-{image}.json")

    @property
    def phases(self) -> dict[str, float]:
        """Timings of the steps that are not within another step."""
        return {name: seconds for name, seconds in self.timings.items() if name not in self._within}

    def _expected(self) -> dict[str, float]:
        try:
            return records.read_object(self.memory)
        except (OSError, BadInput):
            return {}

    def say(self, text: str) -> None:
        tell(self.stage, text)

    @contextmanager
    def step(self, name: str, detail: str = "") -> Iterator[Counter]:
        """Show a step, and yield a function that takes how far it is. Only a step that succeeds is
        timed."""
        began = time.monotonic()
        with self._running(name, detail) as count:
            yield count
        self.record(name, time.monotonic() - began)

    @contextmanager
    def download(self, name: str, detail: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a step that downloads `total` bytes, and yield a function that any thread calls with
        the number of bytes that have arrived."""
        lock, received = threading.Lock(), 0

        with self.step(name, detail) as count:

            def on_bytes(size: int) -> None:
                nonlocal received
                with lock:
                    received += size
                    count(received, total, BYTES)

            yield on_bytes

    @contextmanager
    def _running(self, name: str, detail: str = "") -> Iterator[Counter]:
        expected = self._expected().get(name, 0.0)
        line = name
        if detail:
            line += f": {detail}"
        if expected >= 1:
            line += f" (about {units.clock(expected)})"
        self.say(line)
        if self._open:
            self._within.add(name)
        self._open.append(name)
        try:
            with self._meter.working(name, expected) as count:
                yield count
        finally:
            self._open.remove(name)

    def relay(self, event: dict[str, Any]) -> None:
        """Show an event of a process in the namespaces (local/sandbox/events.py)."""
        if event["kind"] == "step":
            self._said.clear()
            self._relayed[event["name"]] = stack = ExitStack()
            stack.enter_context(self._running(event["name"]))
        elif event["kind"] == "done":
            self._relayed.pop(event["name"]).close()
            self.record(event["name"], event["seconds"])
        # A role's handlers run after other roles, and would announce it once more.
        elif event["kind"] == "say" and event["text"] not in self._said:
            self._said.add(event["text"])
            self.say(event["text"])

    def relay_beside(self, event: dict[str, Any]) -> None:
        """Print the events of a process that runs beside a step, without a row of its own: the
        display shows one step at a time."""
        if event["kind"] == "step":
            self._said.clear()
            self.say(event["name"])
        elif event["kind"] == "done":
            self._beside_s += event["seconds"]
            self.record(event["name"], event["seconds"])
        else:
            self.relay(event)

    @contextmanager
    def joint(self, name: str) -> Iterator[None]:
        """Record the phase `name` for a block beside which other steps run (`relay_beside`). Those
        steps are phases, too, so `name` gets only the seconds by which the block took longer than
        they: then the phases add up to the whole time."""
        began, self._beside_s = time.monotonic(), 0.0
        self._open.append(name)
        try:
            yield
        finally:
            self._open.remove(name)
        self.record(name, max(0.0, time.monotonic() - began - self._beside_s))

    @contextmanager
    def relaying(self, look: Callable[[str], Counted | None] = lambda _: None) -> Iterator[None]:
        """Relay a process's events during the block; `look` returns how far a step is. Steps that
        the process began and did not end are closed at its end."""
        try:
            with self._meter.watching(look):
                yield
        finally:
            while self._relayed:
                self._relayed.popitem()[1].close()

    @contextmanager
    def in_all(self) -> Iterator[None]:
        """Show that the stage goes on, also between two steps. A log shows nothing of it."""
        with self._meter.working(f"{self.stage} in all"):
            yield

    def transfer(self, name: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        return self._meter.transfer(name, total)

    def record(self, name: str, seconds: float) -> None:
        self.timings[name] = round(seconds, 2)

    def remember(self) -> None:
        records.write_text(self.memory, records.canonical(self._expected() | self.timings))
