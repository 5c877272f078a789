"""The parts of the EC2 builder that need no instance to log in to; test_bake_ec2.py runs all of
it."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import boto3
import pytest
from goldenami.aws import images
from goldenami.aws.images import ImageSpec
from goldenami.aws.instances import instances
from goldenami.core import records, shell
from goldenami.core.errors import BadInput, StageFailed
from goldenami.core.terminal.progress import Progress
from goldenami.image.bake import bake
from goldenami.image.builders import ec2 as ec2_builder
from goldenami.image.builders.ec2 import Ec2Builder
from goldenami.image.builders.local import LocalBuilder
from goldenami.local.machine import ssh
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import BAKE_FILE, Ami, BakeRecord, CoverageRecord, Outcome
from goldenami.model.builds.plans import BakePlan
from goldenami.model.locked.lockfile import Framework, Lock, Origin
from goldenami.model.roles.recipes import Allowance
from goldenami.packages.pypi import PyFile
from support.aws import unbound
from support.aws.emulator import Emulator
from support.builds import builds, sample_lock, sample_plan, tools
from support.ec2 import ec2_builds

REGION = "us-east-1"


def builder(kind: str = "m7i.xlarge", region: str = REGION) -> Ec2Builder:
    return Ec2Builder(builds.ROOT, unbound.account(), region, kind)


def planned(work: Path, lock: Lock, lock_sha256: str) -> BakePlan:
    """The plan of a bake, as far as it is needed without Packer."""
    records.write_text(work / "out/vars.json", records.canonical({"golden_git_commit": "0" * 40}))
    return sample_plan.sample(work, lock, lock_sha256)


def test_an_instance_that_nobody_can_log_in_to_is_removed(
    aws: Emulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOLDEN_BOOT_LIMIT_S", "0.5")
    aws.set(pending_s=0, instance_address="127.0.0.2")
    folder = BuildFolder(ec2_builds.build(tmp_path, 1, REGION))
    record, progress = folder.read_bake(), Progress("verify", sample_lock.IMAGE, tmp_path / "none")
    with pytest.raises(
        StageFailed, match=r"i-\w+: (SSH did not answer|sshd answers and lets nobody in)"
    ):
        builder().verify(sample_lock.sample(), folder, tmp_path, tmp_path / "log", progress)
    ec2 = boto3.client("ec2", REGION)
    (instance,) = [
        raw for each in ec2.describe_instances()["Reservations"] for raw in each["Instances"]
    ]
    assert (instance["State"]["Name"], instance["ImageId"]) == ("terminated", record.ami_id)
    assert ec2.describe_key_pairs()["KeyPairs"] == [] and ec2.describe_volumes()["Volumes"] == []
    assert [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]] == [
        "default"
    ]


MULTICAST = "224.0.0.1"
"""No private address, and the kernel sends no connection there."""


@pytest.mark.parametrize(("address", "is_told"), [("127.0.0.9", True), (MULTICAST, False)])
def test_an_address_that_is_private_is_said_to_be(
    tmp_path: Path, address: str, *, is_told: bool
) -> None:
    """Where subnets give no public one, a runner elsewhere waits in vain."""
    instance = instances.LaunchedInstance("i-1", address)
    with pytest.raises(StageFailed, match="i-1: SSH did not answer within 0 s") as caught:
        ec2_builder.wait_for_ssh(tmp_path / "config", instance, 0.0)
    assert (f"{address} is private: run in its network" in caught.value.hint) is is_told


def test_ssh_comes_from_where_the_environment_says(
    aws: Emulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ec2, key = boto3.client("ec2", REGION), ssh.new_key(tmp_path / "key", "x").with_suffix(".pub")
    for asked, network in (("", "0.0.0.0/0"), ("203.0.113.7", "203.0.113.7/32")):
        monkeypatch.setenv(instances.SSH_FROM, asked)
        with instances.access(ec2, "x", key, {"x": "y"}) as reached:
            (group,) = ec2.describe_security_groups(GroupIds=[reached])["SecurityGroups"]
        (rule,) = group["IpPermissions"]
        allowed = [each["CidrIp"] for each in rule["IpRanges"]]
        assert (rule["FromPort"], rule["ToPort"], allowed) == (22, 22, [network])
    for text in ("here", "203.0.113.7/24", "::1/128"):
        monkeypatch.setenv(instances.SSH_FROM, text)
        with (
            pytest.raises(BadInput, match=f"{instances.SSH_FROM}: "),
            instances.access(ec2, "x", tmp_path / "none.pub", {}),
        ):
            pass
    assert ec2.describe_key_pairs()["KeyPairs"] == [], "nothing is made"


def test_a_bake_that_was_killed_behind_its_ami_goes_on(aws: Emulator, tmp_path: Path) -> None:
    """Nothing is launched again; what Packer left is deregistered, and the snapshot stays."""
    aws.set(pending_s=0)
    folder = BuildFolder(ec2_builds.build(tmp_path, 1, REGION))
    record = folder.read_bake()
    assert record.ami is not None
    ec2 = boto3.client("ec2", REGION)
    left = ec2.register_image(
        Name=f"{record.image}-{record.build_id}-builder",
        Architecture="x86_64",
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[
            {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": record.ami.snapshot}}
        ],
    )["ImageId"]
    lock = builds.lock(record.image, 1)
    result = builder().bake(
        lock,
        planned(tmp_path, lock, record.lock_sha256),
        Progress("bake", record.image, tmp_path / "none"),
        force=False,
    )
    assert result.ami is not None
    assert (result.ami.id, result.ami.snapshot) == (record.ami.id, record.ami.snapshot)
    amis = [image["ImageId"] for image in ec2.describe_images(Owners=["self"])["Images"]]
    assert amis == [record.ami.id] != [left]
    assert "ec2:RunInstances" not in [name for name, _ in aws.calls()]


def test_a_type_that_the_region_lacks_is_refused_before_anything_is_made(
    aws: Emulator,
    tmp_path: Path,
) -> None:
    kind = "x9.xlarge"
    said = rf"us-east-1 has no {re.escape(kind)}$"
    folder = BuildFolder(ec2_builds.build(tmp_path, 1, REGION))
    record = folder.read_bake()
    lock, progress = sample_lock.sample(), Progress("bake", record.image, tmp_path / "none")
    with pytest.raises(BadInput, match=said):
        builder(kind=kind).bake(lock, planned(tmp_path, lock, "0" * 64), progress, force=False)
    with pytest.raises(BadInput, match=said):
        builder(kind=kind).verify(lock, folder, tmp_path, tmp_path / "log", progress)
    assert not {"ec2:RunInstances", "ec2:ImportKeyPair", "ec2:CreateSecurityGroup"} & {
        name for name, _ in aws.calls()
    }


def with_wheel(lock: Lock, repo: Path, files: dict[str, bytes]) -> Lock:
    """The lock with a framework whose wheel, which lies in `repo`, holds `files`."""
    (repo / "wheels").mkdir(parents=True)
    with zipfile.ZipFile(repo / "wheels/demo-1.0.whl", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    wheel = PyFile(project="demo", version="1.0", filename="demo-1.0.whl", sha256="0" * 64, size=1)
    allowed = Allowance(files="asks/*.so", extensions=["avx*"], reason="it asks the CPU")
    return lock.model_copy(
        update={
            "packages": lock.packages
            | {"python3": lock.packages["bash"].model_copy(update={"version": "3.11.2-1"})},
            "frameworks": [
                Framework(
                    name="demo",
                    version="1.0",
                    environment="ml",
                    origin=Origin.WHEEL,
                    why="",
                    gain=None,
                    measured_on=None,
                    wheel=wheel,
                    requires=[],
                    made=None,
                    allow=[allowed],
                )
            ],
        }
    )


def test_wheels_beyond_the_declared_machines_are_refused_before_anything_is_made(
    aws: Emulator,
    tmp_path: Path,
) -> None:
    """And the record goes with the build, by the paths that the files have on the instance."""
    source, library = tmp_path / "code.c", tmp_path / "code.so"
    source.write_text(
        'void half(void) { __asm__("vaddph %zmm0, %zmm1, %zmm2"); }\n', encoding="utf-8"
    )
    shell.output([tools.find("gcc"), "-shared", "-fPIC", "-o", str(library), str(source)])
    code, site = library.read_bytes(), "opt/ml/ml/lib/python3.11/site-packages"
    lock = with_wheel(
        sample_lock.sample(),
        tmp_path / "repo",
        {
            "demo/core.so": code,
            "asks/core.so": code,
            "demo-1.0.data/platlib/demo/other.so": code,
            "demo-1.0.data/data/lib/data.so": code,
            "demo-1.0.data/headers/demo.h": b"",
            "demo/__init__.py": b"",
        },
    )
    plan, progress = (
        planned(tmp_path, lock, "0" * 64),
        Progress("bake", lock.image, tmp_path / "none"),
    )
    with pytest.raises(
        StageFailed, match=r"3 functions or files .*: \S+: half: 1 instruction needs avx512fp16"
    ):
        builder().bake(lock, plan, progress, force=False)
    assert aws.calls() == []
    record = records.read(tmp_path / "out/coverage.json", CoverageRecord)
    assert sorted(file.path for file in record.files) == [
        "opt/ml/ml/lib/data.so",
        f"{site}/asks/core.so",
        f"{site}/demo/core.so",
        f"{site}/demo/other.so",
    ]
    assert record.allowed == {"it asks the CPU": 1}
    assert "coverage: " in (tmp_path / "log").read_text(encoding="utf-8")


def _builders(ec2: Any, name: str) -> str:
    """An AMI as Packer leaves it; returns its snapshot."""
    snapshot = str(boto3.client("ebs", REGION).start_snapshot(VolumeSize=8)["SnapshotId"])
    boto3.client("ebs", REGION).complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig={"Delay": 1})
    ec2.register_image(
        Name=f"{name}-builder",
        Architecture="x86_64",
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
    )
    return snapshot


def _bake(root: Path, record: BakeRecord, *, force: bool) -> Ami:
    lock = builds.lock(record.image, 1)
    ami = (
        builder()
        .bake(
            lock,
            planned(root, lock, record.lock_sha256),
            Progress("bake", record.image, root / "none"),
            force=force,
        )
        .ami
    )
    assert ami is not None
    return ami


def test_force_makes_an_ami_anew_and_the_old_one_goes_with_its_snapshot(
    aws: Emulator, tmp_path: Path
) -> None:
    aws.set(pending_s=0)
    record = records.read(ec2_builds.build(tmp_path, 1, REGION) / BAKE_FILE, BakeRecord)
    assert record.ami is not None
    with pytest.raises(StageFailed, match="packer failed"):  # it is told of no base AMI
        _bake(tmp_path, record, force=True)
    ec2 = boto3.client("ec2", REGION)
    assert [image["ImageId"] for image in ec2.describe_images(Owners=["self"])["Images"]] == [
        record.ami.id
    ]
    spec = ImageSpec.of(record, "Debian 13 for tests", "amd64")
    snapshot = _builders(ec2, spec.name)
    registered = builder()._registered(spec, None, force=True)
    assert (registered.snapshot, registered.id != record.ami.id) == (snapshot, True)
    assert registered.volume_gib == 8, "as large as what Packer left, not as the lock asks for"
    assert [image["ImageId"] for image in ec2.describe_images(Owners=["self"])["Images"]] == [
        registered.id
    ]
    assert [
        one["SnapshotId"] for one in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    ] == [snapshot]


def test_force_leaves_a_published_ami_alone(aws: Emulator, tmp_path: Path) -> None:
    aws.set(pending_s=0)
    record = records.read(ec2_builds.build(tmp_path, 1, REGION) / BAKE_FILE, BakeRecord)
    ec2, spec = boto3.client("ec2", REGION), ImageSpec.of(record, "Debian 13 for tests", "amd64")
    image = images.find(ec2, spec.name)
    assert image is not None
    images.clear_temporary_tags(ec2, image)  # as a publish does
    said = f"{image.ami} in {REGION} is published"
    with pytest.raises(BadInput, match=said):
        _bake(tmp_path, record, force=True)
    _builders(ec2, spec.name)
    with pytest.raises(BadInput, match=said):  # published while its bake ran
        builder()._registered(spec, None, force=True)
    assert images.find(ec2, spec.name) is not None


def test_packages_are_held_to_the_lock_and_the_publishers_are_counted() -> None:
    lock = sample_lock.sample()
    right = ec2_builder._packages(
        lock, ["ii \tbash\t1:5.2-2", "ii \tgrub-cloud-amd64\t1", "rc \told\t1"]
    )
    assert (right.outcome, right.detail) == (
        Outcome.CORRECT,
        "1 packages are the publisher's, beside the lock: grub-cloud-amd64",
    )
    other = ec2_builder._packages(lock, ["ii \tbash\t2"])
    assert (other.outcome, other.detail) == (Outcome.INCORRECT, "bash is 2, not 1:5.2-2")
    assert ec2_builder._packages(lock, ["ii \tother\t1"]).outcome is Outcome.CORRECT, (
        "a role may remove what is locked"
    )
    assert ec2_builder._packages(lock, []).detail == "dpkg names no package"


def test_a_build_of_the_other_builder_or_region_is_not_taken_for_this_one(
    aws: Emulator, tmp_path: Path
) -> None:
    there, here = ec2_builds.build(tmp_path, 1, REGION), builds.build(tmp_path, 2)
    local, west = LocalBuilder(builds.ROOT), builder(region="us-west-2")
    assert bake.exists(BuildFolder(there), builder()) and bake.exists(BuildFolder(here), local)
    for folder, other in ((there, local), (there, west), (here, builder())):
        with pytest.raises(BadInput, match="was baked"):
            bake.exists(BuildFolder(folder), other)
    assert not bake.exists(BuildFolder(tmp_path), builder())
