"""Rules of Python: names, sizes, who may start processes. Which way imports go, pyproject.toml
says."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from support import trees

FILE_LINES, FUNCTION_LINES, FOLDER_MODULES = 500, 40, 15
COLUMNS, WIDE_PERCENT = 100, 3


def basenames(root: Path) -> list[str]:
    """No two modules of the product have one name; those of commands/ are named as their
    command."""
    package, problems, known = root / "scripts/goldenami", [], dict[str, Path]()
    for path in trees.glob(package, "**/*.py"):
        if path.name == "__init__.py" or path.parent == package / "commands":
            continue
        if known.setdefault(path.name, path) != path:
            other = known[path.name].relative_to(package)
            problems.append(f"{path.relative_to(package)} has the name of {other}")
    return problems


def folders(root: Path) -> list[str]:
    """A folder of the product has at most 15 modules."""
    package = root / "scripts/goldenami"
    modules = Counter(
        path.parent for path in trees.glob(package, "**/*.py") if path.name != "__init__.py"
    )
    return [
        f"{folder.relative_to(package)}/ has {number} modules, at most {FOLDER_MODULES}"
        for folder, number in sorted(modules.items())
        if number > FOLDER_MODULES
    ]


def sizes(root: Path) -> list[str]:
    """Files of at most 500 lines, functions of at most 40 (docstring included, signature not)."""
    problems = []
    for path, tree in trees.python(root):
        name = path.relative_to(root)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > FILE_LINES:
            problems.append(f"{name}: {lines} lines, at most {FILE_LINES}")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.body[0].lineno + 1
                if lines > FUNCTION_LINES:
                    problems.append(
                        f"{name}: {node.name} has {lines} lines, at most {FUNCTION_LINES}"
                    )
    return problems


def widths(root: Path) -> list[str]:
    """Of the lines of Python at most 3 in 100 are wider than 100 columns: long texts alone."""
    lines = [
        line
        for path, _ in trees.python(root)
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    wide = sum(len(line) > COLUMNS for line in lines)
    if wide * 100 <= WIDE_PERCENT * len(lines):
        return []
    return [
        f"{wide} of {len(lines)} lines are wider than {COLUMNS} columns, "
        f"at most {WIDE_PERCENT} in 100"
    ]
