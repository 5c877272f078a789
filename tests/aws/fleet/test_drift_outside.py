"""`golden drift IMAGE --instance`: an instance's disk from outside, by a temporary snapshot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from goldenami.aws import tags
from goldenami.aws.snapshots import temporary
from goldenami.local.drift.disk_records import DiskRecord
from goldenami_fleet.drift import running_instance
from support.aws import unbound
from support.aws.emulator import Emulator, retry_at_once
from support.aws.kill_proxy import KillPoint, KillProxy, When
from support.aws.seeded_account import SeededAccount
from support.builds.builds import IMAGE, Checkout
from support.drift import cloud_disk, plants, small_image
from support.drift.cloud_disk import CloudDisk
from support.drift.plants import Plant
from support.security import signing_key

REGION = "us-east-1"
FOUND = {"/usr/lib/python3/evil.pyc", "/usr/bin/true"}


def look(checkout: Checkout, instance: str, *args: str, code: int = 0) -> str:
    return checkout.run("drift", IMAGE, "--instance", instance, *args, code=code)


def tampered(cloud: CloudDisk, instance: str, folder: Path) -> None:
    """Change two files on an instance's disk, one in place, one new."""
    disk = small_image.copy(cloud.build, folder / "tampered.raw")
    (folder / "new").write_text("import os\n", encoding="utf-8")
    small_image.debugfs(
        disk,
        f"write {folder / 'new'} /usr/lib/python3/evil.pyc",
        "set_inode_field /usr/bin/true uid 7",
    )
    cloud.write(instance, disk)


def test_a_key_s_name_is_no_pattern(account: SeededAccount) -> None:
    """The key of a launch is gone, and another pair fits its name as EC2's wildcards do."""
    for name in ("ada", "a*"):
        account.ec2.import_key_pair(KeyName=name, PublicKeyMaterial=signing_key.SSH)
    instance = account.launch(account.ami(1), KeyName="a*")

    def key() -> str | None:
        target = running_instance.find(unbound.account(), [REGION], instance)
        return running_instance.launch(unbound.account(), target).key

    assert key()
    account.ec2.delete_key_pair(KeyName="a*")
    assert key() is None


def test_an_instance_as_baked_and_one_that_was_changed(
    cloud: CloudDisk,
    checkout: Checkout,
    tmp_path: Path,
    aws: Emulator,
) -> None:
    """Held to the disk that is here, and without one to the AMI's snapshot."""
    instance, snapshots = cloud.launch(), cloud.account.snapshots()
    look(checkout, instance, "--build", cloud.build.build_id, code=2)  # its AMI says which
    assert "as baked" in look(checkout, instance)
    tampered(cloud, instance, tmp_path)

    def calls() -> list[str]:
        """What a look that finds both changes asks for."""
        before = len(aws.calls())
        said = look(checkout, instance, "--json", code=6)
        assert {row.path for row in cloud_disk.record(said).drift} >= FOUND
        assert f"terminate-instances --region {REGION} --instance-ids {instance}" in said
        assert cloud.account.snapshots() == snapshots
        return [action for action, _ in aws.calls()[before:]]

    asked = calls()
    assert asked.count("ebs:ListSnapshotBlocks") == 0, "only what changed is asked for"
    assert asked.count("ebs:GetSnapshotBlock") <= 8
    with cloud.build.disk.open("r+b") as disk:
        disk.write(b"changed")
    assert "is not what was published" in look(checkout, instance, code=2)
    cloud.build.disk.unlink()
    backing = cloud.account.backing(cloud.ami)
    whole = cloud.account.ebs.list_snapshot_blocks(SnapshotId=backing)["Blocks"]
    read = calls().count("ebs:GetSnapshotBlock")
    assert read < len(whole), f"{read} of {len(whole)} blocks: the file system's own structures"


