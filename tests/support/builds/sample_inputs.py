"""What a bake of a lock starts from, as tests have it: the lock's files in a store of theirs."""

from __future__ import annotations

from pathlib import Path

from goldenami.core import records
from goldenami.core.terminal.progress import Progress
from goldenami.image.bake.bake_inputs import BakeInputs
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from goldenami.packages.store import Store

from support.builds.checkout import ROOT


def of_lock(lock: Lock, store: Store, root: Path = ROOT) -> BakeInputs:
    """With the roles of the checkout `root`."""
    digest = records.sha256_text(lockfile.text_of(lock))
    return BakeInputs(root, lock, digest, store, Progress.of("test", lock.image, store.cache))
