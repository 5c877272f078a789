"""The EBS direct APIs."""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from typing import Any

from moto.core.responses import ActionResult
from moto.ebs.responses import EBSResponse
from moto.ec2.models import ec2_backends

from ec2_emulator import answers, shots
from ec2_emulator.answers import Refusal
from ec2_emulator.arena import BLOCK
from ec2_emulator.rules import EBS_API, EBS_GUIDE, rule
from ec2_emulator.shots import Shot
from ec2_emulator.world import WORLD

MOST_BLOCKS, LEAST_BLOCKS = 10000, 100
"""Bounds of MaxResults, and the first is the default page (API_ListSnapshotBlocks)."""


class Invalid(Refusal):
    """A ValidationException with its documented reason."""

    def __init__(self, message: str, reason: str = "INVALID_PARAMETER_VALUE") -> None:
        super().__init__("ValidationException", message)
        self.Reason = reason


class Missing(Refusal):
    """A ResourceNotFoundException with its documented reason."""

    def __init__(self, snapshot: str) -> None:
        super().__init__("ResourceNotFoundException", f"The snapshot {snapshot} does not exist.")
        self.Reason = "SNAPSHOT_NOT_FOUND"


def _sha256(given: str) -> bytes:
    try:
        return base64.b64decode(given, validate=True)
    except binascii.Error:
        raise Invalid(f"{given!r} is not Base64") from None


# --- what a block must be ---------------------------------------------------------------------------------------------

@rule(EBS_API + "API_PutSnapshotBlock.html#ebs-PutSnapshotBlock-request-DataLength")
def block_is_whole(data: bytes, stated: int | None) -> None:
    """The only size of a block is 524288 bytes, and DataLength says so."""
    if stated != BLOCK or len(data) != BLOCK:
        raise Invalid(f"a block has {BLOCK} bytes: DataLength is {stated}, the body has {len(data)}", "INVALID_BLOCK")


@rule(EBS_API + "API_PutSnapshotBlock.html#ebs-PutSnapshotBlock-request-BlockData")
def block_is_what_was_signed(data: bytes, checksum: str | None, algorithm: str | None) -> bytes:
    """A block whose SHA-256 is not the checksum in the request is refused."""
    if algorithm != "SHA256" or not checksum:
        raise Invalid("the checksum and its algorithm, SHA256, are required")
    digest = hashlib.sha256(data).digest()
    if _sha256(checksum) != digest:
        raise Invalid("the checksum of the block does not match its data", "INVALID_BLOCK")
    return digest


@rule(EBS_API + "API_PutSnapshotBlock.html#ebs-PutSnapshotBlock-request-BlockIndex")
def block_is_inside(shot: Shot, index: int) -> None:
    """A block's index is its logical offset divided by 512 KiB, so it ends where the volume does."""
    if not 0 <= index < shot.blocks():
        raise Invalid(f"a volume of {shot.volume_size} GiB has {shot.blocks()} blocks, and no block {index}",
                      "INVALID_BLOCK")


@rule(EBS_API + "API_CompleteSnapshot.html")
def block_comes_in_time(shot: Shot) -> None:
    """Nothing can be written to a snapshot after it has been completed."""
    if shot.sealed_at is not None:
        raise Invalid(f"the snapshot {shot.id} is not pending", "INVALID_SNAPSHOT_ID")
    if shot.status == "error":
        raise Invalid(f"the snapshot {shot.id} was cancelled after its timeout", "WRITE_REQUEST_TIMEOUT")


# --- what a snapshot must be ------------------------------------------------------------------------------------------

@rule(EBS_API + "API_CompleteSnapshot.html#ebs-CompleteSnapshot-request-ChangedBlocksCount")
def count_is_what_was_written(shot: Shot, stated: int | None) -> None:
    """ChangedBlocksCount is the number of blocks that were written.

    AWS does not say what becomes of another number; here it is refused.
    """
    if stated != len(shot.written):
        raise Invalid(f"{len(shot.written)} blocks were written, ChangedBlocksCount is {stated}")


@rule(EBS_API + "API_CompleteSnapshot.html#ebs-CompleteSnapshot-request-ChecksumAggregationMethod")
def snapshot_is_what_was_meant(shot: Shot, checksum: str | None, method: str | None, algorithm: str | None) -> None:
    """A checksum of the whole snapshot comes with its algorithm, SHA256, and method, LINEAR, and has to match."""
    if checksum is None and method is None and algorithm is None:
        return
    if (method, algorithm) != ("LINEAR", "SHA256"):
        raise Invalid("the aggregation method is LINEAR and the algorithm is SHA256")
    if checksum != shots.linear_checksum(shot.written):
        raise Invalid("the aggregated checksum does not match the blocks that were written")


