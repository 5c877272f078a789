"""The disk that a snapshot holds, read by the block, each block once."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from botocore.exceptions import ClientError

from goldenami.aws import session
from goldenami.aws.snapshots.fetch import IN_FLIGHT, SnapshotSource
from goldenami.core.units import GIB
from goldenami.core.worker_pool import WorkerPool
from goldenami.model.builds.disk_blocks import SLOT, BlockMap
from goldenami.model.builds.sparse_disk import BLOCK, ZEROS

_BAD_TOKEN = "INVALID_BLOCK_TOKEN"  # noqa: S105 - EBS's word for a token that expired


class SnapshotDisk:
    """A disk of the blocks that `list` found in a snapshot; all others are zeros.

    What was read once is kept in a file without a name in `folder`. `blocks_read` is how many came
    from EBS.
    """

    def __init__(self, source: SnapshotSource, folder: Path) -> None:
        self._source, self._tokens, self._has = source, dict[int, str](), set[int]()
        self._kept = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - open as long as the disk is
        self.size = 0

    def list(self, older: str = "") -> list[int] | None:
        """List the blocks that differ from the snapshot `older`; returns their indexes.

        None where EBS knows no lineage of the two, or without `older`: then all blocks are listed.
        """
        with session.translated(self._source.ebs.meta.region_name):
            changed = self._source.changed_since(older) if older else None
            self._tokens = dict(self._source.listed()) if changed is None else \
                {index: token for index, token in changed.items() if token}
        self.size = self._source.gib * GIB
        return None if changed is None else sorted(changed)

    @property
    def blocks_read(self) -> int:
        """Blocks that came from EBS."""
        return len(self._has)

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes at `offset`, which is within `size`."""
        parts, at = list[bytes](), offset
        while at < offset + length:
            start = at % BLOCK
            part = self._block(at // BLOCK)[start:start + offset + length - at]
            parts.append(part)
            at += len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Forget what was read."""
        self._kept.close()

    def fetch(self, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """Read all blocks that are listed, many at once; `on_bytes` is told of bytes as they
        arrive, by any thread."""

        def keep(index: int) -> None:
            self._keep(index)
            on_bytes(BLOCK)

        with session.translated(self._source.ebs.meta.region_name):
            WorkerPool(IN_FLIGHT).run(sorted(self._tokens), keep)

    def hashed(self, target: Path) -> BlockMap:
        """Fetch what is not here yet, and write the list of the volume's blocks, as
        `disk_blocks.scan` of a disk."""
        blocks = BlockMap.create(target, self._source.gib)
        with target.open("r+b") as sink:

            def note(index: int) -> None:
                if (data := self._block(index)) != ZEROS:
                    os.pwrite(sink.fileno(), hashlib.sha256(data).digest(), index * SLOT)

            WorkerPool(2).run(sorted(self._tokens), note)
        return blocks

    @property
    def bytes_listed(self) -> int:
        """Bytes of the blocks that are listed."""
        return len(self._tokens) * BLOCK

    def _block(self, index: int) -> bytes:
        if index not in self._tokens:
            return ZEROS
        if index not in self._has:
            with session.translated(self._source.ebs.meta.region_name):
                self._keep(index)
        return os.pread(self._kept.fileno(), BLOCK, index * BLOCK)

    def _keep(self, index: int) -> None:
        try:
            data = self._source.block(index, self._tokens[index])
        except ClientError as error:
            if error.response.get("Reason") != _BAD_TOKEN:
                raise
            self._tokens.update((at, token) for at, token in self._source.listed()
                                if at in self._tokens)
            data = self._source.block(index, self._tokens[index])
        os.pwrite(self._kept.fileno(), data, index * BLOCK)
        self._has.add(index)
