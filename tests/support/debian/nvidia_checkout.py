"""A checkout whose image takes its driver from NVIDIA's repository on loopback, all else from
Debian's own archive."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from goldenami.model.definitions import definition_file
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock

from support.builds import checkout
from support.debian import debrepo
from support.debian.nvidia_archive import NvidiaArchive
from support.debian.nvidia_packages import DriverRelease
from support.debian.repack import Origins

IMAGE = "debian-13-nvidia"
LIMIT_S = 3600


@dataclass
class NvidiaCheckout:
    """A copy of the checkout, the archive that it resolves from, and `golden` on both.

    `env` is what `golden` is given; the test may change it.
    """

    root: Path
    archive: NvidiaArchive
    mirror: debrepo.Mirror
    env: dict[str, str] = field(default_factory=dict)
    image: str = IMAGE

    def golden(self, *args: str) -> tuple[int, str]:
        process = checkout.golden(self.root, *args, **self.env)
        said, _ = process.communicate(timeout=LIMIT_S)
        return process.returncode, said

    @property
    def definition(self) -> str:
        return definition_file.path_of(self.root, self.image).read_text(encoding="utf-8")

    @definition.setter
    def definition(self, text: str) -> None:
        definition_file.path_of(self.root, self.image).write_text(text, encoding="utf-8")

    def define(self, **changes: str) -> None:
        """Set variables of the role nvidia_driver in the definition."""
        text = self.definition
        for name, value in changes.items():
            text = re.sub(rf"^    {name}:.*\n", "", text, flags=re.M)
            text = text.replace("  nvidia_driver:\n", f"  nvidia_driver:\n    {name}: {value}\n")
        self.definition = text

    @property
    def lock_file(self) -> Path:
        return lockfile.path_of(self.root, self.image)

    def lock(self) -> Lock:
        return lockfile.read(self.lock_file)[0]


@contextmanager
def served(
    folder: Path,
    key: debrepo.Key,
    origins: Origins,
    *releases: DriverRelease,
) -> Iterator[NvidiaCheckout]:
    """A checkout beside an archive of these releases; its image is without frameworks.

    What was downloaded and compiled before is this machine's. The image's definition has the
    archive's key.
    """
    archive = NvidiaArchive(folder / "vendor", key, origins)
    for release in releases:
        archive.release(release)
    archive.publish()
    mirror = debrepo.Mirror(folder / "vendor")
    made = NvidiaCheckout(
        checkout.copy(folder / "checkout"),
        archive,
        mirror,
        {
            **os.environ,
            "GOLDEN_CACHE": str(checkout.cache(folder / "cache")),
            "GOLDEN_MIRROR_NVIDIA": f"{mirror.uri}/{archive.path}",
        },
    )
    made.define(nvidia_driver_repository_key_fingerprint=key.fingerprint)
    made.definition = _without_frameworks(made.definition)
    try:
        yield made
    finally:
        mirror.close()


def _without_frameworks(text: str) -> str:
    """They, and the CUDA of their wheels, are another source's, and gigabytes."""
    text = re.sub(r"^frameworks: .*\n", "", text, flags=re.M)
    return re.sub(r"^  (?:frameworks|cuda):\n(?:    .*\n)+", "", text, flags=re.M)
