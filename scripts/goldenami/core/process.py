"""Identity of a process by machine, pid and start time. A pid alone does not do: it is used again,
and on another machine it is another process."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from goldenami.core import clock

_TEXT = re.compile(r"(?:^|[-.:])(\d+)-(\d+)-([0-9a-f]{12})$")
_DEAD = frozenset("ZXx")
"""States of an ended process (proc(5), field 3), zombies included."""
FORGOTTEN_S = 2 * 86400.0
"""Seconds after which files of a process on another machine count as abandoned: no bake and no
session takes as long."""


def machine() -> str:
    """Return 12 hex digits for this boot and this pid namespace, outside which a pid means
    nothing."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    namespace = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    if Path("/proc/self").readlink() != Path(str(os.getpid())):
        # /proc is of another pid namespace, where no process is found by its pid of this one. So
        # no other process counts as one of this machine.
        namespace += f" {os.getpid()}"
    return hashlib.sha256(namespace.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class ProcessId:
    """A process on `machine`. `started` is in clock ticks since boot (proc(5), field 22)."""

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
        """Return the process with this pid, or None if there is none or it is a zombie."""
        try:
            stat = Path("/proc", "self" if pid == os.getpid() else str(pid), "stat")
            text = stat.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()  # a program's name may have spaces and brackets
        if fields[0] in _DEAD:
            return None
        return cls(pid, int(fields[19]))

    @classmethod
    def parse(cls, text: str) -> ProcessId | None:
        """Return the process whose `str` ends `text` (such as a folder's name), or None."""
        match = _TEXT.search(text)
        if match is None:
            return None
        return cls(int(match[1]), int(match[2]), match[3])

    def __str__(self) -> str:
        return f"{self.pid}-{self.started}-{self.machine}"

    @property
    def alive(self) -> bool:
        return ProcessId.of(self.pid) == self

    @property
    def has_ended(self) -> bool:
        """Whether it has ended. False for a process on another machine, of which nothing is known
        here."""
        return self.machine == machine() and not self.alive


def aside(path: Path) -> Path:
    """Return a temporary path beside `path`, unique to this process, to be renamed to it."""
    return path.with_name(f".{path.name}.{ProcessId.current()}")


def scratch() -> TemporaryDirectory[str]:
    """Return a folder for temporary files that only this user reads. If this process is killed, the
    next command removes it."""
    return TemporaryDirectory(prefix="golden-", suffix=f"-{ProcessId.current()}")


def remove_left_scratch() -> None:
    """Remove the `scratch` folders of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob("golden-*"):
        if ProcessId.parse(folder.name) and is_left(folder):
            shutil.rmtree(folder, ignore_errors=True)


def is_left(path: Path, text: str = "") -> bool:
    """Whether the process has ended that made `path`; its identity ends `text`, or by default the
    name of `path`. If it ran on another machine or the name has none, the age of `path` decides."""
    process = ProcessId.parse(text or path.name)
    if process and process.machine == machine():
        return process.has_ended
    try:
        return clock.now().timestamp() - path.lstat().st_mtime > FORGOTTEN_S
    except FileNotFoundError:  # another sweep was first
        return True
