"""Launches: which AMI may be launched, on what, and what the instance has from it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import InvalidAMIIdError, UnvailableAMIIdError
from moto.ec2.models import EC2Backend
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import StateReason
from moto.ec2.responses._base_response import EC2BaseResponse
from moto.ec2.responses.instances import InstanceResponse

from ec2_emulator import listing
from ec2_emulator.compute import image_registration, images, type_choice
from ec2_emulator.compute.images import EmulatedImage
from ec2_emulator.errors import ApiError, invalid_parameter
from ec2_emulator.rules import EC2_API, EC2_GUIDE, rule
from ec2_emulator.services import ssm_parameters
from ec2_emulator.state import STATE

_moto_run_instances = EC2Backend.run_instances
TAKEN_AFTER_S = 0.2


@rule(EC2_GUIDE + "disable-an-ami.html")
def launchable(backend: Any, image_id: str) -> EmulatedImage:
    """An AMI that is disabled, pending or deregistered cannot be launched, by whatever refers to
    it."""
    for image in images.visible(backend.account_id, backend.region_name):
        if image.id == image_id:
            if image.state != "available":
                raise UnvailableAMIIdError(image_id)
            return image
    if image_id in backend.deleted_amis:
        raise UnvailableAMIIdError(image_id)
    raise InvalidAMIIdError([image_id])


@rule(EC2_API + "API_RunInstances.html")
def architecture_fits(image: EmulatedImage, instance_type: str | None) -> None:
    """An instance type runs AMIs of its own architecture only."""
    able = (
        INSTANCE_TYPES.get(instance_type or "", {})
        .get("ProcessorInfo", {})
        .get("SupportedArchitectures", [])
    )
    if able and image.architecture not in able:
        raise ApiError("InvalidParameterValue",
                       f"The architecture '{', '.join(able)}' of the specified instance type "
                       f"does not match the architecture '{image.architecture}' of the specified "
                       "AMI.")


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


@rule(EC2_API + "API_LaunchTemplateEbsBlockDeviceRequest.html")
def initialization_rate_is_in_range(devices: Sequence[Mapping[str, Any]] | None) -> None:
    """A template's volume initialization rate is from 100 to 300 MiB/s."""
    for ebs in (each.get("Ebs") or {} for each in devices or []):
        if (
            ebs.get("VolumeInitializationRate") is not None
            and not 100 <= int(ebs["VolumeInitializationRate"]) <= 300
        ):
            raise ApiError("InvalidParameterValue",
                           f"the volume initialization rate {ebs['VolumeInitializationRate']} "
                           "is not between 100 and 300 MiB/s")


@rule(EC2_GUIDE + "configuring-IMDS-new-instances-ami-configuration.html")
def metadata_of(image: EmulatedImage, *given: Mapping[str, Any] | None) -> dict[str, Any]:
    """An AMI with ImdsSupport v2.0 makes tokens required and the hop limit 2, unless the launch
    says otherwise."""
    options = (
        {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
        if image.fields.get("ImdsSupport")
        else {}
    )
    for each in given:
        options.update(each or {})
    return options


@rule(EC2_API + "API_RequestLaunchTemplateData.html")
def requirements_need_a_group(data: Mapping[str, Any]) -> None:
    """A template with InstanceRequirements serves Auto Scaling groups and fleets, and RunInstances
    refuses it."""
    if data.get("InstanceRequirements"):
        raise ApiError("InvalidParameterCombination",
                       "InstanceRequirements cannot be used with RunInstances")


def run_instances(self: EC2Backend, image_id: str, count: int, *args: Any, **kwargs: Any) -> Any:
    """In the place of `EC2Backend.run_instances`, which RunInstances, Auto Scaling and fleets
    call."""
    template = kwargs.get("launch_template") or {}
    data = self._get_template_from_args(template).data if template else {}
    image = launchable(self, ssm_parameters.resolve(
        self.account_id, self.region_name, image_id or data.get("ImageId", "")))
    kwargs["instance_type"] = kwargs.get("instance_type") or type_choice.some_type(
        data.get("InstanceRequirements", {})
    )
    architecture_fits(image, data.get("InstanceType") if kwargs.get("is_instance_type_default")
                      else kwargs.get("instance_type"))
    kwargs["block_device_mappings"] = devices_of(
        image, data.get("BlockDeviceMappings"), kwargs.get("block_device_mappings"))
    _volumes_hold(image, kwargs["block_device_mappings"])
    kwargs["metadata_options"] = metadata_of(image, data.get("MetadataOptions"),
                                             kwargs.get("metadata_options"))
    reservation = _moto_run_instances(self, image.id, count, *args, **kwargs)
    for instance in reservation.instances:  # moto asks the own account's AMIs only
        instance.root_device_name, instance.architecture = (
            image.root_device_name,
            image.architecture,
        )
        instance.virtualization_type = image.virtualization_type
        instance.nics[0].public_ip = STATE.settings.instance_address or instance.nics[0].public_ip
        if instance.lifecycle == "spot" and STATE.spot_taken < STATE.settings.spot_taken:
            STATE.spot_taken += 1
            threading.Timer(TAKEN_AFTER_S, take_back, [instance]).start()
    return reservation


@rule(EC2_GUIDE + "spot-interruptions.html")
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

    def run_instances(self) -> ActionResult:
        """As moto does, by templates that name a type."""
        template = self._get_param("LaunchTemplate")
        if template:
            requirements_need_a_group(self.ec2_backend._get_template_from_args(template).data)
        return InstanceResponse.run_instances(self)  # type: ignore[arg-type]

    @rule(EC2_API + "API_DescribeInstanceTypeOfferings.html")
    def describe_instance_type_offerings(self) -> ActionResult:
        """Offerings are filtered with wildcards and come in pages."""
        kind = self._get_param("LocationType")
        offerings = self.ec2_backend.describe_instance_type_offerings(kind, {})
        names = {"instance-type": "InstanceType", "location": "Location"}

        def value(offering: Mapping[str, str], name: str) -> list[str]:
            if name not in names:
                raise invalid_parameter(f"The filter '{name}' is invalid")
            return [offering[names[name]]]
        offerings = listing.select(offerings, listing.filters_of(self._get_param("Filters")), value)
        page, next_token = listing.paginate(offerings, self._get_param("MaxResults"),
                                            self._get_param("NextToken"),
                                            least=5)
        return ActionResult({"InstanceTypeOfferings": page, "NextToken": next_token})

    @rule(EC2_API + "API_DeleteKeyPair.html")
    def delete_key_pair(self) -> ActionResult:
        """A key pair is deleted by its name or by its id."""
        named = (self._get_param("KeyName"), self._get_param("KeyPairId"))
        pair = next((each for each in self.ec2_backend.key_pairs.values()
                     if named in ((each.key_name, None), (None, each.id))), None)
        if pair is not None:
            self.ec2_backend.delete_key_pair(pair.key_name)
        return ActionResult({"Return": True, "KeyPairId": pair.id if pair else None})
