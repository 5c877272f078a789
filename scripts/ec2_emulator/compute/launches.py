"""Launches: which AMI may be launched, on what, and what the instance has from it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models import EC2Backend
from moto.ec2.models.instances import StateReason
from moto.ec2.responses._base_response import EC2BaseResponse

from ec2_emulator import listing
from ec2_emulator.compute import image_registration, images, type_choice
from ec2_emulator.compute.images import EmulatedImage
from ec2_emulator.rules import EC2_API, EC2_GUIDE, rule
from ec2_emulator.services import ssm_parameters
from ec2_emulator.state import STATE

_moto_run_instances = EC2Backend.run_instances
TAKEN_AFTER_S = 0.2


@rule(EC2_GUIDE + "block-device-mapping-concepts.html")
def devices_of(
    image: EmulatedImage, *given: Sequence[Mapping[str, Any]] | None
) -> list[dict[str, Any]]:
    """An instance has the AMI's devices, overridden by the template's, overridden by the
    request's."""
    merged: dict[str, dict[str, Any]] = {}
    for mappings in (image.devices, *given):
        for each in mappings or []:
            before = merged.get(each["DeviceName"], {})
            stated = {key: value for key, value in (each.get("Ebs") or {}).items() if value
                      is not None}
            merged[each["DeviceName"]] = {**before, **each,
                                          "Ebs": {**before.get("Ebs", {}), **stated}}
    return list(merged.values())


def _volumes_hold(image: EmulatedImage, devices: Sequence[Mapping[str, Any]]) -> None:
    """As at RegisterImage: no volume is smaller than the AMI's snapshot that it is made from."""
    for ebs in (each.get("Ebs") or {} for each in devices):
        snapshot = image.ec2_backend.snapshots.get(ebs.get("SnapshotId"))
        if snapshot is not None and ebs.get("VolumeSize"):
            image_registration.volume_holds_snapshot(int(ebs["VolumeSize"]), snapshot)


@rule(EC2_GUIDE + "configuring-IMDS-new-instances-ami-configuration.html")
def metadata_of(image: EmulatedImage, *given: Mapping[str, Any] | None) -> dict[str, Any]:
    """An AMI with ImdsSupport v2.0 makes tokens required and the hop limit 2, unless the launch
    says otherwise."""
    options: dict[str, Any] = {}
    if image.fields.get("ImdsSupport"):
        options = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
    for each in given:
        options.update(each or {})
    return options


def run_instances(self: EC2Backend, image_id: str, count: int, *args: Any, **kwargs: Any) -> Any:
    """In the place of `EC2Backend.run_instances`, which RunInstances, Auto Scaling and fleets
    call."""
    template = kwargs.get("launch_template") or {}
    data = self._get_template_from_args(template).data if template else {}
    image = images.launchable(self, ssm_parameters.resolve(
        self.account_id, self.region_name, image_id or data.get("ImageId", "")))
    kwargs["instance_type"] = kwargs.get("instance_type") or type_choice.some_type(
        data.get("InstanceRequirements", {})
    )
    kwargs["block_device_mappings"] = devices_of(
        image, data.get("BlockDeviceMappings"), kwargs.get("block_device_mappings"))
    _volumes_hold(image, kwargs["block_device_mappings"])
    kwargs["metadata_options"] = metadata_of(image, data.get("MetadataOptions"),
                                             kwargs.get("metadata_options"))
    reservation = _moto_run_instances(self, image.id, count, *args, **kwargs)
    for instance in reservation.instances:  # moto asks the own account's AMIs only
        instance.root_device_name = image.root_device_name
        instance.architecture = image.architecture
        instance.virtualization_type = image.virtualization_type
        instance.nics[0].public_ip = STATE.settings.instance_address or instance.nics[0].public_ip
        if instance.lifecycle == "spot" and STATE.spot_taken < STATE.settings.spot_taken:
            STATE.spot_taken += 1
            threading.Timer(TAKEN_AFTER_S, take_back, [instance]).start()
    return reservation


def take_back(instance: Any) -> None:
    """EC2 takes a Spot instance back when it needs the capacity, and its StateReason says so."""
    with STATE.lock:
        if instance.state == "running":
            instance.terminate()
            instance.state_reason = StateReason("Server.SpotInstanceTermination: Spot instance "
                                                "termination",
                                                "Server.SpotInstanceTermination")


class LaunchApi(EC2BaseResponse):
    """The handlers."""

    @rule(EC2_API + "API_DescribeInstanceTypeOfferings.html")
    def describe_instance_type_offerings(self) -> ActionResult:
        """Offerings are filtered by type, with wildcards, and come in pages."""
        offerings = listing.select(
            self.ec2_backend.describe_instance_type_offerings(self._get_param("LocationType"), {}),
            listing.filters_of(self._get_param("Filters")),
            lambda offering, _name: [offering["InstanceType"]])
        page, next_token = listing.paginate(offerings, self._get_param("MaxResults"),
                                            self._get_param("NextToken"), least=5)
        return ActionResult({"InstanceTypeOfferings": page, "NextToken": next_token})

    def delete_key_pair(self) -> ActionResult:
        """A key pair is deleted by its name or by its id."""
        named = (self._get_param("KeyName"), self._get_param("KeyPairId"))
        pair = next((each for each in self.ec2_backend.key_pairs.values()
                     if named in ((each.key_name, None), (None, each.id))), None)
        if pair is not None:
            self.ec2_backend.delete_key_pair(pair.key_name)
        return ActionResult({"Return": True, "KeyPairId": pair.id if pair else None})
