"""A process by its pid and start time: a pid alone is used again."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_TEXT = re.compile(r"(?:^|[-.])(\d+)-(\d+)$")
_DEAD = frozenset("ZXx")
"""States of a process that has ended (proc(5), field 3), a zombie among them."""


def machine() -> str:
    """This boot and this process namespace: elsewhere a pid means nothing."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


@dataclass(frozen=True)
class ProcessId:
    """A process of this pid namespace; `started` is in clock ticks since boot (proc(5), field 22)."""

    pid: int
    started: int

    @classmethod
    def current(cls) -> ProcessId:
        """This process."""
        process = cls.of(os.getpid())
        assert process is not None
        return process

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process that has `pid` now; None where there is none, or it has ended and was not waited for."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()  # a program's name may have spaces and brackets
        return None if fields[0] in _DEAD else cls(pid, int(fields[19]))

    @classmethod
    def parse(cls, text: str) -> ProcessId | None:
        """The process whose `str` ends `text`, such as the name of a folder of its own; None where none does."""
        match = _TEXT.search(text)
        return cls(int(match[1]), int(match[2])) if match else None

    def __str__(self) -> str:
        return f"{self.pid}-{self.started}"

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return ProcessId.of(self.pid) == self
