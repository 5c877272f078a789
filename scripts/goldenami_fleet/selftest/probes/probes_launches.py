"""Probes of parameters, templates, launches and refreshes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from goldenami.aws import calls
from goldenami.aws.instances import instance_types

from goldenami_fleet.selftest.probes.asking import Asked
from goldenami_fleet.selftest.probes.ground import TYPE, Ground, Probe, refused, shows

_WRONG, _COMBINED = "InvalidParameterValue", "InvalidParameterCombination"
_PUT = "ssm.put_parameter"
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


def _version(ground: Ground, template: str, ami: str, **more: Any) -> dict[str, Any]:
    """Make a version of a template that names an AMI alone."""
    source = {"LaunchTemplateId": template, "SourceVersion": "1"}
    answer = ground.ask(_VERSION, **source, LaunchTemplateData={"ImageId": ami}, **more)
    return dict(answer["LaunchTemplateVersion"])


def _inherited(ground: Ground) -> str:
    """What that version has of its source."""
    data = _version(ground, ground.source, ground.disabled)["LaunchTemplateData"]
    ebs = [device["Ebs"] for device in data.get("BlockDeviceMappings", [])]
    is_own = data["ImageId"] == ground.disabled
    return f"{'its own' if is_own else 'another'} AMI, {data.get('InstanceType')}, {ebs}"


def _same_version(ground: Ground) -> str:
    token = {"ClientToken": f"{ground.name}-version"}
    first, second = (_version(ground, ground.source, ground.image, **token) for _ in range(2))
    return "the same" if first["VersionNumber"] == second["VersionNumber"] else "another"


PUBLISH = (
    refused(
        "put_parameter",
        "HierarchyTypeMismatchException",
        _PUT,
        lambda g: _put(g, Type="SecureString", Overwrite=True),
    ),
    refused("put_parameter", "ParameterAlreadyExists", _PUT, _put),
    shows("settle", "its AMI alone", _pointers),
    Probe("inherited", f"its own AMI, {TYPE}, [{{'VolumeSize': 2}}]", _inherited),
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


def _launch(rule: str, code: str, ami: Callable[[Ground], str]) -> Probe:
    """A launch that is right but for its AMI."""
    return refused(rule, code, "ec2.run_instances", lambda g: g.asked_launch(ami(g)))


LAUNCH = (
    _launch("launchable", "InvalidAMIID.Unavailable", lambda g: g.disabled),
    _launch("resolve", _WRONG, lambda g: f"resolve:ssm:{g.path}/missing"),
    Probe("resolve", "the parameter's AMI", _resolved),
    Probe("devices_of", "the AMI's snapshot, 2 GiB, gp3", _volume),
    Probe("metadata_of", "tokens required, 2 hops", _metadata),
    _launch("allowed_type", _COMBINED, lambda g: g.restricted(SupportedInstanceTypes=["p5.*"])),
    _launch("allowed_type", _COMBINED, lambda g: g.restricted(UnsupportedInstanceTypes=[TYPE])),
    shows("describe_instance_type_offerings", "the family", _offered),
)


def _reversed(ground: Ground) -> str:
    """Cancel the refresh that goes on, start one that can be rolled back, and do that."""
    group = {"AutoScalingGroupName": ground.refreshing}
    ground.autoscaling.cancel_instance_refresh(**group)
    ground.wait(
        f"the refresh of {ground.group} goes on", lambda: ground.refreshes()[0] == "Cancelled"
    )
    number = _version(ground, ground.launching, ground.image)["VersionNumber"]
    ground.ask(_START, **ground.asked_refresh(str(number)))
    code, _ = calls.refused(lambda: ground.ask(_BACK, **group))
    if code:
        return code
    newest, before, *_ = ground.refreshes()
    is_back = newest in ("RollbackInProgress", "RollbackSuccessful")
    return f"{'rolled back' if is_back else newest}, {before}"


def _failed(ground: Ground) -> str:
    """Say that the group's instance is unhealthy, and wait until it is none of the group's."""
    instance = ground.wait(f"{ground.group} is empty", lambda: ground.members(ground.group))[0]
    ground.autoscaling.set_instance_health(
        InstanceId=instance, HealthStatus="Unhealthy", ShouldRespectGracePeriod=False
    )
    ground.wait(f"{instance} is in service", lambda: instance not in ground.members(ground.group))
    return "ended"


def _of_group(rule: str, code: str, call: str, group: Callable[[Ground], str]) -> Probe:
    return refused(rule, code, call, lambda g: {"AutoScalingGroupName": group(g)})


REFRESH = (
    refused(
        "group_type",
        "ValidationError",
        "autoscaling.create_auto_scaling_group",
        lambda g: g.asked_group("bare", g.bare),
    ),
    _of_group("in_progress", "ActiveInstanceRefreshNotFound", _BACK, lambda g: g.group),
    _of_group("one_refresh_at_a_time", "InstanceRefreshInProgress", _START, lambda g: g.refreshing),
    _of_group("why_irreversible", "IrreversibleInstanceRefresh", _BACK, lambda g: g.refreshing),
    Probe("describe_instance_refreshes", "rolled back, Cancelled", _reversed),
)

CLUSTER = (Probe("set_instance_health", "ended", _failed),)


def _page(ground: Ground, size: int) -> str:
    """The first page of two templates."""
    created = [ground.launching, ground.bare]
    names = [f"{ground.name}-launching", f"{ground.name}-bare"]
    filters = [{"Name": "launch-template-name", "Values": names}]
    answer = ground.ec2.describe_launch_templates(Filters=filters, MaxResults=size)
    more = "a token" if answer.get("NextToken") else "no token"
    return f"{len(answer['LaunchTemplates'])} of {len(created)}, {more}"


LISTS = (
    shows("describe_launch_templates", "2 of 2, no token", lambda g: _page(g, 200)),
    shows("paginate", "1 of 2, a token", lambda g: _page(g, 1)),
    refused("paginate", _WRONG, "ec2.describe_images", lambda _: {"NextToken": "nonsense"}),
)
