"""Probes of parameters, templates, launches and refreshes."""

from __future__ import annotations

from typing import Any

from goldenami.aws import calls
from goldenami.aws.instances import instance_types

from goldenami_fleet.selftest.probes.asking import Asked
from goldenami_fleet.selftest.probes.ground import TYPE, Ground, Probe, refused

_WRONG, _COMBINED = "InvalidParameterValue", "InvalidParameterCombination"
_PUT, _LAUNCH = "ssm.put_parameter", "ec2.run_instances"
_VERSION = "ec2.create_launch_template_version"
_START = "autoscaling.start_instance_refresh"
_BACK = "autoscaling.rollback_instance_refresh"


def _put(ground: Ground, **more: Any) -> Asked:
    """A PutParameter of a text that is there."""
    asked = ground.asked_parameter("text", "gold")
    with calls.tolerate("ParameterAlreadyExists"):
        ground.ask(_PUT, **asked)
    ground.wait("the parameter `text` is not there", lambda: ground.parameter("text"))
    return {**asked, **more}


def _pointers(ground: Ground) -> str:
    """Which of two parameters appears: the one without an AMI was put first."""
    found = ground.pointer and [ground.parameter(name) for name in ("latest", "nowhere")]
    return "its AMI alone" if found == [ground.image, ""] else f"{found}"


def _version(ground: Ground, **more: Any) -> dict[str, Any]:
    """Make a version that names another AMI alone."""
    asked = ground.asked_version(ImageId=ground.disabled)
    return dict(ground.ask(_VERSION, **asked, **more)["LaunchTemplateVersion"])


def _inherited(ground: Ground) -> str:
    """What that version has of its source."""
    data = _version(ground)["LaunchTemplateData"]
    ebs = [device["Ebs"] for device in data.get("BlockDeviceMappings", [])]
    is_own = data["ImageId"] == ground.disabled
    return f"{'its own' if is_own else 'another'} AMI, {data.get('InstanceType')}, {ebs}"


def _same_version(ground: Ground) -> str:
    first, second = (_version(ground, ClientToken=f"{ground.name}-version") for _ in range(2))
    return "the same" if first["VersionNumber"] == second["VersionNumber"] else "another"


PUBLISH = (
    refused(
        "put_parameter",
        "HierarchyTypeMismatchException",
        _PUT,
        lambda g: _put(g, Type="SecureString", Overwrite=True),
    ),
    refused("put_parameter", "ParameterAlreadyExists", _PUT, _put),
    Probe("settle", "its AMI alone", _pointers),
    Probe("inherited", f"its own AMI, {TYPE}, [{{'VolumeType': 'gp3'}}]", _inherited),
    Probe("same_token_same_answer", "the same", _same_version),
)


def _resolved(ground: Ground) -> str:
    is_ours = ground.launched[0]["ImageId"] == ground.image
    return "the parameter's AMI" if is_ours else "another AMI"


def _volume(ground: Ground) -> str:
    """The root volume of a machine: by its AMI, its template, and its launch."""
    volume = ground.launched[1]
    source = "the AMI's snapshot" if volume["SnapshotId"] == ground.disk else "nothing"
    return f"{source}, {volume['Size']} GiB, {volume['VolumeType']}"


def _metadata(ground: Ground) -> str:
    options = ground.launched[0].get("MetadataOptions", {})
    return f"tokens {options.get('HttpTokens')}, {options.get('HttpPutResponseHopLimit')} hops"


def _offered(ground: Ground) -> str:
    family = TYPE.partition(".")[0]
    found = instance_types.offered(ground.ec2, [family])
    others = [name for name in found if not name.startswith(f"{family}.")]
    return "the family" if TYPE in found and not others else f"{sorted(found)}"


