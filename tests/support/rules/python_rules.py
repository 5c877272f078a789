"""Rules of Python: names, sizes, who may start processes. Which way imports go, pyproject.toml
says."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from support import trees

FILE_LINES, FUNCTION_LINES, FOLDER_MODULES = 400, 40, 15
COLUMNS, WIDE_PERCENT = 100, 3
WEIGHTS = {
    "scripts/goldenami/core": 68, "scripts/goldenami/packages": 105, "scripts/goldenami/model": 216,
    "scripts/goldenami/aws": 256, "scripts/goldenami/local": 386, "scripts/goldenami/image": 356,
    "scripts/goldenami/release": 164, "scripts/goldenami/fleet": 234, "scripts/goldenami/watch": 58,
    "scripts/goldenami/commands": 103, "scripts/ec2_emulator": 159,
    "tests/unit": 891, "tests/contract": 203, "tests/aws": 406, "tests/image": 234,
    "tests/bench": 25, "tests/support": 436,
}
"""What the Python of a folder may weigh, in 1,000 bytes. A feature names what it replaces; a cut
lowers the number."""


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
    modules = Counter(path.parent for path in trees.glob(package, "**/*.py")
                      if path.name != "__init__.py")
    return [f"{folder.relative_to(package)}/ has {number} modules, at most {FOLDER_MODULES}"
            for folder, number in sorted(modules.items()) if number > FOLDER_MODULES]


def weights(root: Path) -> list[str]:
    """No folder of Python weighs more than its budget."""
    problems = []
    for folder, budget in WEIGHTS.items():
        size = sum(path.stat().st_size for path in trees.glob(root, f"{folder}/**/*.py"))
        if size > budget * 1000:
            problems.append(f"{folder} weighs {size:,} bytes, at most {budget},000: what does "
                            "this replace?")
    return problems


def balance(root: Path) -> list[str]:
    """Tests of the code have no more lines than the code: the program, the roles' programs and the
    checks of an image."""
    lines = {"the code": 0, "its tests": 0}
    for path, _ in trees.python(root):
        folders = path.relative_to(root).parts
        is_test = folders[0] == "tests" and folders[1] != "image"
        own = "its tests" if is_test else "the code"
        lines[own] += len(path.read_text(encoding="utf-8").splitlines())
    if lines["its tests"] <= lines["the code"]:
        return []
    return [f"tests have {lines['its tests']} lines, the code {lines['the code']}: which of them tell "
            "one story twice?"]


def sizes(root: Path) -> list[str]:
    """Files of at most 400 lines, functions of at most 40 (docstring included, signature not)."""
    problems = []
    for path, tree in trees.python(root):
        name = path.relative_to(root)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > FILE_LINES:
            problems.append(f"{name}: {lines} lines, at most {FILE_LINES}")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.body[0].lineno + 1
                if lines > FUNCTION_LINES:
                    problems.append(f"{name}: {node.name} has {lines} lines, at most "
                                    f"{FUNCTION_LINES}")
    return problems


def widths(root: Path) -> list[str]:
    """Of the lines of Python at most 3 in 100 are wider than 100 columns: long texts alone."""
    lines = [line for path, _ in trees.python(root)
             for line in path.read_text(encoding="utf-8").splitlines()]
    wide = sum(len(line) > COLUMNS for line in lines)
    if wide * 100 <= WIDE_PERCENT * len(lines):
        return []
    return [f"{wide} of {len(lines)} lines are wider than {COLUMNS} columns, "
            f"at most {WIDE_PERCENT} in 100"]
