"""Locks between processes by flock on a file. The kernel releases them even if a process is
killed."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import TextIO

EXCLUSIVE, SHARED, AT_ONCE = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_NB


def hold(path: Path, how: int = EXCLUSIVE) -> TextIO:
    """Lock the file `path` until the returned handle is closed. With AT_ONCE, raises
    BlockingIOError if another handle holds the lock, even one of this process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, how)
    except BaseException:
        handle.close()
        raise
    return handle
