"""Builds as bake and verify leave them, with a disk of a few megabytes, for the tests that
publish."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import shutil
import signal
import textwrap
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from goldenami import cli
from goldenami.aws.channels.ledger import Ledger
from goldenami.core import records
from goldenami.core.errors import ExitCode
from goldenami.model.builds import disk_blocks, gpu_proofs
from goldenami.model.builds.build_records import (
    BAKE_FILE,
    BLOCKS_FILE,
    LOCK_FILE,
    PUBLISH_FILE,
    VERIFY_FILE,
    Accel,
    BakeRecord,
    Boot,
    Check,
    Disk,
    Host,
    Outcome,
    Verdict,
    VerifyRecord,
)
from goldenami.model.definitions import definition_file
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from goldenami.release.publish.publish_records import PublishRecord

from support.builds import sample_lock

ROOT = Path(__file__).resolve().parents[3]

IMAGE = "debian-13-ml-cpu"
GPU_IMAGE = "debian-13-ml"
GPU_ROLES = ["os_updates", "nvidia_driver"]
MIB = 1 << 20
REGIONS = ("us-east-1", "us-west-2")
DONE = (ExitCode.OK, ExitCode.HELD_BACK)
CHECKS = ("boot/imdsv2", "boot/disk_untouched", "seal/machine_id")


FIRST = datetime(2026, 1, 1)
DISK_MIB, BLOCKS = 64, 3
"""The size of a disk, and its blocks of 512 KiB that are not zeros."""


def write_disk(path: Path, seed: int) -> str:
    """A sparse disk with BLOCKS blocks of noise that lie apart; returns its SHA-256.

    Two seeds share all blocks but the first, as two releases of an image do.
    """
    with path.open("wb") as sink:
        sink.truncate(DISK_MIB * MIB)
        for index in range(BLOCKS):
            noise = random.Random(seed if index == 0 else -index)
            os.pwrite(sink.fileno(), noise.randbytes(MIB // 2), index * 16 * MIB)
    return records.sha256_sparse(path)


FAMILIES = {"75": "g4dn", "86": "g5", "89": "g6"}
"""A family of each GPU architecture that a build may be for."""


def lock(image: str, number: int, sm: tuple[str, ...] = ()) -> Lock:
    plain = sample_lock.sample()
    families = [FAMILIES[architecture] for architecture in sm] or ["c7a", "c7i", "m7a", "m7i"]
    kernel = plain.packages["bash"].model_copy(update={"version": plain.kernel.version})
    return sample_lock.sample(
        image=image,
        description="Debian 13 for tests",
        source_date_epoch=number,
        disk_size_gib=1,
        hardware=sample_lock.HARDWARE.model_copy(update={"sm": list(sm), "families": families}),
        packages=plain.packages | {plain.kernel.package: kernel},
        roles=GPU_ROLES if sm else plain.roles,
    )


def build(
    root: Path, number: int, *, image: str = IMAGE, sm: tuple[str, ...] = (), **changes: Any
) -> Path:
    """The `number`th build of `image` below `root`, verified; a higher number was baked later.
    Returns its folder.

    `changes` replace keys of its lock.
    """
    made = lock(image, number, sm).model_copy(update=changes)
    digest = hashlib.sha256(records.canonical(made.model_dump(mode="json")).encode()).hexdigest()
    folder = root / "build" / image / digest[: lockfile.ID_LENGTH]
    folder.mkdir(parents=True)
    records.write(folder / LOCK_FILE, made)
    sha256 = write_disk(folder / "disk.raw", number)
    bake = BakeRecord(
        image=image,
        build_id=folder.name,
        lock_sha256=digest,
        git_commit="0" * 40,
        phases=[],
        roles=[],
        components=[],
        started_at=f"{FIRST + timedelta(hours=number):%Y-%m-%dT%H:%M:%SZ}",
        seconds=1.0,
        layers=[],
        host=Host(cpus=2, python="3.11", packer="1.6.6"),
        packages_count=0,
        manifest_sha256="0" * 64,
        disk=Disk(
            path="disk.raw",
            bytes_apparent=DISK_MIB * MIB,
            bytes_allocated=BLOCKS * MIB // 2,
            sha256=sha256,
            blocks_sha256=records.sha256_file(
                disk_blocks.scan(folder / "disk.raw", folder / BLOCKS_FILE).path
            ),
        ),
    )
    records.write(folder / BAKE_FILE, bake)
    write_verify(folder, disk_sha256=sha256)
    return folder


def bake_again(folder: Path, seed: int, *, told: bool) -> None:
    """Another bake of the same lock put a disk with `seed`'s bytes in place of the build's; `told`:
    its record, too."""
    sha256 = write_disk(folder / "disk.raw", seed)
    blocks = records.sha256_file(disk_blocks.scan(folder / "disk.raw", folder / BLOCKS_FILE).path)
    bake = records.read(folder / BAKE_FILE, BakeRecord)
    assert bake.disk is not None
    if told:
        disk = bake.disk.model_copy(update={"sha256": sha256, "blocks_sha256": blocks})
        records.write(folder / BAKE_FILE, bake.model_copy(update={"disk": disk}))


def write_verify(folder: Path, **changes: Any) -> None:
    checks = [
        Check(
            id=name, role=name.partition("/")[0], title=name, outcome=Outcome.CORRECT, seconds=0.1
        )
        for name in CHECKS
    ]
    boots = [Boot(firmware=firmware, seconds_to_ssh=30.0) for firmware in ("bios", "uefi")]
    facts: dict[str, Any] = {
        "image": folder.parent.name,
        "build_id": folder.name,
        "verdict": Verdict.VERIFIED,
        "accel": Accel.TCG,
        "boots": boots,
        "checks": checks,
        "seconds": 60.0,
        "disk_sha256": records.read(folder / BAKE_FILE, BakeRecord).disk_sha256,
    }
    records.write(folder / VERIFY_FILE, VerifyRecord(**(facts | changes)))


def wrong(check: str) -> list[Check]:
    return [
        Check(
            id=name,
            role="boot",
            title=name,
            seconds=0.1,
            outcome=Outcome.INCORRECT if name == check else Outcome.CORRECT,
        )
        for name in CHECKS
    ]


def write_junit(
    path: Path,
    build_id: str,
    *,
    gpu: str = "NVIDIA A10G",
    ami: str = "ami-1",
    nonce: str = "n",
    inner: str = "",
    without: str = "",
) -> None:
    """The JUnit file of a test of that build on a GPU; `inner` is what a test case beside the
    checks holds.

    `without`: the check that it lacks.
    """
    facts = {
        gpu_proofs.BUILD_PROPERTY: build_id,
        gpu_proofs.GPU_PROPERTY: gpu,
        gpu_proofs.AMI_PROPERTY: ami,
        gpu_proofs.NONCE_PROPERTY: nonce,
    }
    rows = "".join(
        f'<property name="{name}" value="{value}"/>' for name, value in facts.items() if value
    )
    checks = "".join(
        f'<testcase classname="tests.image.{role}.test_gpu" name="test_{name}[ssh://golden]"/>'
        for role, _, name in (
            check.partition("/") for check in gpu_proofs.required(ROOT, GPU_ROLES)
        )
        if f"{role}/{name}" != without
    )
    path.write_text(
        f'<testsuites><testsuite name="pytest"><properties>{rows}</properties>{checks}'
        '<testcase classname="tests.image.limits.test_limits" '
        f'name="test_one">{inner}</testcase>'
        "</testsuite></testsuites>",
        encoding="utf-8",
    )


def copy_definitions(root: Path) -> Path:
    """Put into `root` what `golden` reads of a checkout when it publishes; returns `root`."""
    for name in ("ansible", "packer", "roles", "tests/image"):
        shutil.copytree(ROOT / name, root / name)
    return root


def define(root: Path, text: str, image: str = IMAGE) -> None:
    """Write `text` in place of the sections that shape no image."""
    path = root / f"packer/images/{image}.yml"
    sections = rf"(?m)^({'|'.join(definition_file.APART)}):.*\n([ -].*\n)*"
    shaping = re.sub(sections, "", path.read_text(encoding="utf-8"))
    path.write_text(shaping + textwrap.dedent(text), encoding="utf-8")


@dataclass(frozen=True)
class Ran:
    """What a command of `golden` came to: its exit code, and what it said on both streams."""

    code: int
    text: str

    @property
    def is_done(self) -> bool:
        return self.code in DONE


_published_s = 0.0
"""When the last publish of this process ended."""


def golden(root: Path, *args: str) -> Ran:
    """Run a command on the checkout `root` in this process.

    EC2 dates AMIs by the second: no two publishes are of one, so that the AMI of the later one is
    newer.
    """
    global _published_s
    while "publish" in args and int(time.time()) <= int(_published_s):
        time.sleep(0.02)
    said = io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with redirect_stdout(said), redirect_stderr(said):
        code = cli.main(["--root", str(root), *args])
    for number, handler in handlers.items():
        signal.signal(number, handler)
    if "publish" in args:
        _published_s = time.time()
    return Ran(code, said.getvalue())


class Checkout:
    """A checkout with definitions and builds, in which `golden` runs in this process."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = copy_definitions(root)
        monkeypatch.setenv("GOLDEN_CACHE", str(root / "cache"))

    def golden(self, *args: str) -> Ran:
        return golden(self.root, *args)

    def run(self, *args: str, code: int = 0) -> str:
        ran = self.golden(*args)
        assert ran.code == code, ran.text
        return ran.text

    def publish(self, number: int) -> str:
        build_id = build(self.root, number).name
        ran = self.golden("publish", IMAGE)
        assert ran.is_done, ran.text
        return build_id

    def define(self, text: str, image: str = IMAGE) -> None:
        define(self.root, text, image)

    def record(self, folder: Path) -> PublishRecord:
        return records.read(folder / PUBLISH_FILE, PublishRecord)


