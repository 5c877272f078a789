"""Rules of Python that ruff does not have: names of modules, sizes of files and folders. Which way
imports go, pyproject.toml says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from support import trees

FILE_LINES, FOLDER_MODULES = 500, 15


def basenames(root: Path) -> list[str]:
    """No two modules of the product have one name; those of commands/ are named as their
    command."""
    problems, known = list[str](), dict[str, Path]()
    for path in trees.product(root):
        if path.name == "__init__.py" or "commands" in path.relative_to(root).parts:
            continue
        if known.setdefault(path.name, path) != path:
            other = _short(known[path.name], root)
            problems.append(f"{_short(path, root)} has the name of {other}")
    return problems


def folders(root: Path) -> list[str]:
    """A folder of the product has at most 15 modules."""
    modules = Counter(path.parent for path in trees.product(root) if path.name != "__init__.py")
    return [
        f"{_short(folder, root)}/ has {number} modules, at most {FOLDER_MODULES}"
        for folder, number in sorted(modules.items())
        if number > FOLDER_MODULES
    ]


def _short(path: Path, root: Path) -> str:
    return str(path.relative_to(root / "scripts"))


def sizes(root: Path) -> list[str]:
    """Files of at most 500 lines."""
    problems = []
    for path, _ in trees.python(root):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > FILE_LINES:
            problems.append(f"{path.relative_to(root)}: {lines} lines, at most {FILE_LINES}")
    return problems
