"""The pointers that launches of an image use: SSM parameters and launch templates."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore import exceptions as aws

from goldenami.aws import tags
from goldenami.aws.calls import batches, pages, tolerate, wait_for
from goldenami.aws.channels.ledger import Channel
from goldenami.aws.session import Client, code
from goldenami.core import records
from goldenami.core.errors import BadInput, StageFailed

PREFIX = "/golden-ami"
EVIDENCE = "/gpu-test"
"""Suffix of a build's parameter for the one with the record of its GPU test."""
PROVENANCE = "/provenance"
"""Suffix of a build's parameter for the one with its signed provenance."""
LATE_S, POLL_S = 60.0, 0.25
"""Seconds to wait until a pointer reads back as written, and between polls."""

PARAMETERS = 10
"""Most names that one GetParameters or DeleteParameters takes."""
Data = dict[str, Any]


def build_name(image: str, build_id: str) -> str:
    """The parameter that names a build's AMI."""
    return f"{PREFIX}/{image}/{build_id}"


def channel_name(image: str, channel: Channel) -> str:
    """The parameter of a channel."""
    return f"{PREFIX}/{image}/{channel}"


def channel_names(image: str) -> dict[Channel, str]:
    """The parameter of each channel."""
    return {channel: channel_name(image, channel) for channel in Channel}


def template_name(image: str) -> str:
    """The launch template that the pipeline keeps for an image."""
    return f"golden-{image}"


def read(ssm: Client, names: Iterable[str]) -> dict[str, str]:
    """Read the values of those parameters that exist, by name."""
    values = dict[str, str]()
    for batch in batches(list(names), PARAMETERS):
        for row in ssm.get_parameters(Names=batch)["Parameters"]:
            values[row["Name"]] = row["Value"]
    return values


def read_channels(ssm: Client, image: str) -> dict[Channel, str]:
    """The AMI that each channel's parameter names. Channels without a parameter are left out."""
    names = channel_names(image)
    values = read(ssm, names.values())
    return {channel: values[name] for channel, name in names.items() if name in values}


def record_build(ssm: Client, name: str, ami: str) -> None:
    """Record a build's AMI. It and the AMI's tags together prove that the AMI is ours."""
    ssm.put_parameter(Name=name, Value=ami, Type="String", Overwrite=True)


def move_channel(ssm: Client, name: str, ami: str, description: str) -> int:
    """Point a channel at an AMI, wait until it reads back so, and return the parameter's
    version."""
    version = int(
        ssm.put_parameter(
            Name=name,
            Value=ami,
            Type="String",
            DataType="aws:ec2:image",
            Overwrite=True,
            Description=description,
        )["Version"]
    )
    parameter: dict[str, Any] | None = None

    def taken() -> int | None:
        nonlocal parameter
        parameter = _get(ssm, name)
        if parameter is None or parameter["Version"] < version or parameter["Value"] != ami:
            return None
        return int(parameter["Version"])

    # SSM answers a write of type aws:ec2:image before it has checked the AMI, and may reject it
    # afterwards ("Creating Amazon Machine Image parameters").
    moved = wait_for(taken, limit_s=LATE_S, pauses=POLL_S)
    if moved is None:
        raise StageFailed(
            f"SSM did not take {ami} for {name} within {LATE_S:.0f} s: it names "
            f"{parameter['Value'] if parameter else 'nothing'}",
            hint="SSM validates late: does the AMI still exist, and is it "
            "available? Then run again",
        )
    return moved


def restore_channel(ssm: Client, name: str, ami: str | None, description: str) -> None:
    """Point a channel at the AMI that it named before, or delete it if there was none."""
    if ami is not None:
        # A region that refuses this write may have refused the move, too: then nothing is to do.
        with _unless_right(lambda: (_get(ssm, name) or {}).get("Value") == ami):
            move_channel(ssm, name, ami, description)
        return
    with tolerate("ParameterNotFound"):
        ssm.delete_parameter(Name=name)
    if not wait_for(lambda: _get(ssm, name) is None or None, limit_s=LATE_S, pauses=POLL_S):
        raise StageFailed(
            f"SSM still has {name} {LATE_S:.0f} s after it was deleted", hint="run again"
        )


@contextmanager
def _unless_right(is_right: Callable[[], bool]) -> Iterator[None]:
    """Suppress AWS's error in the block if `is_right` returns True then."""
    try:
        yield
    except aws.ClientError:
        if not is_right():
            raise


def _get(ssm: Client, name: str) -> dict[str, Any] | None:
    """The parameter as SSM describes it, or None."""
    # The same call as plans make, so that credentials that lack it fail before anything moves.
    rows = ssm.get_parameters(Names=[name])["Parameters"]
    return dict(rows[0]) if rows else None


@dataclass(frozen=True)
class Version:
    """One version of a launch template."""

    template: str
    number: int
    description: str
    data: Data

    @property
    def ami(self) -> str:
        return str(self.data.get("ImageId", ""))

    @property
    def is_by_hand(self) -> bool:
        """Whether a person made the version. One that a person derives from ours does not inherit
        our description."""
        return not is_of_build(self.description)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Version:
        return cls(
            template=raw["LaunchTemplateId"],
            number=int(raw["VersionNumber"]),
            description=raw.get("VersionDescription", ""),
            data=dict(raw.get("LaunchTemplateData", {})),
        )


_NO_TEMPLATE = "InvalidLaunchTemplateName.NotFoundException"


def default_version(ec2: Client, template: str) -> Version | None:
    """The default version of a launch template, or None if there is no such template."""
    with tolerate(_NO_TEMPLATE):
        answer = ec2.describe_launch_template_versions(
            LaunchTemplateName=template, Versions=["$Default"]
        )
        return Version.of(answer["LaunchTemplateVersions"][0])
    return None


