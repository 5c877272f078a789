"""Own roles, which are the folders of roles/ that the program's steps do not name: are they there,
and have they a place?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import YamlFile, nearest
from goldenami.model import program_files
from goldenami.model.definitions import role_order
from goldenami.model.definitions.role_order import (
    AFTER,
    BEFORE,
    ENDING,
    FIRST,
    OWN_KEYS,
    ROLE_ORDER,
)
from goldenami.model.definitions.role_specs import table

NAME = re.compile(r"[a-z][a-z0-9_]*")


def known(root: Path) -> list[str]:
    """The program's roles, and those of the repository `root`."""
    return sorted(program_files.roles(root) | {*ROLE_ORDER})


def mistakes(root: Path, source: YamlFile, roles: role_order.Entries) -> Iterator[BadInput]:
    """What is wrong with names and places of `roles`."""
    there = known(root)
    for role, said in roles.items():
        key = ("roles", role)
        if role not in there:
            yield source.error(key, f"unknown role; {nearest(role, there)}")
        elif not NAME.fullmatch(role):
            yield source.error(key, "is no name for a role: small letters, digits and `_`",
                               hint="rename its folder, as its variables begin")
        elif taken := program_files.taken(root, role):
            yield source.error(key, f"is goldenami's, and {taken} has its name",
                               hint="rename that folder, and what it is about")
        elif second := program_files.twice(root, role):
            yield source.error(key, f"is the name of two roles; {second} is the second",
                               hint="rename one of them, or take its collection away")
        elif role in ROLE_ORDER:
            for name in OWN_KEYS:
                if name in (said or {}):
                    yield source.error((*key, name), f"is for own roles; `{role}` is goldenami's")
        else:
            yield from _misplaced(source, role, said or {}, {*roles, *ROLE_ORDER})
            yield from _unnamed(root, source, role, roles)
    placed = {role for step in role_order.steps(roles) for role in step}
    waiting = [role for role in role_order.own(roles) if role not in placed]
    # Only what every other rule lets pass waits in a circle.
    circle = [role for role in waiting
              if role in there and role_order.place(roles[role] or {})[1] in waiting]
    for role in circle:
        yield source.error(("roles", role), f"never gets its turn: {', '.join(circle)} stand "
                                            "before and after each other in a circle",
                           hint="take one `before` or `after` away")


def _misplaced(
    source: YamlFile, role: str, said: role_order.Entry, others: set[str]
) -> Iterator[BadInput]:
    if BEFORE in said and AFTER in said:
        yield source.error(("roles", role, AFTER), "and `before` are both given",
                           hint="keep one of them: a role has one place")
    for where, never in ((BEFORE, (FIRST,)), (AFTER, ENDING)):
        beside, key = str(said.get(where)), ("roles", role, where)
        if where in said and beside not in others:
            yield source.error(key, f"unknown role `{beside}`; {nearest(beside, others)}",
                               hint="name a role of this definition, or one of goldenami's")
        elif beside in never:
            yield source.error(key, f"no role runs {where} `{beside}`",
                               hint="leave the line out for a place after the driver")
    names: Any = said.get("packages", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        yield source.error(("roles", role, "packages"), f"is {names!r}, no list of packages",
                           hint="write `[NAME, NAME]`")


def _unnamed(
    root: Path, source: YamlFile, role: str, roles: role_order.Entries
) -> Iterator[BadInput]:
    """A role that Ansible runs as another's dependency has to be in the lock, too."""
    for each in table(program_files.role(root, role) / "meta/main.yml").get("dependencies") or []:
        name = each.get("role", each.get("name")) if isinstance(each, dict) else each
        if name not in roles:
            yield source.error(("roles", role), f"depends on the role `{name}` (its meta/main.yml)",
                               hint=f"write `{name}:` under `roles`, so that the lock knows it")
