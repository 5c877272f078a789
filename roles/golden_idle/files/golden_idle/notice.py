"""The text of a notice: which machine is idle, since when, what will happen, and how to keep it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from golden_idle.account import Instance
from golden_idle.holds import user_name
from golden_idle.settings import Action, Settings

LOGIN = Path("run/motd.d/50-golden-idle")
"""The file that a login shows (pam_motd(8))."""
_CONSEQUENCE = {
    Action.NOTIFY: "Nothing is stopped: the action is `notify`. "
    "In a group it may now be scaled in.",
    Action.POWEROFF: "It powers off in {minutes} minutes if it stays idle.",
    Action.LEAVE_GROUP: "It is terminated, and its group made smaller by one, "
    "in {minutes} minutes if it stays idle.",
}


def subject(instance: Instance, settings: Settings, owners: Sequence[str]) -> str:
    """Return the subject: one line of ASCII, as SNS requires. The owners come last, where SNS cuts
    what is too long."""
    text = f"{instance.id} ({instance.type}, {instance.region}) is idle: {settings.action}"
    whose = f" ({', '.join(owners)})" if owners else ""
    return (text + whose).encode("ascii", "replace").decode()


def lines(instance: Instance, settings: Settings, quiet_minutes: float) -> list[str]:
    """Return the lines of every notice."""
    return [
        f"{instance.id} has been idle for {quiet_minutes:.0f} minutes.",
        _CONSEQUENCE[settings.action].format(minutes=settings.grace_minutes),
        "To keep it, on the machine: golden-idle hold 4h REASON",
    ]


def of_holders(holder_names: Sequence[str]) -> list[str]:
    """Return a line about processes that hold GPU memory, which keeps no machine busy, or an empty
    list if there are none."""
    if not holder_names:
        return []
    return [f"Processes that hold GPU memory, and compute nothing: {', '.join(holder_names)}."]


def holders(processes: Sequence[int], root: Path) -> list[str]:
    """Return `python3 (ann, 4242)` for each process that still runs."""
    names = []
    for pid in processes:
        folder = root / "proc" / str(pid)
        try:
            name, uid = (
                (folder / "comm").read_text(encoding="utf-8", errors="replace").strip(),
                folder.stat().st_uid,
            )
        except OSError:
            continue
        names.append(f"{''.join(filter(str.isprintable, name))} ({user_name(uid)}, {pid})")
    return names


def tell_terminals(root: Path, text: str) -> None:
    """Tell users who are logged in, as wall(1) does."""
    for path in (root / "dev/pts").glob("[0-9]*"):
        with suppress(OSError):  # the terminal is closed, or stopped by its reader
            file = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
            try:
                os.write(file, f"\n{text}\n".replace("\n", "\r\n").encode())
            finally:
                os.close(file)


def tell_logins(path: Path, text: str) -> None:
    """Tell those who log in from now on, or nothing if the text is empty."""
    with suppress(OSError):  # what is done does not wait for it
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n" if text else "", encoding="utf-8")


def take_back(root: Path) -> None:
    """Remove the text that a login shows."""
    (root / LOGIN).unlink(missing_ok=True)
