"""The packages in a build's tree, by its manifest, compared with the lock."""

from __future__ import annotations

import json
import re
from pathlib import Path

from packaging.utils import canonicalize_name

from goldenami.core.errors import NotVerified
from goldenami.local.tree import owners
from goldenami.model.locked.lockfile import Lock

_WHEEL = re.compile(
    r"^/opt/ml/([^/]+)/lib/python3[^/]*/site-packages/([^/-]+)-([^/]+)\.dist-info/METADATA$"
)


def packages(manifest: Path, lock: Lock) -> set[str]:
    """The names of the packages in the tree. Raises NotVerified if its packages or wheels are not
    the lock's."""
    paths = [entry["path"] for entry in json.loads(manifest.read_text(encoding="utf-8"))["entries"]]
    present = owners.installed(paths)
    wheels, locked = set[tuple[str, str, str]](), set[tuple[str, str, str]]()
    for path in paths:
        if match := _WHEEL.match(path):
            wheels.add((match[1], canonicalize_name(match[2]), match[3]))
    for environment, files in lock.environments().items():
        for file in files:
            locked.add((environment, canonicalize_name(file.project), file.version))
    differences = list[str]()
    for name in sorted(present - lock.packages.keys()):
        differences.append(f"package {name} is in the image alone")
    for wheel in sorted(wheels - locked):
        differences.append(f"wheel {' '.join(wheel)} is in the image alone")
    for wheel in sorted(locked - wheels):
        differences.append(f"wheel {' '.join(wheel)} is in the lock alone")
    if differences:
        raise NotVerified(
            f"{manifest} and the lock differ: {'; '.join(differences[:6])}",
            hint=f"`make bake IMAGE={lock.image} FORCE=1` makes the build again",
        )
    return present
