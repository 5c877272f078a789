"""Whether somebody works on the machine: by golden_idle's signs, and by who has CUDA open."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from golden_idle import decide, evidence, holds, machine, settings
from golden_idle.evidence import LOOK_S

CUDA = Path("/dev/nvidia-uvm")
"""Only programs that compute have it open: no monitor, and none of the driver's daemons."""
PERIOD_S = decide.PERIOD_S
YOUNG_S, FIRST_S = 600, 2 * LOOK_S
"""Seconds since boot until which so many without a job are enough: nobody has paused there yet."""


class Watch:
    """A machine that is watched as golden_idle does, but for its GPUs, of which one is broken."""

    def __init__(self, root: Path) -> None:
        self._root, self._known, self._reading = root, settings.load(root), machine.read(root)
        self._sampler = machine.Sampler(self._known, self._reading.at)
        self._quiet_since, self.job = self._reading.at, ""

    def is_quiet(self) -> bool:
        """Whether nobody has worked for golden_idle's window; takes a sample, and its seconds."""
        time.sleep(PERIOD_S)
        earlier, self._reading = self._reading, machine.read(self._root)
        now = self._reading.at
        if job := self._sign(earlier, now):
            self.job, self._quiet_since = job, now
        wanted = FIRST_S if now < YOUNG_S else self._known.window_s
        return not job and now - self._quiet_since >= wanted

    def _sign(self, earlier: machine.Reading, now: float) -> str:
        """Who works; empty for nobody."""
        look = evidence.look(self._root, now, self._sampler.seen) if self._sampler.due(now) else None
        sample = self._sampler.sample(earlier, self._reading, [], "", now, look)
        held = holds.read(self._root / holds.FOLDER, now, self._known.longest_hold_hours)
        signs = [*(f"held by {hold.user}: {hold.reason}" for hold in held), *users_of_cuda(self._root),
                 *(reason for _, reason, _ in decide.above(sample, self._known))]
        return signs[0] if signs else ""


def users_of_cuda(root: Path) -> Iterator[str]:
    """`python3 (4242) has CUDA open`, also where the driver no longer answers."""
    for folder in (root / "proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if any(link.readlink() == CUDA for link in (folder / "fd").iterdir()):
                yield f"{(folder / 'comm').read_text().strip()} ({folder.name}) has CUDA open"
