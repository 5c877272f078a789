"""The fleet view: which instances run which AMI and build, and what differs from what is published.
It changes nothing.

It makes nine API calls a region, one more for each further image and each KMS key, and two more for
each further page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from goldenami.aws.channels.ledger import Channel, Ledger
from goldenami.aws.inventory.region_look import RegionLook, looks
from goldenami.aws.inventory.topology import AccountAmi, AccountInstance, TemplateVersion
from goldenami.aws.regions import in_parallel
from goldenami.aws.session import Account
from goldenami.core import clock
from goldenami.core.errors import GoldenError

from goldenami_fleet.drift.fleet_records import (
    AmiRow,
    DriftRow,
    FleetDrift,
    FleetMetrics,
    FleetRecord,
    GroupRow,
    ImageFleet,
    InstanceRow,
)

DAY_S = 86_400


@dataclass(frozen=True)
class _Published:
    """What should run of one image in one region: its ledger, and the default version of its launch
    template."""

    image: str
    ledger: Ledger
    default: TemplateVersion | None

    @property
    def template(self) -> str:
        return self.default.template_id if self.default else ""

    @property
    def moved(self) -> datetime | None:
        return datetime.fromisoformat(self.ledger.latest.since) if self.ledger.latest else None


def read_fleet(
    account: Account,
    images: Mapping[str, list[str]],
) -> tuple[FleetRecord, dict[str, GoldenError]]:
    """Ask each region for its images (`images`: names by region). Return the record, and the errors
    of regions that failed."""
    quick_account = account.with_short_timeouts()
    results = in_parallel(looks(quick_account, images, _read))
    # A build withdrawn in one region is withdrawn in all; a build id belongs to one image only.
    withdrawn = set[str]()
    for region_look in results.done.values():
        for ledger in region_look.ledgers.values():
            withdrawn.update(ledger.withdrawn)
    fleets = dict[str, list[ImageFleet]]()
    for region, region_look in results.done.items():
        fleets[region] = []
        for image, ledger in region_look.ledgers.items():
            default = region_look.defaults[image]
            published = _Published(image, ledger.withdraw(*withdrawn), default)
            fleets[region].append(_image_fleet(region_look, published))
    return FleetRecord(
        asked_at=clock.stamp(), regions=fleets, unreachable=results.causes
    ), results.failed


def _read(region_look: RegionLook) -> RegionLook:
    """Read all that the record needs while this runs in the region's own thread."""
    # These are cached properties: the first access reads them, and later ones would run in turn.
    _ = region_look.amis, region_look.instances, region_look.made_from, region_look.groups
    _ = region_look.defaults, region_look.ledgers, region_look.faults
    return region_look


def _image_fleet(region_look: RegionLook, published: _Published) -> ImageFleet:
    groups, rows, strangers = dict[str, str](), list[InstanceRow](), dict[str, str]()
    for group in region_look.groups:
        for version in group.versions(published.image, published.default):
            groups[group.name] = version
    for instance in region_look.instances:
        if _belongs(instance, region_look, published, groups):
            rows.append(_instance_row(instance, region_look, published))
        elif instance.image_id not in region_look.amis:
            strangers[instance.id] = instance.image_id
    return ImageFleet(
        image=published.image,
        latest=published.ledger.latest.build_id if published.ledger.latest else "",
        template_version=str(published.default.number) if published.default else "",
        instances=rows,
        groups=[_group_row(name, version, published) for name, version in groups.items()],
        amis=[
            AmiRow(id=ami.id, build_id=ami.build_id, drift=[_drift_row(FleetDrift.AMI, text, None)])
            for ami, text in region_look.faults
            if ami.image == published.image
        ],
        metrics=_metrics(rows, region_look),
        strangers=strangers,
    )


def _group_row(name: str, version: str, published: _Published) -> GroupRow:
    drift = list(_version_drift(f"launches version {version}", version, published))
    return GroupRow(name=name, version=version, drift=drift)


