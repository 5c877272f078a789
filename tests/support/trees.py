"""A tree of files as the rules of the repository read it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from goldenami.core import shell

GENERATED = "docs/reference.md"
PRODUCT = ("scripts/goldenami", "scripts/goldenami_fleet")
"""The packages of the product."""
SEEN: set[Path] = set()
"""What the rules have looked at. A rule that looks at nothing finds nothing wrong, so its test
counts."""


def files(root: Path) -> list[Path]:
    """What git tracks, so not what somebody keeps beside it; in a tree without git every file."""
    if not (root / ".git").exists():
        return sorted(path for path in root.rglob("*") if path.is_file())
    text = shell.output(["git", "ls-files", "-z"], cwd=root)
    return sorted({root / name for name in text.split("\0") if name and (root / name).is_file()})


def scanned(least: int, root: Path, pattern: str) -> list[Path]:
    """The files that a test looks at; it fails where there are fewer than `least`, which it saw
    when it was written."""
    found = glob(root, pattern)
    assert len(found) >= least, f"{pattern} are {len(found)} files here, and were {least}"
    return found


def glob(root: Path, pattern: str) -> list[Path]:
    found = sorted(root.glob(pattern))
    SEEN.update(found)
    return found


def product(root: Path) -> list[Path]:
    """The modules of the product."""
    return [path for package in PRODUCT for path in glob(root / package, "**/*.py")]


def texts(root: Path, *suffixes: str) -> Iterator[tuple[Path, str]]:
    for path in files(root):
        if not suffixes or path.suffix in suffixes:
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # a picture
            SEEN.add(path)
            yield path, text


def read(path: Path) -> str:
    if not path.is_file():
        return ""
    SEEN.add(path)
    return path.read_text(encoding="utf-8")


def python(root: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in files(root):
        if path.suffix == ".py":
            SEEN.add(path)
            status = path.stat()
            yield path, _parsed(path, status.st_mtime_ns, status.st_size)


@functools.cache
def _parsed(path: Path, _modified: int, _size: int) -> ast.Module:
    """One tree for all rules: nobody changes it."""
    return ast.parse(path.read_text(encoding="utf-8"))
