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
from ec2_emulator.rules import ASG_GUIDE, rule

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


def chosen_type(override: Mapping[str, Any], data: Mapping[str, Any]) -> str | None:
    """The type of an override or, where it has none, of the template; None where neither leads to
    one."""
    for each in (override, data):
        chosen = each.get("InstanceType") or some_type(each.get("InstanceRequirements") or {})
        if chosen:
            return str(chosen)
    return None


@rule(ASG_GUIDE + "ts-as-launch-template.html")
def group_type(group: FakeAutoScalingGroup) -> str | None:
    """A group launches a type that its mixed instances policy or its template names, and is refused
    without any."""
    if group.ec2_launch_template is None:
        return group.launch_config.instance_type if group.launch_config else None
    policy = (group.mixed_instances_policy or {}).get("LaunchTemplate", {})
    data = group.ec2_launch_template.get_version(group.launch_template_version).data
    for override in policy.get("Overrides") or [{}]:
        if (chosen := chosen_type(override, data)) is not None:
            return chosen
    raise ApiError("ValidationError", "You must use a valid fully-formed launch template. "
                                      "The request must contain the parameter InstanceType")


def create_fleet(self: EC2Backend, *args: Any, **kwargs: Any) -> Any:
    """An override of a fleet, or its template, leads to a type by its requirements."""
    for config in kwargs["launch_template_configs"]:
        data = self._get_template_from_args(config["LaunchTemplateSpecification"]).data
        config["Overrides"] = [{**override, "InstanceType": chosen_type(override, data)}
                               for override in config.get("Overrides") or [{}]]
    return _moto_create_fleet(self, *args, **kwargs)
