"""What pyproject.toml asks for and what requirements/ pins: rules as those of `layout_rules`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def pinned(text: str) -> dict[str, str]:
    """Versions by name in a file of requirements/, of those lines that have a version and a
    SHA-256."""
    found = re.findall(r"^([\w.-]+)==(\S+)[^\n]*\\\n +--hash=sha256:[0-9a-f]{64}\b", text,
                       re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def _file(name: str, text: str, versions: dict[str, str], wanted: list[Requirement]) -> list[str]:
    """What is wrong with one file by itself, and with what it has of `wanted`."""
    stated = {canonicalize_name(found) for found in re.findall(r"^[\w.-]+", text, re.MULTILINE)}
    unfit = [each for each in wanted if (version := versions.get(canonicalize_name(each.name)))
             is None
             or not each.specifier.contains(version)]
    return [
        *(f"{name}.txt: {pin} has no version or no hash"
          for pin in sorted(stated - versions.keys())),
        *(f"{name}.txt names an address" for _ in re.findall("://", text)[:1]),
        *(f"{name}.txt does not have {each}; run scripts/pin" for each in unfit),
    ]


def pins(root: Path) -> list[str]:
    """Each pin has a hash and no address; the files agree with pyproject.toml and with each
    other."""
    asked, wanted, former = direct(root / "pyproject.toml"), list[Requirement](), dict[str, str]()
    problems = [f"pyproject.toml has the group {name}, for which requirements/ has no file"
                for name in sorted(asked.keys() - set(FILES))]
    for name in FILES:
        path = root / f"requirements/{name}.txt"
        text = trees.read(path)
        versions = pinned(text)
        wanted += asked.get(name, [])
        problems += _file(name, text, versions, wanted)
        problems += [f"{name}.txt: {pin} is not {version}, as in the file before it"
                     for pin, version in former.items() if versions.get(pin) != version]
        former = versions
    return problems
