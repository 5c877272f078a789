"""Copies of what lies in people's folders `keep`: when each is made, and what is not safe."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golden_keep import state
from golden_keep.folders import Folder, folders

from golden_idle import holds

LEAST_S, MOST_S, SHARE = 60, 900, 100
"""Seconds between two looks at a folder: as many times what a look takes, within bounds."""
AT_END_S = 1
_MOST_STATUS = 1 << 18
_NEVER = float("-inf")


@dataclass
class _Rounds:
    """The copies of one user, of which two never run at once."""

    process: subprocess.Popen[bytes] | None = None
    ended: float = _NEVER
    has_failed: bool = False

    def runs(self, now: float) -> bool:
        """Return whether one runs; note the end of one that does not."""
        if self.process is None or self.process.poll() is None:
            return self.process is not None
        self.has_failed, self.ended = self.process.returncode != 0, now
        self.process = None
        return False

    def start(self, uid: int, now: float) -> None:
        """Start one; systemctl waits for its end."""
        try:
            self.process = subprocess.Popen(
                ["systemctl", "start", f"golden-keep@{uid}"],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError:  # no memory, for instance
            self.has_failed, self.ended = True, now


class Copies:
    """The copies of all users."""

    def __init__(self, root: Path, speed: float) -> None:
        self._root, self._speed = root, speed
        self._folders: list[Folder] = []
        self._looked_at = _NEVER
        self._rounds: dict[int, _Rounds] = {}

    def start(self, now: float, *, at_end: bool) -> None:
        """Start those that are due."""
        if at_end or now - self._looked_at >= LEAST_S / self._speed:
            self._looked_at, self._folders = now, folders(self._root)
        for folder in self._folders:
            rounds = self._rounds.setdefault(folder.uid, _Rounds())
            pause_s = AT_END_S if at_end else self._pause_s(folder)
            if not rounds.runs(now) and now - rounds.ended >= pause_s:
                rounds.start(folder.uid, now)

    def hurry(self) -> None:
        """Have each start at the next call, whenever the last one was."""
        for rounds in self._rounds.values():
            rounds.ended = _NEVER

    def unsafe(self, since: float) -> list[str]:
        """Return a line about each user of whom something is not safe, or has not been looked at
        since then."""
        return [line for folder in self._folders for line in self._lines(folder, since)]

    def _lines(self, folder: Folder, since: float) -> Iterator[str]:
        status, rounds = self._status(folder), self._rounds[folder.uid]
        is_home = folder.path.name == "keep"
        whose = f"~/keep of {holds.user_name(folder.uid)}" if is_home else str(folder.path)
        names = status.get("waiting")
        if trouble := _plain(status.get("trouble")):
            yield f"{whose} is not safe: {trouble}; golden-keep why"
        elif waiting := _number(status.get("waiting_files")):
            first = map(_plain, names[:3] if isinstance(names, list) else [])
            yield f"{whose} is not safe: files that wait: {waiting:.0f}: {', '.join(first)}"
        elif rounds.has_failed:
            yield f"{whose} is not safe: `systemctl status golden-keep@{folder.uid}`"
        elif not status or _number(status.get("safe_since")) < since:
            yield f"{whose} is being looked at"

    def _pause_s(self, folder: Folder) -> float:
        status = self._status(folder)
        is_safe = not status.get("trouble") and not _number(status.get("waiting_files"))
        # Copying may take hours; a look at what is safe does not.
        took_s = _number(status.get("took_s")) if is_safe else 0.0
        return min(MOST_S, max(LEAST_S, SHARE * took_s)) / self._speed

    def _status(self, folder: Folder) -> dict[str, Any]:
        """Return what the copier says, which runs as the user: anything may be there."""
        path = state.status_file(self._root, folder.uid)
        with suppress(OSError, ValueError, RecursionError):
            found = json.loads(holds.read_plain(path, _MOST_STATUS)[0])
            if isinstance(found, dict):
                return found
        return {}


def prepare() -> None:
    """Have systemd run `last` when the machine shuts down."""
    with suppress(OSError):
        subprocess.run(["systemctl", "start", "golden-keep-end"], check=False)


def last(root: Path) -> None:
    """Make the copies of a machine that shuts down, when systemd starts no unit any more."""
    processes = []
    for folder in folders(root):
        place = state.status_file(root, folder.uid).parent
        place.mkdir(parents=True, exist_ok=True)
        os.chown(place, folder.uid, folder.gid)
        processes.append(
            subprocess.Popen(
                ["golden-keep", "--root", str(root), "copy"],
                user=folder.uid,
                group=folder.gid,
                extra_groups=os.getgrouplist(holds.user_name(folder.uid), folder.gid),
            )
        )
    for process in processes:
        process.wait()


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and 0 <= value < 1e18 else 0.0


def _plain(value: object) -> str:
    return "".join(filter(str.isprintable, str(value or "")))[:200]
