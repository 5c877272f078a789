"""Launches of instances: which AMI, on which type, and what the instance gets from its AMI."""

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
from moto.ec2.models.vpcs import VPC
from moto.ec2.responses._base_response import EC2BaseResponse

from ec2_emulator import listing
from ec2_emulator.compute import images
from ec2_emulator.compute.images import EmulatedImage
from ec2_emulator.rules import ApiError, rule
from ec2_emulator.services import ssm_parameters
from ec2_emulator.state import STATE

_moto_run_instances = EC2Backend.run_instances
_moto_create_default_vpc = EC2Backend.create_default_vpc
TAKEN_AFTER_S = 0.2
"""Seconds from the launch of a Spot instance until EC2 takes it back (`spot_taken`)."""


@rule
def devices_of(
    image: EmulatedImage, *overrides: Sequence[Mapping[str, Any]] | None
) -> list[dict[str, Any]]:
    """An instance has the AMI's devices, overridden by the template's, overridden by the
    request's."""
    merged: dict[str, dict[str, Any]] = {}
    for mappings in (image.devices, *overrides):
        for mapping in mappings or []:
            inherited = merged.get(mapping["DeviceName"], {})
            ebs = mapping.get("Ebs") or {}
            # A field that an override leaves out is None in moto's parameters.
            stated = {key: value for key, value in ebs.items() if value is not None}
            merged[mapping["DeviceName"]] = {
                **inherited,
                **mapping,
                "Ebs": {**inherited.get("Ebs", {}), **stated},
            }
    return list(merged.values())


