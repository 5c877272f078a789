"""Which instance type a group or a fleet launches: an override's, the template's, or one that
requirements allow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moto.autoscaling.models import FakeAutoScalingGroup
from moto.ec2.models import EC2Backend
from moto.ec2.models.instance_types import INSTANCE_TYPES

from ec2_emulator import listing
from ec2_emulator.errors import ApiError
from ec2_emulator.rules import ASG_API, ASG_GUIDE, EC2_API, rule

_moto_create_fleet = EC2Backend.create_fleet


def some_type(requirements: Mapping[str, Any]) -> str | None:
    """A type that InstanceRequirements allow, as a group would choose one."""
    allowed = [listing.wildcard(each) for each in requirements.get("AllowedInstanceTypes", [])]
    least = (int(requirements.get(name, {}).get("Min", 0)) for name in ("VCpuCount", "MemoryMiB"))
    vcpus, mib = least
    return next((name for name, described in sorted(INSTANCE_TYPES.items())
                 if any(each.fullmatch(name) for each in allowed)
                 and described["VCpuInfo"]["DefaultVCpus"] >= vcpus
                 and described["MemoryInfo"]["SizeInMiB"] >= mib),
                None)


@rule(ASG_API + "API_LaunchTemplateOverrides.html")
def override_type(override: Mapping[str, Any], data: Mapping[str, Any]) -> str | None:
    """An override's InstanceType or InstanceRequirements, never both, replace the type of the
    group's template."""
    requirements = override.get("InstanceRequirements")
    if requirements and override.get("InstanceType"):
        raise ApiError("ValidationError",
                       "If you specify InstanceRequirements, you can't specify InstanceType")
    return (
        override.get("InstanceType")
        or some_type(requirements or {})
        or data.get("InstanceType")
        or some_type(data.get("InstanceRequirements", {}))
    )


@rule(ASG_GUIDE + "ts-as-launch-template.html")
def group_type(group: FakeAutoScalingGroup) -> str | None:
    """A group launches a type that its mixed instances policy or its template names, and is refused
    without any."""
    if group.ec2_launch_template is None:
        return group.launch_config.instance_type if group.launch_config else None
    policy = (group.mixed_instances_policy or {}).get("LaunchTemplate", {})
    data = group.ec2_launch_template.get_version(group.launch_template_version).data
    for override in policy.get("Overrides") or [{}]:
        if (chosen := override_type(override, data)) is not None:
            return chosen
    raise ApiError("ValidationError", "You must use a valid fully-formed launch template. "
                                      "The request must contain the parameter InstanceType")


@rule(EC2_API + "API_FleetLaunchTemplateOverridesRequest.html")
def fleet_type(override: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """An override of a fleet has an InstanceType or InstanceRequirements, never both; one of them
    or the template's has to lead to a type.
    """
    if override.get("InstanceRequirements") and override.get("InstanceType"):
        raise ApiError("InvalidParameterCombination",
                       "InstanceType and InstanceRequirements exclude each other")
    chosen = override_type(override, data)
    if chosen is None:
        raise ApiError("InvalidFleetConfig",
                       "neither the launch template nor its overrides lead to an instance type")
    return chosen


def create_fleet(self: EC2Backend, *args: Any, **kwargs: Any) -> Any:
    """In the place of `EC2Backend.create_fleet`, which knows no requirements: a type for each
    override."""
    asked = kwargs["launch_template_configs"]
    kwargs["launch_template_configs"] = [{**config, "Overrides": [
        {**override, "InstanceType": fleet_type(override, self._get_template_from_args(
            config["LaunchTemplateSpecification"]).data)} for override in config.get("Overrides")
            or [{}]]}
        for config in asked]
    fleet = _moto_create_fleet(self, *args, **kwargs)
    fleet.launch_template_configs = asked
    return fleet
