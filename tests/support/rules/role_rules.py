"""The contract of roles/, as functions from a tree and a role's name to the list of its violations.

`tests/unit/house/test_roles_contract.py` holds each role to them, and feeds each a role that
breaks it.
"""

from __future__ import annotations

import re
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


def readme(root: Path, role: str) -> list[str]:
    """README's table has the same variables; one pair of backticks holds the default, `derived` has
    none."""
    folder = root / "roles" / role
    rows = dict(
        re.findall(
            r"^\| `([a-z_0-9]+)` \| (.*?) \|", trees.read(folder / "README.md"), re.MULTILINE
        )
    )
    options = _options(folder)
    problems = [
        f"{role}: {name} is a variable or a row of README's table, not both"
        for name in sorted(options.keys() ^ rows.keys())
    ]
    for name in sorted(options.keys() & rows.keys()):
        has_default, stated = "default" in options[name], rows[name]
        literal = re.fullmatch(r"`([^`]*)`", stated)
        if has_default == (stated == "derived"):
            problems.append(
                f"{role}: README says `{stated}` of {name}, which has "
                f"{'a' if has_default else 'no'} default"
            )
        elif literal and yaml.safe_load(literal[1]) != options[name].get("default"):
            problems.append(
                f"{role}: README says {literal[1]} of {name}, not {options[name].get('default')!r}"
            )
    return problems


def company(root: Path, role: str) -> list[str]:
    """A role has a Molecule scenario and tests of the image."""
    wanted = (f"molecule/{role}/molecule.yml", f"tests/image/{role}/test_{role}.py")
    return [f"{name} is missing" for name in wanted if not (root / name).is_file()]


RULES: tuple[Callable[[Path, str], list[str]], ...] = (specification, readme, company)
