"""Where the program keeps its state, and the two files by which it and the agent speak."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golden_idle import settings

from golden_keep.folders import Folder
from golden_keep.scan import STATE

END, RUN = Path("run/golden-idle/end.json"), Path("run/golden-keep")


class KeepError(Exception):
    """What went wrong, and what to do, in one line."""


@dataclass(frozen=True)
class End:
    """The machine's end, as the agent announces it. `until` is a boot time in seconds."""

    kind: str
    until: float


def now() -> float:
    """Return the seconds since boot, which no clock that jumps changes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def end(root: Path) -> End | None:
    """Return the machine's end if one was announced."""
    try:
        found = json.loads((root / END).read_bytes())
        until = found["until"]
        return End(str(found["kind"]), float("inf") if until is None else float(until))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def status_file(root: Path, uid: int) -> Path:
    """Return the file that says how safe a user's folder is."""
    return root / RUN / str(uid) / "status.json"


def read_status(root: Path, uid: int) -> dict[str, Any]:
    """Return what the last copy said, or nothing."""
    try:
        return dict(json.loads(status_file(root, uid).read_bytes()))
    except (OSError, ValueError):
        return {}


def write(path: Path, values: dict[str, Any]) -> None:
    """Write a file for everybody as a whole, or remove it if there is nothing to write."""
    if not values:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values), encoding="utf-8")
    part.chmod(0o644)
    part.replace(path)


def folder_of_state(root: Path, folder: Folder) -> Path:
    """Return where the folder's index and locks lie."""
    if folder.path.parent == root / "keep":
        return folder.path / STATE
    return folder.path.parent / ".local/state/golden-keep"


def place(root: Path, folder: Folder) -> str:
    """Return `s3://BUCKET/PREFIX/OWNER`. Raises KeepError if nothing is set, or the owner is not
    known yet."""
    launch, published = root / settings.LAUNCH, root / RUN / "place"
    # The launch's settings may hold a secret, so that root alone reads them.
    if launch.exists() and not os.access(launch, os.R_OK):
        if not published.exists():
            raise KeepError(f"no copy ran yet: `sudo systemctl start golden-keep@{folder.uid}`")
        keep = published.read_text(encoding="utf-8")
    else:
        keep = settings.load(root).keep
    if not keep:
        raise KeepError(
            "nothing is kept: set golden_idle_keep in the image, or `keep` in "
            f"/{settings.LAUNCH}, to s3://BUCKET/TEAM"
        )
    if not folder.owner:
        raise KeepError("the metadata service does not say whose folder this is: try again")
    return f"{keep}/{folder.owner}"


def publish(root: Path) -> None:
    """Tell all users where files are kept; root runs this."""
    path = root / RUN / "place"
    path.parent.mkdir(exist_ok=True)
    path.write_text(settings.load(root).keep, encoding="utf-8")
    path.chmod(0o644)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process at a time do what `path` names; others wait."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
