from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

from support.aws.emulator_probe import ProbeAccount, block, probe, refused


def _asked(snapshot: str, data: bytes, **more: Any) -> dict[str, Any]:
    checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return {"SnapshotId": snapshot, "BlockIndex": 0, "BlockData": data, "DataLength": len(data), "Checksum": checksum,
            "ChecksumAlgorithm": "SHA256", **more}


def _blocks(account: ProbeAccount, snapshot: str) -> dict[int, bytes]:
    """What the snapshot holds, read back by tokens."""
    listed = account.ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]
    return {each["BlockIndex"]: account.ebs.get_snapshot_block(
        SnapshotId=snapshot, BlockIndex=each["BlockIndex"], BlockToken=each["BlockToken"])["BlockData"].read()
        for each in listed}


@probe("block_is_whole")
def test_a_block_is_whole(account: ProbeAccount) -> None:
    snapshot = account.start()
    assert account.ebs.start_snapshot(VolumeSize=1)["BlockSize"] == 524288
    refused("ValidationException", account.ebs.put_snapshot_block, **_asked(snapshot, b"short"))
    refused("ValidationException", account.ebs.put_snapshot_block, **_asked(snapshot, block("a"), DataLength=512))
    account.put(snapshot, 0, block("a"))


@probe("block_is_what_was_signed")
def test_a_block_is_what_was_signed(account: ProbeAccount) -> None:
    snapshot = account.start()
    other = _asked(snapshot, block("b"))["Checksum"]
    refused("ValidationException", account.ebs.put_snapshot_block, **_asked(snapshot, block("a"), Checksum=other))
    account.ebs.put_snapshot_block(**_asked(snapshot, block("a")))


@probe("block_is_inside")
def test_a_block_is_inside_the_volume(account: ProbeAccount) -> None:
    snapshot = account.start(1)
    account.put(snapshot, 2047, block("last"))
    refused("ValidationException", account.ebs.put_snapshot_block, **_asked(snapshot, block("a"), BlockIndex=2048))


@probe("block_comes_in_time")
def test_nothing_is_written_after_completion(account: ProbeAccount) -> None:
    snapshot = account.snapshot(blocks={0: block("a")})
    refused("ValidationException", account.ebs.put_snapshot_block, **_asked(snapshot, block("b")))
    assert _blocks(account, snapshot) == {0: block("a")}


@probe("count_is_what_was_written")
def test_the_count_is_checked(account: ProbeAccount) -> None:
    snapshot = account.start()
    account.put(snapshot, 0, block("a"))
    account.put(snapshot, 0, block("b"))  # overwritten: still one
    refused("ValidationException", account.ebs.complete_snapshot, SnapshotId=snapshot, ChangedBlocksCount=2)
    account.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)


@probe("snapshot_is_what_was_meant", "linear_checksum")
def test_the_whole_is_checked(account: ProbeAccount) -> None:
    snapshot = account.start()
    high, low = account.put(snapshot, 7, block("a")), account.put(snapshot, 3, block("b"))
    right, wrong = (base64.b64encode(hashlib.sha256(both).digest()).decode() for both in (low + high, high + low))
    request = {"SnapshotId": snapshot, "ChangedBlocksCount": 2, "ChecksumAlgorithm": "SHA256"}
    refused("ValidationException", account.ebs.complete_snapshot, **request, Checksum=right)
    linear = {**request, "ChecksumAggregationMethod": "LINEAR"}
    refused("ValidationException", account.ebs.complete_snapshot, **linear, Checksum=wrong)
    account.ebs.complete_snapshot(**linear, Checksum=right)


@probe("pending_until_complete")
def test_a_snapshot_is_pending_until_complete(account: ProbeAccount) -> None:
    account.set(pending_s=3600)
    snapshot = account.start()

    def state() -> str:
        found: str = account.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"]
        return found
    assert state() == "pending"
    account.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)
    assert state() == "pending"
    account.set(pending_s=0)
    assert state() == "completed"


@probe("readable_when_complete")
def test_a_snapshot_is_read_when_complete(account: ProbeAccount) -> None:
    snapshot = account.start()
    account.put(snapshot, 0, block("a"))
    refused("ValidationException", account.ebs.list_snapshot_blocks, SnapshotId=snapshot)
    account.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)
    assert _blocks(account, snapshot) == {0: block("a")}


@probe("start_snapshot")
def test_a_token_starts_one_snapshot(account: ProbeAccount) -> None:
    first, again = account.start(ClientToken="one"), account.start(ClientToken="one")
    assert first == again != account.start(ClientToken="two")
    refused("ConflictException", account.ebs.start_snapshot, VolumeSize=2, ClientToken="one")


@probe("parent_fits")
def test_a_parent_is_inherited_from(account: ProbeAccount) -> None:
    parent = account.snapshot(2, {0: block("a"), 1: block("b")})
    refused("ValidationException", account.ebs.start_snapshot, VolumeSize=1, ParentSnapshotId=parent)
    refused("ValidationException", account.ebs.start_snapshot, VolumeSize=2, ParentSnapshotId=parent, Encrypted=True)
    refused("ValidationException", account.ebs.start_snapshot, VolumeSize=2, ParentSnapshotId=account.start(2))
    child = account.snapshot(3, {1: block("c")}, ParentSnapshotId=parent)
    account.ec2.delete_snapshot(SnapshotId=parent)
    assert _blocks(account, child) == {0: block("a"), 1: block("c")}


