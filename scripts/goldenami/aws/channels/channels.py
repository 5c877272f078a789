"""An image's channels in an account and in one of its regions: reading and moving them.

The ledger is written first, under the lease's fencing number; then the SSM parameters and the
launch template. So it shows if a run was killed in between, and the next run moves the pointers to
what the ledger says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from goldenami.aws import images
from goldenami.aws.channels import attestations, evidence, launch_data, pointers, refresh
from goldenami.aws.channels.attestations import Attestation
from goldenami.aws.channels.lease import Lease, read_lease
from goldenami.aws.channels.ledger import Channel, Ledger, LedgerEntry
from goldenami.aws.channels.pointers import Version
from goldenami.aws.images import AmiState, Image
from goldenami.aws.regions import RegionResults, for_each_region
from goldenami.aws.session import Account, Client
from goldenami.core.errors import BadInput, Busy
from goldenami.core.terminal.progress import Progress
from goldenami.model.definitions.definition import Definition
from goldenami.model.operation.publish_section import InstanceRefresh, Publish


@dataclass(frozen=True)
class RegionBuild:
    """The state of one build in one region.

    `recorded` is the AMI that the build's parameter names, `attested` its signed envelope,
    `gpu_test` the record of its GPU test as text, `pointers` the AMIs that the channels' parameters
    name. `is_abandoned` is True if the last holder of the lease has not released it.
    """

    region: str
    image: Image | None
    shared_with: list[str]
    recorded: str | None
    attested: Attestation | None
    gpu_test: str | None
    pointers: dict[Channel, str]
    template: Version | None
    groups: tuple[str, ...]
    ledger: Ledger
    is_abandoned: bool


def misplaced_pointers(
    image: str,
    ledger: Ledger,
    amis: Mapping[Channel, str],
    template: str | None,
) -> Iterator[tuple[Channel, str]]:
    """Yield each pointer that differs from the ledger: its channel, and what is wrong with it.
    `template` is the AMI that the launch template's default version launches."""
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
    """Return the definition's section `publish`. Raises BadInput if it has none."""
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
"""The warning about a region that the ledgers know and the definition does not."""


