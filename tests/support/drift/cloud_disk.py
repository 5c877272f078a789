"""A small image in an emulated account: uploaded, registered and launched, and changed on the
instance's volume."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from goldenami.aws import images, tags
from goldenami.aws.channels import attestations
from goldenami.aws.session import Client
from goldenami.aws.snapshots import ebs
from goldenami.core import records, shell
from goldenami.image.provenance import signers
from goldenami.image.provenance.provenance import Attestor
from goldenami.local.drift.disk_records import DiskRecord
from goldenami.model.builds import sparse_disk
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.disk_blocks import BlockMap

from support.aws.seeded_account import SeededAccount
from support.drift import small_image
from support.security import signing_key

LOCK, BUILD_ID = "{}\n", "ca3d163bab05"
"""A lock, and the id of its build: the first digits of its SHA-256."""
ONE_REGION = "publish: {regions: [us-east-1], launch_template: {instance_type: c7i.large}}\n"
"""Where its definition has it published."""


def bake(root: Path, image: str) -> BuildFolder:
    build = small_image.bake(root / "build" / image / BUILD_ID)
    records.write_text(build.lock, LOCK)
    records.write(
        build.bake,
        build.read_bake().model_copy(
            update={"image": image, "lock_sha256": records.sha256_file(build.lock)}
        ),
    )
    return build


def record(said: str) -> DiskRecord:
    """What `golden drift --json` printed among the rest of its output."""
    return DiskRecord.model_validate_json(said[said.index("{\n") : said.index("\n}\n") + 3])


def copy(build: BuildFolder, root: Path) -> BuildFolder:
    """A build in another checkout; holes stay holes."""
    target = BuildFolder(root / "build" / build.path.parent.name / build.path.name)
    target.path.parent.mkdir(parents=True, exist_ok=True)
    shell.output(["cp", "-r", "--sparse=always", str(build.path), str(target.path)])
    return target


def swap_root(ec2: Client, instance: str, **volume: object) -> None:
    """Put a new volume in the place of an instance's root volume."""
    found = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    [device] = found["BlockDeviceMappings"]
    place = {"InstanceId": instance, "Device": device["DeviceName"]}
    ec2.detach_volume(VolumeId=device["Ebs"]["VolumeId"], **place)
    made = ec2.create_volume(AvailabilityZone=found["Placement"]["AvailabilityZone"], **volume)
    ec2.attach_volume(VolumeId=made["VolumeId"], **place)


@dataclass(frozen=True)
class CloudDisk:
    """The build as an AMI of the account."""

    account: SeededAccount
    build: BuildFolder
    ami: str

    @classmethod
    def publish(cls, account: SeededAccount, build: BuildFolder) -> CloudDisk:
        """Upload the disk and register it, with the tags of `publish`."""
        bake = build.read_bake()
        marks = {
            **tags.of_build(bake.image, bake.lock_sha256, bake.build_id, bake.git_commit),
            **tags.of_bytes(bake.disk_sha256, bake.manifest_sha256),
        }
        snapshot = ebs.Upload(
            account.ebs,
            account.ec2,
            build.disk,
            BlockMap.open(build.blocks),
            tags=marks,
            description="x",
            journal=build.path / "journal",
        ).run()
        ami = account.ami(1, tagged=False, recorded=False, snapshot=snapshot)
        account.ec2.create_tags(Resources=[ami], Tags=tags.to_list(marks))
        return cls(account, build, ami)

    def sign(self, key: Path) -> None:
        """Sign it by a private key, as `publish` does."""
        record, ami = self.build.read_bake(), images.get(self.account.ec2, [self.ami])[self.ami]
        with signing_key.used(key):
            found = signers.of_environment(self.build.path, self.account.session)
        assert found is not None
        attestations.write(
            self.account.ssm,
            self.account.ec2,
            attestations.parameter(record.image, record.build_id),
            ami,
            Attestor(self.build, found).attest(self.account.region, ami),
        )

    @property
    def manifest_sha256(self) -> str:
        return str(self.build.read_bake().manifest_sha256)

    def snapshot_of_nothing(self) -> str:
        """A snapshot with the same content that comes from nowhere."""
        made: str = self.account.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
        count = 0
        for index, sha256 in BlockMap.open(self.build.blocks):
            with self.build.disk.open("rb") as disk:
                data = sparse_disk.read_block(disk.fileno(), index)
            self.account.ebs.put_snapshot_block(
                SnapshotId=made,
                BlockIndex=index,
                BlockData=data,
                DataLength=len(data),
                ChecksumAlgorithm="SHA256",
                Checksum=base64.b64encode(sha256).decode(),
            )
            count += 1
        self.account.ebs.complete_snapshot(SnapshotId=made, ChangedBlocksCount=count)
        return made

    def launch(self) -> str:
        return self.account.launch(self.ami)

    def write(self, instance: str, disk: Path) -> None:
        """Make the instance's volume equal to `disk`."""
        at = 0
        with disk.open("rb") as new, self.build.disk.open("rb") as old:
            while part := new.read(1 << 20):
                if part != old.read(1 << 20):
                    self.account.emulator.write(instance, self.account.region, at, part)
                at += len(part)
