"""Resources of stacks that moto does not make, which are only listed, and Auto Scaling groups that
change in place.

A number that a template gives as text becomes a number, as in CloudFormation.
"""

from __future__ import annotations

from typing import Any

from moto.autoscaling.models import FakeAutoScalingGroup, autoscaling_backends
from moto.cloudformation import parsing
from moto.core.common_models import CloudFormationModel
from moto.utilities.utils import get_partition

Data = dict[str, Any]
_moto_json = parsing.clean_json
_moto_group = FakeAutoScalingGroup.create_from_cloudformation_json
_NAMED_BY = {
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::AutoScaling::ScalingPolicy": "",
    "AWS::AutoScaling::WarmPool": "",
    "AWS::Budgets::Budget": "",
}
"""Types that moto does not make, each with the property that names a resource, or "" if none
does."""


class ListedResource:
    """A resource that only its stack lists: no command reads it otherwise."""

    def __init__(self, name: str, account: str, region: str) -> None:
        self.physical_resource_id, self._place = name, f"{region}:{account}"
        self._partition = get_partition(region)

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        _cloudformation_json: Data,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> ListedResource:
        return cls(resource_name, account_id, region_name)

    @classmethod
    def update_from_cloudformation_json(cls, original_resource: Any, **_: Any) -> ListedResource:
        assert isinstance(original_resource, cls)
        return original_resource

    def delete(self, _account: str, _region: str) -> None:
        """Do nothing: the resource exists only in the list."""

    def get_cfn_attribute(self, _attribute: str) -> str:
        """Return the ARN: an alarm has no other attribute."""
        return f"arn:{self._partition}:cloudwatch:{self._place}:alarm:{self.physical_resource_id}"


LISTED = [
    type(
        kind,
        (ListedResource, CloudFormationModel),
        {
            # Default arguments keep each class's values: a plain lambda would see the last ones.
            "cloudformation_type": staticmethod(lambda kind=kind: kind),
            "cloudformation_name_type": staticmethod(lambda named_by=named_by: named_by),
        },
    )
    for kind, named_by in _NAMED_BY.items()
]
"""moto finds resource types among the subclasses of CloudFormationModel; nothing else uses the
list."""


class LifecycleHook(CloudFormationModel):
    """An AWS::AutoScaling::LifecycleHook. An update makes it anew, under its name."""

    def __init__(self, group: str, name: str) -> None:
        self.group, self.physical_resource_id = group, name

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::AutoScaling::LifecycleHook"

    @staticmethod
    def cloudformation_name_type() -> str:
        return "LifecycleHookName"

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Data,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> LifecycleHook:
        properties = cloudformation_json["Properties"]
        group = properties["AutoScalingGroupName"]
        autoscaling_backends[account_id][region_name].create_lifecycle_hook(
            resource_name,
            group,
            properties["LifecycleTransition"],
            int(properties["HeartbeatTimeout"]),
            properties["DefaultResult"],
        )
        return cls(group, resource_name)

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: Data,
        account_id: str,
        region_name: str,
    ) -> LifecycleHook:
        original_resource.delete(account_id, region_name)
        return cls.create_from_cloudformation_json(
            new_resource_name, cloudformation_json, account_id, region_name
        )

    def delete(self, account: str, region: str) -> None:
        """Delete it, with or before its group."""
        autoscaling_backends[account][region].delete_lifecycle_hook(
            self.group, self.physical_resource_id
        )


def clean_json(resource_json: Any, resources_map: Any) -> Any:
    """Resolve a part of a template. AWS::NoValue leaves no entry in a list; moto leaves None."""
    cleaned = _moto_json(resource_json, resources_map)
    if isinstance(resource_json, list):
        return [value for value in cleaned if value is not None]
    return cleaned


