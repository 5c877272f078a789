"""NVIDIA's apt repositories on loopback: its layout and names around the driver that Debian has.

    archive = NvidiaArchive(folder, key, origins, "debian13")
    archive.release(DriverRelease("580.95.05")).publish()
    mirror = debrepo.Mirror(folder)
    # GOLDEN_MIRROR_NVIDIA is f"{mirror.uri}/{archive.path}"

The folder is that of NVIDIA's host from `compute/cuda/repos` on: `debian13/x86_64/`,
`ubuntu2404/x86_64/`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.debian import debrepo, nvidia_packages, repack
from support.debian.flat_archive import FlatArchive
from support.debian.nvidia_packages import DriverRelease
from support.debian.repack import Origins, Repack

CONTAINERS = "libnvidia-container"
"""Folder of the container toolkit's own repository, on another host of NVIDIA's, and of its key
`gpgkey`."""
KEY_FILES = {"debian13": "8793F200.pub", "ubuntu2404": "3bf863cc.pub"}
"""The file beside the index that has the key, by repository: named after NVIDIA's key, here it has
the test's."""
_PACKAGES: dict[str, Callable[[DriverRelease], list[Repack]]] = {
    "debian13": nvidia_packages.debian,
    "ubuntu2404": nvidia_packages.ubuntu,
}


class NvidiaArchive:
    """The repository of one distribution, below `folder`. Files of Debian come from `origins`, on
    first use."""

    def __init__(
        self, folder: Path, key: debrepo.Key, origins: Origins, repository: str = "debian13"
    ) -> None:
        self.repository, self.path = repository, f"{repository}/x86_64"
        self._origins, self._built = origins, folder / ".built" / repository
        self.flat = FlatArchive(folder / self.path, key, origin="NVIDIA", label="NVIDIA CUDA")

    def release(self, release: DriverRelease) -> NvidiaArchive:
        return self.add(_PACKAGES[self.repository](release))

    def add(self, packages: Iterable[Repack]) -> NvidiaArchive:
        wanted = list(packages)
        self._built.mkdir(parents=True, exist_ok=True)
        self._origins.unpack(move.origin for package in wanted for move in package.moves)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            self.flat.add(
                pool.map(lambda one: repack.build(one, self._origins, self._built), wanted)
            )
        return self

    def publish(self, *, date: int = debrepo.DATE, valid_for_s: int | None = None) -> NvidiaArchive:
        self.flat.publish(date=date, valid_for_s=valid_for_s)
        (self.flat.folder / KEY_FILES[self.repository]).write_text(
            self.flat.key.public, encoding="utf-8"
        )
        return self


def containers(
    folder: Path, key: debrepo.Key, packages: Iterable[Repack], origins: Origins
) -> FlatArchive:
    """The repository of the container toolkit below `folder`, published anew with these packages
    alone."""
    built = folder / ".built" / CONTAINERS
    built.mkdir(parents=True, exist_ok=True)
    made = FlatArchive(
        folder / CONTAINERS / "stable/deb/amd64", key, origin="NVIDIA", label="NVIDIA CORPORATION"
    )
    made.add([repack.build(package, origins, built) for package in packages]).publish()
    (folder / CONTAINERS / "gpgkey").write_text(key.public, encoding="utf-8")
    return made
