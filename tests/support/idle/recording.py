"""Recordings of machines and their lives again: readings each ten seconds and looks each minute, as
JSON lines.

A recording of minutes repeats until the life is over. A life may have another recording in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from golden_idle import machine
from golden_idle.decide import PERIOD_S, Sample, decide
from golden_idle.evidence import Look, Process
from golden_idle.machine import Reading, Sampler
from golden_idle.notebooks import Server
from golden_idle.nvml import Gpu
from golden_idle.settings import Settings
from golden_idle.sockets import Connection
from golden_idle.steps import Progress, Stage, Step, next_step

FOLDER = Path(__file__).resolve().parent / "recorded"
HOUR = 3600
EVERY = 30
"""Samples between decisions: five minutes."""


def decode(line: str, holder: str) -> tuple[Reading, Look | None]:
    """A line again; processes named `holder` hold GPU memory."""
    values = json.loads(line)
    found = values.pop("look", None)
    own = values.get("timers", {})
    values["daemons"] = own | values.get("daemons", {})
    values["groups"] = {"": values.pop("busy_s")}
    values.pop("stalled_s", None)
    if found is None:
        return Reading(**values), None
    processes = {int(pid): _process(each) for pid, each in found["processes"].items()}
    return Reading(**values), Look(
        found["at"],
        processes,
        dict(_with_peers({key: Connection(*each) for key, each in found["connections"].items()})),
        {key: Server(*each) for key, each in found["servers"].items()},
        tuple(pid for pid, each in processes.items() if holder and each.name == holder),
    )


def _with_peers(connections: dict[str, Connection]) -> Iterator[tuple[str, Connection]]:
    """Old recordings do not say which connection is the other end of which: their bytes do."""
    ends = {(each.sent, each.received): each.inode for each in connections.values() if each.local}
    for key, each in connections.items():
        peer = each.peer or (ends.get((each.received, each.sent), 0) if each.local else 0)
        yield key, replace(each, peer=peer)


def _process(values: list[Any]) -> Process:
    *first, sockets, threads, stored = values
    counters = {name: (each[0], each[1], (*each, 0)[2]) for name, each in threads.items()}
    return Process(*[*first, tuple(sockets), counters, stored])


@dataclass(frozen=True)
class Life:
    """A machine's life: its recording, and what the stand-in for the GPUs says all the time."""

    name: str
    recording: str
    needed: bool
    gpus: tuple[float, ...] = ()
    spins: str = ""
    """the recording in which GPUs spin"""
    holder: str = ""
    between: str = ""
    """another recording, which goes on for `minutes` before the first one comes again"""
    minutes: int = 0

    def parts(self) -> Iterator[Part]:
        """Ten seconds each, for ever."""
        main = _parts(self.recording, self.holder)
        other = _parts(self.between, self.holder) if self.between else []
        while True:
            yield from main
            for _ in range(self.minutes * 60 // PERIOD_S // len(other) if other else 0):
                yield from other


@dataclass(frozen=True)
class Part:
    """Two readings of a recording, with the look of the later one; the first has that before it."""

    recording: str
    earlier: Reading
    later: Reading
    look: Look | None
    before: Look | None


def _parts(name: str, holder: str) -> list[Part]:
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    readings = [decode(line, holder) for line in lines]
    return [
        Part(name, earlier, later, look, None if number else readings[0][1])
        for number, ((earlier, _), (later, look)) in enumerate(pairwise(readings))
    ]


def samples(
    life: Life, sampler: Sampler, gpus: list[Gpu] | None = None
) -> Iterator[tuple[Sample, Part]]:
    """The agent's samples of a life, each with its part of the recording; `gpus` in place of the
    life's own."""
    for number, part in enumerate(life.parts()):
        sampler.seen = part.before or sampler.seen
        own = [
            Gpu(index, "", "", peak, peak, 0, 0, part.recording == life.spins)
            for index, peak in enumerate(life.gpus)
        ]
        used = own if gpus is None else gpus
        sample = machine.sample(part.earlier, part.later, used, "", 30.0 + number * PERIOD_S)
        yield sampler.complete(sample, used, part.look), part


def ended(life: Life, settings: Settings, hours: float) -> float | None:
    """Hours after which the agent's own code takes its action; None where it does not."""
    taken, progress = list[Sample](), Progress()
    for number, (sample, _) in enumerate(samples(life, Sampler(0.0))):
        now = sample.at
        if now > hours * HOUR:
            return None
        taken.append(sample)
        if number % EVERY:
            continue
        del taken[: -int(settings.window_s) // PERIOD_S - 7]
        decision = decide(taken, now, settings)
        step = next_step(progress, decision, settings, now)
        if step is Step.ACT:
            return now / HOUR
        if step is not Step.NOTHING:
            progress = Progress() if step is Step.PROTECT else progress.to(Stage.NOTIFIED, now)
    return None
