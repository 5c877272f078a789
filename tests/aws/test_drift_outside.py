"""`golden drift IMAGE --instance`: an instance's disk from outside, by a temporary snapshot."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.drift.disk_records import DiskRecord
from support.aws.emulator import Emulator
from support.aws.seeded_account import SeededAccount
from support.builds.builds import IMAGE, Checkout, Ran
from support.builds.tools import need_disk_tools
from support.drift import cloud_disk, small_image
from support.drift.cloud_disk import CloudDisk

REGION = "us-east-1"
ONE_REGION = "publish: {regions: [us-east-1], launch_template: {instance_type: c7i.large}}\n"


@pytest.fixture
def cloud(account: SeededAccount, checkout: Checkout) -> CloudDisk:
    need_disk_tools()
    checkout.define(ONE_REGION)
    return CloudDisk.publish(account, cloud_disk.bake(checkout.root, IMAGE))


def look(checkout: Checkout, instance: str, *args: str) -> Ran:
    return checkout.golden("drift", IMAGE, "--instance", instance, *args)


def record(ran: Ran) -> DiskRecord:
    return DiskRecord.model_validate_json(ran.text[ran.text.index("{\n"):ran.text.index("\n}\n") + 3])


def tampered(cloud: CloudDisk, instance: str, folder: Path) -> None:
    """Change two files on an instance's disk, one in place, one new."""
    disk = small_image.copy(cloud.build, folder / "tampered.raw")
    (folder / "new").write_text("import os\n", encoding="utf-8")
    small_image.debugfs(disk, f"write {folder / 'new'} /usr/lib/python3/evil.pyc",
                        "set_inode_field /usr/bin/true uid 7")
    cloud.write(instance, disk)


def test_an_instance_as_baked_and_one_that_was_changed(
    cloud: CloudDisk, checkout: Checkout, tmp_path: Path, aws: Emulator,
) -> None:
    instance, snapshots = cloud.launch(), cloud.account.snapshots()
    ran = look(checkout, instance)
    assert ran.code == 0, ran.text
    assert "as baked" in ran.text
    tampered(cloud, instance, tmp_path)
    before = len(aws.calls())
    ran = look(checkout, instance, "--json")
    assert ran.code == 6, ran.text
    assert {row.path for row in record(ran).drift} >= {"/usr/lib/python3/evil.pyc", "/usr/bin/true"}
    calls = [action for action, _ in aws.calls()[before:]]
    assert calls.count("ebs:ListSnapshotBlocks") == 0, "only what changed is asked for"
    assert calls.count("ebs:GetSnapshotBlock") <= 8
    assert cloud.account.snapshots() == snapshots
    assert f"golden drift repair {instance}" in ran.text