@rule
def metadata_of(image: EmulatedImage, *overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """An AMI with ImdsSupport v2.0 makes tokens required and the hop limit 2, unless the launch
    says otherwise."""
    options: dict[str, Any] = {}
    if image.fields.get("ImdsSupport"):
        options = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
    for override in overrides:
        options.update(override or {})
    return options


def run_instances(self: EC2Backend, image_id: str, count: int, *args: Any, **kwargs: Any) -> Any:
    """Replaces `EC2Backend.run_instances`, which RunInstances, Auto Scaling and fleets call."""
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
    allowed_type(image, kwargs["instance_type"] or data.get("InstanceType"))
    kwargs["block_device_mappings"] = devices_of(
        image, data.get("BlockDeviceMappings"), kwargs.get("block_device_mappings")
    )
    for ebs in (mapping["Ebs"] for mapping in kwargs["block_device_mappings"]):
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


@rule
def allowed_type(image: EmulatedImage, instance_type: str | None) -> None:
    """An AMI with a list of supported types is launched on these alone, and never on a type of the
    list of unsupported ones. An entry may have wildcards."""
    lists = image.instance_types or {}

    def matches(name: str) -> bool:
        patterns = map(listing.wildcard, lists.get(name, []))
        return any(pattern.fullmatch(instance_type or "") for pattern in patterns)

    is_supported = matches("SupportedInstanceTypes") or not lists.get("SupportedInstanceTypes")
    if matches("UnsupportedInstanceTypes") or not is_supported:
        raise ApiError(
            "InvalidParameterCombination",
            f"The instance type '{instance_type}' is not supported by the AMI '{image.id}'",
        )


@rule
def default_network(network: str | None) -> None:
    """A launch or a group without a network uses the region's default network, and is refused if
    there is none."""
    if not network and not STATE.settings.has_default_vpc:
        raise ApiError("VPCIdNotSpecified", "No default VPC for this user")


@rule
def default_network_leads_outside(self: EC2Backend) -> VPC:
    """A default VPC has an internet gateway, and its main route table a route to it."""
    vpc = _moto_create_default_vpc(self)
    gateway = self.create_internet_gateway()
    self.attach_internet_gateway(gateway.id, vpc.id)
    [table] = self.describe_route_tables(filters={"vpc-id": vpc.id})
    self.create_route(table.id, "0.0.0.0/0", gateway_id=gateway.id)
    return vpc


def fleet_request(fleet: SpotFleetRequest) -> dict[str, Any]:
    """Return the whole request for a fleet: moto's property keeps a part of it."""
    return dict(vars(fleet).get("asked", {}))


def take_back(instance: Any) -> None:
    """EC2 takes a Spot instance back when it needs the capacity, and its StateReason says so."""
    # A timer's thread runs this; handlers run under the same lock.
    with STATE.lock:
        if instance.state == "running":
            instance.terminate()
            code = "Server.SpotInstanceTermination"
            instance.state_reason = StateReason(f"{code}: Spot instance termination", code)


def some_type(requirements: Mapping[str, Any]) -> str | None:
    """Return a type that InstanceRequirements allow, or None if no type does."""
    allowed = [listing.wildcard(text) for text in requirements.get("AllowedInstanceTypes", [])]
    least = (int(requirements.get(name, {}).get("Min", 0)) for name in ("VCpuCount", "MemoryMiB"))
    vcpus, mib = least
    return next(
        (
            name
            for name, described in sorted(INSTANCE_TYPES.items())
            if any(pattern.fullmatch(name) for pattern in allowed)
            and described["VCpuInfo"]["DefaultVCpus"] >= vcpus
            and described["MemoryInfo"]["SizeInMiB"] >= mib
        ),
        None,
    )


@rule
def group_type(group: FakeAutoScalingGroup) -> str | None:
    """A group launches a type that its mixed instances policy or its template names, and is refused
    if neither names one."""
    if group.ec2_launch_template is None:
        return group.launch_config.instance_type if group.launch_config else None
    policy = (group.mixed_instances_policy or {}).get("LaunchTemplate", {})
    data = group.ec2_launch_template.get_version(group.launch_template_version).data
    for settings in (*(policy.get("Overrides") or []), data):
        type_name = settings.get("InstanceType") or some_type(
            settings.get("InstanceRequirements") or {}
        )
        if type_name:
            return str(type_name)
    raise ApiError(
        "ValidationError",
        "You must use a valid fully-formed launch template. "
        "The request must contain the parameter InstanceType",
    )


class LaunchApi(EC2BaseResponse):
    """The handlers."""

    @rule
    def describe_instance_type_offerings(self) -> ActionResult:
        """Offerings are filtered by type, with wildcards, and come in pages."""
        offerings = listing.select(
            self.ec2_backend.describe_instance_type_offerings(self._get_param("LocationType"), {}),
            listing.filters_of(self._get_param("Filters")),
            lambda offering, _name: [offering["InstanceType"]],
        )
        return listing.answer(self, "InstanceTypeOfferings", offerings, least=5)

    def describe_vpcs(self) -> ActionResult:
        answer = super().describe_vpcs()  # type: ignore[misc]
        if not STATE.settings.has_default_vpc:
            answer.result["Vpcs"] = [vpc for vpc in answer.result["Vpcs"] if not vpc.is_default]
        return answer  # type: ignore[no-any-return]

    def describe_subnets(self) -> ActionResult:
        answer = super().describe_subnets()  # type: ignore[misc]
        if not STATE.settings.has_default_vpc:
            default = self.ec2_backend.default_vpc.id
            subnets = [each for each in answer.result["Subnets"] if each.vpc_id != default]
            answer.result["Subnets"] = subnets
        return answer  # type: ignore[no-any-return]

    def create_security_group(self) -> ActionResult:
        default_network(self._get_param("VpcId"))
        return super().create_security_group()  # type: ignore[no-any-return, misc]

    @rule
    def request_spot_fleet(self) -> ActionResult:
        """DescribeSpotFleetRequests shows the whole request for a fleet."""
        answer = super().request_spot_fleet()  # type: ignore[misc]
        fleet = self.ec2_backend.spot_fleet_requests[answer.result["SpotFleetRequestId"]]
        fleet.asked = self._get_param("SpotFleetRequestConfig")
        return answer  # type: ignore[no-any-return]

    @rule
    def request_spot_instances(self) -> ActionResult:
        """DescribeSpotInstanceRequests shows the volumes that were requested."""
        answer = super().request_spot_instances()  # type: ignore[misc]
        for request in answer.result["SpotInstanceRequests"]:
            request.launch_specification.block_device_mappings = self._get_param(
                "LaunchSpecification.BlockDeviceMappings", []
            )
            # moto keeps nothing for what was not asked, and the answer has to say it.
            request.launch_specification.monitored = bool(request.launch_specification.monitored)
        return answer  # type: ignore[no-any-return]

    def delete_key_pair(self) -> ActionResult:
        name_and_id = (self._get_param("KeyName"), self._get_param("KeyPairId"))
        pair = next(
            (
                candidate
                for candidate in self.ec2_backend.key_pairs.values()
                if name_and_id in ((candidate.key_name, None), (None, candidate.id))
            ),
            None,
        )
        if pair is not None:
            self.ec2_backend.delete_key_pair(pair.key_name)
        return ActionResult({"Return": True, "KeyPairId": pair.id if pair else None})
