"""A process by machine, pid and start time: a pid alone is used again, and elsewhere it is another
process."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from goldenami.core import clock

_TEXT = re.compile(r"(?:^|[-.:])(\d+)-(\d+)-([0-9a-f]{12})$")
_DEAD = frozenset("ZXx")
"""States of a process that has ended (proc(5), field 3), a zombie among them."""
FORGOTTEN_S = 2 * 86400.0
"""Seconds after which what a process elsewhere made counts as left: no bake and no session takes as
long."""


def machine() -> str:
    """This boot and this pid namespace, 12 hex digits: elsewhere a pid means nothing."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    here = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    if Path("/proc/self").readlink() != Path(str(os.getpid())):
        # /proc is of another namespace: nobody is seen in it by the own pid.
        here += f" {os.getpid()}"
    return hashlib.sha256(here.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class ProcessId:
    """A process of a `machine`; `started` is in clock ticks since boot (proc(5), field 22)."""

    pid: int
    started: int
    machine: str = field(default_factory=machine)

    @classmethod
    def current(cls) -> ProcessId:
        process = cls.of(os.getpid())
        assert process is not None
        return process

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """None where no process has `pid`, or it has ended and was not waited for."""
        try:
            stat = Path("/proc", "self" if pid == os.getpid() else str(pid), "stat")
            text = stat.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()  # a program's name may have spaces and brackets
        return None if fields[0] in _DEAD else cls(pid, int(fields[19]))

    @classmethod
    def parse(cls, text: str) -> ProcessId | None:
        """The process whose `str` ends `text`, such as a folder's name."""
        match = _TEXT.search(text)
        return cls(int(match[1]), int(match[2]), match[3]) if match else None

    def __str__(self) -> str:
        return f"{self.pid}-{self.started}-{self.machine}"

    @property
    def alive(self) -> bool:
        return ProcessId.of(self.pid) == self

    @property
    def has_ended(self) -> bool:
        """Of a process elsewhere nobody here can say."""
        return self.machine == machine() and not self.alive


def aside(path: Path) -> Path:
    """Where this process makes what it then renames to `path`: no other process has this name."""
    return path.with_name(f".{path.name}.{ProcessId.current()}")


def is_left(path: Path, text: str = "") -> bool:
    """Whether the process that ends the name of `path`, or `text`, has ended. Of one elsewhere, or
    of none, only the age of `path` tells."""
    process = ProcessId.parse(text or path.name)
    if process and process.machine == machine():
        return process.has_ended
    try:
        return clock.now().timestamp() - path.lstat().st_mtime > FORGOTTEN_S
    except FileNotFoundError:  # another sweep was first
        return True
