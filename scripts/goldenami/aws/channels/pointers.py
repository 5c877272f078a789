"""What others launch by: SSM parameters and launch templates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore import exceptions as aws

from goldenami.aws import tags
from goldenami.aws.channels.ledger import Channel
from goldenami.aws.session import Client, code
from goldenami.core import records
from goldenami.core.errors import StageFailed
from goldenami.core.wait import wait_until

PREFIX = "/golden-ami"
LATE_S, POLL_S = 60.0, 0.25
"""SSM answers a parameter of type aws:ec2:image before it has looked at the AMI, and may then not take it ("Creating
Amazon Machine Image parameters"): so the value is read back, for at most a minute."""

Data = dict[str, Any]


def build_name(image: str, build_id: str) -> str:
    """The parameter that says which AMI is a build."""
    return f"{PREFIX}/{image}/{build_id}"


def channel_name(image: str, channel: Channel) -> str:
    """The parameter of a channel."""
    return f"{PREFIX}/{image}/{channel}"


def template_name(image: str) -> str:
    """The image's launch template."""
    return f"golden-{image}"


def read(ssm: Client, names: Iterable[str]) -> dict[str, str]:
    """The values of those parameters that exist; at most ten in one call."""
    answer = ssm.get_parameters(Names=list(names))
    return {row["Name"]: row["Value"] for row in answer["Parameters"]}


def record_build(ssm: Client, name: str, ami: str) -> None:
    """Note which AMI is a build: plain text, which a later reader trusts together with the AMI's tags."""
    ssm.put_parameter(Name=name, Value=ami, Type="String", Overwrite=True)


def move(ssm: Client, name: str, ami: str, description: str) -> int:
    """Point a channel at an AMI and wait until it does; returns the parameter's version."""
    version = int(ssm.put_parameter(Name=name, Value=ami, Type="String", DataType="aws:ec2:image", Overwrite=True,
                                    Description=description)["Version"])
    now: dict[str, Any] | None = None

    def taken() -> int | None:
        nonlocal now
        now = _get(ssm, name)
        return int(now["Version"]) if now and now["Version"] >= version and now["Value"] == ami else None

    moved = wait_until(taken, LATE_S, POLL_S)
    if moved is None:
        raise StageFailed(f"SSM did not take {ami} for {name} within {LATE_S:.0f} s: it names "
                          f"{now['Value'] if now else 'nothing'}",
                          hint="SSM validates late: does the AMI still exist, and is it available? Then run again")
    return moved


def move_back(ssm: Client, name: str, ami: str | None, description: str) -> None:
    """Let a channel name what it named before; with no `ami` there was none, and it is deleted."""
    now = _get(ssm, name)
    if now is not None and ami is None:
        ssm.delete_parameter(Name=name)
    elif ami is not None and (now is None or now["Value"] != ami):
        move(ssm, name, ami, description)


def _get(ssm: Client, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = ssm.get_parameter(Name=name)["Parameter"]
    except aws.ClientError as error:
        if code(error) != "ParameterNotFound":
            raise
        return None
    return found


@dataclass(frozen=True)
class Version:
    """One version of a launch template."""

    template: str
    number: int
    description: str
    data: Data

    @property
    def ami(self) -> str:
        """The AMI that it launches."""
        return str(self.data.get("ImageId", ""))

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Version:
        """Of an answer's row."""
        return cls(template=raw["LaunchTemplateId"], number=int(raw["VersionNumber"]),
                   description=raw.get("VersionDescription", ""), data=dict(raw.get("LaunchTemplateData", {})))


_NO_TEMPLATE = frozenset({"InvalidLaunchTemplateName.NotFoundException", "InvalidLaunchTemplateId.NotFound"})


def default_version(ec2: Client, name: str) -> Version | None:
    """The template's default version; None where there is no such template."""
    try:
        answer = ec2.describe_launch_template_versions(LaunchTemplateName=name, Versions=["$Default"])
    except aws.ClientError as error:
        if code(error) not in _NO_TEMPLATE:
            raise
        return None
    return Version.of(answer["LaunchTemplateVersions"][0])


def versions(ec2: Client, name: str) -> Iterator[Version]:
    """All versions of a template that exists."""
    pages = ec2.get_paginator("describe_launch_template_versions").paginate(LaunchTemplateName=name)
    for page in pages:
        yield from map(Version.of, page["LaunchTemplateVersions"])


def fits(found: Any, wanted: Any) -> bool:
    """Whether `found` says all that `wanted` says; EC2 adds facts of its own."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(fits(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(fits, found, wanted))
    return bool(found == wanted)


def description(build_id: str) -> str:
    """How a version says which build it launches."""
    return f"build {build_id}"


def move_template(
    ec2: Client, name: str, build_id: str, data: Data, tag: tags.Tags, *, as_it_was: bool = False,
) -> Version:
    """Make a version with `data` the template's default; one that exists is used. Returns it.

    `as_it_was`: the newest version of the build that launches the AMI of `data` will do, whatever else it says.
    """
    default = default_version(ec2, name)
    if default is None:
        return _create(ec2, name, build_id, data, tag)
    wanted = description(build_id)

    def good(version: Version) -> bool:
        same = version.ami == data["ImageId"] if as_it_was else fits(version.data, data)
        return same and version.description == wanted

    if good(default):
        return default
    version = max(filter(good, versions(ec2, name)), key=lambda version: version.number, default=None)
    version = version or Version.of(ec2.create_launch_template_version(
        LaunchTemplateName=name, ClientToken=_token(name, wanted, data), VersionDescription=wanted,
        LaunchTemplateData=data)["LaunchTemplateVersion"] | {"LaunchTemplateData": data})
    ec2.modify_launch_template(LaunchTemplateName=name, DefaultVersion=str(version.number))
    return version


def move_template_back(ec2: Client, name: str, number: int | None) -> None:
    """Make the version that was the default so again; with no `number` there was no template, and it is deleted."""
    now = default_version(ec2, name)
    if now is not None and number is None:
        ec2.delete_launch_template(LaunchTemplateName=name)
    elif now is not None and now.number != number:
        ec2.modify_launch_template(LaunchTemplateName=name, DefaultVersion=str(number))


def _create(ec2: Client, name: str, build_id: str, data: Data, tag: tags.Tags) -> Version:
    """The template with its first version, which is its default.

    A ClientToken of our own, made of what is asked for, would find a template that was deleted since.
    """
    wanted = description(build_id)
    try:
        made = ec2.create_launch_template(
            LaunchTemplateName=name, VersionDescription=wanted, LaunchTemplateData=data,
            TagSpecifications=tags.specifications(tag, "launch-template"))["LaunchTemplate"]
    except aws.ClientError as error:
        if code(error) != "InvalidLaunchTemplateName.AlreadyExistsException" or default_version(ec2, name) is None:
            raise
        return move_template(ec2, name, build_id, data, tag)
    return Version(made["LaunchTemplateId"], 1, wanted, data)


def _token(*parts: object) -> str:
    """A ClientToken (at most 128 characters) that a repetition of the same request shares."""
    return records.sha256_text(records.canonical(parts))[:64]
