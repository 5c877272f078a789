"""Locks between processes: flock on a file, which the kernel drops also at a kill."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import TextIO

EXCLUSIVE, SHARED, AT_ONCE = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_NB


def hold(path: Path, how: int = EXCLUSIVE) -> TextIO:
    """Open the lock file `path` and hold it until it is closed. With AT_ONCE: BlockingIOError where
    another is in the way, be it of this process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, how)
    except BaseException:
        handle.close()
        raise
    return handle
