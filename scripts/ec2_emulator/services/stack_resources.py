"""What CloudFormation makes of a template and moto does not: some resources, which are only listed,
and how a group changes.

A number that a template gives as text becomes one, as CloudFormation does it.
"""

from __future__ import annotations

from typing import Any

from moto.autoscaling.models import FakeAutoScalingGroup, autoscaling_backends
from moto.core.common_models import CloudFormationModel
from moto.utilities.utils import get_partition

Data = dict[str, Any]
_moto_group = FakeAutoScalingGroup.create_from_cloudformation_json
_NAMED_BY = {
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::AutoScaling::ScalingPolicy": "",
    "AWS::AutoScaling::WarmPool": "",
    "AWS::Budgets::Budget": "",
}
"""Types that moto makes nothing of, each with the property that names it."""


class ListedResource:
    """A resource that is listed with its stack, and nowhere else: no command reads it."""

    def __init__(self, name: str, account: str, region: str) -> None:
        self.physical_resource_id, self._place = name, f"{region}:{account}"
        self._partition = get_partition(region)

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        _given: Data,
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
        """Nothing of it is anywhere."""

    def get_cfn_attribute(self, _attribute: str) -> str:
        """The ARN, an alarm's only attribute."""
        return f"arn:{self._partition}:cloudwatch:{self._place}:alarm:{self.physical_resource_id}"


LISTED = [
    type(
        kind,
        (ListedResource, CloudFormationModel),
        {
            "cloudformation_type": staticmethod(lambda kind=kind: kind),
            "cloudformation_name_type": staticmethod(lambda named_by=named_by: named_by),
        },
    )
    for kind, named_by in _NAMED_BY.items()
]
"""moto finds them by their base."""


def _numbers(cloudformation_json: Data) -> Data:
    """A group's description with numbers that are numbers."""
    given = dict(cloudformation_json["Properties"])
    for name in ("MinSize", "MaxSize", "DesiredCapacity", "HealthCheckGracePeriod"):
        if name in given:
            given[name] = int(given[name])
    return {**cloudformation_json, "Properties": given}


def create_group(
    resource_name: str,
    cloudformation_json: Data,
    account_id: str,
    region_name: str,
    **others: Any,
) -> FakeAutoScalingGroup:
    """AWS::AutoScaling::AutoScalingGroup, made."""
    group = _moto_group(
        resource_name, _numbers(cloudformation_json), account_id, region_name, **others
    )
    vars(group)["declared"] = _sizes(cloudformation_json)
    return group


def _sizes(cloudformation_json: Data) -> Data:
    given = _numbers(cloudformation_json)["Properties"]
    return {name: given.get(name) for name in ("MinSize", "MaxSize", "DesiredCapacity")}


def update_group(
    original_resource: FakeAutoScalingGroup,
    new_resource_name: str,
    cloudformation_json: Data,
    account_id: str,
    region_name: str,
) -> FakeAutoScalingGroup:
    """The same group changed: its machines stay (moto would make another one).

    With IgnoreUnmodifiedGroupSizeProperties a size that the template has not changed stays, too
    (aws-attribute-updatepolicy.html).
    """
    given, sizes = _numbers(cloudformation_json)["Properties"], _sizes(cloudformation_json)
    policy = cloudformation_json.get("UpdatePolicy", {}).get("AutoScalingScheduledAction", {})
    if str(policy.get("IgnoreUnmodifiedGroupSizeProperties")).lower() == "true":
        now = {
            "MinSize": original_resource.min_size,
            "MaxSize": original_resource.max_size,
            "DesiredCapacity": original_resource.desired_capacity,
        }
        before = vars(original_resource)["declared"]
        given |= {name: now[name] for name, size in sizes.items() if size == before[name]}
    vars(original_resource)["declared"] = sizes
    return autoscaling_backends[account_id][region_name].update_auto_scaling_group(
        name=original_resource.name,
        availability_zones=given.get("AvailabilityZones", []),
        desired_capacity=given.get("DesiredCapacity"),
        max_size=given["MaxSize"],
        min_size=given["MinSize"],
        launch_config_name="",
        launch_template=given.get("LaunchTemplate", {}),
        vpc_zone_identifier=",".join(given.get("VPCZoneIdentifier", [])),
        health_check_period=given.get("HealthCheckGracePeriod", 0),
        health_check_type=given.get("HealthCheckType", ""),
        new_instances_protected_from_scale_in=given.get("NewInstancesProtectedFromScaleIn"),
        mixed_instances_policy=given.get("MixedInstancesPolicy"),
    )


def delete_group(group: FakeAutoScalingGroup, account_id: str, region_name: str) -> None:
    """Delete a group, if nobody has."""
    backend = autoscaling_backends[account_id][region_name]
    if backend.autoscaling_groups.get(group.name) is group:
        backend.delete_auto_scaling_group(group.name)


def protects(group: Any) -> bool:
    """Whether the resource is a group that cannot go: it would have to be scaled in, and has a
    protected machine.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-instance-protection.html
    """
    return (
        isinstance(group, FakeAutoScalingGroup)
        and group.autoscaling_backend.autoscaling_groups.get(group.name) is group
        and any(each.protected_from_scale_in for each in group.instance_states)
    )


def install() -> None:
    """Replace what moto does with a group; the classes above are found by themselves."""
    group: Any = FakeAutoScalingGroup
    group.create_from_cloudformation_json = staticmethod(create_group)
    group.update_from_cloudformation_json = staticmethod(update_group)
    group.delete = delete_group
