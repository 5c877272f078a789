"""Which package each path of a tree belongs to, by the file lists of Debian's packages and of wheels."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

_MERGED = ("bin", "lib", "lib32", "lib64", "sbin")
"""Top folders that are links into /usr on a merged system, as file lists may still name them."""
WHEEL = "wheel:"
"""Begins the name of a wheel in an environment below /opt/ml; its project follows."""


def packages(tree: Path) -> dict[str, str]:
    """The package of each path, or WHEEL and the project; the first of several that name a path has it."""
    found = dict[str, str]()
    for name, paths in _lists(tree):
        for path in paths:
            found.setdefault(path, name)
    return found


def _lists(tree: Path) -> Iterator[tuple[str, list[str]]]:
    """A package's own Installed-Size says nothing of its paths; a wheel's list is its RECORD."""
    for listing in sorted((tree / "var/lib/dpkg/info").glob("*.list")):
        lines = listing.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        yield listing.stem.partition(":")[0], [_real(path) for path in lines]
    for record in sorted((tree / "opt/ml").glob("*/lib/python3*/site-packages/*.dist-info/RECORD")):
        project, folder = record.parent.name.partition("-")[0], record.parents[1].relative_to(tree)
        with record.open(encoding="utf-8", newline="") as rows:
            paths = [os.path.normpath(f"/{folder}/{row[0]}") for row in csv.reader(rows) if row]
        yield WHEEL + project.replace("_", "-").lower(), paths


def _real(path: str) -> str:
    top = path.split("/", 2)[1] if path.count("/") > 1 else ""
    return f"/usr{path}" if top in _MERGED else path