@rule(EBS_API + "API_StartSnapshot.html#ebs-StartSnapshot-request-ParentSnapshotId")
def parent_fits(parent: Shot | None, size_gib: int, encrypted: bool | None) -> None:
    """A parent is a complete snapshot, no larger than its child, and decides about encryption."""
    if parent is None:
        return
    if encrypted is not None:
        raise Invalid("Encrypted and ParentSnapshotId exclude each other")
    if parent.status != "completed":
        raise Invalid(f"the parent {parent.id} is {parent.status}", "INVALID_DEPENDENCY_REQUEST")
    if size_gib < parent.volume_size:
        raise Invalid(f"{size_gib} GiB are less than the parent's {parent.volume_size}", "INVALID_VOLUME_SIZE")


@rule(EBS_API + "API_ListChangedBlocks.html")
def snapshots_are_related(first: Shot, second: Shot) -> None:
    """Changed blocks are those between two snapshots of one lineage."""
    if not first.lineage() & second.lineage():
        raise Invalid(f"{first.id} and {second.id} have no lineage in common", "UNRELATED_SNAPSHOTS")


@rule(EBS_API + "API_GetSnapshotBlock.html#ebs-GetSnapshotBlock-request-BlockToken")
def token_is_ours(shot: Shot, index: int, token: str) -> None:
    """A block is read with the token that a list call gave for it, before that token expires."""
    try:
        name, at, until = base64.b64decode(token, validate=True).decode().split("|")
        good = (name, int(at)) == (shot.id, index) and float(until) > time.monotonic()
    except ValueError:
        good = False
    if not good:
        raise Invalid(f"the token of block {index} is not valid, or no longer", "INVALID_BLOCK_TOKEN")


def _token(shot: Shot, index: int) -> str:
    until = time.monotonic() + WORLD.settings.block_life_s
    return base64.b64encode(f"{shot.id}|{index}|{until:.3f}".encode()).decode()


