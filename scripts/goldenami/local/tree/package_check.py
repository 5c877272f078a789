"""Check that a sealed tree has exactly the packages of its lock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import StageFailed


def check(tree: Path, locked: Mapping[str, str]) -> None:
    """Raise StageFailed if the tree does not have exactly the `locked` packages; they have their
    versions by name."""
    text = shell.output(
        [
            "dpkg-query",
            f"--admindir={tree}/var/lib/dpkg",
            "-W",
            "-f",
            "${db:Status-Abbrev}\t${Package}\t${Version}\n",
        ]
    )
    installed = dict[str, str]()
    for line in text.splitlines():
        status, name, version = line.split("\t")
        # Installed, also if held (dpkg-query(1), db:Status-Abbrev).
        if status.startswith(("ii", "hi")):
            installed[name] = version
    # The second letter is the state: installed, not installed, or only configuration files left.
    broken = sorted(line for line in text.splitlines() if line[1:2] not in ("i", "n", "c"))
    alien = sorted(
        f"{name} {version}" for name, version in installed.items() if locked.get(name) != version
    )
    if alien or broken:
        raise StageFailed(
            "the tree holds packages that the lock does not name: "
            f"{', '.join((broken + alien)[:8])}",
            hint="a role installed or upgraded something outside the locked repository",
        )
