"""The order in which roles run: the program's steps, and among them own roles, which are the
folders of roles/ that these steps do not name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import YamlFile, nearest
from goldenami.model import program_files
from goldenami.model.roles.role_specs import table

STEPS = (
    ("os_updates",),
    ("cuda",),
    ("frameworks", "trim"),
    ("container_runtime", "instance_store", "tools", "golden_health"),
    ("jupyterhub", "golden_idle"),
    ("kernel",),
    ("nvidia_driver",),
    ("containers",),
    ("customize",),
    (
        "hardening",
        "limits",
        "network_tuning",
        "first_touch",
        "fast_boot",
        "immutable",
        "provenance",
        "seal",
    ),
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

NAME = re.compile(r"[a-z][a-z0-9_]*")
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


def known(root: Path) -> list[str]:
    """The program's roles, and those of the repository `root`."""
    return sorted(program_files.roles(root) | {*ROLE_ORDER})


def mistakes(root: Path, source: YamlFile, roles: Entries) -> Iterator[BadInput]:
    """What is wrong with names and places of `roles`."""
    there = known(root)
    for role, said in roles.items():
        key = ("roles", role)
        if role not in there:
            yield source.error(key, f"unknown role; {nearest(role, there)}")
        elif not NAME.fullmatch(role):
            yield source.error(
                key,
                "is no name for a role: small letters, digits and `_`",
                hint="rename its folder, as its variables begin",
            )
        elif taken := program_files.taken(root, role):
            yield source.error(
                key,
                f"is goldenami's, and {taken} has its name",
                hint="rename that folder, and what it is about",
            )
        elif second := program_files.twice(root, role):
            yield source.error(
                key,
                f"is the name of two roles; {second} is the second",
                hint="rename one of them, or take its collection away",
            )
        elif role in ROLE_ORDER:
            for name in OWN_KEYS:
                if name in (said or {}):
                    yield source.error((*key, name), f"is for own roles; `{role}` is goldenami's")
        else:
            yield from _misplaced(source, role, said or {}, {*roles, *ROLE_ORDER})
            yield from _unnamed(root, source, role, roles)
    placed = {role for step in steps(roles) for role in step}
    waiting = [role for role in own(roles) if role not in placed]
    # Only what every other rule lets pass waits in a circle.
    circle = [role for role in waiting if role in there and place(roles[role] or {})[1] in waiting]
    for role in circle:
        yield source.error(
            ("roles", role),
            f"never gets its turn: {', '.join(circle)} stand "
            "before and after each other in a circle",
            hint="take one `before` or `after` away",
        )


def _misplaced(source: YamlFile, role: str, said: Entry, others: set[str]) -> Iterator[BadInput]:
    if BEFORE in said and AFTER in said:
        yield source.error(
            ("roles", role, AFTER),
            "and `before` are both given",
            hint="keep one of them: a role has one place",
        )
    for where, never in ((BEFORE, (FIRST,)), (AFTER, ENDING)):
        beside, key = str(said.get(where)), ("roles", role, where)
        if where in said and beside not in others:
            yield source.error(
                key,
                f"unknown role `{beside}`; {nearest(beside, others)}",
                hint="name a role of this definition, or one of goldenami's",
            )
        elif beside in never:
            yield source.error(
                key,
                f"no role runs {where} `{beside}`",
                hint="leave the line out for a place after the driver",
            )
    names: Any = said.get("packages", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        yield source.error(
            ("roles", role, "packages"),
            f"is {names!r}, no list of packages",
            hint="write `[NAME, NAME]`",
        )


def _unnamed(root: Path, source: YamlFile, role: str, roles: Entries) -> Iterator[BadInput]:
    """A role that Ansible runs as another's dependency has to be in the lock, too."""
    for each in table(program_files.role(root, role) / "meta/main.yml").get("dependencies") or []:
        name = each.get("role", each.get("name")) if isinstance(each, dict) else each
        if name not in roles:
            yield source.error(
                ("roles", role),
                f"depends on the role `{name}` (its meta/main.yml)",
                hint=f"write `{name}:` under `roles`, so that the lock knows it",
            )
