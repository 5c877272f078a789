"""The state of one path: as the bake's manifest states it, or as it was found on a disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CAPABILITY = "security.capability"
"""The one extended attribute that an image's files have; the manifest calls it `capability`."""


@dataclass(frozen=True)
class PathState:
    """One path. `kind` is a type as the manifest names it; `target` is a link's text, or the first
    path of a hard link.

    `sha256` is None if nothing was hashed. `text` is the content of the few files whose lines a
    rule reads. `flags` are inode flags without those of layout. `package` is the Debian package (or
    `wheel:` and a project) that the path belongs to.
    """

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int = 0
    sha256: str | None = None
    target: str = ""
    device: tuple[int, int] = (0, 0)
    attributes: Mapping[str, str] = field(default_factory=dict)
    flags: int = 0
    text: str | None = None
    package: str = ""

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> PathState:
        attributes = dict(row.get("attributes", {}))
        if "capability" in row:
            attributes[CAPABILITY] = row["capability"]
        major, minor = row.get("device", (0, 0))
        return cls(
            path=row["path"],
            kind=row["type"],
            mode=int(row["mode"], 8),
            uid=row["uid"],
            gid=row["gid"],
            size=row.get("size", 0),
            sha256=row.get("sha256"),
            target=row.get("target", ""),
            device=(major, minor),
            attributes=attributes,
            flags=row.get("flags", 0),
            text=row.get("text"),
            package=row.get("package", ""),
        )
