"""RegisterImage, CopyImage, CreateImage: what an AMI may be made of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import InvalidAMIIdError
from moto.ec2.responses._base_response import EC2BaseResponse

from ec2_emulator import answers, images, shots
from ec2_emulator.answers import Refusal
from ec2_emulator.images import Image
from ec2_emulator.rules import EC2_API, EC2_GUIDE, rule
from ec2_emulator.shots import Shot

Devices = list[dict[str, Any]]

_NAME = re.compile(r"[a-zA-Z0-9()\[\] ./\-'@_]{3,128}")


@rule(EC2_API + "API_RegisterImage.html#API_RegisterImage_RequestParameters")
def name_is_well_formed(name: str) -> None:
    """A name has 3 to 128 characters of a small set."""
    if not _NAME.fullmatch(name or ""):
        raise Refusal("InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long, and "
                               "may contain letters, numbers, '(', ')', '.', '-', '/' and '_'")


@rule(EC2_API + "errors-overview.html")
def name_is_free(backend: Any, name: str) -> None:
    """Two AMIs of an account in a region cannot be registered under one name."""
    for image in backend.amis.values():
        if image.name == name:
            raise Refusal("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {image.id}")


@rule(EC2_GUIDE + "creating-an-ami-ebs.html#creating-launching-ami-from-snapshot")
def snapshot_is_ready(backend: Any, snapshot_id: str) -> Shot:
    """An AMI is made from a snapshot that exists in the region and is completed."""
    shot = backend.snapshots.get(snapshot_id)
    if shot is None:
        raise Refusal("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
    if shot.status != "completed":
        raise Refusal("IncorrectState", f"The snapshot '{snapshot_id}' is {shot.status}, not completed")
    return shot  # type: ignore[no-any-return]


@rule(EC2_API + "API_EbsBlockDevice.html")
def volume_holds_snapshot(size_gib: int, shot: Shot) -> None:
    """A volume is at least as large as the snapshot that it is made from."""
    if size_gib < shot.volume_size:
        raise Refusal("InvalidBlockDeviceMapping", f"Volume of size {size_gib}GB is smaller than snapshot "
                               f"'{shot.id}', expect size >= {shot.volume_size}GB")


@rule(EC2_API + "API_RegisterImage.html#API_RegisterImage_Contents")
def encryption_is_the_snapshots(ebs: Mapping[str, Any]) -> None:
    """The encryption of a device that comes from a snapshot cannot be stated: it is the snapshot's."""
    if ebs.get("Encrypted") is not None:
        raise Refusal("InvalidBlockDeviceMapping", "the encryption state of a snapshot cannot be changed here")


@rule(EC2_GUIDE + "enable-nitrotpm-support-on-ami.html")
def tpm_needs_uefi(fields: Mapping[str, Any]) -> None:
    """An AMI with NitroTPM boots by UEFI."""
    if fields.get("TpmSupport") and fields.get("BootMode") != "uefi":
        raise Refusal("InvalidParameterCombination", "TpmSupport requires BootMode uefi")


def _root_is_mapped(devices: Sequence[Mapping[str, Any]], root: str | None) -> None:
    if not any(device["DeviceName"] == root and device.get("Ebs", {}).get("SnapshotId") for device in devices):
        raise Refusal("InvalidBlockDeviceMapping", f"no snapshot is mapped to the root device {root}")


