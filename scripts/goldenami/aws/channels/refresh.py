"""Auto Scaling groups that take the template's new default by an instance refresh, which rolls itself back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from botocore import exceptions as aws

from goldenami.aws.channels.pointers import Version
from goldenami.aws.session import Client, code
from goldenami.core.records import Record


class RefreshPreferences(Record):
    """How a refresh goes; seconds and percent."""

    min_healthy_percent: int
    warmup_seconds: int
    checkpoint_percent: int | None
    checkpoint_delay_seconds: int
    alarms: tuple[str, ...]


OTHER = "another refresh is in progress: run again after it"


def groups(autoscaling: Client, names: Iterable[str]) -> list[str]:
    """Those of the groups that the region has."""
    pages = autoscaling.get_paginator("describe_auto_scaling_groups").paginate(AutoScalingGroupNames=list(names))
    return sorted(row["AutoScalingGroupName"] for page in pages for row in page["AutoScalingGroups"])


def has_seen(autoscaling: Client, group: str, version: Version) -> str:
    """The status of the group's newest refresh if that was for this version, else nothing.

    One that failed or rolled back is not begun again by itself: a person has to look first.
    """
    found = autoscaling.describe_instance_refreshes(AutoScalingGroupName=group, MaxRecords=1)["InstanceRefreshes"]
    if not found:
        return ""
    return str(found[0]["Status"]) if _spec(version) in map(_by_id, _named(found[0].get("DesiredConfiguration", {}))) \
        else ""


def _spec(version: Version) -> dict[str, str]:
    return {"LaunchTemplateId": version.template, "Version": str(version.number)}


def _by_id(spec: Mapping[str, str]) -> dict[str, str]:
    """A template as a request names it: AWS answers with id and name, and takes only one of them."""
    return {key: value for key, value in spec.items() if key != "LaunchTemplateName"}


def _named(configuration: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every launch template that a group or a desired configuration names."""
    mixed = configuration.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {})
    named = [configuration.get("LaunchTemplate"), mixed.get("LaunchTemplateSpecification"),
             *(override.get("LaunchTemplateSpecification") for override in mixed.get("Overrides", []))]
    return [spec for spec in named if spec]


def _desired(group: Mapping[str, Any], version: Version) -> dict[str, Any]:
    """The configuration of a group with the new version, and nothing else of it changed.

    A launch template alone would replace a mixed instances policy: its overrides and its share of Spot would be gone
    (StartInstanceRefresh, `DesiredConfiguration`). In a policy the version goes where our template is named; where it
    is nowhere, it becomes the policy's template.
    """
    policy = group.get("MixedInstancesPolicy")
    if not policy:
        return {"LaunchTemplate": _spec(version)}
    is_ours = [spec.get("LaunchTemplateId") == version.template for spec in _named(group)]

    def renewed(spec: dict[str, str], *, otherwise: bool) -> dict[str, str]:
        return _spec(version) if otherwise or spec.get("LaunchTemplateId") == version.template else _by_id(spec)

    template = policy["LaunchTemplate"]
    overrides = [{**override, **({"LaunchTemplateSpecification": renewed(spec, otherwise=False)} if (
        spec := override.get("LaunchTemplateSpecification")) else {})} for override in template.get("Overrides", [])]
    main = renewed(template["LaunchTemplateSpecification"], otherwise=not any(is_ours))
    return {"MixedInstancesPolicy": {
        **policy, "LaunchTemplate": {**template, "LaunchTemplateSpecification": main, "Overrides": overrides}}}


def start(autoscaling: Client, group: str, version: Version, wanted: RefreshPreferences) -> str:
    """Begin the refresh; returns its status as a word, or that of the one which runs already.

    The desired configuration names a numbered version with a literal AMI: with `$Latest`, or an AMI by SSM parameter,
    Auto Scaling refuses to roll back ("Undo changes with a rollback").
    """
    preferences: dict[str, Any] = {
        "MinHealthyPercentage": wanted.min_healthy_percent, "InstanceWarmup": wanted.warmup_seconds,
        "SkipMatching": True, "AutoRollback": True,
    }
    if wanted.checkpoint_percent:
        preferences |= {"CheckpointPercentages": [wanted.checkpoint_percent, 100],
                        "CheckpointDelay": wanted.checkpoint_delay_seconds}
    if wanted.alarms:
        preferences["AlarmSpecification"] = {"Alarms": list(wanted.alarms)}
    found = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"]
    if not found:
        return "the group is gone"
    try:
        autoscaling.start_instance_refresh(AutoScalingGroupName=group, Strategy="Rolling", Preferences=preferences,
                                           DesiredConfiguration=_desired(found[0], version))
    except aws.ClientError as error:
        if code(error) not in ("InstanceRefreshInProgress", "InstanceRefreshInProgressFault"):
            raise
        return has_seen(autoscaling, group, version) or OTHER
    return "started"


def back(autoscaling: Client, group: str, version: Version, wanted: RefreshPreferences) -> str:
    """Bring a group back to an older version: roll a running refresh back, else begin one."""
    status = start(autoscaling, group, version, wanted)
    if status != OTHER:
        return status
    autoscaling.rollback_instance_refresh(AutoScalingGroupName=group)
    return "rolling the running refresh back"
