"""Jobs that are told of an end: programs that `golden-keep run` started, and all that runs in the
slice `keep.slice`.

A registered program is an empty file PID-START in a folder like that of the holds, which counts
only if its owner is the program's.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from golden_idle.holds import MOST_FILES

FOLDER = Path("run/golden-idle/jobs")
SLICE = Path("sys/fs/cgroup/keep.slice")


def register(root: Path) -> None:
    """Have this process told of an end, and what it becomes by exec."""
    (root / FOLDER / _name(os.getpid())).touch(mode=0o644)


def running(root: Path) -> set[str]:
    """Return the jobs that run, each as PID-START. Files of those that have ended are removed."""
    found = set[str]()
    with suppress(OSError), os.scandir(root / FOLDER) as entries:
        for entry in islice(entries, MOST_FILES):
            with suppress(OSError, ValueError):
                pid, _, _ = entry.name.partition("-")
                owners = {
                    entry.stat(follow_symlinks=False).st_uid,
                    Path("/proc", pid).stat().st_uid,
                }
                if _name(int(pid)) == entry.name and len(owners) == 1:
                    found.add(entry.name)
                    continue
            with suppress(OSError):
                Path(entry.path).unlink()
    return found | set(_in_slice(root))


def tell(job: str) -> None:
    """Send SIGTERM, to no later process of that number."""
    with suppress(OSError):
        pid = int(job.partition("-")[0])
        file = os.pidfd_open(pid)
        try:
            if _name(pid) == job:
                signal.pidfd_send_signal(file, signal.SIGTERM)
        finally:
            os.close(file)


def _in_slice(root: Path) -> Iterator[str]:
    for path in (root / SLICE).rglob("cgroup.procs"):
        with suppress(OSError):
            for pid in path.read_text(encoding="ascii").split():
                with suppress(OSError):
                    yield _name(int(pid))


def _name(pid: int) -> str:
    """Return PID-START. Raises OSError for a process that has ended, or is a zombie."""
    # The name of the program, in brackets, may have any character.
    words = Path("/proc", str(pid), "stat").read_bytes().rpartition(b")")[2].split()
    if words[0] == b"Z":
        raise ProcessLookupError
    return f"{pid}-{words[19].decode()}"
