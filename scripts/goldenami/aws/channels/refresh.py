"""Auto Scaling groups that take the template's new default by an instance refresh, which rolls
itself back."""

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
"""States of a refresh that goes on to its version (Auto Scaling API reference, "InstanceRefresh").
"""


def groups(autoscaling: Client, names: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Those of the groups that the region has, by name, as Auto Scaling describes them."""
    present = pages(
        autoscaling,
        "describe_auto_scaling_groups",
        "AutoScalingGroups",
        AutoScalingGroupNames=list(names),
    )
    return {group["AutoScalingGroupName"]: group for group in present}


def check_reversible(autoscaling: Client, group: Mapping[str, Any]) -> None:
    """BadInput for a group whose refresh could not roll itself back: one that names `$Latest` or
    `$Default` ("Undo changes with a rollback")."""
    name, region = group["AutoScalingGroupName"], autoscaling.meta.region_name
    for spec in _named(group):
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
    """The status of the group's newest refresh if that was for this version, else nothing.

    One that failed or rolled back is not begun again by itself: a person has to look first.
    """
    refreshes = autoscaling.describe_instance_refreshes(AutoScalingGroupName=group, MaxRecords=1)[
        "InstanceRefreshes"
    ]
    for newest in refreshes:
        if _spec(version) in map(_by_id, _named(newest.get("DesiredConfiguration", {}))):
            return str(newest["Status"])
    return ""


def _spec(version: Version) -> dict[str, str]:
    return {"LaunchTemplateId": version.template, "Version": str(version.number)}


def _by_id(spec: Mapping[str, str]) -> dict[str, str]:
    """A template as a request names it: AWS answers with id and name, and takes only one."""
    return {key: value for key, value in spec.items() if key != "LaunchTemplateName"}


def _named(configuration: Mapping[str, Any]) -> list[dict[str, str]]:
    mixed = configuration.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {})
    named = [
        configuration.get("LaunchTemplate"),
        mixed.get("LaunchTemplateSpecification"),
        *(override.get("LaunchTemplateSpecification") for override in mixed.get("Overrides", [])),
    ]
    return [spec for spec in named if spec]


def _desired(group: Mapping[str, Any], version: Version) -> dict[str, Any]:
    """The configuration of a group with the new version, and nothing else of it changed.

    A launch template alone would replace a mixed instances policy (StartInstanceRefresh,
    `DesiredConfiguration`). In a policy the version goes where our template is named; where it is
    nowhere, it becomes the policy's template.
    """
    policy = group.get("MixedInstancesPolicy")
    if not policy:
        return {"LaunchTemplate": _spec(version)}
    is_named = any(spec.get("LaunchTemplateId") == version.template for spec in _named(group))

    def renewed(spec: dict[str, str], *, always: bool) -> dict[str, str]:
        return (
            _spec(version)
            if always or spec.get("LaunchTemplateId") == version.template
            else _by_id(spec)
        )

    template = policy["LaunchTemplate"]
    overrides = [
        {
            **override,
            **(
                {"LaunchTemplateSpecification": renewed(spec, always=False)}
                if (spec := override.get("LaunchTemplateSpecification"))
                else {}
            ),
        }
        for override in template.get("Overrides", [])
    ]
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
    """Begin the refresh; returns its status as a word, or that of the one which runs already.

    The desired configuration names a numbered version with a literal AMI: with `$Latest`, or an AMI
    by SSM parameter, Auto Scaling refuses to roll back ("Undo changes with a rollback").
    """
    described = groups(autoscaling, [group]).get(group)
    if described is None:
        return "the group is gone"
    check_reversible(autoscaling, described)
    try:
        autoscaling.start_instance_refresh(
            AutoScalingGroupName=group,
            Strategy="Rolling",
            Preferences=_preferences(preferences),
            DesiredConfiguration=_desired(described, version),
        )
    except aws.ClientError as error:
        if code(error) not in ("InstanceRefreshInProgress", "InstanceRefreshInProgressFault"):
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
    """Bring a group back to an older version: roll a running refresh back, else begin one."""
    status = start(autoscaling, group, version, preferences)
    if status != OTHER_REFRESH:
        return status
    autoscaling.rollback_instance_refresh(AutoScalingGroupName=group)
    return "rolling the running refresh back"
