"""The contract of roles/, as functions from a tree and a role's name to the list of its violations.

`tests/unit/house/test_roles_contract.py` holds each role to them, and feeds each a role that
breaks it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from support import trees


def _yaml(path: Path) -> Any:
    return yaml.safe_load(trees.read(path)) or {}


def _options(folder: Path) -> dict[str, dict[str, Any]]:
    specs = _yaml(folder / "meta/argument_specs.yml")
    return specs.get("argument_specs", {}).get("main", {}).get("options") or {}


def specification(root: Path, role: str) -> list[str]:
    """defaults and argument_specs agree: same names, same values; what is required, or
    derived by the lock, has no default."""
    folder = root / "roles" / role
    options, defaults = _options(folder), _yaml(folder / "defaults/main.yml")
    stated = {name: option["default"] for name, option in options.items() if "default" in option}
    problems = [
        f"{role}: {name} is {defaults.get(name, 'absent')!r} in defaults, "
        f"{stated.get(name, 'absent')!r} in argument_specs"
        for name in sorted(defaults.keys() | stated.keys())
        if name not in defaults or name not in stated or defaults[name] != stated[name]
    ]
    problems += [
        f"{role}: {name} is required and has a default"
        for name, option in options.items()
        if option.get("required") and name in defaults
    ]
    return problems + [
        f"{role}: {name} has no {key}"
        for name, option in options.items()
        for key in ("type", "description")
        if key not in option
    ]


def company(root: Path, role: str) -> list[str]:
    """A role has a Molecule scenario and tests of the image."""
    wanted = (f"molecule/{role}/molecule.yml", f"tests/image/{role}/test_{role}.py")
    return [f"{name} is missing" for name in wanted if not (root / name).is_file()]


RULES: tuple[Callable[[Path, str], list[str]], ...] = (specification, company)
