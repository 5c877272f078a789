"""Launches: which AMI may be launched, on what type, and what the instance has from it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from moto.autoscaling.models import FakeAutoScalingGroup
from moto.core.responses import ActionResult
from moto.ec2.models import EC2Backend
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import StateReason
from moto.ec2.models.spot_requests import SpotFleetRequest
from moto.ec2.responses._base_response import EC2BaseResponse

from ec2_emulator import listing
from ec2_emulator.compute import images
from ec2_emulator.compute.images import EmulatedImage
from ec2_emulator.rules import ASG_GUIDE, EC2_API, EC2_GUIDE, ApiError, rule
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
            ebs = each.get("Ebs") or {}
            stated = {key: value for key, value in ebs.items() if value is not None}
            merged[each["DeviceName"]] = {
                **before,
                **each,
                "Ebs": {**before.get("Ebs", {}), **stated},
            }
    return list(merged.values())


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
    interfaces = kwargs.get("nics") or [{}]
    default_network(kwargs.get("subnet_id") or interfaces[0].get("SubnetId"))
    template = kwargs.get("launch_template") or {}
    data = self._get_template_from_args(template).data if template else {}
    image = images.launchable(
        self,
        ssm_parameters.resolve(
            self.account_id, self.region_name, image_id or data.get("ImageId", "")
        ),
    )
    kwargs["instance_type"] = kwargs.get("instance_type") or some_type(
        data.get("InstanceRequirements", {})
    )
    kwargs["block_device_mappings"] = devices_of(
        image, data.get("BlockDeviceMappings"), kwargs.get("block_device_mappings")
    )
    for ebs in (each["Ebs"] for each in kwargs["block_device_mappings"]):
        snapshot = image.ec2_backend.snapshots.get(ebs.get("SnapshotId"))
        if snapshot is not None and ebs.get("VolumeSize"):
            images.volume_holds_snapshot(int(ebs["VolumeSize"]), snapshot)
    kwargs["metadata_options"] = metadata_of(
        image, data.get("MetadataOptions"), kwargs.get("metadata_options")
    )
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


@rule(EC2_API + "errors-overview.html")
def default_network(network: str | None) -> None:
    """What names neither a network nor a subnet is of the default network, if a region has one."""
    if not network and not STATE.settings.has_default_vpc:
        raise ApiError("VPCIdNotSpecified", "No default VPC for this user")


def asked_of_fleet(fleet: SpotFleetRequest) -> dict[str, Any]:
    """In the place of moto's, which keeps a part."""
    return dict(vars(fleet).get("asked", {}))


def take_back(instance: Any) -> None:
    """EC2 takes a Spot instance back when it needs the capacity, and its StateReason says so."""
    with STATE.lock:
        if instance.state == "running":
            instance.terminate()
            code = "Server.SpotInstanceTermination"
            instance.state_reason = StateReason(f"{code}: Spot instance termination", code)


def some_type(requirements: Mapping[str, Any]) -> str | None:
    """A type that InstanceRequirements allow, as a group would choose one."""
    allowed = [listing.wildcard(each) for each in requirements.get("AllowedInstanceTypes", [])]
    least = (int(requirements.get(name, {}).get("Min", 0)) for name in ("VCpuCount", "MemoryMiB"))
    vcpus, mib = least
    return next(
        (
            name
            for name, described in sorted(INSTANCE_TYPES.items())
            if any(each.fullmatch(name) for each in allowed)
            and described["VCpuInfo"]["DefaultVCpus"] >= vcpus
            and described["MemoryInfo"]["SizeInMiB"] >= mib
        ),
        None,
    )


@rule(ASG_GUIDE + "ts-as-launch-template.html")
def group_type(group: FakeAutoScalingGroup) -> str | None:
    """A group launches a type that its mixed instances policy or its template names, and is refused
    without any."""
    if group.ec2_launch_template is None:
        return group.launch_config.instance_type if group.launch_config else None
    policy = (group.mixed_instances_policy or {}).get("LaunchTemplate", {})
    data = group.ec2_launch_template.get_version(group.launch_template_version).data
    for each in (*(policy.get("Overrides") or []), data):
        chosen = each.get("InstanceType") or some_type(each.get("InstanceRequirements") or {})
        if chosen:
            return str(chosen)
    raise ApiError(
        "ValidationError",
        "You must use a valid fully-formed launch template. "
        "The request must contain the parameter InstanceType",
    )


class LaunchApi(EC2BaseResponse):
    """The handlers."""

    @rule(EC2_API + "API_DescribeInstanceTypeOfferings.html")
    def describe_instance_type_offerings(self) -> ActionResult:
        """Offerings are filtered by type, with wildcards, and come in pages."""
        offerings = listing.select(
            self.ec2_backend.describe_instance_type_offerings(self._get_param("LocationType"), {}),
            listing.filters_of(self._get_param("Filters")),
            lambda offering, _name: [offering["InstanceType"]],
        )
        return listing.answer(self, "InstanceTypeOfferings", offerings, least=5)

    def create_security_group(self) -> ActionResult:
        default_network(self._get_param("VpcId"))
        return super().create_security_group()  # type: ignore[no-any-return, misc]

    @rule(EC2_API + "API_DescribeSpotFleetRequests.html")
    def request_spot_fleet(self) -> ActionResult:
        """A fleet shows all that it was asked for."""
        answer = super().request_spot_fleet()  # type: ignore[misc]
        made = self.ec2_backend.spot_fleet_requests[answer.result["SpotFleetRequestId"]]
        made.asked = self._get_param("SpotFleetRequestConfig")
        return answer  # type: ignore[no-any-return]

    @rule(EC2_API + "API_DescribeSpotInstanceRequests.html")
    def request_spot_instances(self) -> ActionResult:
        """A request shows the volumes that it was asked for."""
        answer = super().request_spot_instances()  # type: ignore[misc]
        for each in answer.result["SpotInstanceRequests"]:
            each.launch_specification.block_device_mappings = self._get_param(
                "LaunchSpecification.BlockDeviceMappings", []
            )
        return answer  # type: ignore[no-any-return]

    def delete_key_pair(self) -> ActionResult:
        named = (self._get_param("KeyName"), self._get_param("KeyPairId"))
        pair = next(
            (
                each
                for each in self.ec2_backend.key_pairs.values()
                if named in ((each.key_name, None), (None, each.id))
            ),
            None,
        )
        if pair is not None:
            self.ec2_backend.delete_key_pair(pair.key_name)
        return ActionResult({"Return": True, "KeyPairId": pair.id if pair else None})