LAUNCH = (
    refused(
        "launchable",
        "InvalidAMIID.Unavailable",
        _LAUNCH,
        lambda g: g.asked_launch(g.disabled),
    ),
    refused("resolve", _WRONG, _LAUNCH, lambda g: g.asked_launch(f"resolve:ssm:{g.path}/missing")),
    Probe("resolve", "the parameter's AMI", _resolved),
    Probe("devices_of", "the AMI's snapshot, 2 GiB, gp3", _volume),
    Probe("metadata_of", "tokens required, 2 hops", _metadata),
    refused(
        "allowed_type",
        _COMBINED,
        _LAUNCH,
        lambda g: g.asked_launch(g.restricted("other-types", SupportedInstanceTypes=["p5.*"])),
    ),
    refused(
        "allowed_type",
        _COMBINED,
        _LAUNCH,
        lambda g: g.asked_launch(g.restricted("not-this", UnsupportedInstanceTypes=[TYPE])),
    ),
    Probe("describe_instance_type_offerings", "the family", _offered),
)


def _reversed(ground: Ground) -> str:
    """Cancel the refresh that goes on, start one that can be rolled back, and do that."""
    group = {"AutoScalingGroupName": ground.refreshing}
    ground.autoscaling.cancel_instance_refresh(**group)
    ground.wait(
        f"the refresh of {ground.group} goes on", lambda: ground.refreshes()[0] == "Cancelled"
    )
    ground.ask(_START, **ground.asked_refresh("1"))
    if code := calls.refusal(lambda: ground.ask(_BACK, **group)):
        return code
    newest, *older = ground.refreshes()
    is_back = newest in ("RollbackInProgress", "RollbackSuccessful")
    return f"{'rolled back' if is_back else newest}, {', '.join(older)}"


def _failed(ground: Ground) -> str:
    """Say that the group's instance is unhealthy, and wait until it is none of the group's."""
    [instance] = ground.members(ground.group)
    ground.autoscaling.set_instance_health(
        InstanceId=instance, HealthStatus="Unhealthy", ShouldRespectGracePeriod=False
    )
    ground.wait(f"{instance} is in service", lambda: instance not in ground.members(ground.group))
    return "ended"


REFRESH = (
    refused(
        "group_type",
        "ValidationError",
        "autoscaling.create_auto_scaling_group",
        lambda g: g.asked_group("bare", g.bare),
    ),
    refused(
        "in_progress",
        "ActiveInstanceRefreshNotFound",
        _BACK,
        lambda g: {"AutoScalingGroupName": g.group},
    ),
    refused(
        "one_refresh_at_a_time",
        "InstanceRefreshInProgress",
        _START,
        lambda g: {"AutoScalingGroupName": g.refreshing},
    ),
    refused(
        "why_irreversible",
        "IrreversibleInstanceRefresh",
        _BACK,
        lambda g: {"AutoScalingGroupName": g.refreshing},
    ),
    Probe("describe_instance_refreshes", "rolled back, Cancelled", _reversed),
)

CLUSTER = (Probe("set_instance_health", "ended", _failed),)


def _in_pages(ground: Ground) -> str:
    """List two templates, one a page."""
    wanted = {ground.launching, ground.bare}
    found = calls.pages(ground.ec2, "describe_launch_templates", "LaunchTemplates", 1)
    missing = wanted - {template["LaunchTemplateId"] for template in found}
    return f"{len(missing)} missing"


def _page(ground: Ground) -> str:
    """The first page of templates."""
    names = [ground.launching, ground.bare]
    answer = ground.ec2.describe_launch_templates(LaunchTemplateIds=names, MaxResults=1)
    more = "a token" if answer.get("NextToken") else "no token"
    return f"{len(answer['LaunchTemplates'])}, {more}"


LISTS = (
    Probe("describe_launch_templates", "0 missing", _in_pages),
    Probe("paginate", "1, a token", _page),
    refused("paginate", _WRONG, "ec2.describe_images", lambda _: {"NextToken": "nonsense"}),
)
