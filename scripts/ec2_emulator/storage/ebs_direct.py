"""The EBS direct APIs: writing, completing, listing and reading the blocks of snapshots."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import Any

from moto.core.responses import ActionResult
from moto.ebs.responses import EBSResponse
from moto.ec2.models import ec2_backends

from ec2_emulator import authorization, listing
from ec2_emulator.rules import ApiError, rule
from ec2_emulator.state import STATE, ApiCall
from ec2_emulator.storage import encryption, snapshots
from ec2_emulator.storage.block_store import BLOCK
from ec2_emulator.storage.snapshots import EmulatedSnapshot

MOST_BLOCKS, LEAST_BLOCKS = 10000, 100
"""Upper and lower bound of MaxResults; the upper one is the default (API_ListSnapshotBlocks)."""


class InvalidRequest(ApiError):
    """A refusal with the reason that AWS documents."""

    def __init__(
        self,
        message: str,
        reason: str = "INVALID_PARAMETER_VALUE",
        code: str = "ValidationException",
    ) -> None:
        super().__init__(code, message)
        self.Reason = reason


def _missing(snapshot: str) -> InvalidRequest:
    return InvalidRequest(
        f"The snapshot {snapshot} does not exist.",
        "SNAPSHOT_NOT_FOUND",
        "ResourceNotFoundException",
    )


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


@rule
def block_is_whole(data: bytes, stated: int | None) -> None:
    """The only size of a block is 524288 bytes, and DataLength says so."""
    if stated != BLOCK or len(data) != BLOCK:
        raise InvalidRequest(
            f"a block has {BLOCK} bytes: DataLength is {stated}, the body has {len(data)}",
            "INVALID_BLOCK",
        )


@rule
def block_is_what_was_signed(data: bytes, checksum: str | None, algorithm: str | None) -> bytes:
    """A block whose SHA-256 is not the checksum in the request is refused."""
    if algorithm != "SHA256" or not checksum:
        raise InvalidRequest("the checksum and its algorithm, SHA256, are required")
    digest = hashlib.sha256(data).digest()
    if checksum != _base64(digest):
        raise InvalidRequest("the checksum of the block does not match its data", "INVALID_BLOCK")
    return digest


@rule
def block_is_inside(snapshot: EmulatedSnapshot, index: int) -> None:
    """A block's index is its logical offset divided by 512 KiB, so it ends where the volume
    does."""
    if not 0 <= index < snapshot.blocks():
        raise InvalidRequest(
            f"a volume of {snapshot.volume_size} GiB has {snapshot.blocks()} blocks, and no block "
            f"{index}",
            "INVALID_BLOCK",
        )


@rule
def block_comes_in_time(snapshot: EmulatedSnapshot) -> None:
    """Nothing can be written to a snapshot after it has been completed."""
    if snapshot.sealed_at is not None:
        raise InvalidRequest(f"the snapshot {snapshot.id} is not pending", "INVALID_SNAPSHOT_ID")
    if snapshot.status == "error":
        raise InvalidRequest(
            f"the snapshot {snapshot.id} was cancelled after its timeout", "WRITE_REQUEST_TIMEOUT"
        )


@rule
def count_is_what_was_written(snapshot: EmulatedSnapshot, stated: int | None) -> None:
    """ChangedBlocksCount is the number of blocks that were written.

    AWS does not say what becomes of another number; here it is refused.
    """
    if stated != len(snapshot.written):
        raise InvalidRequest(
            f"{len(snapshot.written)} blocks were written, ChangedBlocksCount is {stated}"
        )


@rule
def snapshot_is_what_was_meant(
    snapshot: EmulatedSnapshot, checksum: str | None, method: str | None, algorithm: str | None
) -> None:
    """A checksum of the whole snapshot comes with its algorithm, SHA256, and method, LINEAR, and
    has to match."""
    if checksum is None and method is None and algorithm is None:
        return
    if (method, algorithm) != ("LINEAR", "SHA256"):
        raise InvalidRequest("the aggregation method is LINEAR and the algorithm is SHA256")
    if checksum != snapshots.linear_checksum(snapshot.written):
        raise InvalidRequest("the aggregated checksum does not match the blocks that were written")


@rule
def parent_fits(
    parent: EmulatedSnapshot,
    size_gib: int,
    encrypted: bool | None,
    key: str | None,
    *,
    by_default: bool,
) -> None:
    """A parent is a completed snapshot, no larger than its child, and decides about encryption. An
    unencrypted one is refused if encryption by default is on.

    https://docs.aws.amazon.com/ebs/latest/userguide/ebsapis-using-encryption.html
    """
    if encrypted is not None or key is not None:
        raise InvalidRequest("ParentSnapshotId excludes Encrypted and KmsKeyArn")
    if by_default and not parent.encrypted:
        raise InvalidRequest(
            f"encryption by default is on, and the parent {parent.id} is not encrypted"
        )
    if parent.status != "completed":
        raise InvalidRequest(
            f"the parent {parent.id} is {parent.status}", "INVALID_DEPENDENCY_REQUEST"
        )
    if size_gib < parent.volume_size:
        raise InvalidRequest(
            f"{size_gib} GiB are less than the parent's {parent.volume_size}", "INVALID_VOLUME_SIZE"
        )


@rule
def snapshots_are_related(first: EmulatedSnapshot, second: EmulatedSnapshot) -> None:
    """Changed blocks are those between two snapshots of one lineage."""
    if not first.lineage() & second.lineage():
        raise InvalidRequest(
            f"{first.id} and {second.id} have no lineage in common", "UNRELATED_SNAPSHOTS"
        )


@rule
def token_is_ours(snapshot: EmulatedSnapshot, index: int, token: str) -> None:
    """A block is read with the token that a list call gave for it."""
    if token != _token(snapshot, index):
        raise InvalidRequest(f"the token of block {index} is not valid", "INVALID_BLOCK_TOKEN")


@rule
def readable_when_complete(snapshot: EmulatedSnapshot) -> EmulatedSnapshot:
    """The blocks of a snapshot can be read only while its status is completed."""
    if snapshot.status != "completed":
        raise InvalidRequest(
            f"the snapshot {snapshot.id} is {snapshot.status}", "INVALID_SNAPSHOT_ID"
        )
    return snapshot


@rule
def key_opens_blocks(caller: ApiCall, snapshot: EmulatedSnapshot) -> None:
    """A caller who reads blocks of an encrypted snapshot has to be allowed kms:Decrypt."""
    if snapshot.encrypted:
        authorization.demand(STATE, caller, "kms:Decrypt")


def _token(snapshot: EmulatedSnapshot, index: int) -> str:
    return _base64(f"{snapshot.id}|{index}".encode())


def damage(snapshot: str, region: str, block: int, bit: int = 0) -> str:
    """Flip a bit of a stored block and return its new checksum. For tests: no API of AWS can."""
    # The control API has no credentials, so every account is searched.
    for account in ec2_backends:
        stored_snapshot = ec2_backends[account][region].snapshots.get(snapshot)
        if (
            isinstance(stored_snapshot, EmulatedSnapshot)
            and (digest := stored_snapshot.digest(block)) is not None
        ):
            data = bytearray(STATE.blocks.get(digest))
            data[bit // 8] ^= 1 << bit % 8
            stored_snapshot.written[block] = hashlib.sha256(data).digest()
            STATE.blocks.put(stored_snapshot.written[block], bytes(data))
            return _base64(stored_snapshot.written[block])
    raise _missing(snapshot)


class EbsDirectApi(EBSResponse):
    """The handlers."""

    @property
    def _backend(self) -> Any:
        return ec2_backends[self.current_account][self.region]

    def _find(self, name: str) -> EmulatedSnapshot:
        """Return the snapshot that a parameter names
        (https://docs.aws.amazon.com/ebs/latest/APIReference/API_PutSnapshotBlock.html)."""
        snapshot = self._backend.snapshots.get(self._get_param(name))
        if snapshot is None:
            raise _missing(self._get_param(name))
        return snapshot  # type: ignore[no-any-return]

    def start_snapshot(self) -> ActionResult:
        """https://docs.aws.amazon.com/ebs/latest/APIReference/API_StartSnapshot.html"""
        size, backend = self._get_param("VolumeSize"), self._backend
        if size is None or not 1 <= size <= 65536:
            raise InvalidRequest(
                f"the size of a volume is 1 to 65536 GiB, not {size}", "INVALID_VOLUME_SIZE"
            )
        parent_id, key = self._get_param("ParentSnapshotId"), self._get_param("KmsKeyArn")
        parent = self._find("ParentSnapshotId") if parent_id else None
        encrypted = self._get_param("Encrypted")
        if parent is None:
            key = encryption.key_of_new(backend, encrypted, key)
        else:
            parent_fits(parent, size, encrypted, key, by_default=backend.ebs_encryption_by_default)
            key = parent.kms_key_id
        if not encryption.key_works(backend, key):
            raise InvalidRequest(f"the key {key} cannot be used", "INVALID_CUSTOMER_KEY")
        snapshot = snapshots.make(
            backend, size, self._get_param("Description") or "", parent=parent, kms_key=key
        )
        # It waits for blocks until CompleteSnapshot seals it.
        snapshot.sealed_at = None
        # Timeout is in minutes, 60 if it is not given.
        snapshot.timeout_s = 60.0 * (self._get_param("Timeout") or 60)
        tags = self._get_param("Tags") or []
        snapshot.add_tags({tag["Key"]: tag["Value"] for tag in tags})
        return ActionResult(
            {
                "SnapshotId": snapshot.id,
                "OwnerId": snapshot.owner_id,
                "Status": snapshot.status,
                "StartTime": snapshot.start_time,
                "VolumeSize": size,
                "BlockSize": BLOCK,
                "Description": snapshot.description,
                "Tags": tags,
                "ParentSnapshotId": parent_id,
                "KmsKeyArn": key,
            }
        )

    def put_snapshot_block(self) -> ActionResult:
        snapshot, index = self._find("SnapshotId"), self._get_param("BlockIndex")
        data = self._get_param("BlockData")
        block_comes_in_time(snapshot)
        block_is_whole(data, self._get_param("DataLength"))
        block_is_inside(snapshot, index)
        checksum = self._get_param("Checksum")
        digest = block_is_what_was_signed(data, checksum, self._get_param("ChecksumAlgorithm"))
        # Calls run in parallel (server._PARALLEL): the block is stored before its digest is listed.
        STATE.blocks.put(digest, data)
        snapshot.written[index] = digest
        snapshot.touched_at = time.monotonic()
        return ActionResult({"Checksum": checksum, "ChecksumAlgorithm": "SHA256"})

    def complete_snapshot(self) -> ActionResult:
        """Verify the whole snapshot and seal it. A repeated call gets the same answer."""
        snapshot = self._find("SnapshotId")
        # A repeated call finds a sealed snapshot, and is not late.
        if snapshot.sealed_at is None:
            block_comes_in_time(snapshot)
        count_is_what_was_written(snapshot, self._get_param("ChangedBlocksCount"))
        snapshot_is_what_was_meant(
            snapshot,
            *(
                self._get_param(name)
                for name in ("Checksum", "ChecksumAggregationMethod", "ChecksumAlgorithm")
            ),
        )
        if snapshot.sealed_at is None:
            snapshot.sealed_at = time.monotonic()
        return ActionResult({"Status": snapshot.status})

    def _readable(self, name: str) -> EmulatedSnapshot:
        return readable_when_complete(self._find(name))

    def get_snapshot_block(self) -> ActionResult:
        """https://docs.aws.amazon.com/ebs/latest/APIReference/API_GetSnapshotBlock.html"""
        snapshot, index = self._readable("SnapshotId"), self._get_param("BlockIndex")
        key_opens_blocks(ApiCall("ebs", "GetSnapshotBlock", self.region, self.access_key), snapshot)
        token_is_ours(snapshot, index, self._get_param("BlockToken"))
        digest = snapshot.digest(index)
        if digest is None:
            raise InvalidRequest(
                f"the snapshot {snapshot.id} has no block {index}", "INVALID_BLOCK"
            )
        return ActionResult(
            {
                "DataLength": BLOCK,
                "BlockData": STATE.blocks.get(digest),
                "ChecksumAlgorithm": "SHA256",
                "Checksum": _base64(digest),
            }
        )

    def _listed(
        self, snapshot: EmulatedSnapshot, name: str, entries: list[dict[str, Any]]
    ) -> ActionResult:
        """Return a page of blocks as the list `name`
        (https://docs.aws.amazon.com/ebs/latest/APIReference/API_ListSnapshotBlocks.html)."""
        limit = self._get_param("MaxResults")
        if limit is not None and not LEAST_BLOCKS <= limit <= MOST_BLOCKS:
            raise InvalidRequest(f"MaxResults is {LEAST_BLOCKS} to {MOST_BLOCKS}, not {limit}")
        first = self._get_param("StartingBlockIndex") or 0
        page, next_token = listing.paginate(
            [entry for entry in entries if entry["BlockIndex"] >= first],
            limit,
            self._get_param("NextToken"),
            most=MOST_BLOCKS,
            bad_token=lambda text: InvalidRequest(text, "INVALID_PAGE_TOKEN"),
        )
        return ActionResult(
            {
                name: page,
                "NextToken": next_token,
                "VolumeSize": snapshot.volume_size,
                "BlockSize": BLOCK,
                "ExpiryTime": STATE.now().timestamp() + 3600,
            }
        )

    def list_snapshot_blocks(self) -> ActionResult:
        snapshot = self._readable("SnapshotId")
        return self._listed(
            snapshot,
            "Blocks",
            [
                {"BlockIndex": index, "BlockToken": _token(snapshot, index)}
                for index in snapshot.content()
            ],
        )

    def list_changed_blocks(self) -> ActionResult:
        """https://docs.aws.amazon.com/ebs/latest/APIReference/API_ListChangedBlocks.html"""
        if not self._get_param("FirstSnapshotId"):
            raise InvalidRequest("FirstSnapshotId and SecondSnapshotId come together")
        first, second = self._readable("FirstSnapshotId"), self._readable("SecondSnapshotId")
        snapshots_are_related(first, second)
        old, new, rows = first.content(), second.content(), list[dict[str, Any]]()
        for index in sorted(old.keys() | new.keys()):
            if old.get(index) != new.get(index):
                old_token = _token(first, index) if index in old else None
                new_token = _token(second, index) if index in new else None
                row = {
                    "BlockIndex": index,
                    "FirstBlockToken": old_token,
                    "SecondBlockToken": new_token,
                }
                rows.append(row)
        return self._listed(second, "ChangedBlocks", rows)
