"""The words of a notice: which machine, since when, what will happen, and how to keep it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from golden_idle.account import Instance
from golden_idle.holds import user_name
from golden_idle.settings import Action, Settings

_CONSEQUENCE = {
    Action.NOTIFY: "Nothing is stopped: the action is `notify`. In a group it may now be scaled in.",
    Action.POWEROFF: "It powers off in {minutes} minutes if it stays idle.",
    Action.LEAVE_GROUP: "It is terminated, and its group made smaller by one, in {minutes} minutes if it stays idle.",
}


def subject(instance: Instance, settings: Settings) -> str:
    """One line of ASCII, as an SNS subject has to be."""
    return f"{instance.id} ({instance.type}, {instance.region}) is idle: {settings.action}"


def lines(instance: Instance, settings: Settings, quiet_minutes: float) -> list[str]:
    """What every notice says."""
    return [f"{instance.id} has been idle for {quiet_minutes:.0f} minutes.",
            _CONSEQUENCE[settings.action].format(minutes=settings.grace_minutes),
            "To keep it, on the machine: golden-idle hold 4h REASON"]


def of_holders(found: Sequence[str]) -> list[str]:
    """A line for processes that hold GPU memory, which keeps no machine busy; none where there are none."""
    return [f"Processes that hold GPU memory, and compute nothing: {', '.join(found)}."] if found else []


def holders(processes: Sequence[int], root: Path) -> list[str]:
    """`python3 (ann, 4242)` for each process that still runs."""
    found = []
    for pid in processes:
        folder = root / "proc" / str(pid)
        try:
            name, uid = (folder / "comm").read_text(encoding="utf-8", errors="replace").strip(), folder.stat().st_uid
        except OSError:
            continue
        found.append(f"{''.join(filter(str.isprintable, name))} ({user_name(uid)}, {pid})")
    return found
