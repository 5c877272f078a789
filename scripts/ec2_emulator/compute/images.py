"""AMIs: registering, copying and creating them, their states, and who may see them."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import InvalidAMIIdError, UnvailableAMIIdError
from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import Ami
from moto.ec2.responses._base_response import EC2BaseResponse
from moto.ec2.utils import random_ami_id

from ec2_emulator import listing
from ec2_emulator.compute import resource_tags
from ec2_emulator.rules import ApiError, invalid_parameter, rule
from ec2_emulator.state import STATE
from ec2_emulator.storage import encryption, snapshots
from ec2_emulator.storage.snapshots import EmulatedSnapshot

KEPT = (
    "Architecture",
    "BootMode",
    "TpmSupport",
    "UefiData",
    "ImdsSupport",
    "SriovNetSupport",
    "EnaSupport",
    "KernelId",
    "RamdiskId",
    "RootDeviceName",
    "VirtualizationType",
)
"""Parameters of RegisterImage that DescribeImages shows under the same name."""


class EmulatedImage(Ami):
    """An AMI that keeps the fields it was registered with."""

    def __init__(
        self,
        backend: Any,
        name: str,
        description: str,
        fields: Mapping[str, Any],
        devices: Sequence[Mapping[str, Any]],
    ) -> None:
        # No super().__init__(): moto's would make a volume of 15 GiB.
        self.ec2_backend, self.id = backend, random_ami_id()
        self.name, self.description = name, description
        self.owner_id = backend.account_id
        self.fields = {
            key: value for key, value in fields.items() if key in KEPT and value is not None
        }
        self.devices = [dict(device) for device in devices]
        self.architecture = self.fields["Architecture"]
        self.virtualization_type = self.fields["VirtualizationType"]
        self.root_device_name = self.fields.get("RootDeviceName", "/dev/sda1")
        self.platform, self.kernel_id, self.instance_id = None, None, None
        self.launch_permissions = []
        self.creation_date = STATE.creation_date()
        self.made_at, self.disabled = time.monotonic(), False
        self.has_failed = False
        self.source: tuple[str, str] | None = None
        self.deprecation: datetime.datetime | None = None
        self.protection = "disabled"
        self.instance_types: dict[str, list[str]] | None = None
        backend.amis[self.id] = self

    @property
    def state(self) -> str:
        """Return `disabled` or `failed` if the AMI is so; else `pending` for the setting
        `pending_s`, then `available`."""
        if self.disabled:
            return "disabled"
        if self.has_failed:
            return "failed"
        return (
            "available"
            if STATE.is_over(self.made_at, lambda settings: settings.pending_s)
            else "pending"
        )

    @state.setter
    def state(self, value: str) -> None:
        """Set by moto's DisableImage and EnableImage. Accounts that lost access do not regain
        it."""
        self.disabled = value == "disabled"
        if self.disabled:
            self.launch_permissions.clear()

    def snapshots(self) -> list[str]:
        return [
            device["Ebs"]["SnapshotId"]
            for device in self.devices
            if device.get("Ebs", {}).get("SnapshotId")
        ]

    def tags(self) -> dict[str, str]:
        return {tag["key"]: tag["value"] for tag in self.get_tags()}

    def shown(self) -> dict[str, Any]:
        """Return the AMI as DescribeImages shows it."""
        source, region = self.source or (None, None)
        return {
            **self.fields,
            "ImageId": self.id,
            "Name": self.name,
            "Description": self.description,
            "State": self.state,
            "StateReason": {"Message": "Given key ID is not accessible"}
            if self.has_failed
            else None,
            "OwnerId": self.owner_id,
            "Public": self.is_public,
            "ImageType": "machine",
            "Hypervisor": "xen",
            "ImageLocation": f"{self.owner_id}/{self.name}",
            "CreationDate": self.creation_date,
            "RootDeviceType": "ebs",
            "RootDeviceName": self.root_device_name,
            "BlockDeviceMappings": self.devices,
            "Tags": [{"Key": key, "Value": value} for key, value in self.tags().items()],
            "SourceInstanceId": self.instance_id,
            "SourceImageId": source,
            "SourceImageRegion": region,
            "DeprecationTime": self.deprecation and f"{self.deprecation:%Y-%m-%dT%H:%M:%S.000Z}",
            "DeregistrationProtection": self.protection,
            "InstanceTypeSpecification": self.instance_types
            and {
                name: [{"InstanceType": entry} for entry in entries]
                for name, entries in self.instance_types.items()
            },
        }


def visible(account: str, region: str) -> list[EmulatedImage]:
    """Return the AMIs of a region that `account` owns or may launch."""
    images = [
        image for owner in list(ec2_backends) for image in ec2_backends[owner][region].amis.values()
    ]
    return [
        image
        for image in images
        if isinstance(image, EmulatedImage)
        and (
            image.owner_id == account
            or image.is_public
            or {"UserId": account} in image.launch_permissions
        )
    ]


@rule
def find(backend: Any, image_id: str) -> EmulatedImage:
    """Return an AMI by its id. One that was deregistered is refused as InvalidAMIID.Unavailable;
    one that never existed, or that another account does not share, as InvalidAMIID.NotFound."""
    for image in visible(backend.account_id, backend.region_name):
        if image.id == image_id:
            return image
    if image_id in backend.deleted_amis:
        raise UnvailableAMIIdError(image_id)
    raise InvalidAMIIdError([image_id])


@rule
def launchable(backend: Any, image_id: str) -> EmulatedImage:
    """An AMI that is disabled, pending or deregistered cannot be launched or copied, whatever
    refers to it."""
    image = find(backend, image_id)
    if image.state != "available":
        raise UnvailableAMIIdError(image_id)
    return image


@rule
def disabled_is_hidden(image: EmulatedImage, include_disabled: bool | None) -> bool:
    """A disabled AMI does not appear in DescribeImages unless IncludeDisabled is given."""
    return image.disabled and not include_disabled


@rule
def deprecated_is_hidden(
    image: EmulatedImage, account: str, include_deprecated: bool | None
) -> bool:
    """A deprecated AMI appears to its owner, and to others only with IncludeDeprecated."""
    is_deprecated = image.deprecation is not None and image.deprecation <= STATE.now()
    return is_deprecated and image.owner_id != account and not include_deprecated


# Filters that compare one field of `EmulatedImage.shown`.
_FILTERS = {
    "architecture": "Architecture",
    "image-id": "ImageId",
    "name": "Name",
    "root-device-type": "RootDeviceType",
    "state": "State",
    "virtualization-type": "VirtualizationType",
}


@rule
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


@rule
def name_is_free(backend: Any, name: str) -> None:
    """Two AMIs of an account in a region cannot be registered under one name."""
    for image in backend.amis.values():
        if image.name == name:
            raise ApiError(
                "InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {image.id}"
            )


@rule
def snapshot_is_ready(backend: Any, snapshot_id: str) -> EmulatedSnapshot:
    """An AMI is made from a snapshot that exists in the region and is completed."""
    snapshot = backend.snapshots.get(snapshot_id)
    if snapshot is None:
        raise ApiError("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
    if snapshot.status != "completed":
        raise ApiError(
            "IncorrectState", f"The snapshot '{snapshot_id}' is {snapshot.status}, not completed"
        )
    return snapshot  # type: ignore[no-any-return]


@rule
def volume_holds_snapshot(size_gib: int, snapshot: EmulatedSnapshot) -> None:
    """A volume is at least as large as the snapshot that it is made from."""
    if size_gib < snapshot.volume_size:
        raise ApiError(
            "InvalidBlockDeviceMapping",
            f"Volume of size {size_gib}GB is smaller than snapshot '{snapshot.id}', "
            f"expect size >= {snapshot.volume_size}GB",
        )


def _device(backend: Any, mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a device of an AMI, with the size and encryption of its snapshot and the defaults."""
    ebs = mapping.get("Ebs", {})
    if "SnapshotId" not in ebs:
        return dict(mapping)
    snapshot = snapshot_is_ready(backend, ebs["SnapshotId"])
    size = ebs.get("VolumeSize", snapshot.volume_size)
    volume_holds_snapshot(size, snapshot)
    return {
        **mapping,
        "Ebs": {
            "DeleteOnTermination": True,
            "VolumeType": "gp2",
            **ebs,
            "VolumeSize": size,
            "Encrypted": snapshot.encrypted,
        },
    }


