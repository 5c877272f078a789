"""Whether somebody works on the machine: by golden_idle's signs, and by who has CUDA open."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from golden_idle import decide, evidence, holds, machine, settings
from golden_idle.decide import Sample
from golden_idle.evidence import LOOK_S, Look
from golden_idle.nvml import Gpu
from golden_idle.settings import Settings

CUDA = Path("/dev/nvidia-uvm")
"""Only programs that compute have it open: no monitor, and none of the driver's daemons."""
PERIOD_S = decide.PERIOD_S
YOUNG_S, FIRST_S = 600, 2 * LOOK_S
"""Seconds since boot until which so many without a job are enough, where nobody has come yet."""
PEOPLE = ("person", "editor")
"""Kinds of processes that no boot starts."""
DAY_S = 24 * 3600
"""Seconds for which open CUDA, without any other sign, is a job: one that hangs has no end."""
UNASKED = Gpu(0, "", "", 0, 0, 0, 0, spins=True)
"""For the GPUs, of which one is broken: who has CUDA open and touches nothing may wait for it."""


class Quiet:
    """Since when nobody has worked, by one sample after the other."""

    def __init__(self, known: Settings, now: float) -> None:
        self._known, self._since, self._job_at, self._alive_at = known, now, now, now
        self._has_come, self.job = False, ""

    def judge(self, sample: Sample, look: Look | None, held: list[str], cuda: list[str]) -> bool:
        """Whether nobody has worked for golden_idle's window; beside its sample and look, holds and
        who has CUDA open."""
        now, signs = sample.at, list(decide.above(sample, self._known))
        processes = look.processes.values() if look else ()
        self._has_come |= bool(held or cuda) or any(each.kind in PEOPLE for each in processes)
        if held or signs or not cuda:
            self._alive_at = now
        lasting = [
            *held,
            *(cuda if now - self._alive_at < DAY_S else []),
            *(reason for _, reason, lasts in signs if lasts),
        ]
        if job := next(iter([*lasting, *(reason for _, reason, _ in signs)]), ""):
            self.job, self._job_at = job, now
        if lasting:
            self._since = now
        if now < YOUNG_S and not self._has_come:
            return now - self._job_at >= FIRST_S
        # A timer's work counts while it goes on, pauses of it too.
        return (
            now - self._since >= self._known.window_s and now - self._job_at >= self._known.grace_s
        )


class Watch:
    """A machine that is watched as golden_idle does, but for its GPUs, of which one is broken."""

    def __init__(self, root: Path) -> None:
        self._root, self._known, self._reading = root, settings.load(root), machine.read(root)
        self._sampler = machine.Sampler(self._known, self._reading.at)
        self.quiet = Quiet(self._known, self._reading.at)

    def is_quiet(self) -> bool:
        """Whether nobody has worked for golden_idle's window; takes a sample, and its seconds."""
        time.sleep(PERIOD_S)
        earlier, self._reading = self._reading, machine.read(self._root)
        now, cuda = self._reading.at, dict(users_of_cuda(self._root))
        look = (
            evidence.look(self._root, now, self._sampler.seen, tuple(cuda))
            if self._sampler.due(now)
            else None
        )
        sample = self._sampler.sample(earlier, self._reading, [UNASKED], "", now, look)
        held = holds.read(self._root / holds.FOLDER, now, self._known.longest_hold_hours)
        reasons = [f"held by {hold.user}: {hold.reason}" for hold in held]
        return self.quiet.judge(sample, look, reasons, list(cuda.values()))


def users_of_cuda(root: Path) -> Iterator[tuple[int, str]]:
    """By process, `python3 (4242) has CUDA open`, also where the driver no longer answers."""
    for folder in (root / "proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if any(link.readlink() == CUDA for link in (folder / "fd").iterdir()):
                name = (folder / "comm").read_text().strip()
                yield int(folder.name), f"{name} ({folder.name}) has CUDA open"
