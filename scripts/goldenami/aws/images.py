"""AMIs: registering one from a snapshot, configuring it, waiting for it, and comparing it with its
specification."""

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
from goldenami.aws.calls import NOT_YET, pages, wait_for
from goldenami.aws.session import Client, code
from goldenami.core.errors import BadInput, StageFailed
from goldenami.core.records import Record
from goldenami.core.units import GIB
from goldenami.model.builds.build_records import BakeRecord, Utc
from goldenami.model.supported.allowed_types import AllowedTypes
from goldenami.model.supported.architectures import ARCHITECTURES

ROOT_DEVICE = "/dev/xvda"
"""Only a name: on Nitro the disk appears as an NVMe device whatever it is called ("Device names for
volumes")."""
WAIT_S = 900.0
"""Seconds to wait for an AMI. One made from a finished snapshot is available within a minute; 15
minutes mean an outage."""
COPY_WAIT_S = 6 * 3600.0
"""Seconds to wait for a copy from another region. It takes minutes to hours, depending on its size
and on the other copies ("Copy an Amazon EC2 AMI")."""
POLLS_S = (0.25, 0.5, 1, 2, 4, 8, 15)
"""Seconds between polls; the last pause repeats, since EC2 throttles DescribeImages."""


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


class Failed(StageFailed):
    """EC2 gave up making an AMI, mostly a copy."""


