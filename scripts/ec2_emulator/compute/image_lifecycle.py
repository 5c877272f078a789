"""Calls for existing AMIs (describe, share, deprecate, protect, deregister) and snapshots."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import InvalidAMIIdError, UnvailableAMIIdError
from moto.ec2.responses._base_response import EC2BaseResponse

from ec2_emulator import listing
from ec2_emulator.compute import images
from ec2_emulator.compute.images import EmulatedImage
from ec2_emulator.rules import ApiError, invalid_parameter, rule
from ec2_emulator.state import STATE
from ec2_emulator.storage import encryption
from ec2_emulator.storage.snapshots import EmulatedSnapshot

DEPRECATION_YEARS = 10
"""Years from now within which a deprecation date has to lie (API_EnableImageDeprecation)."""


@rule
def deprecation_date(requested: datetime.datetime) -> datetime.datetime:
    """A deprecation date is rounded to the minute, not in the past, and at most ten years
    ahead."""
    now, moment = STATE.now(), requested.replace(tzinfo=datetime.UTC)
    # Half a minute more, then without seconds: this rounds to the nearest minute.
    moment = (moment + datetime.timedelta(seconds=30)).replace(second=0, microsecond=0)
    limit = now + DEPRECATION_YEARS * datetime.timedelta(days=365)
    if moment < now.replace(second=0) or moment > limit:
        raise invalid_parameter(
            f"the deprecation date {moment:%Y-%m-%dT%H:%M} is in the past or after {limit:%Y-%m-%d}"
        )
    return moment


@rule
def disabled_is_not_shared(image: EmulatedImage) -> None:
    """A disabled AMI loses its launch permissions and cannot be shared."""
    if image.disabled:
        raise UnvailableAMIIdError(image.id)


@rule
def default_key_is_not_shared(image: EmulatedImage) -> None:
    """An AMI whose snapshots are encrypted under the account's default key cannot be shared."""
    backend = image.ec2_backend
    for snapshot in map(backend.snapshots.get, image.snapshots()):
        if snapshot and snapshot.encrypted and snapshot.kms_key_id == encryption.aws_key(backend):
            raise ApiError(
                "OperationNotPermitted", f"{snapshot.id} is encrypted with the default key"
            )


@rule
def protected_is_not_deregistered(image: EmulatedImage) -> None:
    """A protected AMI cannot be deregistered."""
    if image.protection != "disabled":
        raise ApiError(
            "OperationNotPermitted",
            f"deregistration protection of {image.id} is {image.protection}",
        )


@rule
def snapshot_of_an_ami_stays(backend: Any, snapshot_id: str) -> None:
    """A snapshot that a registered AMI uses, also a disabled one, cannot be deleted."""
    used_by = [image.id for image in backend.amis.values() if snapshot_id in image.snapshots()]
    if used_by:
        raise ApiError(
            "InvalidSnapshot.InUse",
            f"The snapshot {snapshot_id} is currently in use by {', '.join(used_by)}",
        )


TYPE_ENTRIES = 100
"""Most entries of a list of instance types (API_InstanceTypeSpecificationRequest)."""
_TYPE_ENTRY = re.compile(r"(?!.*\*\*)[A-Za-z0-9_.*-]{1,24}")


