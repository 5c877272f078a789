"""The order in which roles run: the program's steps, and own roles among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STEPS = (
    ("os_updates",), ("cuda",), ("frameworks", "trim"),
    ("container_runtime", "instance_store", "tools", "golden_health"),
    ("jupyterhub", "golden_idle"), ("kernel",), ("nvidia_driver",), ("containers",),
    ("customize",),
    ("hardening", "limits", "network_tuning", "first_touch", "fast_boot", "immutable", "provenance",
     "seal"),
)
"""The steps of a bake, from what costs or changes least often to what is cheap or always changes.

Each but the last is kept as a layer. Tuning is in the last: its roles take less time than a
container's start.
"""
ROLE_ORDER = tuple(role for step in STEPS for role in step)
"""The order of these roles, `seal` last: ansible/bake.yml has an image's from the lock, in
`golden_steps`."""
BEFORE, AFTER = "before", "after"
OWN_KEYS = (BEFORE, AFTER, "packages")
"""What an entry of `roles` may say of an own role besides its variables, all of which begin with
the role's name."""
FIRST, ENDING = STEPS[0][0], ("provenance", "seal")
"""No own role runs before apt is set up and services are kept from starting, or after the record of
what is installed."""
DEFAULT = (AFTER, "nvidia_driver")
"""Where an own role stands that says nothing: the driver is there for it, the layers below stay."""

Entry = Mapping[str, Any]
Entries = Mapping[str, Entry | None]


def own(roles: Entries) -> list[str]:
    """Those that the program's steps do not name."""
    return [role for role in roles if role not in ROLE_ORDER]


def place(said: Entry) -> tuple[str, str]:
    """Where an own role stands: `before` or `after`, and which role."""
    return next(((key, str(said[key])) for key in (BEFORE, AFTER) if key in said), DEFAULT)


def steps(roles: Entries) -> list[list[str]]:
    """The steps of an image, with own roles in their places. Own roles that name the same place are
    one step, so that a change of theirs leaves the layers below alone. One after a role of the last
    step, or beside another own role, is in its step. A role that waits for itself is in none."""
    found, left = [list(step) for step in STEPS], dict[tuple[str, str], list[str]]()
    for role in own(roles):
        left.setdefault(place(roles[role] or {}), []).append(role)
    while ready := [each for each in left if any(each[1] in step for step in found)]:
        for where, beside in ready:
            _insert(found, where, beside, left.pop((where, beside)))
    return found


def _insert(found: list[list[str]], where: str, beside: str, roles: list[str]) -> None:
    number = next(number for number, step in enumerate(found) if beside in step)
    step, later = found[number], int(where == AFTER)
    if beside not in ROLE_ORDER or (later and step is found[-1]):
        index = step.index(beside) + later
        step[index:index] = roles
    else:
        found.insert(number + later, list(roles))
