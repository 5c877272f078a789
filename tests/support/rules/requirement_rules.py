"""What pyproject.toml asks for and what requirements/ pins: rules as those of `layout_rules`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from support.rules import trees

FILES = ("run", "emulator", "test")
"""Files of requirements/; each has the pins of those before it."""


def direct(path: Path) -> dict[str, list[Requirement]]:
    """By file of requirements/, what the `pyproject.toml` at `path` asks for itself."""
    project = tomllib.loads(trees.read(path))
    asked = project.get("project", {})
    names = {"run": asked.get("dependencies", []), **asked.get("optional-dependencies", {}),
             **project.get("dependency-groups", {})}
    return {file: [Requirement(text) for text in texts] for file, texts in names.items()}


def pins(root: Path) -> list[str]:
    """requirements/ has what pyproject.toml asks for, a file with what those before it have; pip
    itself wants a hash for each."""
    asked, wanted = direct(root / "pyproject.toml"), list[Requirement]()
    former: dict[NormalizedName, str] = {}
    problems = [f"pyproject.toml has the group {name}, for which requirements/ has no file"
                for name in sorted(asked.keys() - set(FILES))]
    for name in FILES:
        stated = re.findall(r"^([\w.-]+)==(\S+)", trees.read(root / f"requirements/{name}.txt"),
                            re.MULTILINE)
        versions = {canonicalize_name(pin): version for pin, version in stated}
        wanted += asked.get(name, [])
        problems += [f"{name}.txt does not have {each}; run scripts/pin" for each in wanted
                     if not (version := versions.get(canonicalize_name(each.name)))
                     or not each.specifier.contains(version)]
        problems += [f"{name}.txt: {pin} is not {version}, as in the file before it"
                     for pin, version in former.items() if versions.get(pin) != version]
        former = versions
    return problems