def _numbers(cloudformation_json: Data) -> Data:
    """Return a group's resource with its sizes as numbers."""
    properties = dict(cloudformation_json["Properties"])
    for name in ("MinSize", "MaxSize", "DesiredCapacity", "HealthCheckGracePeriod"):
        if name in properties:
            properties[name] = int(properties[name])
    return {**cloudformation_json, "Properties": properties}


def create_group(
    resource_name: str,
    cloudformation_json: Data,
    account_id: str,
    region_name: str,
    **others: Any,
) -> FakeAutoScalingGroup:
    """Make an AWS::AutoScaling::AutoScalingGroup."""
    group = _moto_group(
        resource_name, _numbers(cloudformation_json), account_id, region_name, **others
    )
    # Kept for the next update, which asks what the template has changed.
    vars(group)["declared"] = _sizes(cloudformation_json)
    return group


def _sizes(cloudformation_json: Data) -> Data:
    """Return the sizes that a template declares, or None for those that it leaves out."""
    properties = _numbers(cloudformation_json)["Properties"]
    return {name: properties.get(name) for name in ("MinSize", "MaxSize", "DesiredCapacity")}


def update_group(
    original_resource: FakeAutoScalingGroup,
    new_resource_name: str,
    cloudformation_json: Data,
    account_id: str,
    region_name: str,
) -> FakeAutoScalingGroup:
    """Change a group in place, so that its machines stay: moto would make another group.

    With IgnoreUnmodifiedGroupSizeProperties a size that the template has not changed stays, too
    (aws-attribute-updatepolicy.html).
    """
    properties, sizes = _numbers(cloudformation_json)["Properties"], _sizes(cloudformation_json)
    policy = cloudformation_json.get("UpdatePolicy", {}).get("AutoScalingScheduledAction", {})
    if str(policy.get("IgnoreUnmodifiedGroupSizeProperties")).lower() == "true":
        present = {
            "MinSize": original_resource.min_size,
            "MaxSize": original_resource.max_size,
            "DesiredCapacity": original_resource.desired_capacity,
        }
        declared = vars(original_resource)["declared"]
        properties |= {
            name: present[name] for name, size in sizes.items() if size == declared[name]
        }
    vars(original_resource)["declared"] = sizes
    return autoscaling_backends[account_id][region_name].update_auto_scaling_group(
        name=original_resource.name,
        availability_zones=properties.get("AvailabilityZones", []),
        desired_capacity=properties.get("DesiredCapacity"),
        max_size=properties["MaxSize"],
        min_size=properties["MinSize"],
        launch_config_name="",
        launch_template=properties.get("LaunchTemplate", {}),
        vpc_zone_identifier=",".join(properties.get("VPCZoneIdentifier", [])),
        health_check_period=properties.get("HealthCheckGracePeriod", 0),
        health_check_type=properties.get("HealthCheckType", ""),
        new_instances_protected_from_scale_in=properties.get("NewInstancesProtectedFromScaleIn"),
        mixed_instances_policy=properties.get("MixedInstancesPolicy"),
    )


def delete_group(group: FakeAutoScalingGroup, account_id: str, region_name: str) -> None:
    """Delete a group unless somebody has already."""
    backend = autoscaling_backends[account_id][region_name]
    # Compared by identity: somebody may have made another group of that name.
    if backend.autoscaling_groups.get(group.name) is group:
        backend.delete_auto_scaling_group(group.name)


def protects(group: Any) -> bool:
    """Return whether the resource is a group that cannot be deleted, as a machine is protected from
    scaling in.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-instance-protection.html
    """
    return (
        isinstance(group, FakeAutoScalingGroup)
        and group.autoscaling_backend.autoscaling_groups.get(group.name) is group
        and any(member.protected_from_scale_in for member in group.instance_states)
    )


def install() -> None:
    """Replace moto's functions for groups. moto finds the classes of `LISTED` without that."""
    group: Any = FakeAutoScalingGroup
    group.create_from_cloudformation_json = staticmethod(create_group)
    group.update_from_cloudformation_json = staticmethod(update_group)
    group.delete = delete_group
