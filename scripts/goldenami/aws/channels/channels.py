"""The channels of an image in one region: what they name, and moving them. `publish`, `promote`, `rollback` use it.

The ledger is written first, under the lease's fencing number; the SSM parameter and the template follow it. So a run
that was killed between them is seen, and the next one brings the pointers to what the ledger says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from goldenami.aws import images, tags
from goldenami.aws.channels import pointers, refresh
from goldenami.aws.channels.lease import Lease
from goldenami.aws.channels.ledger import Channel, GpuProof, Ledger, LedgerEntry
from goldenami.aws.channels.pointers import Version
from goldenami.aws.images import Image
from goldenami.aws.regions import each
from goldenami.aws.session import Account
from goldenami.core import clock
from goldenami.core.errors import BadInput
from goldenami.core.progress import Progress
from goldenami.model.definition import Definition, Publish, VolumeType

NO_PRICE_LIMIT = 999999
"""Percent over the cheapest type: turns price protection off (InstanceRequirements). Its default of 20 for on-demand
would leave the smallest sizes of the cheapest family, and no GPU beside a CPU family."""


@dataclass(frozen=True)
class RegionState:
    """What a region says about one build of an image, read and not changed. Pointers are AMI ids."""

    region: str
    image: Image | None
    shared: set[str]
    recorded: str | None
    pointers: dict[Channel, str]
    template: Version | None


def look(account: Account, region: str, image: str, build_id: str) -> RegionState:
    """Read what `region` has of a build: four calls, three where its AMI does not exist."""
    ec2 = account.ec2(region)
    found = images.find(ec2, f"{image}-{build_id}")
    names = {channel: pointers.channel_name(image, channel) for channel in Channel}
    recorded = pointers.build_name(image, build_id)
    values = pointers.read(account.ssm(region), [recorded, *names.values()])
    return RegionState(
        region=region, image=found, shared=images.shares(ec2, found.ami) if found else set(),
        recorded=values.get(recorded),
        pointers={channel: values[name] for channel, name in names.items() if name in values},
        template=pointers.default_version(ec2, pointers.template_name(image)),
    )


def template_data(wanted: Definition, ami: str) -> dict[str, Any]:
    """What a version of the image's launch template says: the literal AMI, IMDSv2 only, the volume, the families.

    Two hops let a container on the instance reach the metadata service ("Configure the instance metadata options").
    """
    template = published(wanted).launch_template
    ebs: dict[str, Any] = {"VolumeType": template.volume_type.value, "Iops": template.iops, "DeleteOnTermination": True}
    if template.volume_type is VolumeType.GP3:
        ebs |= {"Throughput": template.throughput}
    if template.volume_size_gib:
        ebs |= {"VolumeSize": template.volume_size_gib}
    if template.initialization_rate:
        ebs |= {"VolumeInitializationRate": template.initialization_rate}
    types: dict[str, Any] = {"InstanceType": template.instance_type} if template.instance_type else {
        "InstanceRequirements": {"VCpuCount": {"Min": 1}, "MemoryMiB": {"Min": 1},
                                 "AllowedInstanceTypes": [f"{family}.*" for family in wanted.hardware],
                                 "OnDemandMaxPricePercentageOverLowestPrice": NO_PRICE_LIMIT,
                                 "SpotMaxPricePercentageOverLowestPrice": NO_PRICE_LIMIT}}
    return {
        "ImageId": ami, "BlockDeviceMappings": [{"DeviceName": images.ROOT_DEVICE, "Ebs": ebs}],
        "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": 2}, **types,
    }


def published(wanted: Definition) -> Publish:
    """The section `publish`, or BadInput where the definition has none."""
    if wanted.publish is None:
        raise BadInput(f"{wanted.image} is not to be published: its definition has no section `publish`",
                       hint=f"add `publish: {{regions: [us-east-1]}}` to packer/images/{wanted.image}.yml")
    return wanted.publish


def mark(build_id: str, ami: str, baked_at: str, gpu: GpuProof, lease: Lease) -> LedgerEntry:
    """A mark of this moment, by this process."""
    return LedgerEntry(build_id=build_id, ami=ami, baked_at=baked_at, since=clock.stamp(), by=tags.owner(),
                       fence=lease.fence, gpu=gpu)


def point(account: Account, region: str, image: str, channel: Channel, target: LedgerEntry, now: str | None) -> None:
    """Let a channel's parameter name the mark's AMI, unless it does already (`now`)."""
    if now != target.ami:
        pointers.move(account.ssm(region), pointers.channel_name(image, channel), target.ami,
                      f"build {target.build_id}, fence {target.fence}")


def point_template(
    account: Account, region: str, image: str, target: LedgerEntry, wanted: Definition, *, as_it_was: bool = False,
) -> Version:
    """Let the template's default launch the mark's AMI; returns its version. The last pointer of all."""
    return pointers.move_template(account.ec2(region), pointers.template_name(image), target.build_id,
                                  template_data(wanted, target.ami), {tags.IMAGE: image}, as_it_was=as_it_was)


@dataclass(frozen=True)
class RestorePoint:
    """What a region was before a move: its ledger, the AMI of each channel that moves, the template's default.

    None is a channel or a template that did not exist. `template` is left out where the template does not move.
    """

    ledger: Ledger
    amis: Mapping[Channel, str | None]
    template: tuple[int | None] | None = None


def put_back(account: Account, region: str, image: str, held: Lease, former: RestorePoint) -> None:
    """Bring a region back to what it was. The ledger is last: as long as it names the new build, the pointers that
    differ from it show a run that did not end.
    """
    held.renew()  # or another has the lease by now
    if former.template is not None:
        pointers.move_template_back(account.ec2(region), pointers.template_name(image), former.template[0])
    for channel, ami in former.amis.items():
        pointers.move_back(account.ssm(region), pointers.channel_name(image, channel), ami,
                           f"taken back, fence {held.fence}")
    held.record(former.ledger)


def stands(standing: RegionState, build_id: str, ami: str, wanted: Definition) -> Version | None:
    """The template's default where it already is what `point_template` would make of the build; else None."""
    now = standing.template
    good = now is not None and now.description == pointers.description(build_id) and \
        pointers.fits(now.data, template_data(wanted, ami))
    return now if good else None


