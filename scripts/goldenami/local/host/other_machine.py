"""Another machine on another day, as far as the programs that are started there can tell."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from goldenami.core.errors import HostNotReady

HOSTNAME = "elsewhere"
SHIFT_DAYS = 400
"""Days by which the clock is shifted, so that day, month, year and day of the week all change."""
_CLONE_NEWUTS = 0x04000000
"""Flag of unshare(2), from linux/sched.h."""
_LIBRARIES = "usr/lib/*/faketime/libfaketime.so.1"
"""Path of the library on Debian and Ubuntu (package faketime)."""


@contextlib.contextmanager
def another_machine() -> Iterator[str]:
    """Give what this thread starts another hostname and, with libfaketime, another day; yield a
    description. Programs in a container keep this machine's clock."""
    with _hostname(), _clock() as clock:
        yield f"as on the machine `{HOSTNAME}`, {clock}"


@contextlib.contextmanager
def _hostname() -> Iterator[None]:
    """Move this thread into a UTS namespace of its own, which its children are born into."""
    libc = ctypes.CDLL(None, use_errno=True)
    own_namespace = os.open("/proc/thread-self/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWUTS) != 0:
            raise HostNotReady(
                f"no other hostname: {os.strerror(ctypes.get_errno())}", hint="run as root"
            )
        socket.sethostname(HOSTNAME)
        try:
            yield
        finally:
            libc.setns(own_namespace, _CLONE_NEWUTS)
    finally:
        os.close(own_namespace)


@contextlib.contextmanager
def _clock() -> Iterator[str]:
    """Shift the wall clock of what is started meanwhile, and yield a description."""
    library = next(Path("/").glob(_LIBRARIES), None)
    if library is None:
        yield "with this machine's clock (faketime is not installed)"
        return
    shifted = {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"+{SHIFT_DAYS}d",
        # Pauses and the times of files stay true: they are no wall clock.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "FAKETIME_DISABLE_SHM": "1",
    }
    before = {name: os.environ.get(name) for name in shifted}
    os.environ.update(shifted)
    try:
        yield f"{SHIFT_DAYS} days later"
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
