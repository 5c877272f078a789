"""The bake's manifest, with which a disk is compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from goldenami.core import records
from goldenami.core.errors import BadInput, Unreachable
from goldenami.local.reader.path_state import PathState
from goldenami.model.builds.build_folder import BuildFolder


class BakedPaths(Mapping[str, PathState]):
    """The state of each path, in the manifest's order. A state is made when it is first read, since
    most paths never differ."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = {row["path"]: row for row in rows}
        self._made: dict[str, PathState] = {}

    def __getitem__(self, path: str) -> PathState:
        if path not in self._made:
            self._made[path] = PathState.of_row(self._rows[path])
        return self._made[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each file, and -1 for each path that is none."""
        sizes = dict.fromkeys(self._rows, -1)
        for path, row in self._rows.items():
            if row["type"] == "file":
                sizes[path] = row.get("size", 0)
        return sizes


@dataclass(frozen=True)
class Manifest:
    """The manifest of a bake. `boot` is what boots the disk (`boot_regions`)."""

    sha256: str
    paths: BakedPaths
    boot: dict[str, Any]


def demand_published(build: BuildFolder, sha256: str) -> None:
    """Raise Unreachable if the build here does not have the manifest that its AMI's tag names;
    older AMIs have no tag."""
    local_sha256 = build.read_bake().manifest_sha256 or "none"
    if sha256 and sha256 != local_sha256:
        raise Unreachable(
            f"{build.manifest} is not the manifest that was published (SHA-256 "
            f"{local_sha256[:12]}, the AMI's "
            f"tag has {sha256[:12]})",
            hint="bring the build's folder from where it was published; if somebody "
            "changed the tag, "
            f"`golden publish {build.image.image}` sets it again",
        )


def read(build: BuildFolder) -> Manifest:
    """Return the manifest of a build. Raises BadInput if there is none, or if it is not the one
    that was baked."""
    record, path = build.read_bake(), build.manifest
    if record.manifest_sha256 is None:
        raise BadInput(
            f"build {record.build_id} of {record.image} has no manifest: its disk "
            "could not be read",
            hint="bake it on this machine",
        )
    if not path.exists():
        raise BadInput(
            f"{path} does not exist", hint="bake it again: the same lock gives the same manifest"
        )
    digest = records.sha256_file(path)
    if digest != record.manifest_sha256:
        raise BadInput(
            f"{path} is not the manifest that {record.image} was baked with (SHA-256 "
            f"{digest[:12]}, the "
            f"record has {record.manifest_sha256[:12]})",
            hint="restore it, or bake again with FORCE=1",
        )
    document = json.loads(path.read_text(encoding="utf-8"))
    return Manifest(digest, BakedPaths(document["entries"]), document["boot"])
