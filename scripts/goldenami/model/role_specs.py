"""What a role lets be set, as its argument_specs and defaults state it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from goldenami.core import yaml_lines


@dataclass(frozen=True)
class RoleSpec:
    """A role's inputs as its argument_specs and defaults state them."""

    name: str
    options: dict[str, dict[str, Any]]
    defaults: dict[str, Any]

    @property
    def settable(self) -> list[str]:
        """Variables that a definition may set; the others are derived by the lock."""
        return sorted(name for name in self.options if name in self.defaults)


@cache
def parsed(text: str) -> dict[str, Any]:
    """YAML that is asked for again for each driver branch and flavour; not to be changed by who gets it."""
    return yaml.load(text, yaml_lines.LOADER) or {}  # noqa: S506 - a safe one


def role_spec(root: Path, role: str) -> RoleSpec:
    """Read the inputs of `role` from the checkout at `root`."""
    folder = root / "roles" / role
    specs = parsed((folder / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    defaults = parsed((folder / "defaults/main.yml").read_text(encoding="utf-8"))
    return RoleSpec(name=role, options=specs["argument_specs"]["main"].get("options") or {}, defaults=defaults)