def damage(snapshot: str, region: str, block: int, bit: int = 0) -> str:
    """Flip a bit of a stored block, checksum included, as no API can; returns the new checksum."""
    for account in ec2_backends:
        shot = ec2_backends[account][region].snapshots.get(snapshot)
        if isinstance(shot, Shot) and (digest := shot.digest(block)) is not None:
            data = bytearray(WORLD.arena.get(digest))
            data[bit // 8] ^= 1 << bit % 8
            shot.written[block] = hashlib.sha256(data).digest()
            WORLD.arena.put(shot.written[block], bytes(data))
            return base64.b64encode(shot.written[block]).decode()
    raise Missing(snapshot)


class Direct(EBSResponse):
    """The handlers."""

    @property
    def _shots(self) -> Any:
        return ec2_backends[self.current_account][self.region].snapshots

    def _shot(self, name: str) -> Shot:
        found = self._shots.get(self._get_param(name))
        if found is None:
            raise Missing(self._get_param(name))
        return found  # type: ignore[no-any-return]

    @rule(EBS_GUIDE + "ebs-direct-api-idempotency.html")
    def start_snapshot(self) -> ActionResult:
        """The same ClientToken gives the same snapshot again, and ConflictException for another request."""
        request = {name: self._get_param(name) for name in (
            "VolumeSize", "ParentSnapshotId", "Tags", "Description", "Encrypted", "KmsKeyArn", "Timeout")}
        shot = answers.once(
            ("ebs", self.current_account, self.region), self._get_param("ClientToken"), request,
            lambda: self._start(request),
            Refusal("ConflictException", "this ClientToken belongs to another request"))
        return ActionResult({
            "SnapshotId": shot.id, "OwnerId": shot.owner_id, "Status": shot.status, "StartTime": shot.start_time,
            "VolumeSize": shot.volume_size, "BlockSize": BLOCK, "Description": shot.description,
            "Tags": request["Tags"], "ParentSnapshotId": request["ParentSnapshotId"], "KmsKeyArn": shot.kms_key_id,
        })

    def _start(self, request: dict[str, Any]) -> Shot:
        size, backend = request["VolumeSize"], ec2_backends[self.current_account][self.region]
        if size is None or not 1 <= size <= 65536:
            raise Invalid(f"the size of a volume is 1 to 65536 GiB, not {size}", "INVALID_VOLUME_SIZE")
        parent = self._shot("ParentSnapshotId") if request["ParentSnapshotId"] else None
        parent_fits(parent, size, request["Encrypted"])
        key = request["KmsKeyArn"] or (parent.kms_key_id if parent is not None else None)
        if key is None and (request["Encrypted"] or backend.ebs_encryption_by_default):
            key = backend._create_default_encryption_key()
        shot = shots.make(backend, size, request["Description"] or "", parent=parent, kms_key=key)
        shot.sealed_at = None
        shot.timeout_s = 60.0 * (request["Timeout"] or 60)
        shot.add_tags({tag["Key"]: tag["Value"] for tag in request["Tags"] or []})
        return shot

    def put_snapshot_block(self) -> ActionResult:
        """Verify and keep a block; one that exists is overwritten."""
        shot, index, data = self._shot("SnapshotId"), self._get_param("BlockIndex"), self._get_param("BlockData")
        block_comes_in_time(shot)
        block_is_whole(data, self._get_param("DataLength"))
        block_is_inside(shot, index)
        checksum = self._get_param("Checksum")
        digest = block_is_what_was_signed(data, checksum, self._get_param("ChecksumAlgorithm"))
        WORLD.arena.put(digest, data)
        shot.written[index] = digest
        shot.touched_at = time.monotonic()
        return ActionResult({"Checksum": checksum, "ChecksumAlgorithm": "SHA256"})

    def complete_snapshot(self) -> ActionResult:
        """Verify the whole and seal it; again is the same answer again."""
        shot = self._shot("SnapshotId")
        if shot.sealed_at is None:
            block_comes_in_time(shot)
        count_is_what_was_written(shot, self._get_param("ChangedBlocksCount"))
        snapshot_is_what_was_meant(shot, *(self._get_param(name) for name in (
            "Checksum", "ChecksumAggregationMethod", "ChecksumAlgorithm")))
        if shot.sealed_at is None:
            shot.sealed_at = time.monotonic()
        return ActionResult({"Status": shot.status})

    def _readable(self, name: str) -> Shot:
        shot = self._shot(name)
        if not shots.readable_when_complete(shot):
            raise Invalid(f"the snapshot {shot.id} is {shot.status}", "INVALID_SNAPSHOT_ID")
        return shot

    def get_snapshot_block(self) -> ActionResult:
        """The data of a block, inherited or its own."""
        shot, index = self._readable("SnapshotId"), self._get_param("BlockIndex")
        token_is_ours(shot, index, self._get_param("BlockToken"))
        digest = shot.digest(index)
        if digest is None:
            raise Invalid(f"the snapshot {shot.id} has no block {index}", "INVALID_BLOCK")
        return ActionResult({"DataLength": BLOCK, "BlockData": WORLD.arena.get(digest), "ChecksumAlgorithm": "SHA256",
                             "Checksum": base64.b64encode(digest).decode()})

    def _listed(self, shot: Shot, name: str, entries: list[dict[str, Any]]) -> ActionResult:
        limit = self._get_param("MaxResults")
        if limit is not None and not LEAST_BLOCKS <= limit <= MOST_BLOCKS:
            raise Invalid(f"MaxResults is {LEAST_BLOCKS} to {MOST_BLOCKS}, not {limit}")
        asked = self._get_param("StartingBlockIndex") or 0
        some, more = answers.page(entries, limit, self._get_param("NextToken"), most=MOST_BLOCKS,
                                  start=sum(entry["BlockIndex"] < asked for entry in entries),
                                  bad_token=lambda text: Invalid(text, "INVALID_PAGE_TOKEN"))
        life = WORLD.settings.block_life_s
        return ActionResult({name: some, "NextToken": more, "VolumeSize": shot.volume_size, "BlockSize": BLOCK,
                             "ExpiryTime": WORLD.now().timestamp() + life})

    def list_snapshot_blocks(self) -> ActionResult:
        """Index and token of each block, in ascending order."""
        shot = self._readable("SnapshotId")
        return self._listed(shot, "Blocks", [
            {"BlockIndex": index, "BlockToken": _token(shot, index)} for index in shot.content()])

    def list_changed_blocks(self) -> ActionResult:
        """Blocks that the second snapshot has and the first has not, or has with other content, and the reverse."""
        if not self._get_param("FirstSnapshotId"):
            raise Invalid("FirstSnapshotId and SecondSnapshotId come together")
        first, second = self._readable("FirstSnapshotId"), self._readable("SecondSnapshotId")
        snapshots_are_related(first, second)
        old, new = first.content(), second.content()
        return self._listed(second, "ChangedBlocks", [
            {"BlockIndex": index, "FirstBlockToken": _token(first, index) if index in old else None,
             "SecondBlockToken": _token(second, index) if index in new else None}
            for index in sorted(old.keys() | new.keys()) if old.get(index) != new.get(index)])