def _device(backend: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    ebs = given.get("Ebs")
    if ebs is None:
        return dict(given)
    if "SnapshotId" not in ebs:
        return {**given, "Ebs": {"DeleteOnTermination": True, "VolumeType": "gp2", "Encrypted": False, **ebs}}
    encryption_is_the_snapshots(ebs)
    shot = snapshot_is_ready(backend, ebs["SnapshotId"])
    size = ebs.get("VolumeSize", shot.volume_size)
    volume_holds_snapshot(size, shot)
    return {**given, "Ebs": {"DeleteOnTermination": True, "VolumeType": "gp2", **ebs, "VolumeSize": size,
                             "Encrypted": shot.encrypted}}


@rule(EC2_API + "API_CopyImage.html")
def copy_is_encrypted_like_this(source_encrypted: bool, encrypted: bool | None, key: str | None) -> bool:
    """A copy of an encrypted snapshot is encrypted, and a key is given only with Encrypted."""
    if key and not encrypted:
        raise Refusal("InvalidParameterDependency", "KmsKeyId requires Encrypted")
    return source_encrypted or bool(encrypted)


def _copy_snapshot(backend: Any, source: Shot, image: Image, encrypted: bool, key: str | None) -> Shot:
    if encrypted and not key:
        key = backend._create_default_encryption_key()
    shot = shots.make(backend, source.volume_size, f"Copied for DestinationAmi {image.id} from SourceSnapshot "
                      f"{source.id}", kms_key=key if encrypted else None)
    shot.written = source.content()
    return shot


class Register(EC2BaseResponse):
    """The handlers."""

    @rule(EC2_API + "API_RegisterImage.html")
    def register_image(self) -> ActionResult:
        """An AMI keeps every field it was registered with; the defaults are i386 and paravirtual."""
        self.error_on_dryrun()
        fields = {"Architecture": "i386", "VirtualizationType": "paravirtual", **self.params}
        name = self._get_param("Name")
        name_is_well_formed(name)
        name_is_free(self.ec2_backend, name)
        tpm_needs_uefi(fields)
        devices = [_device(self.ec2_backend, each) for each in self._get_param("BlockDeviceMappings", [])]
        _root_is_mapped(devices, fields.get("RootDeviceName"))
        tags = answers.tags_for("image", self._get_param("TagSpecifications", []), ["image"])
        image = Image(self.ec2_backend, name, self._get_param("Description", ""), fields, devices)
        image.add_tags(tags)
        return ActionResult({"ImageId": image.id})

    @rule(EC2_API + "Run_Instance_Idempotency.html")
    def copy_image(self) -> ActionResult:
        """The same ClientToken gives the same copy again, and IdempotentParameterMismatch for another request."""
        self.error_on_dryrun()
        token = self._get_param("ClientToken")
        request = {key: value for key, value in self.params.items() if key not in ("ClientToken", "DryRun")}
        image = answers.once(
            ("copy-image", self.current_account, self.region), token, request, self._copy,
            Refusal("IdempotentParameterMismatch", f"the client token {token} belongs to another request"))
        return ActionResult({"ImageId": image.id})

    def _copy(self) -> Image:
        name, region = self._get_param("Name"), self._get_param("SourceRegion")
        name_is_well_formed(name)
        source = _source(self.current_account, region, self._get_param("SourceImageId"))
        given = self._get_param("TagSpecifications", [])
        tags, shot_tags = (answers.tags_for(kind, given, ["image", "snapshot"]) for kind in ("image", "snapshot"))
        image = Image(self.ec2_backend, name, self._get_param("Description", source.description), {
            **source.fields, "RootDeviceName": source.root_device_name}, [])
        image.devices = self._copied_devices(source, image, shot_tags)
        image.source = copy_names_its_source(source, region)
        image.add_tags({**(source.tags() if self._get_param("CopyImageTags") else {}), **tags})
        return image

    def _copied_devices(self, source: Image, image: Image, tags: Mapping[str, str]) -> Devices:
        encrypted, key = self._get_param("Encrypted"), self._get_param("KmsKeyId")
        devices: Devices = []
        for device in source.devices:
            ebs = device.get("Ebs", {})
            if "SnapshotId" in ebs:
                original = source.ec2_backend.snapshots[ebs["SnapshotId"]]
                secret = copy_is_encrypted_like_this(original.encrypted, encrypted, key)
                shot = _copy_snapshot(self.ec2_backend, original, image, secret, key)
                shot.add_tags(dict(tags))
                ebs = {**ebs, "SnapshotId": shot.id, "Encrypted": secret}
            devices.append({**device, "Ebs": ebs} if ebs else dict(device))
        return devices

    @rule(EC2_API + "API_CreateImage.html")
    def create_image(self) -> ActionResult:
        """CreateImage tags the AMI and its snapshots, and its devices are the volumes of the instance."""
        self.error_on_dryrun()
        name, instance = self._get_param("Name"), self.ec2_backend.get_instance(self._get_param("InstanceId"))
        name_is_well_formed(name)
        name_is_free(self.ec2_backend, name)
        given = self._get_param("TagSpecifications", [])
        tags, shot_tags = (answers.tags_for(kind, given, ["image", "snapshot"]) for kind in ("image", "snapshot"))
        seen = images.visible(self.current_account, self.region)
        parent = next((image for image in seen if image.id == instance.image_id), None)
        fields = dict(parent.fields) if parent else {"Architecture": instance.architecture, "VirtualizationType": "hvm"}
        image = Image(self.ec2_backend, name, self._get_param("Description", ""), {
            **fields, "RootDeviceName": instance.root_device_name or "/dev/xvda"}, [])
        image.instance_id = instance.id
        for device, attached in instance.block_device_mapping.items():
            shot = self.ec2_backend.create_snapshot(
                attached.volume_id, f"Created by CreateImage({instance.id}) for {image.id}")
            shot.add_tags(shot_tags)
            volume = self.ec2_backend.get_volume(attached.volume_id)
            image.devices.append({"DeviceName": device, "Ebs": {
                "SnapshotId": shot.id, "VolumeSize": volume.size, "VolumeType": volume.volume_type,
                "DeleteOnTermination": True, "Encrypted": bool(shot.encrypted)}})
        image.add_tags(tags)
        return ActionResult({"ImageId": image.id})


def _source(account: str, region: str, image_id: str) -> Image:
    found = next((image for image in images.visible(account, region) if image.id == image_id), None)
    if found is None:
        raise InvalidAMIIdError([image_id])
    return source_is_available(found)


@rule(EC2_GUIDE + "CopyingAMIs.html")
def source_is_available(source: Image) -> Image:
    """Only an AMI that is available can be copied."""
    if source.state != "available":
        raise Refusal("InvalidAMIID.Unavailable", f"The image ID '{source.id}' is {source.state}")
    return source


@rule(EC2_GUIDE + "ami-ancestry.html")
def copy_names_its_source(source: Image, region: str) -> tuple[str, str]:
    """DescribeImages shows SourceImageId and SourceImageRegion of a copy."""
    return source.id, region
