"""What a role lets be set, by its argument_specs and defaults; a plain role may lack either."""

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
"""Where the order of the roles is written."""


@dataclass(frozen=True)
class RoleSpec:
    """A role's inputs."""

    name: str
    options: dict[str, dict[str, Any]]
    defaults: dict[str, Any]

    @property
    def settable(self) -> list[str]:
        """The others are derived by the lock."""
        return sorted(name for name in self.options if name in self.defaults)


@cache
def parsed(text: str) -> Any:
    """Cached, for it is asked for again for each driver branch and flavour; not to be changed."""
    return yaml.load(text, yaml_lines.LOADER)  # noqa: S506 - a safe one


def table(path: Path) -> dict[str, Any]:
    """A role's file of names and values; like Ansible, one that is missing or empty has none."""
    if not path.exists():
        path = path.with_suffix(".yaml")
    try:
        data = parsed(path.read_text(encoding="utf-8")) if path.exists() else None
    except (yaml.YAMLError, OSError, UnicodeDecodeError, ValueError, RecursionError):
        data = path
    # The reader of definitions says what is wrong, and on which line.
    return (data or {}) if isinstance(data, dict | None) else yaml_lines.load(path).data


def role_spec(root: Path, role: str) -> RoleSpec:
    """Without specifications a default may get any value."""
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
    """The tasks and handlers of a role, or of its files `name`, with those of blocks."""
    found, left = list[dict[str, Any]](), list[Any]()
    for path in sorted([*folder.glob(f"tasks/{name}.y*ml"), *folder.glob(f"handlers/{name}.y*ml")]):
        try:
            left += parsed(path.read_text(encoding="utf-8")) or []
        except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
            raise BadInput(f"{path}: no list of tasks: {str(error).splitlines()[0]}") from None
    while left:
        task = left.pop(0)
        if isinstance(task, dict):
            found.append(task)
            left += [each for key in ("block", "rescue", "always") for each in task.get(key) or []]
    return found