def _belongs(
    instance: AccountInstance,
    region_look: RegionLook,
    published: _Published,
    groups: Mapping[str, str],
) -> bool:
    ami = region_look.amis.get(instance.image_id)
    return (
        # An instance of the image's group or template belongs to it with a foreign AMI, too: that
        # is drift.
        (ami is not None and ami.image == published.image)
        or instance.group in groups
        or bool(published.template and instance.template == published.template)
    )


def _instance_row(
    instance: AccountInstance, region_look: RegionLook, published: _Published
) -> InstanceRow:
    ami, version = region_look.amis.get(instance.image_id), instance.template_version
    if ami and ami.image != published.image:
        ami = None
    if instance.template != published.template:
        version = ""
    return InstanceRow(
        id=instance.id,
        ami=instance.image_id,
        build_id=ami.build_id if ami else "",
        state=instance.state,
        group=instance.group,
        template_version=version,
        since=_stamp(instance.since),
        drift=[
            *_build_drift(instance, ami, published),
            *_root_drift(instance, ami, region_look),
            *_version_drift(f"launched by version {version}", version, published, instance.since),
        ],
    )


def _root_drift(
    instance: AccountInstance, ami: AccountAmi | None, region_look: RegionLook
) -> Iterator[DriftRow]:
    """Yield drift if the root volume was not made from the AMI's snapshot: somebody replaced it by
    hand or by a replacement task."""
    # An instance that starts or ends has no root volume yet, or no more.
    if ami and instance.volume and region_look.made_from.get(instance.volume) not in ami.snapshots:
        yield _drift_row(
            FleetDrift.ROOT,
            f"{instance.volume} was not made from the snapshot of {ami.id}",
            instance.since,
        )


def _build_drift(
    instance: AccountInstance, ami: AccountAmi | None, published: _Published
) -> Iterator[DriftRow]:
    ledger = published.ledger
    current_builds = [
        entry.build_id for entry in (ledger.latest, ledger.of(Channel.CANDIDATE)) if entry
    ]
    if ami is None:
        yield _drift_row(
            FleetDrift.FOREIGN,
            f"{instance.image_id} is no build of {published.image}",
            instance.since,
        )
    elif ami.build_id in ledger.withdrawn:
        yield _drift_row(
            FleetDrift.WITHDRAWN,
            f"build {ami.build_id} was rolled back",
            instance.since,
            published.moved,
        )
    elif ledger.latest and ami.build_id not in current_builds:
        yield _drift_row(
            FleetDrift.OTHER,
            f"build {ami.build_id}, and `latest` is {ledger.latest.build_id}",
            instance.since,
            published.moved,
        )


def _version_drift(
    action: str, version: str, published: _Published, since: datetime | None = None
) -> Iterator[DriftRow]:
    default = published.default
    if default and version not in ("", "$Default", str(default.number)):
        yield _drift_row(
            FleetDrift.VERSION,
            f"{action}, and the default is {default.number}",
            since,
            published.moved,
        )


def _drift_row(kind: FleetDrift, what: str, *moments: datetime | None) -> DriftRow:
    return DriftRow(kind=kind, what=what, since=_stamp(max(filter(None, moments), default=None)))


def _stamp(moment: datetime | None) -> str | None:
    return clock.stamp(moment) if moment else None


def _metrics(rows: Sequence[InstanceRow], region_look: RegionLook) -> FleetMetrics:
    creation_times = [region_look.amis[row.ami].created for row in rows if row.build_id]
    days: float | None = None
    if creation_times:
        days = round((clock.now() - min(creation_times)).total_seconds() / DAY_S, 2)
    return FleetMetrics(
        instances=len(rows),
        drifted=sum(bool(row.drift) for row in rows),
        instances_by_build=dict(sorted(Counter(row.build_id or "foreign" for row in rows).items())),
        oldest_build_days=days,
    )
