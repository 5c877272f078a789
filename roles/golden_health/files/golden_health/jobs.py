"""Detection of jobs on the machine: by golden_idle's signs, and by who has CUDA open."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from golden_idle import decide, evidence, holds, machine, settings
from golden_idle.decide import Sample
from golden_idle.evidence import LOOK_S, Look
from golden_idle.nvml import Gpu
from golden_idle.settings import Settings

CUDA = Path("/dev/nvidia-uvm")
"""The device that only programs which compute have open: no monitor, and none of the driver's
daemons."""
PERIOD_S = decide.PERIOD_S
YOUNG_S, FIRST_S = 600, 2 * LOOK_S
"""In the first YOUNG_S seconds after boot, FIRST_S seconds without a job are enough if nobody has
come yet."""
DAY_S = 24 * 3600
"""Seconds for which open CUDA without any other sign counts as a job: a job that hangs has no
end."""
UNASKED = Gpu(0, "", "", 0, 0, 0, 0, spins=True)
"""Stands for all GPUs, of which one is broken: a program that has CUDA open and does nothing may
wait for it."""


class Quiet:
    """The time since which nobody has worked, from successive samples."""

    def __init__(self, idle_settings: Settings, now: float) -> None:
        self._settings, self._since, self._job_at, self._alive_at = idle_settings, now, now, now
        self._samples, self._uses = deque[Sample](), list[tuple[float, str]]()
        self._has_come, self.job = False, ""

    def judge(self, sample: Sample, look: Look | None, held: list[str], cuda: list[str]) -> bool:
        """Take in a sample, and return whether nobody has worked for golden_idle's window. `held`
        are the holds, `cuda` the programs that have CUDA open."""
        now = sample.at
        self._samples.append(sample)
        while self._samples[0].at <= now - self._settings.window_s:
            self._samples.popleft()
        # A sum changes little between two looks.
        if look or sample.used or sample.timer or sample.lost:
            found = decide.uses(list(self._samples), now, self._settings)
            self._uses = sorted(found, reverse=True)
        uses = self._uses
        self._has_come |= bool(held or cuda)
        if look:
            self._has_come |= any(row.kind == "person" for row in look.processes.values())
        if held or uses or not cuda:
            self._alive_at = now
        lasting = [*held, *(cuda if now - self._alive_at < DAY_S else ())]
        if lasting:
            self._since = now
        if lasting or (uses and uses[0][0] >= now):
            self.job, self._job_at = [*lasting, *(reason for _, reason in uses)][0], now
        if now < YOUNG_S and not self._has_come:
            return now - self._job_at >= FIRST_S
        # Work that a timer starts counts while it goes on, its pauses, too.
        return (
            not uses
            and now - self._since >= self._settings.window_s
            and now - self._job_at >= self._settings.grace_s
        )


class Watch:
    """A machine that is watched as by golden_idle, but without its GPUs: one of them is broken."""

    def __init__(self, root: Path) -> None:
        self._root, self._settings, self._reading = root, settings.load(root), machine.read(root)
        self._sampler = machine.Sampler(self._reading.at)
        self.quiet = Quiet(self._settings, self._reading.at)

    def is_quiet(self) -> bool:
        """Wait for the next sample, and return whether nobody has worked for golden_idle's
        window."""
        time.sleep(PERIOD_S)
        earlier, self._reading = self._reading, machine.read(self._root)
        now, cuda = self._reading.at, dict(users_of_cuda(self._root))
        look = None
        if self._sampler.due(now):
            look = evidence.look(self._root, now, self._sampler.seen, tuple(cuda))
        sample = machine.sample(earlier, self._reading, [UNASKED], "", now)
        sample = self._sampler.complete(sample, [UNASKED], look)
        held = holds.read(self._root / holds.FOLDER, now, self._settings.longest_hold_hours)
        reasons = [f"held by {hold.user}: {hold.reason}" for hold in held]
        return self.quiet.judge(sample, look, reasons, list(cuda.values()))


def users_of_cuda(root: Path) -> Iterator[tuple[int, str]]:
    """Yield each process that has CUDA open, with `python3 (4242) has CUDA open`. /proc says so
    even if the driver no longer answers."""
    for folder in (root / "proc").glob("[0-9]*"):
        with suppress(OSError):  # the process has ended meanwhile
            if any(link.readlink() == CUDA for link in (folder / "fd").iterdir()):
                name = (folder / "comm").read_text().strip()
                yield int(folder.name), f"{name} ({folder.name}) has CUDA open"
