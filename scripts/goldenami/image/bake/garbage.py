"""The files of a store that no lock or build of a checkout names, and those that could be
shared."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from goldenami.image.bake import bake_inputs
from goldenami.model.locked import lockfile
from goldenami.packages.store import Store

_SHA256 = re.compile(r'"sha256": "([0-9a-f]{64})"')
LOCKS = "packer/locks/*.lock.json"
"""Pattern of a checkout's committed locks."""


@dataclass(frozen=True)
class Garbage:
    """Files that no lock or build names, with their bytes, and the repositories that still hold
    links to such files."""

    files: dict[Path, int]
    repositories: list[Path]

    def remove(self) -> None:
        for folder in self.repositories:
            shutil.rmtree(folder)
        for path in self.files:
            path.unlink()


def find(root: Path, store: Store) -> Garbage:
    """The files that nothing in the checkout `root` names. Before they are removed, find them again
    while nobody else uses the store: a run that began meanwhile may name one of them."""
    paths = [*root.glob(LOCKS), *root.glob("build/*/*/lock.json")]
    named_digests = set[str]()
    for path in paths:
        named_digests.update(_SHA256.findall(path.read_text(encoding="utf-8")))
    return Garbage(store.garbage(named_digests), bake_inputs.repositories(store, named_digests))


def shareable(root: Path, store: Store) -> tuple[dict[str, int], int]:
    """Objects that the committed locks name: bytes by SHA-256 of those in the store, and the number
    of missing ones."""
    size_by_digest = dict[str, int]()
    for path in sorted(root.glob(LOCKS)):
        lock, _ = lockfile.read(path)
        size_by_digest |= lock.objects()
    present = {
        digest: size for digest, size in sorted(size_by_digest.items()) if store.has(digest, size)
    }
    return present, len(size_by_digest) - len(present)
