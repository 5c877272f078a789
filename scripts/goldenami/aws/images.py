"""An AMI from a snapshot: registered once, set up, waited for, and held to what was asked for."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Literal

from botocore import exceptions as aws
from pydantic import Field

from goldenami.aws import tags
from goldenami.aws.calls import NOT_YET, wait_for
from goldenami.aws.session import Client, code
from goldenami.core.errors import BadInput, StageFailed
from goldenami.core.records import Record
from goldenami.core.units import GIB
from goldenami.model.builds.build_records import BakeRecord, Utc
from goldenami.model.supported.architectures import ARCHITECTURES

ROOT_DEVICE = "/dev/xvda"
"""A name only: on Nitro the disk appears as NVMe whatever it is called ("Device names for
volumes")."""
WAIT_S = 900.0
"""An AMI that is made of a finished snapshot is available within a minute; a quarter of an hour is
an outage."""
COPY_WAIT_S = 6 * 3600.0
"""A copy into another region takes from minutes to hours, by its size and by what else is copied
("Copy an Amazon EC2 AMI")."""
POLLS_S = (0.25, 0.5, 1, 2, 4, 8, 15)
"""Pauses between looks, the last one over and over: DescribeImages is a call that EC2 throttles."""


class AmiState(StrEnum):
    """States of an image ("Image", Amazon EC2 API reference)."""

    PENDING = "pending"
    AVAILABLE = "available"
    DISABLED = "disabled"
    INVALID = "invalid"
    DEREGISTERED = "deregistered"
    TRANSIENT = "transient"
    FAILED = "failed"
    ERROR = "error"


class ImageSpec(Record):
    """What an AMI has to be, in every region alike. Sizes are GiB.

    `imds_support` cannot be undone once it is v2.0: only a build that booted without IMDSv1 may
    have it.
    """

    name: str
    description: str
    architecture: str
    boot_mode: Literal["uefi-preferred"] = "uefi-preferred"
    imds_support: Literal["v2.0"] = "v2.0"
    ena: Literal[True] = True
    volume_type: Literal["gp3"] = "gp3"
    volume_size_gib: Annotated[int, Field(ge=1)]
    tags: dict[str, str]

    @classmethod
    def of(cls, bake: BakeRecord, description: str, architecture: str) -> ImageSpec:
        """The AMI of a build. RegisterImage takes 255 characters of description."""
        size = 0
        if bake.ami:
            size = bake.ami.volume_gib
        elif bake.disk:
            size = -(-bake.disk.bytes_apparent // GIB)
        return cls(
            name=f"{bake.image}-{bake.build_id}",
            description=description[:255],
            architecture=ARCHITECTURES[architecture].ec2,
            volume_size_gib=size,
            tags={
                **tags.of_build(bake.image, bake.lock_sha256, bake.build_id, bake.git_commit),
                **tags.of_bytes(bake.disk_sha256, bake.manifest_sha256),
            },
        )


class AmiSettings(Record):
    """What is set on an AMI after it exists."""

    share_with: tuple[str, ...] = ()
    deprecate_at: Utc
    protect: bool = False


@dataclass(frozen=True)
class Image:
    """An AMI as DescribeImages tells it."""

    raw: dict[str, Any]

    @property
    def ami(self) -> str:
        return str(self.raw["ImageId"])

    @property
    def state(self) -> str:
        return str(self.raw["State"])

    @property
    def tags(self) -> tags.Tags:
        return tags.from_list(self.raw.get("Tags"))

    @property
    def root(self) -> dict[str, Any]:
        """The EBS part of its root device; empty where it has none."""
        return next(
            (
                device.get("Ebs", {})
                for device in self.raw.get("BlockDeviceMappings", [])
                if device.get("DeviceName") == self.raw.get("RootDeviceName")
            ),
            {},
        )

    @property
    def snapshot(self) -> str:
        return str(self.root.get("SnapshotId", ""))


def find(ec2: Client, name: str) -> Image | None:
    """The account's own AMI of that name, which is unique in a region."""
    return next(iter(_own(ec2, "name", [name])), None)


def get(ec2: Client, amis: Iterable[str]) -> dict[str, Image]:
    """The account's own AMIs of those ids that exist (a filter, not ImageIds, takes gone ids)."""
    ids = sorted(set(amis))
    return {image.ami: image for image in (_own(ec2, "image-id", ids) if ids else ())}


def _own(ec2: Client, fact: str, values: Sequence[str]) -> list[Image]:
    answer = ec2.describe_images(
        Owners=["self"],
        Filters=[{"Name": fact, "Values": values}],
        IncludeDeprecated=True,
        IncludeDisabled=True,
    )
    # EC2 lists one that was deregistered for a while.
    return [Image(raw) for raw in answer["Images"] if raw["State"] != AmiState.DEREGISTERED]


def shared(ec2: Client, ami: str) -> Image | None:
    """An AMI of another account that this one may launch; None where there is no such one."""
    answer = ec2.describe_images(
        Filters=[{"Name": "image-id", "Values": [ami]}], IncludeDeprecated=True
    )
    found = next(iter(answer["Images"]), None)
    return Image(found) if found and not get(ec2, [ami]) else None


def check_ours(image: Image, spec: ImageSpec, region: str) -> None:
    """BadInput where an AMI has the build's name and is not the build."""
    build = image.tags.get(tags.BUILD_ID)
    if build != spec.tags[tags.BUILD_ID] or image.tags.get(tags.DISK_SHA256) != spec.tags.get(
        tags.DISK_SHA256
    ):
        what = (
            "is of another disk of the same build"
            if build == spec.tags[tags.BUILD_ID]
            else "was not made by this pipeline"
        )
        raise BadInput(
            f"{image.ami} is named {spec.name} and {what}",
            hint=f"{removal_command(region, image.ami)} removes it, if nobody needs "
            "it; then run again",
        )
    if image.state == AmiState.DISABLED:
        raise BadInput(
            f"{image.ami} ({spec.name}) is disabled",
            hint=f"`aws ec2 enable-image --region {region} --image-id "
            f"{image.ami}` brings it back; then run again",
        )


def register(ec2: Client, spec: ImageSpec, snapshot: str) -> str:
    """Register the AMI; returns its id. One that an earlier call has made is taken as it is."""
    ebs = {
        "SnapshotId": snapshot,
        "VolumeType": spec.volume_type,
        "VolumeSize": spec.volume_size_gib,
        "DeleteOnTermination": True,
    }
    try:
        answer = ec2.register_image(
            Name=spec.name,
            Description=spec.description,
            Architecture=spec.architecture,
            VirtualizationType="hvm",
            RootDeviceName=ROOT_DEVICE,
            BlockDeviceMappings=[{"DeviceName": ROOT_DEVICE, "Ebs": ebs}],
            EnaSupport=spec.ena,
            BootMode=spec.boot_mode,
            ImdsSupport=spec.imds_support,
            TagSpecifications=tags.specifications(spec.tags, "image"),
        )
    except aws.ClientError as error:
        image = find(ec2, spec.name) if code(error) == "InvalidAMIName.Duplicate" else None
        if image is None:
            raise
        check_ours(image, spec, ec2.meta.region_name)
        return image.ami
    return str(answer["ImageId"])


def remove(ec2: Client, image: Image) -> None:
    """Deregister an AMI and delete its snapshot."""
    ec2.deregister_image(ImageId=image.ami)
    ec2.delete_snapshot(SnapshotId=image.snapshot)


def copy(ec2: Client, spec: ImageSpec, source_region: str, source_ami: str, key: str | None) -> str:
    """Have EC2 copy an AMI of another region; returns the copy's id. `key` (an ARN) encrypts it."""
    encryption: dict[str, Any] = {"Encrypted": True, "KmsKeyId": key} if key else {}
    token = secrets.token_hex(16)  # an answer that is lost does not make a second copy
    answer = ec2.copy_image(
        Name=spec.name,
        Description=spec.description,
        SourceRegion=source_region,
        SourceImageId=source_ami,
        ClientToken=token,
        TagSpecifications=tags.specifications(spec.tags, "image", "snapshot"),
        **encryption,
    )
    return str(answer["ImageId"])


def wait_available(ec2: Client, ami: str) -> Image:
    """The AMI when it can be launched, or StageFailed with AWS's reason or after WAIT_S, a copy
    after COPY_WAIT_S."""
    seen: list[Image] = []

    def settled_image() -> Image | None:
        seen[:] = get(ec2, [ami]).values()
        return seen[0] if seen and seen[0].state != AmiState.PENDING else None

    region, began = ec2.meta.region_name, time.monotonic()
    wait = partial(wait_for, settled_image, pauses=POLLS_S)
    image = wait(limit_s=WAIT_S, what=f"{ami} in {region} is pending")
    if image is None and seen and seen[0].raw.get("SourceImageId"):
        image = wait(limit_s=COPY_WAIT_S, what=f"{ami} in {region} is being copied")
    if image is None:
        raise StageFailed(
            f"{ami} is not available after {time.monotonic() - began:.0f} s",
            hint="run again: it goes on waiting; status.aws.amazon.com says whether EC2 is ill",
        )
    if image.state != AmiState.AVAILABLE:
        reason = image.raw.get("StateReason", {}).get("Message", "AWS gives no reason")
        raise StageFailed(
            f"{ami} is {image.state}: {reason}",
            hint=f"{removal_command(region, ami)} removes it; then run again",
        )
    return image


def removal_command(region: str, ami: str) -> str:
    """What a person types to remove an AMI; its snapshot stays, for the next one."""
    return f"`aws ec2 deregister-image --region {region} --image-id {ami}`"


def accounts_shared_with(ec2: Client, ami: str) -> list[str]:
    """The accounts and organizations that may launch the AMI; `all` where it is public."""
    answer = ec2.describe_image_attribute(ImageId=ami, Attribute="launchPermission")
    return [next(iter(row.values())) for row in answer.get("LaunchPermissions", [])]


def apply(ec2: Client, image: Image, spec: ImageSpec, settings: AmiSettings) -> None:
    """Set what differs, tags included: an earlier version gave fewer. A deprecation date that
    stands is left: a second publish must not prolong it."""
    if not spec.tags.items() <= image.tags.items():
        ec2.create_tags(Resources=[image.ami, image.snapshot], Tags=tags.to_list(spec.tags))
    if not image.raw.get("DeprecationTime"):
        ec2.enable_image_deprecation(
            ImageId=image.ami, DeprecateAt=datetime.fromisoformat(settings.deprecate_at)
        )
    if settings.protect and not _protected(image):
        ec2.enable_image_deregistration_protection(ImageId=image.ami)
    have, want = set(accounts_shared_with(ec2, image.ami)), set(settings.share_with)
    change = {"Add": _accounts(want - have), "Remove": _accounts(have - want)}
    if have != want:
        ec2.modify_image_attribute(
            ImageId=image.ami,
            Attribute="launchPermission",
            LaunchPermission={verb: rows for verb, rows in change.items() if rows},
        )


def _accounts(names: set[str]) -> list[dict[str, str]]:
    return [
        {"Group": name}
        if name == "all"
        else {"OrganizationArn": name}
        if ":organization/" in name
        else {"OrganizationalUnitArn": name}
        if ":ou/" in name
        else {"UserId": name}
        for name in sorted(names)
    ]


def _protected(image: Image) -> bool:
    return str(image.raw.get("DeregistrationProtection", "disabled")).startswith("enabled")


def differences(
    image: Image, spec: ImageSpec, settings: AmiSettings, shared_with: Iterable[str]
) -> list[str]:
    """How an AMI differs from what was asked for, one line a fact."""
    root, raw = image.root, image.raw
    devices = [device.get("DeviceName") for device in raw.get("BlockDeviceMappings", [])]
    facts = [
        ("state", AmiState.AVAILABLE.value, image.state),
        ("name", spec.name, raw.get("Name")),
        ("architecture", spec.architecture, raw.get("Architecture")),
        ("boot mode", spec.boot_mode, raw.get("BootMode")),
        ("IMDS support", spec.imds_support, raw.get("ImdsSupport")),
        ("ENA", spec.ena, raw.get("EnaSupport")),
        ("TPM support", None, raw.get("TpmSupport")),
        ("virtualization", "hvm", raw.get("VirtualizationType")),
        ("public", False, raw.get("Public", False)),
        ("block devices", [ROOT_DEVICE], devices),
        ("root device", ROOT_DEVICE, raw.get("RootDeviceName")),
        ("volume type", spec.volume_type, root.get("VolumeType")),
        ("volume size", spec.volume_size_gib, root.get("VolumeSize")),
        ("delete on termination", True, root.get("DeleteOnTermination")),
        ("deprecation date", True, bool(raw.get("DeprecationTime"))),
        ("deregistration protection", True, _protected(image) or not settings.protect),
        ("launch permissions", sorted(settings.share_with), sorted(set(shared_with))),
        *((f"tag {name}", value, image.tags.get(name)) for name, value in spec.tags.items()),
    ]
    return _odd(facts)


def snapshot_differences(ec2: Client, image: Image, spec: ImageSpec, key: str | None) -> list[str]:
    """How the AMI's snapshot differs. `key` is an ARN; None: whatever it is."""
    answer = wait_for(lambda: ec2.describe_snapshots(SnapshotIds=[image.snapshot]), *NOT_YET)
    snapshot = answer["Snapshots"][0]
    snapshot_tags = tags.from_list(snapshot.get("Tags"))
    facts = [
        ("snapshot state", "completed", snapshot["State"]),
        ("snapshot's date of expiry", None, snapshot_tags.get(tags.EXPIRES)),
        *(
            (f"snapshot tag {name}", value, snapshot_tags.get(name))
            for name, value in spec.tags.items()
        ),
    ]
    if key:
        facts += [("encryption key", key, snapshot.get("KmsKeyId"))]
    return _odd(facts)


def _odd(facts: Iterable[tuple[str, object, object]]) -> list[str]:
    return [
        f"{name}: {actual!r}, not {expected!r}"
        for name, expected, actual in facts
        if actual != expected
    ]


def clear_temporary_tags(ec2: Client, image: Image) -> None:
    """Take off the tags by which AMI and snapshot may be swept."""
    ec2.delete_tags(
        Resources=[image.ami, image.snapshot], Tags=[{"Key": tags.OWNER}, {"Key": tags.EXPIRES}]
    )
