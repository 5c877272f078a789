"""Reading and moving the channels of an image in one region.

The ledger is written first, under the lease's fencing number; the SSM parameter and the template
follow it. So a run that was killed between them is seen, and the next one brings the pointers to
what the ledger says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from goldenami.aws import images, tags
from goldenami.aws.channels import attestations, evidence, launch_data, pointers, refresh
from goldenami.aws.channels.attestations import Attestations
from goldenami.aws.channels.lease import Lease, read_lease
from goldenami.aws.channels.ledger import Channel, GpuProof, Ledger, LedgerEntry
from goldenami.aws.channels.pointers import Version
from goldenami.aws.images import Image
from goldenami.aws.inventory.topology import AmiState
from goldenami.aws.regions import RegionResults, for_each_region
from goldenami.aws.session import Account, Client
from goldenami.core import clock
from goldenami.core.errors import BadInput, Busy
from goldenami.core.terminal.progress import Progress
from goldenami.model.definitions.definition import Definition
from goldenami.model.operation.publish_section import InstanceRefresh, Publish


@dataclass(frozen=True)
class RegionBuild:
    """What a region has of one build. `recorded` is the AMI that the build's parameter names,
    `attested` what is signed beside it, `gpu_test` the record of its test on GPUs, as text,
    `pointers` the AMIs that the channels' parameters name. `is_abandoned`: who held the lease last
    did not let go."""

    region: str
    image: Image | None
    shared_with: list[str]
    recorded: str | None
    attested: Attestations | None
    gpu_test: str | None
    pointers: dict[Channel, str]
    template: Version | None
    groups: tuple[str, ...]
    ledger: Ledger
    is_abandoned: bool


def read_region(
    account: Account, region: str, definition: Definition, build_id: str
) -> RegionBuild:
    """What a region has of a build: five calls, one more for names of security groups."""
    ec2, image = account.ec2(region), definition.image
    ami = images.find(ec2, f"{image}-{build_id}")
    build_name, names = pointers.build_name(image, build_id), pointers.channel_names(image)
    gpu_test = evidence.parameter(image, build_id)
    values = pointers.read(
        account.ssm(region),
        [build_name, *names.values(), *attestations.parameters(image, build_id), gpu_test],
    )
    lease = read_lease(account.dynamodb(region), image)
    return RegionBuild(
        region=region,
        image=ami,
        shared_with=images.accounts_shared_with(ec2, ami.ami) if ami else [],
        recorded=values.get(build_name),
        attested=attestations.found(values, image, build_id),
        gpu_test=values.get(gpu_test),
        pointers={channel: values[name] for channel, name in names.items() if name in values},
        template=pointers.default_version(ec2, pointers.template_name(image)),
        groups=launch_data.read_groups(ec2, definition),
        ledger=lease.ledger,
        is_abandoned=lease.holder is not None,
    )


def read_ledgers(account: Account, image: str, regions: Iterable[str]) -> RegionResults[Ledger]:
    """The ledger of each region; empty ones where the image was never published."""
    hasty = account.with_short_timeouts()
    return for_each_region(regions, lambda region: read_lease(hasty.dynamodb(region), image).ledger)


def astray(
    image: str,
    ledger: Ledger,
    amis: Mapping[Channel, str],
    template: str | None,
) -> Iterator[tuple[Channel, str]]:
    """Pointers that name something else than the ledger: the channel that is meant, and what is
    wrong. `template` is the AMI that the launch template's default version launches."""
    for channel in Channel:
        entry = ledger.of(channel)
        if entry and amis.get(channel) != entry.ami:
            yield (
                channel,
                (
                    f"{pointers.channel_name(image, channel)} names "
                    f"{amis.get(channel, 'nothing')}, "
                    f"not {entry.ami} as the ledger does"
                ),
            )
    if ledger.latest and template != ledger.latest.ami:
        yield (
            Channel.LATEST,
            (
                f"the default of {pointers.template_name(image)} launches "
                f"{template or 'nothing'}, not "
                f"{ledger.latest.ami} as the ledger says"
            ),
        )


def publish_section(definition: Definition) -> Publish:
    """The section `publish`, or BadInput where the definition has none."""
    if definition.publish is None:
        raise BadInput(
            f"{definition.image} is not to be published: its definition has no section `publish`",
            hint=f"add `publish: {{regions: [us-east-1]}}` to packer/images/{definition.image}.yml",
        )
    return definition.publish


DROPPED = (
    "the definition has dropped this region, and what it launches by stays as it is and "
    "ages: add it to "
    "`publish: regions:` again, or to `left_regions:` if that is meant"
)
"""What is said of a region that the ledgers know and the definition does not."""


