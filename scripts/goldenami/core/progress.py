"""What a person sees while a stage works: one line a step, with elapsed and expected seconds.

Expected times come from the last run on this machine; they are kept in the cache, one JSON file a stage and image.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goldenami.core import records
from goldenami.core.cache_paths import CachePaths
from goldenami.core.meter import Meter


@dataclass
class Progress:
    """Progress of one stage on one image. `timings` are seconds by step, in order of completion."""

    stage: str
    image: str
    memory: Path
    timings: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    _meter: Meter = field(init=False)

    def __post_init__(self) -> None:
        self._meter = Meter(self.say)

    @classmethod
    def of(cls, stage: str, image: str, cache: CachePaths) -> Progress:
        """Progress that remembers in `cache`."""
        return cls(stage, image, cache.timings / f"{stage}-{image}.json")

    def _expected(self) -> dict[str, float]:
        try:
            seconds: dict[str, float] = json.loads(self.memory.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return seconds

    def say(self, text: str) -> None:
        """One line, with the stage and the seconds since it began."""
        elapsed = time.monotonic() - self.began
        print(f"{self.stage:>7} {_clock(elapsed)}  {text}", file=sys.stderr, flush=True)

    @contextmanager
    def step(self, name: str, detail: str = "") -> Iterator[None]:
        """Announce a step, time it, and remember its seconds if it succeeds."""
        expected = self._expected().get(name)
        about = f" (about {_clock(expected)})" if expected and expected >= 1 else ""
        self.say(f"{name}{': ' + detail if detail else ''}{about}")
        began = time.monotonic()
        yield
        self.record(name, time.monotonic() - began)

    def relay(self, event: dict[str, Any]) -> None:
        """Show an event of a process in the namespaces (see local/events.py)."""
        if event["kind"] == "step":
            expected = self._expected().get(event["name"], 0)
            self.say(event["name"] + (f" (about {_clock(expected)})" if expected >= 1 else ""))
        elif event["kind"] == "done":
            self.record(event["name"], event["seconds"])
        elif event["kind"] == "say":
            self.say(event["text"])

    def transfer(self, name: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Show a transfer of `total` bytes with its rate and the time left; several may run at once."""
        return self._meter.transfer(name, total)

    def record(self, name: str, seconds: float) -> None:
        """Note the seconds of a finished step."""
        self.timings[name] = round(seconds, 2)

    def remember(self) -> None:
        """Keep the timings for the next run's expectations."""
        records.write_text(self.memory, records.canonical(self._expected() | self.timings))


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
