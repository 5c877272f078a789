"""The package that each path of a tree belongs to, by the file lists of Debian's packages and of
wheels, and the bytes that each package takes."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_MERGED = ("bin", "lib", "lib32", "lib64", "sbin")
"""Top folders that are links into /usr on a merged system; file lists may still name them."""
WHEEL = "wheel:"
"""Prefix of the name of a wheel in an environment below /opt/ml; its project follows."""
UNOWNED = ""
"""Key for what no package owns: files of roles, boot files, the package database itself."""
_LISTING = re.compile(r"^/var/lib/dpkg/info/([^/:]+)(?::\w+)?\.list$")


def packages(tree: Path) -> dict[str, str]:
    """Return the package of each path, or WHEEL and the project. The first one that names a path
    has it."""
    owner_of = dict[str, str]()
    for name, paths in _lists(tree):
        for path in paths:
            owner_of.setdefault(path, name)
    return owner_of


def installed(paths: Iterable[str]) -> set[str]:
    """Return the packages of a tree that has these paths: each one that is not purged has a file
    list."""
    return {match[1] for path in paths if (match := _LISTING.match(path))}


def sizes(tree: Path, manifest: Path) -> dict[str, int]:
    """Return the bytes that each installed package really takes, by name, by WHEEL and project of a
    wheel, and under UNOWNED. Holes of a file take nothing (`stored` of the manifest)."""
    entries = json.loads(manifest.read_text(encoding="utf-8"))["entries"]
    bytes_of = dict.fromkeys([UNOWNED, *installed(entry["path"] for entry in entries)], 0)
    owner_of = packages(tree)
    for entry in entries:
        if "size" in entry:
            owner = owner_of.get(entry["path"], UNOWNED)
            bytes_of[owner] = bytes_of.get(owner, 0) + entry.get("stored", entry["size"])
    return bytes_of


def wheel_lists(tree: Path) -> list[Path]:
    """Return the file lists of the wheels in environments below /opt/ml."""
    return sorted((tree / "opt/ml").glob("*/lib/python3*/site-packages/*.dist-info/RECORD"))


def _lists(tree: Path) -> Iterator[tuple[str, list[str]]]:
    # Sorted, because the first package that names a path has it.
    for listing in sorted((tree / "var/lib/dpkg/info").glob("*.list")):
        lines = listing.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        yield listing.stem.partition(":")[0], [real(path) for path in lines]
    for record in wheel_lists(tree):
        folder = record.parents[1].relative_to(tree)
        with record.open(encoding="utf-8", newline="") as rows:
            paths = [os.path.normpath(f"/{folder}/{row[0]}") for row in csv.reader(rows) if row]
        yield WHEEL + record.parent.name.partition("-")[0].replace("_", "-").lower(), paths


def real(path: str) -> str:
    """Return the place of a file list's path on a merged system."""
    top = path.split("/", 2)[1] if path.count("/") > 1 else ""
    return f"/usr{path}" if top in _MERGED else path
