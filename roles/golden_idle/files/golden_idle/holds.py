"""Holds: a user's statement that the machine is needed, with a reason and an end.

A hold is a file in a folder like /tmp: everybody on the machine may make one there, and nobody may
remove another's. So the agent trusts only its owner, and reads no link, no device and no large
file. A reboot ends all work, and so it ends holds.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from golden_idle.decide import Hold

FOLDER = Path("run/golden-idle/holds")
_SECONDS = {"m": 60, "h": 3600, "d": 86400}
MOST_FILES, MOST_BYTES, MOST_REASON = 10_000, 4096, 200
MOST_OF_ONE = 20
"""The number of a user's holds that count: those that last longest."""
WRITING_S = 60
"""Seconds that writing a hold may take."""


class WrongHold(Exception):
    """What is wrong with the requested hold, in one line."""


def duration(text: str, longest_hours: int) -> float:
    """Return the seconds of `30m`, `4h` or `2d`. Raises WrongHold if it is no time, or too long for
    a hold."""
    match = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    if match is None or not int(match[1]):
        raise WrongHold(
            f"`{text}` does not say when the hold ends: give a time such as 30m, 4h or 2d"
        )
    seconds = int(match[1]) * _SECONDS[match[2]]
    if seconds > longest_hours * 3600:
        raise WrongHold(
            f"{text} is longer than a hold may be, {longest_hours}h: hold again before it ends"
        )
    return float(seconds)


def write(folder: Path, until: float, reason: str) -> None:
    """Write a hold of the user who runs this. Raises WrongHold if the reason is bad or the file
    cannot be written."""
    reason = " ".join(reason.split())
    if not reason or len(reason) > MOST_REASON:
        raise WrongHold(f"give a reason of at most {MOST_REASON} characters: others will read it")
    path = folder / f"{os.getuid()}-{until:.0f}.json"
    try:
        path.write_text(json.dumps({"until": until, "reason": reason}), encoding="utf-8")
        path.chmod(0o644)
    except OSError as error:
        raise WrongHold(
            f"{path}: {error.strerror}: is the agent running? `systemctl status golden-idle`"
        ) from None


def release(folder: Path) -> int:
    """Remove the holds of the user who runs this, and return their number."""
    mine = [
        path for path in folder.glob(f"{os.getuid()}-*.json") if path.lstat().st_uid == os.getuid()
    ]
    for path in mine:
        path.unlink()
    return len(mine)


def read(folder: Path, now: float, longest_hours: int, *, tidy: bool = False) -> list[Hold]:
    """Return the holds that have not ended. Files that are no holds are ignored, and so are holds
    that last too long.

    `tidy` removes those, so that nobody can fill the folder and hide the holds of others.
    """
    try:
        with os.scandir(folder) as entries:
            paths = [Path(entry.path) for entry in islice(entries, MOST_FILES)]
    except OSError:
        return []
    holds = {
        path: hold
        for path in paths
        for hold in _hold(path)
        if now < hold.until <= now + longest_hours * 3600
    }
    owners = Counter[str]()
    for path, hold in sorted(holds.items(), key=lambda item: -item[1].until):
        owners[hold.user] += 1
        if owners[hold.user] > MOST_OF_ONE:
            del holds[path]
    if tidy:
        _remove(path for path in paths if path not in holds)
    return [holds[path] for path in sorted(holds)]


def _remove(paths: Iterable[Path]) -> None:
    """Remove files that are no holds, except those that somebody may be writing."""
    for path in paths:
        with suppress(OSError):
            # By ctime: a file's owner can set its mtime, but not this.
            if time.time() - path.lstat().st_ctime > WRITING_S:
                path.unlink()


def _hold(path: Path) -> Iterator[Hold]:
    try:
        text, owner = read_plain(path)
        values = json.loads(text)
        until, reason = float(values["until"]), str(values["reason"])
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return
    yield Hold(until, user_name(owner), "".join(filter(str.isprintable, reason))[:MOST_REASON])


def read_plain(path: Path, most: int = MOST_BYTES) -> tuple[bytes, int]:
    """Return the first bytes of a user's file and its owner's id. A file that is not a plain one
    counts as empty."""
    # O_NOFOLLOW: a link could name any file. O_NONBLOCK: opening a FIFO would wait for its writer.
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(file)
        return os.read(file, most) if stat.S_ISREG(status.st_mode) else b"", status.st_uid
    finally:
        os.close(file)


def user_name(uid: int) -> str:
    """Return the account's name, or its number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
