"""A snapshot read back, block by block, as the list of its blocks.

Every block that the snapshot lists is fetched and hashed here: EBS's own checksum would only say
that EBS is at one with itself. A block that is not listed is zeros.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from goldenami.aws.snapshots.fetch import IN_FLIGHT, SnapshotSource
from goldenami.core.worker_pool import WorkerPool
from goldenami.model.builds.disk_blocks import SLOT, BlockMap
from goldenami.model.builds.sparse_disk import BLOCK, ZEROS


def scan_snapshot(
    source: SnapshotSource, listed: Iterable[tuple[int, str]], target: Path,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> BlockMap:
    """Read and hash the blocks that `source` listed into `target`: the file is equal to that of the
    disk's own blocks.
    """
    blocks = BlockMap.create(target, source.gib)
    with target.open("r+b") as sink:

        def note(item: tuple[int, str]) -> None:
            index, data = item[0], source.block(*item)
            if data != ZEROS:
                os.pwrite(sink.fileno(), hashlib.sha256(data).digest(), index * SLOT)
            on_bytes(BLOCK)

        WorkerPool(IN_FLIGHT).run(listed, note)
    return blocks
