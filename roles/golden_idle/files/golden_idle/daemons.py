"""The image's own daemons: what they use says nothing of people and jobs."""

from __future__ import annotations

import functools
import re
from contextlib import suppress
from itertools import chain
from pathlib import Path

_FOLDERS = ("etc/systemd/system", "usr/lib/systemd/system")
_OTHERS = re.compile(r"run-|.*(?:jupyter|rstudio)")
"""Units of `systemd-run` and of notebooks: they run people's work."""
_GROUP = re.compile(r"/system\.slice/(?:[^/]+\.slice/)?([^/]+\.service)")


@functools.lru_cache(4096)
def is_daemon(root: Path, unit: str) -> bool:
    """Return whether a service is one of the image's own: its file is older than the machine, whose
    id is written at its first boot."""
    if not unit.endswith(".service") or _OTHERS.match(unit):
        return False
    for folder in _FOLDERS:
        with suppress(OSError):
            file = root / folder / re.sub(r"@.*\.", "@.", unit)
            # By ctime: whoever copies a file may keep its mtime.
            return file.stat().st_ctime <= (root / "etc/machine-id").stat().st_ctime
    return False


def has(root: Path, group: str) -> bool:
    """Return whether a control group is that of a daemon of the image."""
    unit = _GROUP.match(group)
    return group == "/init.scope" or (unit is not None and is_daemon(root, unit[1]))


@functools.cache
def timers(root: Path) -> frozenset[str]:
    """Return the units that timers start, with cron and atd."""
    files = chain(*((root / folder).glob("*.timer") for folder in _FOLDERS))
    return frozenset({"cron.service", "atd.service", *(f"{file.stem}.service" for file in files)})