def test_with_a_key_ami_and_manifest_are_what_was_signed(
    cloud: CloudDisk,
    checkout: Checkout,
    tmp_path: Path,
) -> None:
    """Who may write tags and the build's folder cannot sign."""
    instance, public = cloud.launch(), signing_key.make(tmp_path / "key")

    def expect(code: int, said: str) -> None:
        assert said in look(checkout, instance, "--key", str(public), code=code)

    expect(6, "was published unsigned")
    cloud.sign(public.with_suffix(""))
    expect(0, "as baked")
    cloud.account.ec2.create_tags(
        Resources=[cloud.ami], Tags=tags.to_list({tags.MANIFEST_SHA256: "5" * 64})
    )
    expect(6, f"the tag {tags.MANIFEST_SHA256} of {cloud.ami} in {REGION} is {'5' * 64}, signed is")
    public.unlink()
    expect(2, "is no public key")


def test_what_ec2_knows_of_the_launch_is_compared_and_the_rest_is_said(
    cloud: CloudDisk, checkout: Checkout, tmp_path: Path
) -> None:
    """Key and name, and which volumes the machine has besides."""
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAicl7XU1gyuKmv26LsdWrRgc04ODmxm/lQddheVpsfL"
    ec2 = cloud.account.ec2
    for name, text in (("golden", key), ("other", key.replace("Vpsf", "AAAA"))):
        ec2.import_key_pair(KeyName=name, PublicKeyMaterial=f"{text} x".encode())

    def looked(code: int, **launch: str) -> DiskRecord:
        instance = cloud.account.launch(cloud.ami, **launch)
        [found] = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"]
        volume = ec2.create_volume(AvailabilityZone=found["Placement"]["AvailabilityZone"], Size=1)
        ec2.attach_volume(VolumeId=volume["VolumeId"], InstanceId=instance, Device="/dev/sdf")
        disk = small_image.copy(cloud.build, tmp_path / instance)
        with small_image.mounted(disk, tmp_path / "mount") as tree:
            plants.put(tree, Plant("/etc/hostname", found["PrivateDnsName"]))
            plants.put(tree, Plant("/home/debian/.ssh/authorized_keys", f"{key} x\n", 0o600))
            for folder in (tree / "home/debian", tree / "home/debian/.ssh"):
                os.chown(folder, 1000, 1000)
            (tree / "home/debian/.ssh").chmod(0o700)
        cloud.write(instance, disk)
        record = cloud_disk.record(look(checkout, instance, "--json", code=code))
        assert record.unseen == ["memory", "local disks", f"volume {volume['VolumeId']}"]
        return record

    assert looked(0, KeyName="golden").drift == []
    assert (
        looked(
            0, KeyName="other", UserData=f"#cloud-config\nssh_authorized_keys: ['{key}']\n"
        ).drift
        == []
    )
    rows = looked(6, KeyName="other", UserData="#!/bin/sh\n").drift
    assert [(row.path, row.what) for row in rows] == [
        ("/home/debian/.ssh/authorized_keys", ["content: not the key of the launch"])
    ]


def temporary_ones(cloud: CloudDisk) -> list[str]:
    return [
        each["SnapshotId"]
        for each in cloud.account.ec2.describe_snapshots(
            OwnerIds=["self"], Filters=[{"Name": "tag-key", "Values": [tags.DRIFT_OF]}]
        )["Snapshots"]
    ]


def test_a_root_volume_that_was_swapped_is_read_as_a_whole(
    cloud: CloudDisk, checkout: Checkout
) -> None:
    """EBS knows no lineage of it, and what it holds is all that counts."""
    instance = cloud.launch()
    cloud_disk.swap_root(
        cloud.account.ec2, instance, SnapshotId=cloud.snapshot_of_nothing(), Size=1
    )
    assert "every block is read" in look(checkout, instance)