def outstanding(account: Account, wanted: Definition, defaults: Mapping[str, Version | None]) -> dict[str, list[str]]:
    """The groups of each region that have not been asked to take the template's default yet.

    `defaults` are the regions' default versions, None where a new one is to be made, which no group has seen.
    BadInput for a group of the definition that no region has.
    """
    asked = published(wanted).instance_refresh
    if asked is None:
        return {region: [] for region in defaults}

    def look_at(region: str) -> tuple[list[str], list[str]]:
        client, now = account.autoscaling(region), defaults[region]
        there = refresh.groups(client, asked.groups)
        return there, [group for group in there if now is None or not refresh.has_seen(client, group, now)]

    found = each(defaults, look_at).all("nothing is changed", "then run again")
    nowhere = set(asked.groups) - {group for there, _ in found.values() for group in there}
    if nowhere:
        raise BadInput(f"no region has the Auto Scaling group {min(nowhere)}",
                       hint="correct `publish: instance_refresh: groups:`")
    return {region: due for region, (_, due) in found.items()}


def refresh_groups(
    account: Account, wanted: Definition, region: str, groups: Iterable[str], version: Version, progress: Progress,
) -> None:
    """Begin the refreshes of a region's groups, and say what came of each."""
    client = account.autoscaling(region)
    for group in groups:
        status = refresh.start(client, group, version, preferences(wanted))
        progress.say(f"{region}: refresh of {group}: {status}")


def preferences(wanted: Definition) -> refresh.RefreshPreferences:
    """How groups take a new version."""
    asked = published(wanted).instance_refresh
    assert asked is not None
    return refresh.RefreshPreferences(
        min_healthy_percent=asked.min_healthy_percent, warmup_seconds=asked.warmup_seconds,
        checkpoint_percent=asked.checkpoint_percent, checkpoint_delay_seconds=asked.checkpoint_delay_seconds,
        alarms=tuple(asked.alarms))
