"""Locks between processes: flock on a file, which the kernel drops with the process that holds it,
also at a kill."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import TextIO

EXCLUSIVE, SHARED, AT_ONCE = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_NB


def hold(path: Path, how: int = EXCLUSIVE) -> TextIO:
    """Open the lock file `path` and hold it until it is closed.

    `how` is EXCLUSIVE or SHARED; with AT_ONCE it is not waited for: BlockingIOError where another
    is in the way. Two handles of one process are in each other's way too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, how)
    except BaseException:
        handle.close()
        raise
    return handle
