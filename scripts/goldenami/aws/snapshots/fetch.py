"""Blocks of a completed snapshot: which there are, which differ from another's, and their bytes.

Source: EBS direct APIs, https://docs.aws.amazon.com/ebs/latest/userguide/readsnapshots.html.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from goldenami.aws.snapshots.send import Patience

IN_FLIGHT = 64
"""Blocks under way at once; a snapshot gives 1,000 a second (EBS quotas, GetSnapshotBlock)."""
_UNRELATED = "UNRELATED_SNAPSHOTS"


class SnapshotSource:
    """The blocks of one snapshot; many threads may ask. `gib` is its volume's size, once it was
    listed."""

    def __init__(self, ebs: Any, snapshot_id: str) -> None:
        self.ebs, self.id, self.gib = ebs, snapshot_id, 0
        self._patience = Patience(f"given a block of {snapshot_id}")

    def listed(self) -> Iterator[tuple[int, str]]:
        """Index and token of each block that the snapshot lists, ascending, page by page. What is
        not listed is zeros.
        """
        for block in self._pages("Blocks", self.ebs.list_snapshot_blocks, SnapshotId=self.id):
            yield block["BlockIndex"], block["BlockToken"]

    def changed_since(self, older: str) -> dict[int, str | None] | None:
        """By index, the token of each block that differs from the snapshot `older`; None for one
        that is not there any more. None instead of all, where EBS knows no lineage of the two.

        The documentation of lineage contradicts itself, so that answer has to be expected of any
        two snapshots.
        """
        try:
            return {block["BlockIndex"]: block.get("SecondBlockToken") for block in self._pages(
                "ChangedBlocks", self.ebs.list_changed_blocks, FirstSnapshotId=older,
                SecondSnapshotId=self.id)}
        except ClientError as error:
            if error.response.get("Reason") != _UNRELATED:
                raise
            return None

    def _pages(self, key: str, call: Callable[..., Any], **asked: str) -> Iterator[Any]:
        page: dict[str, Any] = {}
        while True:
            reply = Patience(f"listed the blocks of {self.id}").ask(
                functools.partial(call, **asked, **page))
            self.gib = reply["VolumeSize"]
            yield from reply[key]
            if not reply.get("NextToken"):
                return
            page = {"NextToken": reply["NextToken"]}

    def block(self, index: int, token: str) -> bytes:
        """The block as it arrives. Raises Unreachable when EBS gives none of the snapshot for
        PATIENCE_S."""
        def read() -> bytes:
            reply = self.ebs.get_snapshot_block(SnapshotId=self.id, BlockIndex=index,
                                                BlockToken=token)
            return bytes(reply["BlockData"].read())

        return self._patience.ask(read)
