"""Reads the disk in a completed snapshot: the list of its blocks, those that differ from another
snapshot's, and their bytes.

Source: EBS direct APIs, https://docs.aws.amazon.com/ebs/latest/userguide/readsnapshots.html.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from goldenami.aws.session import Client, translated
from goldenami.aws.snapshots.send import Patience
from goldenami.core.units import GIB
from goldenami.core.worker_pool import WorkerPool
from goldenami.model.builds.disk_blocks import SLOT, BlockMap
from goldenami.model.builds.sparse_disk import BLOCK, ZEROS

IN_FLIGHT = 64
"""Blocks in flight. A snapshot gives 1,000 a second (EBS quotas, GetSnapshotBlock)."""
_UNRELATED = "UNRELATED_SNAPSHOTS"
_BAD_TOKEN = "INVALID_BLOCK_TOKEN"  # noqa: S105 - EBS's word for a token that expired


class SnapshotDisk:
    """A disk made of the blocks that `list` found in a snapshot. All others are zeros.

    With a `folder`, blocks that were read are kept there in a file without a name. Reading raises
    Unreachable if EBS gives no block for PATIENCE_S.
    """

    def __init__(self, ebs: Client, snapshot_id: str, folder: Path | None = None) -> None:
        self._ebs, self._id, self._region = ebs, snapshot_id, ebs.meta.region_name
        self._patience = Patience(f"given a block of {snapshot_id}")
        self._tokens, self._has = dict[int, str](), set[int]()
        self._kept = tempfile.TemporaryFile(dir=folder, buffering=0) if folder else None  # noqa: SIM115 - open as long as the disk is
        self.size = 0

    def list(self, older: str = "") -> list[int] | None:
        """List the blocks that differ from the snapshot `older`, and return their indexes.

        Without `older`, or if EBS knows no lineage of the two, list all blocks and return None.
        """
        with translated(self._region):
            changed = self._changed_since(older) if older else None
            if changed is None:
                self._tokens = self._listed()
                return None
            self._tokens = {index: token for index, token in changed.items() if token}
        return sorted(changed)

    def _listed(self) -> dict[int, str]:
        """The token of each block by its index. Blocks that are not listed are zeros."""
        return {
            block["BlockIndex"]: block["BlockToken"]
            for block in self._pages("Blocks", self._ebs.list_snapshot_blocks, SnapshotId=self._id)
        }

    def _changed_since(self, older: str) -> dict[int, str | None] | None:
        """The token of each block that differs, by its index; None for a block that is not there
        any more. Returns None if EBS knows no lineage of the two snapshots."""
        try:
            return {
                block["BlockIndex"]: block.get("SecondBlockToken")
                for block in self._pages(
                    "ChangedBlocks",
                    self._ebs.list_changed_blocks,
                    FirstSnapshotId=older,
                    SecondSnapshotId=self._id,
                )
            }
        except ClientError as error:
            # EBS's documentation of lineage contradicts itself, so any two snapshots may be called
            # unrelated.
            if error.response.get("Reason") != _UNRELATED:
                raise
            return None

    def _pages(self, key: str, call: Callable[..., Any], **arguments: str) -> Iterator[Any]:
        """Yield the items below `key` from every page of a call, and note the volume's size."""
        page: dict[str, Any] = {}
        while True:
            reply = Patience(f"listed the blocks of {self._id}").ask(
                functools.partial(call, **arguments, **page)
            )
            self.size = reply["VolumeSize"] * GIB
            yield from reply[key]
            if not reply.get("NextToken"):
                return
            page = {"NextToken": reply["NextToken"]}

    @property
    def blocks_read(self) -> int:
        return len(self._has)

    @property
    def bytes_listed(self) -> int:
        return len(self._tokens) * BLOCK

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes at `offset`, which have to be within `size`."""
        parts, at = list[bytes](), offset
        while at < offset + length:
            start = at % BLOCK
            part = self._block(at // BLOCK)[start : start + offset + length - at]
            parts.append(part)
            at += len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Remove the blocks that were kept."""
        if self._kept:
            self._kept.close()

    def fetch(self) -> None:
        """Read all listed blocks, many in parallel."""

        def keep(index: int) -> None:
            self._block(index)

        WorkerPool(IN_FLIGHT).run(sorted(self._tokens), keep)

    def hashed(self, target: Path, on_bytes: Callable[[int], None] = lambda _: None) -> BlockMap:
        """Read all blocks and write the list of their hashes to `target`, as `disk_blocks.scan`
        does for a disk. `on_bytes` is called with the bytes that arrive, by any thread."""
        blocks = BlockMap.create(target, self.size // GIB)
        with target.open("r+b") as sink:

            def note(index: int) -> None:
                # Hashed here, as EBS's own checksum would only say that EBS agrees with itself.
                if (data := self._block(index)) != ZEROS:
                    os.pwrite(sink.fileno(), hashlib.sha256(data).digest(), index * SLOT)
                on_bytes(BLOCK)

            WorkerPool(IN_FLIGHT).run(sorted(self._tokens), note)
        return blocks

    def _block(self, index: int) -> bytes:
        """One block's bytes: zeros if it is not listed, from the folder if it was kept, or from
        EBS."""
        if index not in self._tokens:
            return ZEROS
        if self._kept and index in self._has:
            return os.pread(self._kept.fileno(), BLOCK, index * BLOCK)
        with translated(self._region):
            data = self._from_ebs(index)
        if self._kept:
            os.pwrite(self._kept.fileno(), data, index * BLOCK)
        self._has.add(index)
        return data

    def _from_ebs(self, index: int) -> bytes:
        def ask() -> bytes:
            reply = self._ebs.get_snapshot_block(
                SnapshotId=self._id, BlockIndex=index, BlockToken=self._tokens[index]
            )
            return bytes(reply["BlockData"].read())

        try:
            return self._patience.ask(ask)
        except ClientError as error:
            if error.response.get("Reason") != _BAD_TOKEN:
                raise
        # Tokens expire, so the listed blocks get new ones.
        self._tokens.update(
            (at, token) for at, token in self._listed().items() if at in self._tokens
        )
        return self._patience.ask(ask)