def dropped(definition: Definition, published_to: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """The regions that a ledger knows, but that the definition names neither in `regions` nor in
    `left_regions`."""
    section = publish_section(definition)
    return tuple(sorted(set().union(*published_to) - {*section.regions, *section.left_regions}))


def differing(ledgers: Mapping[str, Ledger]) -> str:
    """A line with each region's `latest` if the regions differ, else ""."""
    builds = dict.fromkeys(ledgers, "none")
    for region, ledger in ledgers.items():
        if ledger.latest:
            builds[region] = ledger.latest.build_id
    if len(set(builds.values())) <= 1:
        return ""
    listed = ", ".join(f"{region} {build}" for region, build in builds.items())
    return f"the regions' `latest` differ: {listed}"


@dataclass(frozen=True)
class RestorePoint:
    """The state of a region before a move.

    `amis` are what the channels' parameters named, for channels that are not in the ledger; None
    is a channel or a template that did not exist. Without `moves_template` the template is left as
    it is.
    """

    ledger: Ledger
    amis: Mapping[Channel, str | None]
    moves_template: bool = False
    template_version: int | None = None


@dataclass(frozen=True)
class RegionPointers:
    """An image's pointers in a region: its ledger, the AMIs that the channels' parameters name, and
    the default version of the launch template."""

    region: str
    ledger: Ledger
    amis: Mapping[Channel, str]
    template: Version | None


@dataclass(frozen=True)
class ImageInRegion:
    """An image in one region of the account that its definition publishes to."""

    account: Account
    definition: Definition
    region: str

    @property
    def name(self) -> str:
        return self.definition.image

    @property
    def ec2(self) -> Client:
        return self.account.ec2(self.region)

    @property
    def ssm(self) -> Client:
        return self.account.ssm(self.region)

    def read_build(self, build_id: str) -> RegionBuild:
        """Read a build's state in the region, by five calls, and one more if security groups are
        given by name."""
        ami = images.find(self.ec2, f"{self.name}-{build_id}")
        if ami and ami.state == AmiState.FAILED:  # nothing launches it, and a publish replaces it
            ami = None
        build_name = pointers.build_name(self.name, build_id)
        names = pointers.channel_names(self.name)
        gpu_test = evidence.parameter(self.name, build_id)
        envelope = attestations.parameter(self.name, build_id)
        values = pointers.read(self.ssm, [build_name, *names.values(), envelope, gpu_test])
        lease = read_lease(self.account.dynamodb(self.region), self.name)
        return RegionBuild(
            region=self.region,
            image=ami,
            shared_with=images.accounts_shared_with(self.ec2, ami.ami) if ami else [],
            recorded=values.get(build_name),
            attested=attestations.found(values, self.name, build_id),
            gpu_test=values.get(gpu_test),
            pointers={channel: values[name] for channel, name in names.items() if name in values},
            template=pointers.default_version(self.ec2, pointers.template_name(self.name)),
            groups=launch_data.read_groups(self.ec2, self.definition),
            ledger=lease.ledger,
            is_abandoned=lease.holder is not None,
        )

    def read_pointers(self, ledger: Ledger) -> RegionPointers:
        """Read the image's pointers in the region. The caller has read the `ledger` already."""
        return RegionPointers(
            region=self.region,
            ledger=ledger,
            amis=pointers.read_channels(self.ssm, self.name),
            template=pointers.default_version(self.ec2, pointers.template_name(self.name)),
        )

    def follow_ledger(
        self, lease: Lease, *, moving: Iterable[Channel], reuse_version: bool = False
    ) -> Version | None:
        """Make every pointer name what the lease's ledger says, and return the template's version.

        `moving` are the channels that must follow the ledger; the others follow only if their AMI
        is available. `reuse_version` is as in `pointers.move_template`, and is implied if `latest`
        does not move. Returns None if the ledger has no `latest`.
        """
        moving = set(moving)
        entries = self._entries_to_follow(lease.ledger, moving)
        # All are written and read back, the template last: an earlier run may have left any of them
        # behind, and a read that finds them right may be out of date.
        for channel in sorted(entries, key=lambda channel: channel is Channel.CANDIDATE):
            entry = entries[channel]
            pointers.move_channel(
                self.ssm,
                pointers.channel_name(self.name, channel),
                entry.ami,
                f"build {entry.build_id}, fence {lease.fence}",
            )
        latest = entries.get(Channel.LATEST)
        if latest is None:
            return None
        groups = launch_data.read_groups(self.ec2, self.definition)
        return pointers.move_template(
            self.ec2,
            self.name,
            latest.build_id,
            launch_data.of_image(self.definition, latest.ami, groups),
            reuse_version=reuse_version or Channel.LATEST not in moving,
        )

    def _entries_to_follow(
        self, ledger: Ledger, moving: set[Channel]
    ) -> dict[Channel, LedgerEntry]:
        """The ledger's entries of the channels in `moving`, and of others whose AMI is
        available."""
        entries = {channel: entry for channel in Channel if (entry := ledger.of(channel))}
        amis = images.get(self.ec2, [entry.ami for entry in entries.values()])
        return {
            channel: entry
            for channel, entry in entries.items()
            if channel in moving
            or ((ami := amis.get(entry.ami)) and ami.state == AmiState.AVAILABLE)
        }

    def restore(self, lease: Lease, restore_point: RestorePoint) -> None:
        """Bring the region back to the restore point."""
        lease.renew()  # raises Busy if another process has taken the lease
        before = restore_point.ledger
        if restore_point.moves_template:
            pointers.restore_template(
                self.ec2,
                pointers.template_name(self.name),
                restore_point.template_version,
                before.latest.ami if before.latest else None,
            )
        for channel, ami in restore_point.amis.items():
            entry = before.of(channel)
            pointers.restore_channel(
                self.ssm,
                pointers.channel_name(self.name, channel),
                entry.ami if entry else ami,
                f"taken back, fence {lease.fence}",
            )
        # The ledger is last: as long as it names the new build, the pointers that differ from it
        # show that a run did not end.
        lease.record(before)

    def refresh_groups(
        self,
        groups: Iterable[str],
        version: Version,
        progress: Progress,
        begin: Callable[[Client, str, Version, InstanceRefresh], str] = refresh.start,
    ) -> None:
        """Start the refresh of each of the region's groups by `begin`, and report its status.
        Raises Busy if another refresh of a group is in progress."""
        preferences = publish_section(self.definition).instance_refresh
        if preferences is None:
            return
        client = self.account.autoscaling(self.region)
        statuses = {group: begin(client, group, version, preferences) for group in groups}
        for group, status in statuses.items():
            progress.say(f"{self.region}: refresh of {group}: {status}")
        if waiting := [group for group in statuses if statuses[group] == refresh.OTHER_REFRESH]:
            raise Busy(
                f"another refresh of {', '.join(waiting)} is in progress in {self.region}",
                hint="wait until it has ended",
            )


@dataclass(frozen=True)
class ImageInAccount:
    """An image in the account that its definition publishes to, in all regions."""

    account: Account
    definition: Definition

    @property
    def name(self) -> str:
        return self.definition.image

    @property
    def section(self) -> Publish:
        return publish_section(self.definition)

    @property
    def with_short_timeouts(self) -> ImageInAccount:
        """The same with short timeouts, for code that only reads."""
        return ImageInAccount(self.account.with_short_timeouts(), self.definition)

    def in_region(self, region: str) -> ImageInRegion:
        return ImageInRegion(self.account, self.definition, region)

    def read_ledgers(self, regions: Iterable[str]) -> RegionResults[Ledger]:
        """Read the ledger of each region, an empty one if the image was never published there."""
        account = self.account.with_short_timeouts()
        return for_each_region(
            regions, lambda region: read_lease(account.dynamodb(region), self.name).ledger
        )

    def read_build(self, regions: Iterable[str], build_id: str) -> RegionResults[RegionBuild]:
        return for_each_region(regions, lambda region: self.in_region(region).read_build(build_id))

    def groups_to_refresh(self, defaults: Mapping[str, Version | None]) -> dict[str, list[str]]:
        """The groups in each region whose newest refresh was not for the template's default.

        `defaults` are the regions' default versions, None for one that is yet to be created. Raises
        BadInput for a group that no region has, or whose refresh could not be rolled back.
        """
        instance_refresh = self.section.instance_refresh
        if instance_refresh is None:
            return {region: [] for region in defaults}
        # A group of the definition may be in some regions only.
        present = for_each_region(
            defaults,
            lambda region: refresh.groups(
                self.account.autoscaling(region), instance_refresh.groups
            ),
        ).require_all()
        if unknown := set(instance_refresh.groups).difference(*present.values()):
            raise BadInput(
                f"no region has the Auto Scaling group {min(unknown)}",
                hint="correct `publish: instance_refresh: groups:`",
            )

        def not_asked(region: str) -> list[str]:
            client, default = self.account.autoscaling(region), defaults[region]
            due = [
                group
                for group in present[region]
                if default is None or not refresh.refresh_status(client, group, default)
            ]
            # Before anything moves: a refresh that cannot be rolled back must not begin.
            for group in due:
                refresh.check_reversible(client, present[region][group])
            return due

        return for_each_region(defaults, not_asked).require_all()


def current_default(
    state: RegionBuild, build_id: str, ami: str, definition: Definition
) -> Version | None:
    """The template's default version if `pointers.move_template` would keep it for the build, else
    None."""
    default = state.template
    is_current = (
        default is not None
        and default.description == pointers.description(build_id)
        and pointers.fits(default.data, launch_data.of_image(definition, ami, state.groups))
    )
    return default if is_current else None