def test_what_nobody_can_look_at_is_one_line_with_its_code(
    cloud: CloudDisk,
    checkout: Checkout,
    aws: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    instance, ended = cloud.launch(), cloud.launch()
    cloud.account.ec2.terminate_instances(InstanceIds=[ended])
    foreign = cloud.account.launch(cloud.account.ami(9, tagged=False, recorded=False))

    def expect(of: str, code: int, said: str) -> None:
        assert said in look(checkout, of, code=code)
        assert temporary_ones(cloud) == []

    expect(ended, 4, "is terminated")
    expect(foreign, 6, f"which is no build of {IMAGE}")
    expect("i-0123456789abcdef0", 2, "there is no instance")
    expect("i-1", 2, "is no id of an instance")
    for action in (
        "ec2:DescribeInstances",
        "ec2:CreateSnapshot",
        "ec2:CreateTags",
        "ebs:ListChangedBlocks",
    ):
        aws.set(denied={"*": [action]})
        expect(instance, 8, action)
    aws.set(denied={}, pending_s=3600)
    with monkeypatch.context() as patch:
        patch.setattr(temporary, "PENDING_S", 0.2)
        expect(instance, 4, "is pending after")
    aws.set(pending_s=0)
    cloud.build.manifest.write_text(
        cloud.build.manifest.read_text(encoding="utf-8") + " ", encoding="utf-8"
    )
    expect(instance, 2, "is not the manifest that")
    cloud.account.ec2.create_tags(
        Resources=[cloud.ami], Tags=tags.to_list({tags.MANIFEST_SHA256: "5" * 64})
    )
    expect(
        instance,
        4,
        f"is not the manifest that was published (SHA-256 {cloud.manifest_sha256[:12]}, the "
        "AMI's tag "
        "has 555555555555)",
    )
    cloud.build.path.rename(cloud.build.path.with_name("ba9876543210"))
    expect(instance, 2, f"{cloud_disk.BUILD_ID}/bake.json does not exist")


def test_throttling_and_answers_that_are_lost(
    cloud: CloudDisk,
    checkout: Checkout,
    aws: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A CreateSnapshot whose answer is lost is made again by the client: all its snapshots go."""
    retry_at_once(monkeypatch)
    instance = cloud.launch()
    aws.late({"mode": "throttled", "share": 0.3}, seed=3)
    look(checkout, instance)
    before = len(aws.calls())
    aws.late({"mode": "lost", "calls": ["ec2:CreateSnapshot"], "share": 0.6}, seed=1)
    look(checkout, instance)
    made = [action for action, _ in aws.calls()[before:]].count("ec2:CreateSnapshot")
    assert made > 1
    aws.late()
    assert temporary_ones(cloud) == []


@pytest.mark.slow
def test_killed_at_its_calls_it_leaves_nothing_that_the_next_run_or_sweep_does_not_take(
    cloud: CloudDisk,
    checkout: Checkout,
    kill_proxy: KillProxy,
) -> None:
    instance, args = cloud.launch(), ("drift", IMAGE, "--instance")
    code, text = kill_proxy.run(checkout.root, *args, instance)
    assert code == 0, text
    points = [
        point
        for point in kill_proxy.points()
        if point.action in ("ec2:CreateSnapshot", "ec2:DeleteSnapshot", "ebs:ListChangedBlocks")
    ]
    assert len(points) == 5
    left = list[int]()
    for point in points:
        assert kill_proxy.run(checkout.root, *args, instance, point=point)[0] == -9, point
        left.append(len(temporary_ones(cloud)))
    assert max(left) == 1, "the next run takes what the one before left"
    code, text = kill_proxy.run(checkout.root, *args, instance)
    assert code == 0 and temporary_ones(cloud) == [], text
    kill_proxy.run(
        checkout.root, *args, instance, point=KillPoint("ec2:CreateSnapshot", REGION, 1, When.AFTER)
    )
    assert len(temporary_ones(cloud)) == 1
    code, text = kill_proxy.run(checkout.root, "sweep", "--region", REGION)
    assert code == 0 and temporary_ones(cloud) == [], text
