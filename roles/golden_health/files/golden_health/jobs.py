"""Whether somebody works on the machine: by golden_idle's signs, and by who has CUDA open."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from golden_idle import decide, evidence, holds, machine, settings
from golden_idle.evidence import LOOK_S

CUDA = "/dev/nvidia-uvm"
"""Only programs that compute have it open: no monitor, and none of the driver's daemons."""


def found(root: Path, seconds: float = LOOK_S) -> str:
    """Who works here, by a look that takes so long; nothing where nobody does."""
    known, began = settings.load(root), machine.read(root)
    if held := holds.read(root / holds.FOLDER, began.at, known.longest_hold_hours):
        return f"held by {held[0].user}: {held[0].reason}"
    if computing := next(users_of_cuda(root), ""):
        return computing
    sampler = machine.Sampler(known, began.at)
    looked = evidence.look(root, began.at, None)
    sampler.sample(began, began, [], "", began.at, looked)
    time.sleep(seconds)
    later = machine.read(root)
    sample = sampler.sample(began, later, [], "", later.at, evidence.look(root, later.at, looked))
    return next((reason for _, reason, _ in decide.above(sample, known)), "")


def users_of_cuda(root: Path) -> Iterator[str]:
    """`python3 (4242) has CUDA open`, also where the driver no longer answers."""
    for folder in (root / "proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if any(os.readlink(link) == CUDA for link in (folder / "fd").iterdir()):
                yield f"{(folder / 'comm').read_text().strip()} ({folder.name}) has CUDA open"