@cache
def _client(service: str, region: str, endpoint: str) -> Any:
    """Shared by tests: a client costs a tenth of a second."""
    return boto3.client(service, region_name=region, endpoint_url=endpoint)


class RegionState:
    """What an account holds of an image in one region, as one who launches from it sees it."""

    def __init__(self, region: str, image: str = IMAGE) -> None:
        self.region, self.image = region, image
        self.ec2, self.ssm, self.dynamodb = (
            _client(service, region, os.environ["AWS_ENDPOINT_URL"])
            for service in ("ec2", "ssm", "dynamodb")
        )

    def amis(self) -> dict[str, dict[str, Any]]:
        return {
            raw["Name"]: raw
            for raw in self.ec2.describe_images(Owners=["self"], IncludeDisabled=True)["Images"]
        }

    def ami(self, build_id: str) -> str:
        return str(self.amis()[f"{self.image}-{build_id}"]["ImageId"])

    def snapshots(self) -> list[dict[str, Any]]:
        return list(self.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"])

    def parameter(self, name: str) -> str | None:
        found = self.ssm.get_parameters(Names=[f"/golden-ami/{self.image}/{name}"])["Parameters"]
        return str(found[0]["Value"]) if found else None

    def template(self) -> dict[str, Any] | None:
        found = self.ec2.describe_launch_templates(
            Filters=[{"Name": "launch-template-name", "Values": [f"golden-{self.image}"]}]
        )["LaunchTemplates"]
        if not found:
            return None
        answer = self.ec2.describe_launch_template_versions(
            LaunchTemplateId=found[0]["LaunchTemplateId"], Versions=["$Default"]
        )
        return dict(answer["LaunchTemplateVersions"][0])

    def versions(self) -> list[dict[str, Any]]:
        answer = self.ec2.describe_launch_template_versions(
            LaunchTemplateName=f"golden-{self.image}"
        )
        return sorted(
            answer["LaunchTemplateVersions"], key=lambda version: int(version["VersionNumber"])
        )

    def ledger(self) -> Ledger:
        """The ledger, and nobody holding the lease."""
        item = self.dynamodb.get_item(TableName="golden-ami", Key={"image": {"S": self.image}})[
            "Item"
        ]
        assert "holder" not in item, item
        return Ledger.model_validate_json(item["ledger"]["S"])

    def write_ledger(self, ledger: Ledger) -> None:
        """As an older version or somebody else left it."""
        self.dynamodb.update_item(
            TableName="golden-ami",
            Key={"image": {"S": self.image}},
            UpdateExpression="SET ledger = :ledger",
            ExpressionAttributeValues={":ledger": {"S": ledger.model_dump_json()}},
        )

    def refreshes(self) -> list[dict[str, Any]]:
        client = _client("autoscaling", self.region, os.environ["AWS_ENDPOINT_URL"])
        return list(
            client.describe_instance_refreshes(AutoScalingGroupName="web")["InstanceRefreshes"]
        )

    def check(self, builds: Sequence[str], latest: str) -> None:
        """Exactly these builds, once each, with nothing beside them; `latest` is one of them and
        can be launched."""
        amis = self.amis()
        assert sorted(amis) == sorted(f"{self.image}-{build}" for build in builds), self.region
        used = {
            device["Ebs"]["SnapshotId"]
            for raw in amis.values()
            for device in raw["BlockDeviceMappings"]
        }
        assert {snapshot["SnapshotId"] for snapshot in self.snapshots()} == used, "an orphan"
        ami = amis[f"{self.image}-{latest}"]
        assert (ami["State"], self.parameter("latest")) == ("available", ami["ImageId"])
        assert self.parameter(latest) == ami["ImageId"]
        template = self.template()
        assert template is not None
        assert (template["LaunchTemplateData"]["ImageId"], template["VersionDescription"]) == (
            ami["ImageId"],
            f"build {latest}",
        )
        said = [
            (version["VersionDescription"], version["LaunchTemplateData"]["ImageId"])
            for version in self.versions()
        ]
        assert len(said) == len(set(said)), "two versions that say the same"
        mark = self.ledger().latest
        assert mark is not None
        assert (mark.build_id, mark.ami) == (latest, ami["ImageId"])
        self.agree()

    def agree(self) -> str:
        """What the ledger says, both parameters and the template's default say too; returns the
        build of `latest`."""
        ledger, template = self.ledger(), self.template()
        assert ledger.latest is not None and template is not None
        for name, entry in (("latest", ledger.latest), ("candidate", ledger.candidate)):
            assert self.parameter(name) == (entry.ami if entry else None), (
                f"{self.region}: {name} is not {entry}"
            )
            assert entry is None or entry.build_id not in ledger.withdrawn, (
                f"{self.region}: {name} was withdrawn"
            )
        assert template["LaunchTemplateData"]["ImageId"] == ledger.latest.ami, self.region
        return ledger.latest.build_id
