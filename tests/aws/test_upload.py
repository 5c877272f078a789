"""Uploads against the emulator, alone and behind a proxy that fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from goldenami.aws.session import Account
from goldenami.aws.snapshots import ebs, send
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.disk_blocks import BlockMap
from goldenami.model.builds.sparse_disk import BLOCK
from support.aws.emulator import Emulator, Faults
from support.aws.upload_setup import holds
from support.builds.builds import RegionState

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


def arrived(listed: BlockMap, name: str) -> bool:
    return holds(Account().ebs(REGION), name, listed)


def puts(aws: Emulator) -> int:
    return aws.calls().count(("ebs:PutSnapshotBlock", REGION))


def test_a_disk_and_its_successor_arrive(aws: Emulator, tmp_path: Path) -> None:
    first, old = upload(tmp_path, 1)
    assert puts(aws) == 24 and arrived(old, first.id)
    second, new = upload(tmp_path, 2, ebs.Parent(first.id, old))
    assert puts(aws) == 25 and arrived(new, second.id)
    assert not arrived(old, second.id)


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
    assert arrived(listed, done.id)
    assert len(RegionState(REGION).snapshots()) == 1
