"""What a role lets be set, as its argument_specs and defaults state it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


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


def role_spec(root: Path, role: str) -> RoleSpec:
    """Read the inputs of `role` from the checkout at `root`."""
    folder = root / "roles" / role
    specs = yaml.safe_load((folder / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((folder / "defaults/main.yml").read_text(encoding="utf-8")) or {}
    return RoleSpec(name=role, options=specs["argument_specs"]["main"].get("options") or {}, defaults=defaults)
