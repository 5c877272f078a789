"""Space on the host for what tools write: asked before they begin, and named where they run out of
it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import NO_SPACE, HostNotReady


@contextlib.contextmanager
def demanded(folder: Path, needed: int) -> Iterator[None]:
    """Refuse to begin without `needed` free bytes, and name space as the cause when a tool runs out
    of it."""
    before = _available(folder)
    refusal = HostNotReady(
        f"no space in {folder}: {needed} bytes needed, {before} bytes available",
        hint="free space, or use another disk"
    )
    if before < needed:
        raise refusal
    try:
        yield
    except shell.CommandFailed as failure:
        full = any(os.strerror(code) in failure.output for code in NO_SPACE)
        if not full:
            raise
        raise refusal from failure
    except OSError as failure:
        if failure.errno not in NO_SPACE:
            raise
        raise refusal from failure


def _available(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
