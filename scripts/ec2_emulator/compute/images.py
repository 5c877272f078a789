"""AMIs that keep what they were registered with, their states, and who may see them."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from typing import Any

from moto.ec2.exceptions import InvalidAMIIdError, UnvailableAMIIdError
from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import Ami
from moto.ec2.utils import random_ami_id

from ec2_emulator import listing
from ec2_emulator.errors import invalid_parameter
from ec2_emulator.rules import EC2_API, EC2_GUIDE, rule
from ec2_emulator.state import STATE

KEPT = ("Architecture", "BootMode", "TpmSupport", "UefiData", "ImdsSupport", "SriovNetSupport",
        "EnaSupport",
        "KernelId", "RamdiskId", "RootDeviceName", "VirtualizationType")
"""Parameters of RegisterImage that DescribeImages shows under the same name."""


class EmulatedImage(Ami):
    """An AMI. `Ami.__init__`, which would make a volume of 15 GiB, is not called on purpose."""

    def __init__(self, backend: Any, name: str, description: str, fields: Mapping[str, Any],
                 devices: Sequence[Mapping[str, Any]]) -> None:
        self.ec2_backend, self.id = backend, random_ami_id()
        self.name, self.description = name, description
        self.owner_id, self.owner_alias = backend.account_id, None
        self.image_type, self.hypervisor = "machine", "xen"
        self.fields = {key: value for key, value in fields.items()
                       if key in KEPT and value is not None}
        self.devices = [dict(device) for device in devices]
        self.architecture = self.fields["Architecture"]
        self.virtualization_type = self.fields["VirtualizationType"]
        self.root_device_name = self.fields.get("RootDeviceName", "/dev/sda1")
        self.root_device_type = "ebs"
        self.boot_mode = self.fields.get("BootMode", "")
        self.platform, self.kernel_id, self.instance_id, self.sriov = None, None, None, "simple"
        self.product_codes, self.launch_permissions = set(), []
        self.image_location = f"{self.owner_id}/{name}"
        self.creation_date = STATE.made()
        self.made_at, self.disabled = time.monotonic(), False
        self.source: tuple[str, str] | None = None
        self.deprecation: datetime.datetime | None = None
        self.protection = "disabled"
        backend.amis[self.id] = self

    @property
    def state(self) -> str:  # type: ignore[override]
        """`pending` for a little while, then `available`; `disabled` when somebody said so."""
        if self.disabled:
            return "disabled"
        return "available" if STATE.is_over(self.made_at, lambda at: at.pending_s) else "pending"

    def snapshots(self) -> list[str]:
        """Ids of the snapshots behind the AMI."""
        return [device["Ebs"]["SnapshotId"] for device in self.devices
                if device.get("Ebs", {}).get("SnapshotId")]

    def tags(self) -> dict[str, str]:
        """User's tags."""
        return {tag["key"]: tag["value"] for tag in self.get_tags()}

    def shown(self) -> dict[str, Any]:
        """The AMI as DescribeImages shows it."""
        source, region = self.source or (None, None)
        return {
            **self.fields, "ImageId": self.id, "Name": self.name, "Description": self.description,
            "State": self.state,
            "OwnerId": self.owner_id, "Public": self.is_public, "ImageType": "machine",
            "Hypervisor": "xen",
            "ImageLocation": self.image_location, "CreationDate": self.creation_date,
            "RootDeviceType": "ebs",
            "RootDeviceName": self.root_device_name, "BlockDeviceMappings": self.devices,
            "Tags": [{"Key": key, "Value": value} for key, value in self.tags().items()],
            "SourceInstanceId": self.instance_id, "SourceImageId": source,
            "SourceImageRegion": region,
            "DeprecationTime": _iso(self.deprecation) if self.deprecation else None,
            "DeregistrationProtection": self.protection,
        }


def _iso(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def visible(account: str, region: str) -> list[EmulatedImage]:
    """AMIs of that region which `account` owns, or may launch."""
    images = [image for owner in list(ec2_backends)
              for image in ec2_backends[owner][region].amis.values()]
    return [image for image in images if isinstance(image, EmulatedImage) and (
        image.owner_id == account or image.is_public
        or {"UserId": account} in image.launch_permissions)]


@rule(EC2_API + "errors-overview.html")
def find(backend: Any, image_id: str) -> EmulatedImage:
    """An AMI that was deregistered is InvalidAMIID.Unavailable, one that never was
    InvalidAMIID.NotFound, as is another account's that is not shared."""
    for image in visible(backend.account_id, backend.region_name):
        if image.id == image_id:
            return image
    if image_id in backend.deleted_amis:
        raise UnvailableAMIIdError(image_id)
    raise InvalidAMIIdError([image_id])


@rule(EC2_GUIDE + "disable-an-ami.html#disable-ami")
def launchable(backend: Any, image_id: str) -> EmulatedImage:
    """An AMI that is disabled, pending or deregistered cannot be launched or copied, by whatever
    refers to it."""
    image = find(backend, image_id)
    if image.state != "available":
        raise UnvailableAMIIdError(image_id)
    return image


@rule(EC2_GUIDE + "disable-an-ami.html")
def disabled_is_hidden(image: EmulatedImage, asked: bool) -> bool:
    """A disabled AMI does not appear in DescribeImages unless IncludeDisabled is given."""
    return image.disabled and not asked


@rule(EC2_GUIDE + "ami-deprecate.html")
def deprecated_is_hidden(image: EmulatedImage, account: str, asked: bool) -> bool:
    """A deprecated AMI appears to its owner, and to others only with IncludeDeprecated."""
    return (image.deprecation is not None and image.deprecation <= STATE.now() and image.owner_id
            != account
            and not asked)


_FILTERS = {"architecture": "Architecture", "image-id": "ImageId", "name": "Name",
            "root-device-type": "RootDeviceType", "state": "State",
            "virtualization-type": "VirtualizationType"}


@rule(EC2_API + "API_DescribeImages.html")
def image_filter(image: EmulatedImage, name: str) -> list[str]:
    """DescribeImages filters by tags, snapshots and these properties of AMIs, and refuses an
    unknown name."""
    if name in _FILTERS:
        return [str(image.shown()[_FILTERS[name]])]
    if name == "block-device-mapping.snapshot-id":
        return image.snapshots()
    tags = listing.tag_values(image.tags(), name)
    if tags is None:
        raise invalid_parameter(f"The filter '{name}' is invalid")
    return tags
