"""What the store holds beyond what this checkout's locks and builds name, and what of theirs could
be shared."""

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
"""The committed locks of a checkout."""


@dataclass(frozen=True)
class Garbage:
    """Files that no lock or build names, with their bytes, and the repositories that still hold
    links to such."""

    files: dict[Path, int]
    repositories: list[Path]

    def remove(self) -> None:
        for folder in self.repositories:
            shutil.rmtree(folder)
        for path in self.files:
            path.unlink()


def find(root: Path, store: Store) -> Garbage:
    """What nothing in the checkout `root` names. Before it is removed it is looked up while nobody
    else uses the store: a run that began meanwhile may name what nobody did before."""
    paths = [*root.glob(LOCKS), *root.glob("build/*/*/lock.json")]
    named = {
        digest for path in paths for digest in _SHA256.findall(path.read_text(encoding="utf-8"))
    }
    return Garbage(store.garbage(named), bake_inputs.repositories(store, named))


def shareable(root: Path, store: Store) -> tuple[dict[str, int], int]:
    """Objects that the committed locks name and the store has, with their bytes, and how many it
    has not."""
    named = {
        digest: size
        for path in sorted(root.glob(LOCKS))
        for digest, size in lockfile.read(path)[0].objects().items()
    }
    present = {digest: size for digest, size in sorted(named.items()) if store.has(digest, size)}
    return present, len(named) - len(present)
