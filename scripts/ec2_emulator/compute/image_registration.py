"""RegisterImage, CopyImage, CreateImage: what an AMI may be made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.ec2.responses._base_response import EC2BaseResponse

from ec2_emulator import request_fields
from ec2_emulator.compute import images
from ec2_emulator.compute.images import EmulatedImage
from ec2_emulator.errors import ApiError
from ec2_emulator.rules import EC2_API, EC2_GUIDE, rule
from ec2_emulator.storage import encryption, snapshots
from ec2_emulator.storage.snapshots import EmulatedSnapshot

Devices = list[dict[str, Any]]


@rule(EC2_API + "errors-overview.html")
def name_is_free(backend: Any, name: str) -> None:
    """Two AMIs of an account in a region cannot be registered under one name."""
    for image in backend.amis.values():
        if image.name == name:
            raise ApiError("InvalidAMIName.Duplicate",
                           f"AMI name {name} is already in use by AMI {image.id}")


@rule(EC2_GUIDE + "creating-an-ami-ebs.html#creating-launching-ami-from-snapshot")
def snapshot_is_ready(backend: Any, snapshot_id: str) -> EmulatedSnapshot:
    """An AMI is made from a snapshot that exists in the region and is completed."""
    snapshot = backend.snapshots.get(snapshot_id)
    if snapshot is None:
        raise ApiError("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
    if snapshot.status != "completed":
        raise ApiError("IncorrectState",
                       f"The snapshot '{snapshot_id}' is {snapshot.status}, not completed")
    return snapshot  # type: ignore[no-any-return]


@rule(EC2_API + "API_EbsBlockDevice.html")
def volume_holds_snapshot(size_gib: int, snapshot: EmulatedSnapshot) -> None:
    """A volume is at least as large as the snapshot that it is made from."""
    if size_gib < snapshot.volume_size:
        raise ApiError("InvalidBlockDeviceMapping",
                       f"Volume of size {size_gib}GB is smaller than snapshot "
                               f"'{snapshot.id}', expect size >= {snapshot.volume_size}GB")


def _root_is_mapped(devices: Sequence[Mapping[str, Any]], root: str | None) -> None:
    if not any(device["DeviceName"] == root and device.get("Ebs", {}).get("SnapshotId")
               for device in devices):
        raise ApiError("InvalidBlockDeviceMapping",
                       f"no snapshot is mapped to the root device {root}")


def _device(backend: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    ebs = given.get("Ebs", {})
    if "SnapshotId" not in ebs:
        return dict(given)
    snapshot = snapshot_is_ready(backend, ebs["SnapshotId"])
    size = ebs.get("VolumeSize", snapshot.volume_size)
    volume_holds_snapshot(size, snapshot)
    return {**given,
            "Ebs": {"DeleteOnTermination": True, "VolumeType": "gp2", **ebs, "VolumeSize": size,
                    "Encrypted": snapshot.encrypted}}


def _copy_snapshot(backend: Any, source: EmulatedSnapshot, image: EmulatedImage, encrypted: bool,
                   key: str | None) -> EmulatedSnapshot:
    snapshot = snapshots.make(backend, source.volume_size,
                              f"Copied for DestinationAmi {image.id} from SourceSnapshot "
                              f"{source.id}",
                              kms_key=encryption.key_of_new(backend, encrypted, key))
    snapshot.written = source.content()
    return snapshot


class ImageRegistrationApi(EC2BaseResponse):
    """The handlers."""

    def register_image(self) -> ActionResult:
        """An AMI keeps every field it was registered with; the defaults are i386 and
        paravirtual."""
        self.error_on_dryrun()
        fields = {"Architecture": "i386", "VirtualizationType": "paravirtual", **self.params}
        name = self._get_param("Name")
        name_is_free(self.ec2_backend, name)
        devices = [_device(self.ec2_backend, each)
                   for each in self._get_param("BlockDeviceMappings", [])]
        _root_is_mapped(devices, fields.get("RootDeviceName"))
        tags = request_fields.tags_for("image", self._get_param("TagSpecifications", []), ["image"])
        image = EmulatedImage(self.ec2_backend, name, self._get_param("Description", ""), fields,
                              devices)
        image.add_tags(tags)
        return ActionResult({"ImageId": image.id})

    def _tags(self, kind: str) -> dict[str, str]:
        given = self._get_param("TagSpecifications", [])
        return request_fields.tags_for(kind, given, ["image", "snapshot"])

    def copy_image(self) -> ActionResult:
        """A copy of an AMI of another region, with its snapshots."""
        self.error_on_dryrun()
        name, region = self._get_param("Name"), self._get_param("SourceRegion")
        source = images.launchable(ec2_backends[self.current_account][region],
                                   self._get_param("SourceImageId"))
        tags, snapshot_tags = self._tags("image"), self._tags("snapshot")
        image = EmulatedImage(self.ec2_backend, name,
                              self._get_param("Description", source.description), {
                                  **source.fields, "RootDeviceName": source.root_device_name}, [])
        image.devices = self._copied_devices(source, image, snapshot_tags)
        image.source = (source.id, region)
        image.add_tags(tags)
        return ActionResult({"ImageId": image.id})

    def _copied_devices(
        self, source: EmulatedImage, image: EmulatedImage, tags: Mapping[str, str]
    ) -> Devices:
        encrypted, key = self._get_param("Encrypted"), self._get_param("KmsKeyId")
        devices: Devices = []
        for device in source.devices:
            ebs = device.get("Ebs", {})
            if "SnapshotId" in ebs:
                original = source.ec2_backend.snapshots[ebs["SnapshotId"]]
                snapshot = _copy_snapshot(self.ec2_backend, original, image,
                                          original.encrypted or bool(encrypted), key)
                snapshot.add_tags(dict(tags))
                ebs = {**ebs, "SnapshotId": snapshot.id, "Encrypted": snapshot.encrypted}
            devices.append({**device, "Ebs": ebs} if ebs else dict(device))
        return devices

    def create_image(self) -> ActionResult:
        """CreateImage tags the AMI and its snapshots, and its devices are the volumes of the
        instance."""
        self.error_on_dryrun()
        name = self._get_param("Name")
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        name_is_free(self.ec2_backend, name)
        tags, snapshot_tags = self._tags("image"), self._tags("snapshot")
        seen = images.visible(self.current_account, self.region)
        parent = next((image for image in seen if image.id == instance.image_id), None)
        fields = dict(parent.fields) if parent else {"Architecture": instance.architecture,
                                                     "VirtualizationType": "hvm"}
        image = EmulatedImage(self.ec2_backend, name, self._get_param("Description", ""), {
            **fields, "RootDeviceName": instance.root_device_name or "/dev/xvda"}, [])
        image.instance_id = instance.id
        for device, attached in instance.block_device_mapping.items():
            snapshot = self.ec2_backend.create_snapshot(
                attached.volume_id, f"Created by CreateImage({instance.id}) for {image.id}")
            snapshot.add_tags(snapshot_tags)
            volume = self.ec2_backend.get_volume(attached.volume_id)
            image.devices.append({"DeviceName": device, "Ebs": {
                "SnapshotId": snapshot.id, "VolumeSize": volume.size,
                "VolumeType": volume.volume_type,
                "DeleteOnTermination": True, "Encrypted": bool(snapshot.encrypted)}})
        image.add_tags(tags)
        return ActionResult({"ImageId": image.id})