class ImageSpec(Record):
    """The properties that a build's AMI has in every region. Sizes are in GiB.

    `imds_support` cannot be undone once it is v2.0, so only a build that booted without IMDSv1 may
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
        """Return the specification of a build's AMI."""
        size, base = 0, dict[str, str]()
        if bake.ami:
            # In every region: it says whose user one logs in as.
            size, base = bake.ami.volume_gib, {tags.BASE_AMI: bake.ami.base}
        elif bake.disk:
            size = -(-bake.disk.bytes_apparent // GIB)  # rounded up
        return cls(
            name=f"{bake.image}-{bake.build_id}",
            description=description,
            architecture=ARCHITECTURES[architecture].ec2,
            volume_size_gib=size,
            tags={
                **tags.of_build(bake.image, bake.lock_sha256, bake.build_id, bake.git_commit),
                **tags.of_bytes(bake.disk_sha256, bake.manifest_sha256),
                **base,
            },
        )


class AmiSettings(Record):
    """Settings that are applied to an AMI after it exists."""

    share_with: tuple[str, ...] = ()
    instance_types: AllowedTypes = AllowedTypes()
    deprecate_at: Utc
    protect: bool = False


@dataclass(frozen=True)
class Image:
    """An AMI as DescribeImages returns it, in `raw`."""

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
        """The EBS settings of the root device, or {} if it has none."""
        return next(
            (
                device.get("Ebs", {})
                for device in self.raw.get("BlockDeviceMappings", [])
                if device.get("DeviceName") == self.raw.get("RootDeviceName")
            ),
            {},
        )

    @property
    def instance_types(self) -> AllowedTypes:
        """The types that EC2 launches it on."""
        lists = self.raw.get("InstanceTypeSpecification", {})
        supported, unsupported = (
            tuple(sorted(item["InstanceType"] for item in lists.get(name, [])))
            for name in ("SupportedInstanceTypes", "UnsupportedInstanceTypes")
        )
        return AllowedTypes(supported=supported, unsupported=unsupported)

    @property
    def has_other_types(self) -> bool:
        """Whether somebody changed these types since its publish, which says them in a tag."""
        published = self.tags.get(tags.INSTANCE_TYPES, self.instance_types.digest)
        return published != self.instance_types.digest

    @property
    def snapshot(self) -> str:
        return str(self.root.get("SnapshotId", ""))


def find(ec2: Client, name: str) -> Image | None:
    """The account's own AMI of that name, or None. Names are unique in a region."""
    return next(iter(_own(ec2, "name", [name])), None)


def get(ec2: Client, amis: Iterable[str]) -> dict[str, Image]:
    """Those of the account's own AMIs with these ids that exist, by id."""
    ids = sorted(set(amis))
    # A filter, because the parameter ImageIds raises an error for ids that are gone.
    return {image.ami: image for image in (_own(ec2, "image-id", ids) if ids else ())}


def _own(ec2: Client, fact: str, values: Sequence[str]) -> list[Image]:
    asked = {"Owners": ["self"], "IncludeDeprecated": True, "IncludeDisabled": True}
    filters = [{"Name": fact, "Values": values}]
    # In pages, since EC2 may throttle a list without a limit, or not answer in time.
    rows = pages(ec2, "describe_images", "Images", 1000, Filters=filters, **asked)
    # EC2 goes on listing a deregistered AMI for a while.
    return [Image(raw) for raw in rows if raw["State"] != AmiState.DEREGISTERED]


def shared(ec2: Client, ami: str) -> Image | None:
    """An AMI of another account that this one may launch, or None."""
    answer = ec2.describe_images(
        Filters=[{"Name": "image-id", "Values": [ami]}], IncludeDeprecated=True
    )
    description = next(iter(answer["Images"]), None)
    return Image(description) if description and not get(ec2, [ami]) else None


def check_ours(image: Image, spec: ImageSpec, region: str) -> None:
    """Raise BadInput if an AMI has the build's name but is not the build, or is disabled."""
    build = image.tags.get(tags.BUILD_ID)
    if build != spec.tags[tags.BUILD_ID] or image.tags.get(tags.DISK_SHA256) != spec.tags.get(
        tags.DISK_SHA256
    ):
        mismatch = "was not made by this pipeline"
        if build == spec.tags[tags.BUILD_ID]:
            mismatch = "is of another disk of the same build"
        raise BadInput(
            f"{image.ami} is named {spec.name} and {mismatch}",
            hint=f"{removal_command(region, image.ami)} removes it, if nobody needs "
            "it; then run again",
        )
    if image.state == AmiState.DISABLED:
        raise BadInput(
            f"{image.ami} ({spec.name}) is disabled",
            hint=f"`aws ec2 enable-image --region {region} --image-id "
            f"{image.ami}` brings it back; then run again",
        )


def remove_failed(ec2: Client, spec: ImageSpec) -> None:
    """Deregister the AMI of that name if EC2 gave it up. It would hold the name forever."""
    image = find(ec2, spec.name)
    if image and image.state == AmiState.FAILED:
        check_ours(image, spec, ec2.meta.region_name)
        ec2.deregister_image(ImageId=image.ami)


def register(ec2: Client, spec: ImageSpec, snapshot: str) -> str:
    """Register the AMI and return its id, or that of the same AMI if it is registered already."""
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
        # An earlier call may have registered it, and its answer was lost.
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
    """Start a copy of another region's AMI, encrypted by `key` (an ARN), and return its id."""
    encryption: dict[str, Any] = {"Encrypted": True, "KmsKeyId": key} if key else {}
    # botocore repeats a call whose answer was lost; the token keeps that from making a second copy.
    token = secrets.token_hex(16)
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
    """Wait until the AMI can be launched, and return it.

    Raises StageFailed if it is still pending after WAIT_S (a copy: and COPY_WAIT_S more), and
    Failed with AWS's reason.
    """
    seen: list[Image] = []

    def settled_image() -> Image | None:
        seen[:] = get(ec2, [ami]).values()
        return seen[0] if seen and seen[0].state != AmiState.PENDING else None

    region, began = ec2.meta.region_name, time.monotonic()
    wait = partial(wait_for, settled_image, pauses=POLLS_S)
    image = wait(limit_s=WAIT_S, what=f"{ami} in {region} is pending")
    # A copy of another region's AMI takes much longer.
    if image is None and seen and seen[0].raw.get("SourceImageId"):
        image = wait(limit_s=COPY_WAIT_S, what=f"{ami} in {region} is being copied")
    if image is None:
        raise StageFailed(
            f"{ami} is not available after {time.monotonic() - began:.0f} s",
            hint="run again: it goes on waiting; status.aws.amazon.com says whether EC2 is ill",
        )
    if image.state != AmiState.AVAILABLE:
        reason = image.raw.get("StateReason", {}).get("Message", "AWS gives no reason")
        raise Failed(
            f"{ami} is {image.state}: {reason}",
            hint=f"{removal_command(region, ami)} removes it; then run again",
        )
    return image


def unprotect(ec2: Client, ami: str) -> None:
    """Let an AMI be deregistered, if it is protected from that."""
    image = get(ec2, [ami]).get(ami)
    if image and _protected(image):
        ec2.disable_image_deregistration_protection(ImageId=ami)


def removal_command(region: str, ami: str) -> str:
    """The command that removes an AMI. Its snapshot stays, so that the next AMI can use it."""
    return f"`aws ec2 deregister-image --region {region} --image-id {ami}`"


def accounts_shared_with(ec2: Client, ami: str) -> list[str]:
    """The accounts and organizations that may launch the AMI; ["all"] if it is public."""
    answer = ec2.describe_image_attribute(ImageId=ami, Attribute="launchPermission")
    return [next(iter(row.values())) for row in answer.get("LaunchPermissions", [])]


def apply(ec2: Client, image: Image, spec: ImageSpec, settings: AmiSettings) -> None:
    """Set those of the AMI's tags, deprecation date, protection and launch permissions that
    differ."""
    # Earlier versions of goldenami set fewer tags.
    if not spec.tags.items() <= image.tags.items():
        ec2.create_tags(Resources=[image.ami, image.snapshot], Tags=tags.to_list(spec.tags))
    # A date that is set already stays: a second publish must not prolong it.
    if not image.raw.get("DeprecationTime"):
        ec2.enable_image_deprecation(
            ImageId=image.ami, DeprecateAt=datetime.fromisoformat(settings.deprecate_at)
        )
    if settings.protect and not _protected(image):
        ec2.enable_image_deregistration_protection(ImageId=image.ami)
    # CopyImage and RegisterImage take no lists, so each region's AMI gets them here.
    if image.instance_types != settings.instance_types:
        _allow_types(ec2, image, settings.instance_types)
    have, want = set(accounts_shared_with(ec2, image.ami)), set(settings.share_with)
    change = {"Add": _accounts(want - have), "Remove": _accounts(have - want)}
    if have != want:
        ec2.modify_image_attribute(
            ImageId=image.ami,
            Attribute="launchPermission",
            LaunchPermission={verb: rows for verb, rows in change.items() if rows},
        )


def _allow_types(ec2: Client, image: Image, allowed: AllowedTypes) -> None:
    lists: dict[str, Any] = {}
    if allowed != AllowedTypes():
        lists["InstanceTypeSpecification"] = {
            "SupportedInstanceTypes": list(allowed.supported),
            "UnsupportedInstanceTypes": list(allowed.unsupported),
        }
    ec2.replace_image_instance_type_specification(ImageId=image.ami, **lists)


def _accounts(names: set[str]) -> list[dict[str, str]]:
    return [{_account_key(name): name} for name in sorted(names)]


def _account_key(name: str) -> str:
    """Return the key under which a launch permission has `name`."""
    if name == "all":
        return "Group"
    if ":organization/" in name:
        return "OrganizationArn"
    if ":ou/" in name:
        return "OrganizationalUnitArn"
    return "UserId"


def _protected(image: Image) -> bool:
    return str(image.raw.get("DeregistrationProtection", "disabled")).startswith("enabled")


def differences(
    image: Image, spec: ImageSpec, settings: AmiSettings, shared_with: Iterable[str]
) -> list[str]:
    """List how an AMI differs from its specification and settings, one line a property."""
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
        ("instance types", str(settings.instance_types), str(image.instance_types)),
        ("launch permissions", sorted(settings.share_with), sorted(set(shared_with))),
        *((f"tag {name}", value, image.tags.get(name)) for name, value in spec.tags.items()),
    ]
    return _differing(facts)


