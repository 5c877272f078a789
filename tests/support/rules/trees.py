"""A tree of files as the rules of the repository read it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from goldenami.core import shell


def files(root: Path) -> list[Path]:
    """What git tracks or would track; in a tree without git every file."""
    if not (root / ".git").exists():
        return sorted(path for path in root.rglob("*") if path.is_file())
    text = shell.output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root)
    return sorted({root / name for name in text.split("\0") if name and (root / name).is_file()})


def texts(root: Path) -> Iterator[tuple[Path, str]]:
    for path in files(root):
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def python(root: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in files(root):
        if path.suffix == ".py":
            status = path.stat()
            yield path, _parsed(path, status.st_mtime_ns, status.st_size)


@functools.cache
def _parsed(path: Path, _modified: int, _size: int) -> ast.Module:
    """One tree for all rules: nobody changes it."""
    return ast.parse(path.read_text(encoding="utf-8"))
