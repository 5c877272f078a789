"""Uploads and read-backs against the emulator, alone and behind a proxy that fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from goldenami.aws.session import Account
from goldenami.aws.snapshots import ebs, readback, send
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.build_records import Outcome
from goldenami.model.builds.disk_blocks import BlockMap
from goldenami.model.builds.sparse_disk import BLOCK
from support.aws.emulator import Emulator, Faults
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState

REGION = "us-east-1"


def upload(folder: Path, seed: int, parent: ebs.Parent | None = None) -> tuple[ebs.UploadedSnapshot, BlockMap]:
    """A disk of 24 blocks and its snapshot; two seeds differ in one block."""
    disk = folder / f"{seed}.raw"
    with disk.open("wb") as sink:
        sink.truncate(1 << 30)
        for index in range(24):
            os.pwrite(sink.fileno(), bytes([seed if index == 0 else 1, index]), 7 * index * BLOCK)
    listed, account = disk_blocks.scan(disk, folder / f"{seed}.blocks"), Account()
    done = ebs.upload(account.ebs(REGION), account.ec2(REGION), disk, listed, journal=folder / f"journal{seed}",
                      tags={"goldenami:image": "i"}, description="d", parent=parent, in_flight=4)
    return done, listed


def outcome(listed: BlockMap, name: str) -> readback.Readback:
    return readback.verify(Account().ebs(REGION), name, listed)


def puts(aws: Emulator) -> int:
    return aws.calls().count(("ebs:PutSnapshotBlock", REGION))


def test_a_disk_and_its_successor_arrive(aws: Emulator, tmp_path: Path) -> None:
    first, old = upload(tmp_path, 1)
    assert puts(aws) == 24 and outcome(old, first.id).outcome is Outcome.CORRECT
    second, new = upload(tmp_path, 2, ebs.Parent(first.id, old))
    assert puts(aws) == 25 and outcome(new, second.id).outcome is Outcome.CORRECT
    assert outcome(old, second.id).detail == "1 block differs (0)"


@pytest.mark.parametrize("what", [
    {"probability": 0.3, "error": {"code": "RequestThrottledException"}},
    {"probability": 0.3, "error": {"code": "InternalServerException"}},
    {"probability": 0.3, "reset": True},
    {"sequence": {"fail": 1, "pass": 2}, "request": {"cut_upload": {"after_bytes": 100_000}}},
], ids=["throttled", "failing", "reset", "cut"])
def test_faults_on_the_way_are_survived(
    aws: Emulator, faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: dict[str, object],
) -> None:
    monkeypatch.setattr(send, "LONGEST_PAUSE_S", 0.05)
    faults.add("ebs", "PutSnapshotBlock", **what)
    done, listed = upload(tmp_path, 1)
    assert faults.fired(), "nothing failed"
    faults.clear()
    assert outcome(listed, done.id).outcome is Outcome.CORRECT
    assert len(RegionState(REGION).snapshots()) == 1


@pytest.fixture
def published(aws: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Checkout, Path]:
    """A checkout with a build that is published in two regions."""
    checkout = Checkout(tmp_path / "checkout", monkeypatch)
    build = builds.build(checkout.root, 1)
    ran = checkout.golden("publish", IMAGE)
    assert ran.code == 0, ran.text
    return checkout, build


def test_snapshots_of_a_published_image_are_read_back(published: tuple[Checkout, Path], aws: Emulator) -> None:
    checkout, build = published
    ran = checkout.golden("verify-snapshot", IMAGE)
    assert ran.code == 0 and ran.text.count(" correct, 3 blocks read") == len(REGIONS), ran.text
    snapshot = checkout.record(build).regions[REGION].snapshot
    assert checkout.golden("verify-snapshot", snapshot).text.count("correct") == 1
    ran = checkout.golden("verify-snapshot", IMAGE, "--region", "eu-central-1")
    assert (ran.code, f"{IMAGE} {build.name} is not published in eu-central-1, but in" in ran.text) == (2, True)
    ran = checkout.golden("verify-snapshot", "snap-0123")
    assert ran.code == 2 and "no publish record here names snap-0123" in ran.text
    (build / "disk.raw").unlink()
    assert checkout.golden("verify-snapshot", snapshot).code == 0, "the list of blocks is enough"
    aws.set(denied={"*": ["ebs:GetSnapshotBlock"]})
    ran = checkout.golden("verify-snapshot", IMAGE, "--region", REGION)
    assert ran.code == 4 and f"{snapshot} unreachable" in ran.text and "may not call ebs:GetSnapshotBlock" in ran.text


def test_one_bit_that_differs_and_a_lost_snapshot_are_found(published: tuple[Checkout, Path]) -> None:
    checkout, build = published
    with (build / "disk.raw").open("r+b") as disk:
        at = 32 * BLOCK + 4711
        (old,) = os.pread(disk.fileno(), 1, at)
        os.pwrite(disk.fileno(), bytes([old ^ 8]), at)
    ran = checkout.golden("verify-snapshot", IMAGE)
    assert ran.code == 6 and ran.text.count("incorrect, 3 blocks read: 1 block differs (32)") == len(REGIONS), ran.text
    state = RegionState(REGION)
    (ami,) = state.amis().values()
    state.ec2.deregister_image(ImageId=ami["ImageId"])
    state.ec2.delete_snapshot(SnapshotId=checkout.record(build).regions[REGION].snapshot)
    ran = checkout.golden("verify-snapshot", IMAGE, "--region", REGION)
    assert ran.code == 6 and "missing, 0 blocks read" in ran.text and "does not exist in us-east-1" in ran.text
    (build / "publish.json").unlink()
    assert checkout.golden("verify-snapshot", IMAGE).code == 2
    left = RegionState(REGIONS[1]).snapshots()[0]["SnapshotId"]
    ran = checkout.golden("verify-snapshot", left, "--image", IMAGE, "--build", build.name, "--region", REGIONS[1])
    assert ran.code == 6 and f"{left} incorrect" in ran.text, ran.text