@rule
def type_lists(requested: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """A list of instance types has at most 100 entries of 24 characters, each once in both lists,
    and no two wildcards in a row."""
    lists = {
        name: list(requested.get(name) or [])
        for name in ("SupportedInstanceTypes", "UnsupportedInstanceTypes")
    }
    entries = [entry for names in lists.values() for entry in names]
    for name, names in lists.items():
        if len(names) > TYPE_ENTRIES:
            raise invalid_parameter(f"{name} has {len(names)} entries, at most {TYPE_ENTRIES}")
    for entry in entries:
        if not _TYPE_ENTRY.fullmatch(entry) or entries.count(entry) > 1:
            raise invalid_parameter(f"The instance type '{entry}' is malformed or a duplicate")
    return lists


class ImageLifecycleApi(EC2BaseResponse):
    """The handlers."""

    def _image(self) -> EmulatedImage:
        """Return the AMI that the request names. Another account's is refused as not found, even if
        it is shared (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html).
        """
        image = images.find(self.ec2_backend, self._get_param("ImageId"))
        if image.owner_id != self.current_account:
            raise InvalidAMIIdError([image.id])
        return image

    def describe_images(self) -> ActionResult:
        account, ids = self.current_account, self._get_param("ImageIds", [])
        named_images = [images.find(self.ec2_backend, image_id) for image_id in ids]
        owners = [account if owner == "self" else owner for owner in self._get_param("Owners", [])]
        visible = [
            image
            for image in named_images or images.visible(account, self.region)
            if (not owners or image.owner_id in owners)
            and not images.disabled_is_hidden(image, self._get_param("IncludeDisabled"))
            and not images.deprecated_is_hidden(
                image, account, self._get_param("IncludeDeprecated")
            )
        ]
        visible = listing.select(
            visible, listing.filters_of(self._get_param("Filters")), images.image_filter
        )
        return listing.answer(self, "Images", map(EmulatedImage.shown, visible))

    def describe_image_attribute(self) -> ActionResult:
        image = self._image()
        if self._get_param("Attribute") != "launchPermission":
            raise NotImplementedError
        return ActionResult({"ImageId": image.id, "LaunchPermissions": image.launch_permissions})

    @rule
    def replace_image_instance_type_specification(self) -> ActionResult:
        """The owner sets which types an AMI may be launched on; without lists, any."""
        image, requested = self._image(), self._get_param("InstanceTypeSpecification")
        image.instance_types = type_lists(requested) if requested else None
        return ActionResult({"ReturnValue": True})

    def modify_image_attribute(self) -> ActionResult:
        """Set the AMI's description, as Packer does, or change who may launch it."""
        image = self._image()
        if (description := self._get_param("Description.Value")) is not None:
            image.description = description
            return EmptyResult()
        if self._get_param("LaunchPermission") is None:
            raise NotImplementedError
        disabled_is_not_shared(image)
        add, remove = (
            list(self._get_param(f"LaunchPermission.{kind}", [])) for kind in ("Add", "Remove")
        )
        if add:
            default_key_is_not_shared(image)
        self.ec2_backend.modify_image_attribute(image.id, add, remove)
        return EmptyResult()

    def enable_image_deprecation(self) -> ActionResult:
        image = self._image()
        image.deprecation = deprecation_date(self._get_param("DeprecateAt"))
        return ActionResult({"Return": True})

    def disable_image_deprecation(self) -> ActionResult:
        self._image().deprecation = None
        return ActionResult({"Return": True})

    def enable_image_deregistration_protection(self) -> ActionResult:
        image = self._image()
        image.protection = "enabled-without-cooldown"
        return ActionResult({"Return": image.protection})

    def disable_image_deregistration_protection(self) -> ActionResult:
        image = self._image()
        image.protection = "disabled"
        return ActionResult({"Return": image.protection})

    def deregister_image(self) -> ActionResult:
        image = self._image()
        protected_is_not_deregistered(image)
        self.ec2_backend.deregister_image(image.id)
        return ActionResult({"Return": True})


def _existing_snapshot(backend: Any, name: str) -> EmulatedSnapshot:
    """Return a snapshot of the region by its id. One that does not exist is refused
    (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html).
    """
    snapshot = backend.snapshots.get(name)
    if snapshot is None:
        raise ApiError("InvalidSnapshot.NotFound", f"The snapshot '{name}' does not exist.")
    return snapshot  # type: ignore[no-any-return]


def _described_snapshot(snapshot: EmulatedSnapshot) -> dict[str, Any]:
    """Return a snapshot as DescribeSnapshots shows it."""
    return {
        "SnapshotId": snapshot.id,
        "State": snapshot.status,
        "OwnerId": snapshot.owner_id,
        "VolumeId": snapshot.volume_id,
        "VolumeSize": snapshot.volume_size,
        "Description": snapshot.description,
        "StartTime": snapshot.start_time,
        "Encrypted": snapshot.encrypted,
        "KmsKeyId": snapshot.kms_key_id,
        "FullSnapshotSizeInBytes": snapshot.full_snapshot_size_in_bytes,
        "Tags": [{"Key": tag["key"], "Value": tag["value"]} for tag in snapshot.get_tags()],
    }


def _snapshot_filter(snapshot: EmulatedSnapshot, name: str) -> list[str]:
    """Return the values of a filter. Commands filter snapshots by tags alone
    (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSnapshots.html)."""
    tags = listing.tag_values({tag["key"]: tag["value"] for tag in snapshot.get_tags()}, name)
    if tags is None:
        raise invalid_parameter(f"The filter '{name}' is invalid")
    return tags


class SnapshotApi(EC2BaseResponse):
    """The handlers."""

    @rule
    def describe_snapshots(self) -> ActionResult:
        """Snapshots are listed by owner, by filter and by who may make volumes from them. They come
        in pages; MaxResults and ids exclude each other."""
        ids = self._get_param("SnapshotIds", [])
        if ids and self._get_param("MaxResults") is not None:
            raise ApiError(
                "InvalidParameterCombination", "maxResults and snapshotIds exclude each other"
            )
        named_snapshots = [_existing_snapshot(self.ec2_backend, name) for name in ids]
        account = self.current_account
        owners = [
            account if owner == "self" else owner for owner in self._get_param("OwnerIds", [])
        ]
        snapshots = [
            snapshot
            for snapshot in named_snapshots or self.ec2_backend.snapshots.values()
            if not owners or snapshot.owner_id in owners
        ]
        if "all" in self._get_param("RestorableByUserIds", []):
            snapshots = [
                snapshot
                for snapshot in snapshots
                if "all" in snapshot.create_volume_permission_groups
            ]
        snapshots = listing.select(
            snapshots, listing.filters_of(self._get_param("Filters")), _snapshot_filter
        )
        return listing.answer(self, "Snapshots", map(_described_snapshot, snapshots), least=5)

    def delete_snapshot(self) -> ActionResult:
        snapshot = _existing_snapshot(self.ec2_backend, self._get_param("SnapshotId"))
        snapshot_of_an_ami_stays(self.ec2_backend, snapshot.id)
        del self.ec2_backend.snapshots[snapshot.id]
        return EmptyResult()