class ImageRegistrationApi(EC2BaseResponse):
    """The handlers."""

    def _tags(self, kind: str) -> dict[str, str]:
        return resource_tags.tags_for(
            kind, self._get_param("TagSpecifications", []), ["image", "snapshot"]
        )

    @rule
    def register_image(self) -> ActionResult:
        """An AMI keeps every field it was registered with; the defaults are i386 and
        paravirtual."""
        fields = {"Architecture": "i386", "VirtualizationType": "paravirtual", **self.params}
        name = self._get_param("Name")
        name_is_free(self.ec2_backend, name)
        devices = [
            _device(self.ec2_backend, mapping)
            for mapping in self._get_param("BlockDeviceMappings", [])
        ]
        root = fields.get("RootDeviceName")
        if not any(
            device["DeviceName"] == root and device.get("Ebs", {}).get("SnapshotId")
            for device in devices
        ):
            raise ApiError(
                "InvalidBlockDeviceMapping", f"no snapshot is mapped to the root device {root}"
            )
        tags = self._tags("image")
        image = EmulatedImage(
            self.ec2_backend, name, self._get_param("Description", ""), fields, devices
        )
        image.add_tags(tags)
        return ActionResult({"ImageId": image.id})

    @rule
    def copy_image(self) -> ActionResult:
        """CopyImage answers before it uses the key: the copy fails later if the key cannot be
        used, or for a reason of EC2's own (`copies_failed`)."""
        name, region = self._get_param("Name"), self._get_param("SourceRegion")
        source = launchable(
            ec2_backends[self.current_account][region], self._get_param("SourceImageId")
        )
        tags, snapshot_tags = self._tags("image"), self._tags("snapshot")
        image = EmulatedImage(
            self.ec2_backend,
            name,
            self._get_param("Description", source.description),
            {**source.fields, "RootDeviceName": source.root_device_name},
            [],
        )
        image.devices = self._copied_devices(source, image, snapshot_tags)
        image.source = (source.id, region)
        keys = [self.ec2_backend.snapshots[name].kms_key_id for name in image.snapshots()]
        image.has_failed = not all(encryption.key_works(self.ec2_backend, key) for key in keys)
        if STATE.copies_failed < STATE.settings.copies_failed:
            STATE.copies_failed += 1
            image.has_failed = True
        image.add_tags(tags)
        return ActionResult({"ImageId": image.id})

    def _copied_devices(
        self, source: EmulatedImage, image: EmulatedImage, tags: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        encrypted, key = self._get_param("Encrypted"), self._get_param("KmsKeyId")
        devices: list[dict[str, Any]] = []
        for device in source.devices:
            ebs = device.get("Ebs", {})
            if "SnapshotId" in ebs:
                original = source.ec2_backend.snapshots[ebs["SnapshotId"]]
                snapshot = snapshots.make(
                    self.ec2_backend,
                    original.volume_size,
                    f"Copied for DestinationAmi {image.id} from SourceSnapshot {original.id}",
                    kms_key=encryption.key_of_new(
                        self.ec2_backend, original.encrypted or encrypted, key
                    ),
                )
                # A copy has no parent, so it holds every block itself.
                snapshot.written = original.content()
                snapshot.add_tags(dict(tags))
                ebs = {**ebs, "SnapshotId": snapshot.id, "Encrypted": snapshot.encrypted}
            devices.append({**device, "Ebs": ebs} if ebs else dict(device))
        return devices

    def create_image(self) -> ActionResult:
        name = self._get_param("Name")
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        name_is_free(self.ec2_backend, name)
        tags, snapshot_tags = self._tags("image"), self._tags("snapshot")
        visible_images = visible(self.current_account, self.region)
        parent = next((image for image in visible_images if image.id == instance.image_id), None)
        # The instance's AMI may be deregistered, or no longer shared.
        fields = (
            dict(parent.fields)
            if parent
            else {"Architecture": instance.architecture, "VirtualizationType": "hvm"}
        )
        image = EmulatedImage(
            self.ec2_backend,
            name,
            self._get_param("Description", ""),
            {**fields, "RootDeviceName": instance.root_device_name or "/dev/xvda"},
            [],
        )
        image.instance_id = instance.id
        for device, attached in instance.block_device_mapping.items():
            snapshot = self.ec2_backend.create_snapshot(
                attached.volume_id, f"Created by CreateImage({instance.id}) for {image.id}"
            )
            snapshot.add_tags(snapshot_tags)
            volume = self.ec2_backend.get_volume(attached.volume_id)
            image.devices.append(
                {
                    "DeviceName": device,
                    "Ebs": {
                        "SnapshotId": snapshot.id,
                        "VolumeSize": volume.size,
                        "VolumeType": volume.volume_type,
                        "DeleteOnTermination": True,
                        "Encrypted": bool(snapshot.encrypted),
                    },
                }
            )
        image.add_tags(tags)
        return ActionResult({"ImageId": image.id})