def versions(ec2: Client, template: str) -> Iterator[Version]:
    """All versions of a launch template. It has to exist."""
    return map(
        Version.of,
        pages(
            ec2,
            "describe_launch_template_versions",
            "LaunchTemplateVersions",
            None,
            LaunchTemplateName=template,
        ),
    )


def check_default(default: Version | None, template: str, region: str) -> None:
    """Raise BadInput for a default version that a person set, since no move replaces it."""
    if default and default.is_by_hand:
        raise BadInput(
            f"somebody set version {default.number} as the default of {template} in "
            f"{region}: it stays",
            hint=f"make a build's version the default, by `aws ec2 modify-launch-template "
            f"--region {region} --launch-template-name {template} "
            "--default-version NUMBER`, then run again",
        )


def fits(actual: Any, expected: Any) -> bool:
    """Whether `actual` contains all that `expected` says. EC2 adds fields of its own."""
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(
            fits(actual.get(key), value) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return (
            isinstance(actual, list)
            and len(actual) == len(expected)
            and all(map(fits, actual, expected))
        )
    return bool(actual == expected)


def description(build_id: str) -> str:
    """The description of a template's version that launches a build."""
    return f"build {build_id}"


def is_of_build(text: str) -> bool:
    """Whether `description` made the text."""
    return re.fullmatch(r"build [0-9a-f]{12}", text) is not None


def move_template(
    ec2: Client, image: str, build_id: str, data: Data, *, reuse_version: bool = False
) -> Version:
    """Make a version with `data` the default of the image's template, and return it. An existing
    version is used if it fits.

    With `reuse_version` the build's newest version that launches the AMI of `data` is used,
    whatever else it says, and a default that a person set stays. Without it such a default raises
    BadInput.
    """
    template = template_name(image)
    default = default_version(ec2, template)
    if default is None:
        return _create(ec2, image, build_id, data)
    if not reuse_version:
        check_default(default, template, ec2.meta.region_name)
    title = description(build_id)

    def is_right(version: Version) -> bool:
        if version.description != title:
            return False
        if reuse_version:
            return bool(version.ami == data["ImageId"])
        return fits(version.data, data)

    version: Version | None = default
    if not is_right(default):
        fitting = filter(is_right, versions(ec2, template))
        version = max(fitting, key=lambda version: version.number, default=None)
    if version is None:
        created = ec2.create_launch_template_version(
            LaunchTemplateName=template,
            ClientToken=_token(template, title, data),
            VersionDescription=title,
            LaunchTemplateData=data,
        )["LaunchTemplateVersion"]
        version = Version.of(created | {"LaunchTemplateData": data})
    # Even if it is the default already, as the read of it may have been out of date.
    if not default.is_by_hand:
        _make_default(ec2, template, version.number)
    return version


def _make_default(ec2: Client, template: str, number: int) -> None:
    ec2.modify_launch_template(LaunchTemplateName=template, DefaultVersion=str(number))
    if not wait_for(
        lambda: _default_is(ec2, template, number) or None, limit_s=LATE_S, pauses=POLL_S
    ):
        raise StageFailed(
            f"the default of {template} is not version {number} after {LATE_S:.0f} s",
            hint="run again: it is set and read back anew",
        )


def _default_is(ec2: Client, template: str, number: int | None) -> bool:
    default = default_version(ec2, template)
    return (default.number if default else None) == number


def restore_template(
    ec2: Client, template: str, number: int | None, ami: str | None = None
) -> None:
    """Make the former default version the default again. Without number and AMI there was no
    template, and it is deleted."""
    if number is None and ami is None:
        with tolerate(_NO_TEMPLATE):
            ec2.delete_launch_template(LaunchTemplateName=template)
        if not wait_for(
            lambda: _default_is(ec2, template, None) or None, limit_s=LATE_S, pauses=POLL_S
        ):
            raise StageFailed(
                f"{template} is still there {LATE_S:.0f} s after it was deleted", hint="run again"
            )
        return
    # The ledger, which `ami` is from, is never out of date. The read of `number` may have been, but
    # not if a person made that version.
    fitting = [
        version.number
        for version in versions(ec2, template)
        if ami in (None, version.ami) or (version.number == number and version.is_by_hand)
    ]
    wanted = number if number in fitting else max(fitting, default=number)
    if wanted is not None:
        with _unless_right(lambda: _default_is(ec2, template, wanted)):
            _make_default(ec2, template, wanted)


def _create(ec2: Client, image: str, build_id: str, data: Data) -> Version:
    """Create the image's template. Its first version is its default."""
    template, title = template_name(image), description(build_id)
    try:
        # Without a ClientToken: one made of the request would find a template that was deleted
        # since.
        created = ec2.create_launch_template(
            LaunchTemplateName=template,
            VersionDescription=title,
            LaunchTemplateData=data,
            TagSpecifications=tags.specifications({tags.IMAGE: image}, "launch-template"),
        )["LaunchTemplate"]
    except aws.ClientError as error:
        if code(error) != "InvalidLaunchTemplateName.AlreadyExistsException":
            raise
        if not wait_for(lambda: default_version(ec2, template), limit_s=LATE_S, pauses=POLL_S):
            raise StageFailed(
                f"{template} exists, and is not found for {LATE_S:.0f} s", hint="run again"
            ) from None
        return move_template(ec2, image, build_id, data)
    wait_for(lambda: default_version(ec2, template), limit_s=LATE_S, pauses=POLL_S)
    return Version(created["LaunchTemplateId"], 1, title, data)


def _token(*parts: object) -> str:
    """A ClientToken (at most 128 characters) that is the same for a repeated request."""
    return records.sha256_text(records.canonical(parts))[:64]