def snapshot_differences(ec2: Client, image: Image, spec: ImageSpec, key: str | None) -> list[str]:
    """List how the AMI's snapshot differs from its specification. `key` is the ARN of the expected
    key, or None to accept any."""
    answer = wait_for(lambda: ec2.describe_snapshots(SnapshotIds=[image.snapshot]), *NOT_YET)
    snapshot = answer["Snapshots"][0]
    snapshot_tags = tags.from_list(snapshot.get("Tags"))
    facts = [
        ("snapshot state", "completed", snapshot["State"]),
        ("date of expiry", None, image.tags.get(tags.EXPIRES)),
        ("snapshot's date of expiry", None, snapshot_tags.get(tags.EXPIRES)),
        *(
            (f"snapshot tag {name}", value, snapshot_tags.get(name))
            for name, value in spec.tags.items()
        ),
    ]
    if key:
        facts += [("encryption key", key, snapshot.get("KmsKeyId"))]
    return _differing(facts)


def _differing(facts: Iterable[tuple[str, object, object]]) -> list[str]:
    return [
        f"{name}: {actual!r}, not {expected!r}"
        for name, expected, actual in facts
        if actual != expected
    ]


def clear_temporary_tags(ec2: Client, image: Image) -> None:
    """Remove the tags by which `golden sweep` may delete the AMI and its snapshot."""
    ec2.delete_tags(
        Resources=[image.ami, image.snapshot], Tags=[{"Key": tags.OWNER}, {"Key": tags.EXPIRES}]
    )
