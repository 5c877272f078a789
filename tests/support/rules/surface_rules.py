"""What a person is told to type exists."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from goldenami import cli

from support import trees

_TYPED = (
    r"(?:[A-Z_]+=\S* )*(?:sudo -E )?(?P<own>(?:scripts/)?golden|make) (?P<name>[a-z][a-z-]+)"
    r"(?P<rest>[^`\n|;&#]*)"
)
_IN_CODE = re.compile(f"`{_TYPED}")
_IN_TEXT = re.compile(rf"(?:`|^ {{4,}}(?:\$ )?(?:- )?(?:run: )?){_TYPED}", re.MULTILINE)
"""Between backticks, and in pages and CI definitions also on a line of its own."""


@functools.cache
def _options(name: str) -> set[str]:
    return {option for each in cli.command(name).params for option in each.opts} | {"--help"}


def told(root: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Each command that the program, a page or a pipeline tells somebody to type: the file, how it
    is called, its name, and the rest of the line."""
    for path, text in trees.texts(root, ".md", ".py", ".yml"):
        file = path.relative_to(root)
        is_code = (
            file.suffix == ".py"
            and any(file.is_relative_to(package) for package in trees.PRODUCT)
            and file.name != "reference.py"
        )  # its page is read
        is_pipeline = file.parts[0] in (".github", ".gitlab-ci.yml")
        if is_code or is_pipeline or (file.suffix == ".md" and file.name != "CHANGELOG.md"):
            for match in (_IN_CODE if is_code else _IN_TEXT).finditer(text):
                yield file, match["own"], match["name"], match["rest"]


def typed(root: Path) -> list[str]:
    """Commands, options and Make targets that are named exist. A page says `scripts/golden`, which
    a clone has; the program says `golden`, which it shows as it was called itself."""
    problems, known_targets = list[str](), targets(trees.read(root / "Makefile"))
    for file, own, name, rest in told(root):
        if own == "make":
            known, odd = any(fnmatchcase(name, each) for each in known_targets), list[str]()
        else:
            known = name in cli.MODULES and (own == "golden") is (file.suffix == ".py")
            options = re.findall(r"(?<!\S)--[a-z-]+", rest) if known else []
            odd = [each for each in options if each not in _options(name)]
        if not known or odd:
            problems.append(f"{file}: {' '.join((own, name, *odd))} cannot be typed")
    return problems


def targets(makefile: str) -> set[str]:
    """The Make targets that exist; `bench-*` are many."""
    found = re.findall(r"^([a-z][a-z%-]*):(?!=)", makefile, re.MULTILINE)
    return {each.replace("%", "*") for each in found}
