"""Bytes that each package really takes in a tree: what its file list names, as the manifest measured it.

A package's own Installed-Size says what it would take if nothing of it were left out. A wheel's list is its RECORD.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

_MERGED = ("bin", "lib", "lib32", "lib64", "sbin")
"""Top folders that are links into /usr on a merged system, as file lists may still name them."""
UNOWNED = ""
"""Key of what no package owns: written by roles, boot files, the package database itself."""
WHEEL = "wheel:"
"""Begins the key of a wheel in an environment below /opt/ml; its project follows."""


def by_package(tree: Path, manifest: Path) -> dict[str, int]:
    """Bytes by package name, by WHEEL and project of a wheel; files that nobody owns stand under UNOWNED."""
    entries = json.loads(manifest.read_text(encoding="utf-8"))["entries"]
    left = {entry["path"]: entry["size"] for entry in entries if "size" in entry}
    sizes: dict[str, int] = {}
    for listing in sorted((tree / "var/lib/dpkg/info").glob("*.list")):
        name = listing.stem.partition(":")[0]
        paths = listing.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        sizes[name] = sizes.get(name, 0) + sum(left.pop(_real(path), 0) for path in paths)
    for record in sorted((tree / "opt/ml").glob("*/lib/python3*/site-packages/*.dist-info/RECORD")):
        project, folder = record.parent.name.partition("-")[0], record.parents[1].relative_to(tree)
        with record.open(encoding="utf-8", newline="") as rows:
            paths = [os.path.normpath(f"/{folder}/{row[0]}") for row in csv.reader(rows) if row]
        name = WHEEL + project.replace("_", "-").lower()
        sizes[name] = sizes.get(name, 0) + sum(left.pop(path, 0) for path in paths)
    sizes[UNOWNED] = sum(left.values())
    return sizes


def _real(path: str) -> str:
    top = path.split("/", 2)[1] if path.count("/") > 1 else ""
    return f"/usr{path}" if top in _MERGED else path