@probe("encryption_fits_parent")
def test_a_parent_decides_about_encryption_and_has_to_have_it_where_it_is_the_default(account: ProbeAccount) -> None:
    plain = account.snapshot(1, {0: block("a")})
    arn = account.client("kms").create_key()["KeyMetadata"]["Arn"]
    secret = account.snapshot(1, {0: block("a")}, Encrypted=True, KmsKeyArn=arn)
    for parent in (plain, secret):
        refused("ValidationException", account.ebs.start_snapshot, VolumeSize=1, ParentSnapshotId=parent, KmsKeyArn=arn)
    account.ec2.enable_ebs_encryption_by_default()
    refused("ValidationException", account.ebs.start_snapshot, VolumeSize=1, ParentSnapshotId=plain)
    child = account.snapshot(1, ParentSnapshotId=secret)
    assert account.ec2.describe_snapshots(SnapshotIds=[child])["Snapshots"][0]["KmsKeyId"] == arn
    account.ec2.disable_ebs_encryption_by_default()
    child = account.snapshot(1, ParentSnapshotId=plain)
    assert not account.ec2.describe_snapshots(SnapshotIds=[child])["Snapshots"][0]["Encrypted"]


@probe("get_ebs_default_kms_key_id", "key_of_new")
def test_encryption_by_default_is_by_the_accounts_default_key(account: ProbeAccount) -> None:
    def key_of(snapshot: str) -> Any:
        return account.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0].get("KmsKeyId")

    assert key_of(account.snapshot()) is None
    account.ec2.enable_ebs_encryption_by_default()
    assert account.ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == "alias/aws/ebs"
    aws, own = (account.client("kms").describe_key(KeyId="alias/aws/ebs")["KeyMetadata"]["Arn"],
                account.client("kms").create_key()["KeyMetadata"]["Arn"])
    assert key_of(account.snapshot()) == aws
    account.ec2.modify_ebs_default_kms_key_id(KmsKeyId=own)
    assert (key_of(account.snapshot()), account.ec2.get_ebs_default_kms_key_id()["KmsKeyId"]) == (own, own)
    account.ec2.disable_ebs_encryption_by_default()


@probe("snapshots_are_related")
def test_changed_blocks_are_those_of_a_lineage(account: ProbeAccount) -> None:
    parent = account.snapshot(1, {0: block("a"), 1: block("b")})
    child = account.snapshot(1, {1: block("c"), 2: block("d")}, ParentSnapshotId=parent)
    listed = account.ebs.list_changed_blocks(FirstSnapshotId=parent, SecondSnapshotId=child)["ChangedBlocks"]
    assert [(each["BlockIndex"], "FirstBlockToken" in each) for each in listed] == [(1, True), (2, False)]
    stranger = account.snapshot(1, {0: block("a")})
    refused("ValidationException", account.ebs.list_changed_blocks, FirstSnapshotId=stranger, SecondSnapshotId=child)


@probe("token_is_ours")
def test_a_block_is_read_by_its_token(account: ProbeAccount) -> None:
    snapshot = account.snapshot(1, {0: block("a"), 1: block("b")})
    listed = account.ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]
    request = {"SnapshotId": snapshot, "BlockToken": listed[0]["BlockToken"]}
    refused("ValidationException", account.ebs.get_snapshot_block, **request, BlockIndex=1)
    account.ebs.get_snapshot_block(**request, BlockIndex=0)
    account.set(block_life_s=-1)
    late = account.ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"][0]["BlockToken"]
    refused("ValidationException", account.ebs.get_snapshot_block, SnapshotId=snapshot, BlockToken=late, BlockIndex=0)


@probe("paginate")
def test_blocks_are_listed_in_pages(account: ProbeAccount) -> None:
    snapshot = account.snapshot(1, {2 * index: block(str(index)) for index in range(130)})
    listed = account.ebs.list_snapshot_blocks
    first = listed(SnapshotId=snapshot, MaxResults=100, StartingBlockIndex=3)
    assert [each["BlockIndex"] for each in first["Blocks"]] == [2 * index for index in range(2, 102)]
    rest = listed(SnapshotId=snapshot, MaxResults=100, NextToken=first["NextToken"])
    assert len(rest["Blocks"]) == 28 and "NextToken" not in rest
    refused("ValidationException", listed, SnapshotId=snapshot, NextToken="bm8=")


def test_a_bit_can_be_flipped_behind_the_api(account_at: Callable[[str], ProbeAccount], emulator: Any) -> None:
    account = account_at("emulator")
    snapshot = account.snapshot(blocks={0: block("a"), 1: block("b")})
    emulator.damage(snapshot, "us-east-1", block=1, bit=9)
    assert _blocks(account, snapshot) == {0: block("a"), 1: b"b\x02" + block("b")[2:]}