def dropped(definition: Definition, published_to: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Regions that a ledger knows, and that the definition neither names nor leaves on purpose."""
    section = publish_section(definition)
    return tuple(sorted(set().union(*published_to) - {*section.regions, *section.left_regions}))


def differing(ledgers: Mapping[str, Ledger]) -> str:
    """What `latest` is in each region where the ledgers do not agree; else empty."""
    builds = {
        region: ledger.latest.build_id if ledger.latest else "none"
        for region, ledger in ledgers.items()
    }
    told = ", ".join(f"{region} {build}" for region, build in builds.items())
    return f"the regions' `latest` differ: {told}" if len(set(builds.values())) > 1 else ""


def new_entry(build_id: str, ami: str, baked_at: str, gpu: GpuProof, lease: Lease) -> LedgerEntry:
    """A ledger entry of this moment, by this process."""
    return LedgerEntry(
        build_id=build_id,
        ami=ami,
        baked_at=baked_at,
        since=clock.stamp(),
        by=tags.owner(),
        fence=lease.fence,
        gpu=gpu,
    )


def follow_ledger(
    account: Account,
    region: str,
    lease: Lease,
    definition: Definition,
    *,
    moving: Iterable[Channel],
    reuse_version: bool = False,
) -> Version | None:
    """Let every pointer name what the lease's ledger says; returns the version of its template.

    An earlier run may have left any pointer behind, and reads lag: each is written and read back,
    the template last. `moving` are the channels that have to follow; another one follows, unless
    its AMI is not available any more. `reuse_version`: as for the template's move, which is so
    where `latest` does not move.
    """
    ledger, moving, image, ec2 = lease.ledger, set(moving), definition.image, account.ec2(region)
    entries = {channel: entry for channel in Channel if (entry := ledger.of(channel))}
    there = images.get(ec2, [entry.ami for entry in entries.values()])
    standing = {
        channel: entry
        for channel, entry in entries.items()
        if channel in moving
        or ((found := there.get(entry.ami)) and found.state == AmiState.AVAILABLE)
    }
    for channel in sorted(standing, key=lambda channel: channel is Channel.CANDIDATE):
        entry = standing[channel]
        pointers.move_channel(
            account.ssm(region),
            pointers.channel_name(image, channel),
            entry.ami,
            f"build {entry.build_id}, fence {lease.fence}",
        )
    latest = standing.get(Channel.LATEST)
    if latest is None:
        return None
    return pointers.move_template(
        ec2,
        pointers.template_name(image),
        latest.build_id,
        launch_data.of_image(definition, latest.ami, launch_data.read_groups(ec2, definition)),
        {tags.IMAGE: image},
        reuse_version=reuse_version or Channel.LATEST not in moving,
    )


@dataclass(frozen=True)
class RestorePoint:
    """What a region was before a move: its ledger, and what pointers named of which the ledger
    knows nothing; None is a channel or a template that did not exist. Without `moves_template` the
    template is left as it is."""

    ledger: Ledger
    amis: Mapping[Channel, str | None]
    moves_template: bool = False
    template_version: int | None = None


def restore(
    account: Account,
    region: str,
    definition: Definition,
    lease: Lease,
    restore_point: RestorePoint,
) -> None:
    """Bring a region back to what it was.

    The ledger is last: as long as it names the new build, the pointers that differ from it show a
    run that did not end.
    """
    lease.renew()  # or another has the lease by now
    before, image = restore_point.ledger, definition.image
    if restore_point.moves_template:
        pointers.restore_template(
            account.ec2(region),
            pointers.template_name(image),
            restore_point.template_version,
            before.latest.ami if before.latest else None,
        )
    for channel, ami in restore_point.amis.items():
        entry = before.of(channel)
        pointers.restore_channel(
            account.ssm(region),
            pointers.channel_name(image, channel),
            entry.ami if entry else ami,
            f"taken back, fence {lease.fence}",
        )
    lease.record(before)


def current_default(
    state: RegionBuild, build_id: str, ami: str, definition: Definition
) -> Version | None:
    """The template's default where it is what `move_template` would make of the build; else
    None."""
    default = state.template
    is_current = (
        default is not None
        and default.description == pointers.description(build_id)
        and pointers.fits(default.data, launch_data.of_image(definition, ami, state.groups))
    )
    return default if is_current else None


def groups_to_refresh(
    account: Account,
    definition: Definition,
    defaults: Mapping[str, Version | None],
) -> dict[str, list[str]]:
    """The groups of each region that have not been asked to take the template's default yet.

    `defaults` are the regions' default versions, None where a new one is to be made. BadInput for a
    group of the definition that no region has, or whose refresh could not be rolled back.
    """
    instance_refresh = publish_section(definition).instance_refresh
    if instance_refresh is None:
        return {region: [] for region in defaults}
    present = for_each_region(
        defaults,
        lambda region: refresh.groups(account.autoscaling(region), instance_refresh.groups),
    ).require_all()
    if unknown := set(instance_refresh.groups).difference(*present.values()):
        raise BadInput(
            f"no region has the Auto Scaling group {min(unknown)}",
            hint="correct `publish: instance_refresh: groups:`",
        )

    def not_asked(region: str) -> list[str]:
        client, default = account.autoscaling(region), defaults[region]
        due = [
            group
            for group in present[region]
            if default is None or not refresh.refresh_status(client, group, default)
        ]
        for group in due:
            refresh.check_reversible(client, present[region][group])
        return due

    return for_each_region(defaults, not_asked).require_all()


def refresh_groups(
    account: Account,
    definition: Definition,
    region: str,
    groups: Iterable[str],
    version: Version,
    progress: Progress,
    begin: Callable[[Client, str, Version, InstanceRefresh], str] = refresh.start,
) -> None:
    """`begin` the refresh of each of a region's groups, and say what came of it. Busy where another
    refresh keeps a group from this one."""
    preferences = publish_section(definition).instance_refresh
    if preferences is None:
        return
    begun = {
        group: begin(account.autoscaling(region), group, version, preferences) for group in groups
    }
    for group, status in begun.items():
        progress.say(f"{region}: refresh of {group}: {status}")
    if waiting := [group for group in begun if begun[group] == refresh.OTHER_REFRESH]:
        raise Busy(
            f"another refresh of {', '.join(waiting)} is in progress in {region}",
            hint="wait until it has ended",
        )
