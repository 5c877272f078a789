"""The folders that are kept: ~/keep of each person, /keep/NAME of a service's user NAME."""

from __future__ import annotations

import functools
import http
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from golden_idle.account import metadata

FIRST_USERS = ("admin", "debian", "ubuntu")
"""cloud-init's first login, which has no name of a person."""
MOST_BYTES = 128
"""The most bytes of an owner's name."""


@dataclass(frozen=True)
class Folder:
    """A folder and whose it is. `owner` is "" while the metadata service does not say it."""

    uid: int
    gid: int
    path: Path
    owner: str


def folders(root: Path) -> list[Folder]:
    """Return the folders of the machine whose files are below `root`, one for each user."""
    found = []
    for line in (root / "etc/passwd").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, uid, gid, _, home, *_ = [*line.split(":"), *[""] * 6]
        if not uid.isdecimal() or not gid.isdecimal() or not int(uid):
            continue
        places = [root / "keep" / name]
        if 1000 <= int(uid) < 60000:
            places.insert(0, root / home.lstrip("/") / "keep")
        for path in places:
            if _is_own(path, int(uid)):
                found.append(Folder(int(uid), int(gid), path, _owner(name, int(uid))))
                break
    return found


def _is_own(path: Path, uid: int) -> bool:
    try:
        status = path.lstat()
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid


def _owner(name: str, uid: int) -> str:
    if uid != 1000 or name not in FIRST_USERS:
        return name
    try:
        tag = metadata("meta-data/tags/instance/Owner")
    except OSError as error:
        # No tag, or no answer yet.
        return name if getattr(error, "code", 0) == http.HTTPStatus.NOT_FOUND else ""
    if is_segment(tag):
        return tag
    _refuse(tag, name)
    return name


@functools.cache  # the agent looks each minute
def _refuse(tag: str, name: str) -> None:
    text = f"golden-keep: the tag Owner {tag!r} is no name of a folder: {name} is used"
    print(text, file=sys.stderr)


def is_segment(name: str) -> bool:
    """Return whether the name can be one segment of an object's key."""
    return (
        0 < len(os.fsencode(name)) <= MOST_BYTES
        and name not in (".", "..", ".golden-keep")
        and "/" not in name
        and name.isprintable()
    )
