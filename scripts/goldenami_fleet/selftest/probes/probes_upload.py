"""Probes of snapshots: what EBS's direct APIs take, keep and give back."""

from __future__ import annotations

from goldenami_fleet.selftest.probes.asking import Asked
from goldenami_fleet.selftest.probes.ground import Ground, Probe, refused

_INVALID = "ValidationException"
_BLOCK, _SEAL, _START, _READ, _CHANGED = (
    f"ebs.{name}"
    for name in (
        "put_snapshot_block",
        "complete_snapshot",
        "start_snapshot",
        "get_snapshot_block",
        "list_changed_blocks",
    )
)
NO_SUM = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


def _states(ground: Ground) -> str:
    asked = ground.filled(0)
    name = str(asked["SnapshotId"])
    before = ground.wait(f"{name} is unknown", lambda: ground.state(name))
    ground.ebs.complete_snapshot(**asked)
    ground.wait(f"{name} is pending", lambda: ground.state(name) != "pending")
    return f"{before}, then {ground.state(name)}"


def _again(ground: Ground) -> str:
    """Start a snapshot twice with one token."""
    token = f"{ground.name}-snapshot"
    first, second = (ground.start(ClientToken=token) for _ in range(2))
    return "the same" if first == second else "another"


def _key_of_new(ground: Ground) -> str:
    """Whether a new snapshot is encrypted by the region's default key."""
    default = ground.ec2.get_ebs_default_kms_key_id()["KmsKeyId"]
    arn = ground.client("kms").describe_key(KeyId=default)["KeyMetadata"]["Arn"]
    answer = ground.ask(_START, **ground.asked_start(Encrypted=True))
    return "the default key" if answer.get("KmsKeyArn") == arn else "another key"


def _default_key(ground: Ground) -> str:
    name = str(ground.ec2.get_ebs_default_kms_key_id()["KmsKeyId"])
    is_whole = name.startswith(("alias/", "arn:"))
    return "an alias or an ARN" if is_whole else "another name"


UPLOAD = (
    refused(
        "block_is_whole",
        _INVALID,
        _BLOCK,
        lambda g: g.asked_block(g.opened, DataLength=5, BlockData=b"short"),
    ),
    refused(
        "block_is_what_was_signed",
        _INVALID,
        _BLOCK,
        lambda g: g.asked_block(g.opened, Checksum=NO_SUM),
    ),
    refused(
        "block_is_inside", _INVALID, _BLOCK, lambda g: g.asked_block(g.opened, BlockIndex=2048)
    ),
    refused("block_comes_in_time", _INVALID, _BLOCK, lambda g: g.asked_block(g.disk)),
    refused(
        "count_is_what_was_written",
        _INVALID,
        _SEAL,
        lambda g: {**g.filled(0), "ChangedBlocksCount": 2},
    ),
    refused(
        "snapshot_is_what_was_meant",
        _INVALID,
        _SEAL,
        lambda g: {
            **g.filled(0),
            "Checksum": NO_SUM,
            "ChecksumAlgorithm": "SHA256",
            "ChecksumAggregationMethod": "LINEAR",
        },
    ),
    Probe("pending_until_complete", "pending, then completed", _states),
    Probe("same_token_same_answer", "the same", _again),
    refused(
        "same_token_same_answer",
        "ConflictException",
        _START,
        lambda g: g.asked_start(VolumeSize=2, ClientToken=f"{g.name}-snapshot"),
    ),
    refused("parent_fits", _INVALID, _START, lambda g: g.asked_start(ParentSnapshotId=g.larger)),
    Probe("key_of_new", "the default key", _key_of_new),
    refused(
        "key_works",
        _INVALID,
        _START,
        lambda g: g.asked_start(Encrypted=True, KmsKeyArn=g.no_key),
    ),
    Probe("get_ebs_default_kms_key_id", "an alias or an ARN", _default_key),
)


def _foreign_token(ground: Ground) -> Asked:
    """A GetSnapshotBlock of block 1 with the token of block 0."""
    first = ground.ebs.list_snapshot_blocks(SnapshotId=ground.disk)["Blocks"][0]
    return {"SnapshotId": ground.disk, "BlockIndex": 1, "BlockToken": first["BlockToken"]}


def _changed(ground: Ground) -> str:
    """Change block 1 in a child of the disk, and return the changed blocks."""
    child = ground.snapshot(1, text="changed", ParentSnapshotId=ground.disk)
    answer = ground.ebs.list_changed_blocks(FirstSnapshotId=ground.disk, SecondSnapshotId=child)
    return f"blocks {[row['BlockIndex'] for row in answer['ChangedBlocks']]}"


DRIFT = (
    refused(
        "readable_when_complete",
        _INVALID,
        "ebs.list_snapshot_blocks",
        lambda g: {"SnapshotId": g.opened},
    ),
    refused("token_is_ours", _INVALID, _READ, _foreign_token),
    refused(
        "snapshots_are_related",
        _INVALID,
        _CHANGED,
        lambda g: {"FirstSnapshotId": g.disk, "SecondSnapshotId": g.larger},
    ),
    Probe("snapshots_are_related", "blocks [1]", _changed),
    refused(
        "describe_snapshots",
        "InvalidParameterCombination",
        "ec2.describe_snapshots",
        lambda g: {"SnapshotIds": [g.disk], "MaxResults": 5},
    ),
)
