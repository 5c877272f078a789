"""Variables that a role lets a definition set, from its argument_specs and defaults. A plain role
may lack either file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from goldenami.core import yaml_lines
from goldenami.core.errors import BadInput
from goldenami.model import program_files

_STEPS = "scripts/goldenami/model/roles/role_order.py"
"""File with the order of the roles, for messages."""


@dataclass(frozen=True)
class RoleSpec:
    """A role's variables: their specifications and defaults."""

    name: str
    options: dict[str, dict[str, Any]]
    defaults: dict[str, Any]

    @property
    def settable(self) -> list[str]:
        """Variables that a definition may set."""
        # A variable with a specification but without a default is derived by the lock.
        return sorted(name for name in self.options if name in self.defaults)


@cache
def parsed(text: str) -> Any:
    """Return the data of a YAML text. It is shared by all callers, so don't change it."""
    # Cached, since it is read again for each driver branch and flavour.
    return yaml.load(text, yaml_lines.LOADER)  # noqa: S506 - a safe one


def table(path: Path) -> dict[str, Any]:
    """Return the names and values in a role's file. A missing or empty file has none, as for
    Ansible."""
    if not path.exists():
        path = path.with_suffix(".yaml")
    try:
        data = parsed(path.read_text(encoding="utf-8")) if path.exists() else None
    except (yaml.YAMLError, OSError, UnicodeDecodeError, ValueError, RecursionError):
        data = path
    # If it is no mapping, yaml_lines.load raises an error with the problem and its line.
    return (data or {}) if isinstance(data, dict | None) else yaml_lines.load(path).data


def role_spec(root: Path, role: str) -> RoleSpec:
    """Return a role's variables. Without specifications, every default may get any value. Raises
    BadInput if the role is missing or its argument_specs are malformed."""
    folder = program_files.role(root, role)
    if not folder.is_dir():
        raise BadInput(
            f"{folder}: no such folder, and STEPS in {_STEPS} names it",
            hint="write the role, or take its name out of STEPS and of the definition",
        )
    defaults, path = table(folder / "defaults/main.yml"), folder / "meta/argument_specs.yml"
    if not (specs := table(path)):
        return RoleSpec(
            name=role, options={name: {"type": "raw"} for name in defaults}, defaults=defaults
        )
    for key in ("argument_specs", "main", "options"):
        specs = specs.get(key) or {}
        if not isinstance(specs, dict):
            raise _malformed(path, key)
    for name, option in specs.items():
        if not isinstance(option, dict):
            raise _malformed(path, name)
    return RoleSpec(name=role, options=specs, defaults=defaults)


def _malformed(path: Path, key: str) -> BadInput:
    return BadInput(
        f"{path}: {key} is no mapping", hint="see roles/limits/meta/argument_specs.yml for the form"
    )


def tasks(folder: Path, name: str = "*") -> list[dict[str, Any]]:
    """Return the tasks and handlers of a role, or only those of its files `name`, including those
    within blocks."""
    flat_tasks, queue = list[dict[str, Any]](), list[Any]()
    for path in sorted([*folder.glob(f"tasks/{name}.y*ml"), *folder.glob(f"handlers/{name}.y*ml")]):
        try:
            queue += parsed(path.read_text(encoding="utf-8")) or []
        except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
            raise BadInput(f"{path}: no list of tasks: {str(error).splitlines()[0]}") from None
    while queue:
        task = queue.pop(0)
        if isinstance(task, dict):
            flat_tasks.append(task)
            for key in ("block", "rescue", "always"):
                queue += task.get(key) or []
    return flat_tasks
