"""Bytes that each package really takes in a tree: what its file list names, as the manifest measured it.

A package's own Installed-Size says what it would take if nothing of it were left out. A wheel's list is its RECORD.
"""

from __future__ import annotations

import json
from pathlib import Path

from goldenami.local.tree.owners import packages

UNOWNED = ""
"""Key of what no package owns: written by roles, boot files, the package database itself."""


def by_package(tree: Path, manifest: Path) -> dict[str, int]:
    """Bytes by package name, by WHEEL and project of a wheel; files that nobody owns stand under UNOWNED."""
    owners, sizes = packages(tree), {UNOWNED: 0}
    for entry in json.loads(manifest.read_text(encoding="utf-8"))["entries"]:
        if "size" in entry:
            owner = owners.get(entry["path"], UNOWNED)
            sizes[owner] = sizes.get(owner, 0) + entry["size"]
    return sizes
