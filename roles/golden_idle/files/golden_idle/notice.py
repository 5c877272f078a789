"""The words of a notice: which machine, since when, what will happen, and how to keep it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from golden_idle.account import Instance
from golden_idle.holds import user_name
from golden_idle.settings import Action, Settings

LOGIN = Path("run/motd.d/50-golden-idle")
"""What a login is told (pam_motd(8))."""
_CONSEQUENCE = {
    Action.NOTIFY: "Nothing is stopped: the action is `notify`. "
    "In a group it may now be scaled in.",
    Action.POWEROFF: "It powers off in {minutes} minutes if it stays idle.",
    Action.LEAVE_GROUP: "It is terminated, and its group made smaller by one, "
    "in {minutes} minutes if it stays idle.",
}


def subject(instance: Instance, settings: Settings) -> str:
    """One line of ASCII, as an SNS subject has to be."""
    return f"{instance.id} ({instance.type}, {instance.region}) is idle: {settings.action}"


def lines(instance: Instance, settings: Settings, quiet_minutes: float) -> list[str]:
    """What every notice says."""
    return [
        f"{instance.id} has been idle for {quiet_minutes:.0f} minutes.",
        _CONSEQUENCE[settings.action].format(minutes=settings.grace_minutes),
        "To keep it, on the machine: golden-idle hold 4h REASON",
    ]


def of_holders(found: Sequence[str]) -> list[str]:
    """A line for processes that hold GPU memory, which keeps no machine busy; none where there are
    none."""
    return (
        [f"Processes that hold GPU memory, and compute nothing: {', '.join(found)}."]
        if found
        else []
    )


def holders(processes: Sequence[int], root: Path) -> list[str]:
    """`python3 (ann, 4242)` for each process that still runs."""
    found = []
    for pid in processes:
        folder = root / "proc" / str(pid)
        try:
            name, uid = (
                (folder / "comm").read_text(encoding="utf-8", errors="replace").strip(),
                folder.stat().st_uid,
            )
        except OSError:
            continue
        found.append(f"{''.join(filter(str.isprintable, name))} ({user_name(uid)}, {pid})")
    return found


def tell_terminals(root: Path, text: str) -> None:
    """Tell who is logged in, as wall(1) does, and who logs in until the machine is busy again."""
    with suppress(OSError):  # the target has been told, and that is what an action needs
        (root / LOGIN).parent.mkdir(parents=True, exist_ok=True)
        (root / LOGIN).write_text(f"{text}\n", encoding="utf-8")
    for path in (root / "dev/pts").glob("[0-9]*"):
        with suppress(OSError):  # it is closed, or its reader has stopped it
            file = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
            try:
                os.write(file, f"\n{text}\n".replace("\n", "\r\n").encode())
            finally:
                os.close(file)


def take_back(root: Path) -> None:
    """A login is told nothing more."""
    (root / LOGIN).unlink(missing_ok=True)
