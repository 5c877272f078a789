"""The order in which roles run: the program's steps, with a repository's own roles among them. An
own role is one that these steps do not name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
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
"""The steps of a bake. Expensive roles and those that seldom change come first, cheap ones and
those that always change last.

Each step but the last is kept as a layer. Tuning is in the last one, since its roles take less time
than the start of a container.
"""
ROLE_ORDER = tuple(chain.from_iterable(STEPS))
"""All roles of the steps in their order, `seal` last. ansible/bake.yml gets the order of an image's
roles from the lock, in `golden_steps`."""
BEFORE, AFTER = "before", "after"
OWN_KEYS = (BEFORE, AFTER, "packages")
"""Keys of an own role's entry in `roles` beside its variables, which all begin with the role's
name."""
FIRST, ENDING = STEPS[0][0], ("provenance", "seal")
"""No own role may run before FIRST, which sets apt up and keeps services from starting, or after
ENDING, which record the installed packages."""
DEFAULT = (AFTER, "nvidia_driver")
"""Place of an own role without `before` and `after`: the driver is installed by then, and the
layers below don't change with the role."""

NAME = re.compile(r"[a-z][a-z0-9_]*")
Entry = Mapping[str, Any]
Entries = Mapping[str, Entry | None]


def own(roles: Entries) -> list[str]:
    """Return the roles that the program's steps do not name."""
    return [role for role in roles if role not in ROLE_ORDER]


def place(entry: Entry) -> tuple[str, str]:
    """Return the place of an own role: `before` or `after`, and the role beside it."""
    for key in (BEFORE, AFTER):
        if key in entry:
            return key, str(entry[key])
    return DEFAULT


def steps(roles: Entries) -> list[list[str]]:
    """Return the steps with own roles in their places. Own roles of one place are a step of their
    own, so that their changes leave the layers below alone. A role after one of the last step, or
    beside another own role, joins that step. Roles that wait for each other in a circle are in no
    step."""
    image_steps = [list(step) for step in STEPS]
    unplaced = dict[tuple[str, str], list[str]]()
    for role in own(roles):
        unplaced.setdefault(place(roles[role] or {}), []).append(role)
    # A role may be beside another own role, so it is inserted once that one is.
    while ready := _ready(unplaced, image_steps):
        for side, neighbour in ready:
            _insert(image_steps, side, neighbour, unplaced.pop((side, neighbour)))
    return image_steps


def _ready(
    places: Iterable[tuple[str, str]], image_steps: list[list[str]]
) -> list[tuple[str, str]]:
    """Return the places whose neighbour is in a step."""
    inserted = set(chain.from_iterable(image_steps))
    return [(side, neighbour) for side, neighbour in places if neighbour in inserted]


def _insert(image_steps: list[list[str]], side: str, neighbour: str, roles: list[str]) -> None:
    number = next(number for number, step in enumerate(image_steps) if neighbour in step)
    step, is_after = image_steps[number], int(side == AFTER)
    if neighbour not in ROLE_ORDER or (is_after and step is image_steps[-1]):
        index = step.index(neighbour) + is_after
        step[index:index] = roles
    else:
        image_steps.insert(number + is_after, list(roles))


def known(root: Path) -> list[str]:
    """Return the names of the program's roles and of those of the repository `root`."""
    return sorted(program_files.roles(root) | {*ROLE_ORDER})


def mistakes(root: Path, source: YamlFile, roles: Entries) -> Iterator[BadInput]:
    """Yield the mistakes in names and places of `roles`."""
    known_roles = known(root)
    for role, entry in roles.items():
        key = ("roles", role)
        if role not in known_roles:
            yield source.error(key, f"unknown role; {nearest(role, known_roles)}")
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
                if name in (entry or {}):
                    yield source.error((*key, name), f"is for own roles; `{role}` is goldenami's")
        else:
            yield from _misplaced(source, role, entry or {}, {*roles, *ROLE_ORDER})
            yield from _unnamed(root, source, role, roles)
    placed = set(chain.from_iterable(steps(roles)))
    waiting = [role for role in own(roles) if role not in placed]
    # A role that waits for an unknown one was reported above, so these wait for each other.
    circle = [
        role for role in waiting if role in known_roles and place(roles[role] or {})[1] in waiting
    ]
    for role in circle:
        yield source.error(
            ("roles", role),
            f"never gets its turn: {', '.join(circle)} stand "
            "before and after each other in a circle",
            hint="take one `before` or `after` away",
        )


def _misplaced(
    source: YamlFile, role: str, entry: Entry, known_roles: set[str]
) -> Iterator[BadInput]:
    if BEFORE in entry and AFTER in entry:
        yield source.error(
            ("roles", role, AFTER),
            "and `before` are both given",
            hint="keep one of them: a role has one place",
        )
    for side, forbidden in ((BEFORE, (FIRST,)), (AFTER, ENDING)):
        neighbour, key = str(entry.get(side)), ("roles", role, side)
        if side in entry and neighbour not in known_roles:
            yield source.error(
                key,
                f"unknown role `{neighbour}`; {nearest(neighbour, known_roles)}",
                hint="name a role of this definition, or one of goldenami's",
            )
        elif neighbour in forbidden:
            yield source.error(
                key,
                f"no role runs {side} `{neighbour}`",
                hint="leave the line out for a place after the driver",
            )
    names: Any = entry.get("packages", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        yield source.error(
            ("roles", role, "packages"),
            f"is {names!r}, no list of packages",
            hint="write `[NAME, NAME]`",
        )


def _unnamed(root: Path, source: YamlFile, role: str, roles: Entries) -> Iterator[BadInput]:
    """Yield the roles on which `role` depends and that the definition doesn't name."""
    # Ansible runs them, too, so the lock has to know them.
    meta = table(program_files.role(root, role) / "meta/main.yml")
    for dependency in meta.get("dependencies") or []:
        name = dependency
        if isinstance(dependency, dict):
            name = dependency.get("role", dependency.get("name"))
        if name not in roles:
            yield source.error(
                ("roles", role),
                f"depends on the role `{name}` (its meta/main.yml)",
                hint=f"write `{name}:` under `roles`, so that the lock knows it",
            )
