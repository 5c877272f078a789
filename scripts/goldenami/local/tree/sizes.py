"""Bytes that each package really takes in a tree: what its file list names, as the manifest
measured it.

A package's own Installed-Size says what it would take if nothing of it were left out. A wheel's
list is its RECORD. Holes of a file take nothing (`stored` of the manifest).
"""

from __future__ import annotations

import json
from pathlib import Path

from goldenami.local.tree.owners import installed, packages

UNOWNED = ""
"""Key of what no package owns: written by roles, boot files, the package database itself."""


def by_package(tree: Path, manifest: Path) -> dict[str, int]:
    """Bytes by the name of each installed package, by WHEEL and project of a wheel; files that
    nobody owns stand under UNOWNED.
    """
    entries = json.loads(manifest.read_text(encoding="utf-8"))["entries"]
    owners, sizes = packages(tree), dict.fromkeys([UNOWNED,
                                                   *installed(entry["path"] for entry in entries)],
                                                  0)
    for entry in entries:
        if "size" in entry:
            owner = owners.get(entry["path"], UNOWNED)
            sizes[owner] = sizes.get(owner, 0) + entry.get("stored", entry["size"])
    return sizes
