"""Instance refreshes, by which Auto Scaling groups take the template's new default. A refresh that
fails rolls itself back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from botocore import exceptions as aws

from goldenami.aws.calls import pages
from goldenami.aws.channels.pointers import Version
from goldenami.aws.session import Client, code
from goldenami.core.errors import BadInput
from goldenami.model.operation.publish_section import InstanceRefresh

OTHER_REFRESH = "another refresh is in progress"
UNDER_WAY = ("Pending", "InProgress", "Baking")
"""Statuses of a refresh in progress (Auto Scaling API reference, "InstanceRefresh")."""


def groups(autoscaling: Client, names: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Describe those of the groups that the region has, by name."""
    present = pages(
        autoscaling,
        "describe_auto_scaling_groups",
        "AutoScalingGroups",
        AutoScalingGroupNames=list(names),
    )
    return {group["AutoScalingGroupName"]: group for group in present}


def check_reversible(autoscaling: Client, group: Mapping[str, Any]) -> None:
    """Raise BadInput for a group whose refresh could not roll itself back, as it names `$Latest` or
    `$Default` ("Undo changes with a rollback")."""
    name, region = group["AutoScalingGroupName"], autoscaling.meta.region_name
    for spec in _template_specs(group):
        if not (version := spec.get("Version", "$Default")).isdecimal():
            raise BadInput(
                f"the Auto Scaling group {name} in {region} names version {version} of "
                f"{spec['LaunchTemplateName']}, from which no refresh rolls back",
                hint=f"name a number: `aws autoscaling update-auto-scaling-group --region {region} "
                f"--auto-scaling-group-name {name} --launch-template "
                f"LaunchTemplateName={spec['LaunchTemplateName']},Version=NUMBER`, or in its "
                "mixed instances policy; or take it out of `publish: instance_refresh: "
                "groups:`",
            )


def refresh_status(autoscaling: Client, group: str, version: Version) -> str:
    """The status of the group's newest refresh if that was for this version, else "".

    A refresh that failed or rolled back counts, too: it is not started again by itself, because a
    person has to look first.
    """
    refreshes = autoscaling.describe_instance_refreshes(AutoScalingGroupName=group, MaxRecords=1)[
        "InstanceRefreshes"
    ]
    for newest in refreshes:
        if _spec(version) in map(_by_id, _template_specs(newest.get("DesiredConfiguration", {}))):
            return str(newest["Status"])
    return ""


def _spec(version: Version) -> dict[str, str]:
    return {"LaunchTemplateId": version.template, "Version": str(version.number)}


def _by_id(spec: Mapping[str, str]) -> dict[str, str]:
    """A template as a request names it. AWS's answers have id and name, its requests only one."""
    return {key: value for key, value in spec.items() if key != "LaunchTemplateName"}


def _template_specs(configuration: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every launch template that a group or a desired configuration names."""
    mixed = configuration.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {})
    specs = [
        configuration.get("LaunchTemplate"),
        mixed.get("LaunchTemplateSpecification"),
        *(override.get("LaunchTemplateSpecification") for override in mixed.get("Overrides", [])),
    ]
    return [spec for spec in specs if spec]


def _desired(group: Mapping[str, Any], version: Version) -> dict[str, Any]:
    """The group's configuration with the new version, otherwise unchanged. In a mixed instances
    policy the version goes where our template is named, or else becomes the policy's template."""
    # The whole policy is sent, because a launch template alone would replace it
    # (StartInstanceRefresh, `DesiredConfiguration`).
    policy = group.get("MixedInstancesPolicy")
    if not policy:
        return {"LaunchTemplate": _spec(version)}
    is_named = any(
        spec.get("LaunchTemplateId") == version.template for spec in _template_specs(group)
    )

    def renewed(spec: dict[str, str], *, always: bool) -> dict[str, str]:
        if always or spec.get("LaunchTemplateId") == version.template:
            return _spec(version)
        return _by_id(spec)

    template = policy["LaunchTemplate"]
    overrides = [dict(override) for override in template.get("Overrides", [])]
    for override in overrides:
        if spec := override.get("LaunchTemplateSpecification"):
            override["LaunchTemplateSpecification"] = renewed(spec, always=False)
    main = renewed(template["LaunchTemplateSpecification"], always=not is_named)
    return {
        "MixedInstancesPolicy": {
            **policy,
            "LaunchTemplate": {
                **template,
                "LaunchTemplateSpecification": main,
                "Overrides": overrides,
            },
        }
    }


def start(autoscaling: Client, group: str, version: Version, preferences: InstanceRefresh) -> str:
    """Start the refresh, and return its status, or that of the refresh in progress."""
    described = groups(autoscaling, [group]).get(group)
    if described is None:
        return "the group is gone"
    check_reversible(autoscaling, described)
    try:
        autoscaling.start_instance_refresh(
            AutoScalingGroupName=group,
            Strategy="Rolling",
            Preferences=_preferences(preferences),
            # A numbered version with a literal AMI: with `$Latest`, or an AMI by SSM parameter,
            # Auto Scaling would refuse to roll back ("Undo changes with a rollback").
            DesiredConfiguration=_desired(described, version),
        )
    except aws.ClientError as error:
        if code(error) != "InstanceRefreshInProgress":
            raise
        return refresh_status(autoscaling, group, version) or OTHER_REFRESH
    return "started"


def _preferences(preferences: InstanceRefresh) -> dict[str, Any]:
    request: dict[str, Any] = {
        "MinHealthyPercentage": preferences.min_healthy_percent,
        "InstanceWarmup": preferences.warmup_seconds,
        "SkipMatching": True,
        "AutoRollback": True,
    }
    if preferences.checkpoint_percent:
        request |= {
            "CheckpointPercentages": [preferences.checkpoint_percent, 100],
            "CheckpointDelay": preferences.checkpoint_delay_seconds,
        }
    if preferences.alarms:
        request["AlarmSpecification"] = {"Alarms": preferences.alarms}
    return request


def go_back(autoscaling: Client, group: str, version: Version, preferences: InstanceRefresh) -> str:
    """Bring a group back to an older version: start a refresh, or roll back the one in progress."""
    status = start(autoscaling, group, version, preferences)
    if status != OTHER_REFRESH:
        return status
    autoscaling.rollback_instance_refresh(AutoScalingGroupName=group)
    return "rolling the running refresh back"
