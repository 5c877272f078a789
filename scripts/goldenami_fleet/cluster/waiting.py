"""Simulate how long people wait for a machine, and what that costs, for a group under one setting.
Pure: it calls no API.

A person takes a free machine, or else queues for the next one. A group starts as many machines as
its setting wants, the stopped ones first. It ends a machine that nobody used for a while and that
the setting does not want.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

WEEK_H = 168.0


@dataclass(frozen=True)
class Visit:
    """One use of a machine: the hour of the week at which it begins, and its length in hours."""

    at_h: float
    hours: float


@dataclass(frozen=True)
class Setting:
    """How a group is run. `least` has pairs of an hour and the least number of machines from then
    on, beginning at hour 0. `spare` machines are kept free while there are at most `most`.
    `stopped` machines start faster."""

    name: str
    most: int
    least: tuple[tuple[float, int], ...] = ((0.0, 0),)
    spare: int = 0
    stopped: int = 0


@dataclass(frozen=True)
class Times:
    """Hours until a new machine (`boot_h`) or a stopped one (`wake_h`) works, and hours after which
    an unused machine ends."""

    boot_h: float = 0.1
    wake_h: float = 0.025
    idle_h: float = 1.0


@dataclass(frozen=True)
class WaitingOutcome:
    """Minutes that people waited, which includes those who still wait at the end, and the hours of
    machines."""

    visits: int
    mean_min: float
    longest_min: float
    waited: int
    machine_h: float


@dataclass
class _Group:
    """A group while it is simulated; `events` are what happens next, by hour."""

    setting: Setting
    times: Times
    now: float = 0.0
    least: int = 0
    busy: int = 0
    machine_h: float = 0.0
    stopped: int = 0
    starting: int = 0
    number: int = 0
    next_spare: float = 0.0
    free: list[float] = field(default_factory=list)
    """the hour from which each machine is free"""
    queue: deque[Visit] = field(default_factory=deque)
    waits: list[float] = field(default_factory=list)
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)

    @property
    def running(self) -> int:
        return self.busy + len(self.free) + self.starting

    def wanted(self, spare: int) -> int:
        return min(self.setting.most, max(self.least, self.busy + len(self.queue) + spare))

    def schedule(self, hour: float, event: Callable[[], None]) -> None:
        self.number += 1
        # The number breaks ties: two events of one hour happen in the order of their making.
        heapq.heappush(self.events, (hour, self.number, event))

    def step(self) -> None:
        hour, _, event = heapq.heappop(self.events)
        self.machine_h += self.running * (hour - self.now)
        self.now = hour
        event()
        while self.queue and self.free:
            self.free.pop()
            self.serve(self.queue.popleft())
        self.balance()

    def serve(self, visit: Visit) -> None:
        self.waits.append(self.now - visit.at_h)
        self.busy += 1
        self.schedule(self.now + visit.hours, self.leave)

    def leave(self) -> None:
        self.busy -= 1
        self.add()

    def add(self) -> None:
        self.free.append(self.now)
        # An event without effect: after it, `step` balances the group, which may end the machine.
        self.schedule(self.now + self.times.idle_h, lambda: None)

    def started(self) -> None:
        self.starting -= 1
        self.add()

    def add_stopped(self) -> None:
        self.stopped += 1

    def set_least(self, least: int) -> None:
        self.least = least

    def balance(self) -> None:
        """Start and end machines until the group is as the setting wants it."""
        while self.running < self.wanted(0):
            self.start()
        # Spare machines start one after another, as the group's alarm adds them.
        if self.running < self.wanted(self.setting.spare) and self.now >= self.next_spare:
            self.next_spare = self.now + self.times.boot_h
            # Again without effect: `step` then starts the next spare machine.
            self.schedule(self.next_spare, lambda: None)
            self.start()
        while (
            self.free
            and self.running > self.wanted(self.setting.spare)
            and self.now >= self.free[0] + self.times.idle_h
        ):
            self.free.pop(0)

    def start(self) -> None:
        self.starting += 1
        if self.stopped:
            self.stopped -= 1
            self.schedule(self.now + self.times.wake_h, self.started)
            # The group prepares another stopped machine in its place.
            self.schedule(self.now + self.times.boot_h, self.add_stopped)
        else:
            self.schedule(self.now + self.times.boot_h, self.started)


def simulate(
    visits: Sequence[Visit], setting: Setting, times: Times, until_h: float = WEEK_H
) -> WaitingOutcome:
    """Simulate the group over `visits` until `until_h`."""
    group = _Group(setting, times, stopped=setting.stopped)
    for hour, least in setting.least:
        group.schedule(hour, partial(group.set_least, least))
    for visit in sorted(visits, key=lambda visit: visit.at_h):
        group.schedule(visit.at_h, partial(group.queue.append, visit))
    while group.events and group.events[0][0] <= until_h:
        group.step()
    # A machine that is still busy at the end is paid for until the end only.
    group.machine_h += group.running * max(0.0, until_h - group.now)
    waits = [60 * hours for hours in group.waits]
    waits_in_queue = [60 * (until_h - visit.at_h) for visit in group.queue]
    all_waits = [*waits, *waits_in_queue]
    return WaitingOutcome(
        len(all_waits),
        math.fsum(all_waits) / max(1, len(all_waits)),
        max(all_waits, default=0.0),
        sum(minutes > 0.5 for minutes in all_waits),
        group.machine_h,
    )
