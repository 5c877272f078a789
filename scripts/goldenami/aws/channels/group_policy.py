"""What a group or a fleet of several instance types is told: the image's template, and the declared families.

The template itself names no families, since RunInstances refuses one that does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from goldenami.aws.channels import launch_data
from goldenami.core.errors import BadInput
from goldenami.model.definitions.definition import Definition

NO_PRICE_LIMIT = 999999
"""Percent over the cheapest type: turns price protection off ("InstanceRequirements"). Its default of 20 for on-demand
would leave the smallest sizes of the cheapest family, and no GPU beside a CPU family."""

FOLLOWING = "$Default"
"""The version of a template by which a launch follows `latest` without being asked."""


@dataclass(frozen=True)
class GroupWishes:
    """What a person asks of a group: vCPUs and GiB of memory at least, the percentage on Spot, the template's version.

    `version` is a number, `$Default` or `$Latest`.
    """

    vcpus: int = 1
    memory_gib: int = 1
    spot_percent: int = 0
    version: str = FOLLOWING


def check_version(definition: Definition, version: str) -> None:
    """BadInput for a version that no template can have, or by which a group's refresh could not roll back.

    Auto Scaling does not roll back a group on `$Latest` or `$Default` ("Undo changes with a rollback").
    """
    if not version.isdecimal() and version not in (FOLLOWING, "$Latest"):
        raise BadInput(f"`{version}` is no version of a launch template", hint="give a number, $Latest or $Default")
    if definition.publish and definition.publish.instance_refresh and not version.isdecimal():
        raise BadInput(f"a group of {definition.image} is refreshed by `instance_refresh`, and a refresh does not roll "
                       f"back on {version}", hint="give the number that `golden status` shows: --version 3")


def requirements(definition: Definition, wishes: GroupWishes) -> dict[str, Any]:
    """InstanceRequirements of the declared families; EC2 and Auto Scaling take the same words.

    Burstable families are left out unless asked for, and who declares one has asked.
    """
    return {"VCpuCount": {"Min": wishes.vcpus}, "MemoryMiB": {"Min": wishes.memory_gib * 1024},
            "AllowedInstanceTypes": [f"{family}.*" for family in definition.hardware],
            "BurstablePerformance": "included",
            "OnDemandMaxPricePercentageOverLowestPrice": NO_PRICE_LIMIT,
            "SpotMaxPricePercentageOverLowestPrice": NO_PRICE_LIMIT}


def mixed_instances_policy(definition: Definition, wishes: GroupWishes) -> dict[str, Any]:
    """The MixedInstancesPolicy of an Auto Scaling group (CreateAutoScalingGroup)."""
    return {
        "LaunchTemplate": _configuration(definition, wishes),
        "InstancesDistribution": {
            "OnDemandPercentageAboveBaseCapacity": 100 - wishes.spot_percent,
            "OnDemandAllocationStrategy": "lowest-price", "SpotAllocationStrategy": "price-capacity-optimized"}}


def fleet_configs(definition: Definition, wishes: GroupWishes) -> list[dict[str, Any]]:
    """The LaunchTemplateConfigs of an EC2 Fleet (CreateFleet), which states its share of Spot elsewhere."""
    return [_configuration(definition, wishes)]


def _configuration(definition: Definition, wishes: GroupWishes) -> dict[str, Any]:
    return {"LaunchTemplateSpecification": {**launch_data.template_of(definition).named, "Version": wishes.version},
            "Overrides": [{"InstanceRequirements": requirements(definition, wishes)}]}
