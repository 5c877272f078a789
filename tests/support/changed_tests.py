"""`python -m support.changed_tests`: the test files that a change can break, the nearest first, a
minute's worth.

A change is what git sees since HEAD left the main branch. A test's distance from it is the number
of imports between: of modules, of support, of `conftest.py`. A module in a string, as a program is,
and a command that a test types count as imports. Another file changes each module that names it.
pytest-testmon follows only Python in the test's own process: no role, template or program.
"""

from __future__ import annotations

import ast
import re
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from goldenami.cli import MODULES
from goldenami.core import shell

from support import trees

ROOTS = re.compile(
    r"(?:scripts|tests|roles/golden_(?:idle|health)/files)/(?P<name>.*?)(?:/__init__)?\.py"
)
"""Where modules are imported from: `pythonpath` of pyproject.toml."""
TEST = re.compile(r"tests/(?:unit|contract|aws)/(?:\w+/)?test_\w+\.py")
BUDGET_S, UNKNOWN_S = 80.0, 3.0
"""Seconds of tests that two workers do in a minute, their start included; of a file that never
ran."""


def changed(root: Path) -> set[str]:
    """The paths that differ from where HEAD left the main branch, uncommitted and untracked ones
    too."""

    def git(*arguments: str) -> list[str]:
        return shell.output(["git", *arguments], cwd=root).splitlines()

    heads = git(
        "for-each-ref", "--format=%(objectname)", "refs/remotes/origin/HEAD", "refs/heads/main"
    )
    since = git("merge-base", "HEAD", heads[-1])[0] if heads else "HEAD"
    return {*git("diff", "--name-only", since), *git("ls-files", "--others", "--exclude-standard")}


def _module(path: str) -> str:
    match = ROOTS.fullmatch(path)
    return match["name"].replace("/", ".") if match else path


def _imports(path: str, tree: ast.Module) -> Iterator[str]:
    if path.startswith("tests/"):
        yield from (_module(f"{folder}/conftest.py") for folder in Path(path).parents)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_command = path.startswith("tests/") and node.value in MODULES
            yield MODULES[node.value] if is_command else node.value


def distances(root: Path, paths: set[str]) -> dict[str, int]:
    """The test files that reach a changed one, with the number of imports between the two."""
    importers, ring, found = defaultdict[str, set[str]](set), set(paths), dict[str, int]()
    others = [Path(path) for path in paths if not path.endswith(".py")]
    # By its path, by a folder that is not the uppermost, or by a name like `account.yml`.
    names = [str(name) for path in others for name in (path, *path.parents[:-2])]
    names += [path.name for path in others if path.suffix]
    said = re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, names)) or '(?!)'})(?![\w-])")
    for file, tree in trees.python(root):
        path = file.relative_to(root).as_posix()
        if said.search(file.read_text(encoding="utf-8")):
            ring.add(path)
        for name in _imports(path, tree):
            importers[name].add(path)
    while ring:
        distance = 1 + max(found.values(), default=-1)
        found |= dict.fromkeys(ring, distance)
        ring = {importer for path in ring for importer in importers[_module(path)]} - set(found)
    return {
        path: far for path, far in found.items() if TEST.fullmatch(path) and (root / path).exists()
    }


def chosen(far: dict[str, int], record: Path, budget_s: float = BUDGET_S) -> list[str]:
    """What fits into the budget by the JUnit file of a whole run: near, then short files; one in
    any case."""
    took = defaultdict[str, float](float)
    for case in ET.parse(record).iter("testcase") if record.exists() else ():
        took[f"{case.get('classname', '').replace('.', '/')}.py"] += float(case.get("time", 0))
    picked, left = list[str](), budget_s
    for path in sorted(far, key=lambda path: (far[path], took.get(path, UNKNOWN_S), path)):
        cost = took.get(path, UNKNOWN_S)
        if cost <= left or not picked:
            picked.append(path)
            left -= cost
    return picked


def main() -> None:
    """Print the files; on standard error, how many there are in all."""
    root = Path.cwd()
    paths = changed(root)
    # It reads all files.
    far = distances(root, paths) | dict.fromkeys(["tests/unit/house/test_layout.py"], 0)
    picked = chosen(far, root / "build/tests/fast.xml")
    print("\n".join(picked))
    print(
        f"{len(paths)} changed files reach {len(far)} files of tests; the nearest {len(picked)} "
        "run, "
        "`make test-fast` runs all",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
