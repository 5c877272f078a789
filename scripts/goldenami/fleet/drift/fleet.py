"""The fleet view: who runs which AMI and build, and which of it is not what is published. It
changes nothing.

Nine calls a region, and one more for each further image and each key; two more for each further
page.
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
from goldenami.fleet.drift.fleet_records import (
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
    """What should run of one image in one region: the ledger, and the default version of the launch
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


def look(
    account: Account,
    images: Mapping[str, list[str]],
) -> tuple[FleetRecord, dict[str, GoldenError]]:
    """Ask every region for the images that belong there (`images`: by region)."""
    hasty = account.with_short_timeouts()
    results = in_parallel(looks(hasty, images, _read))
    withdrawn = {
        build_id
        for there in results.done.values()
        for ledger in there.ledgers.values()
        for build_id in ledger.withdrawn
    }

    def published(there: RegionLook, image: str) -> _Published:
        ledger = there.ledgers[image].withdraw(*withdrawn)  # ids of builds are of one image
        return _Published(image, ledger, there.defaults[image])

    fleets = {
        region: [_fleet(there, published(there, image)) for image in there.ledgers]
        for region, there in results.done.items()
    }
    return FleetRecord(
        asked_at=clock.stamp(), regions=fleets, unreachable=results.causes
    ), results.failed


def _read(look: RegionLook) -> RegionLook:
    """Read here, in the region's thread, what is told when all regions have been read."""
    # Each is read when it is first asked for, and then kept.
    _ = look.amis, look.instances, look.made_from, look.groups
    _ = look.defaults, look.ledgers, look.faults
    return look


def _fleet(there: RegionLook, published: _Published) -> ImageFleet:
    groups = {
        group.name: version
        for group in there.groups
        for version in group.versions(published.image, published.default)
    }
    rows = [
        _instance(instance, there, published)
        for instance in there.instances
        if _belongs(instance, there, published, groups)
    ]
    return ImageFleet(
        image=published.image,
        latest=published.ledger.latest.build_id if published.ledger.latest else "",
        template_version=str(published.default.number) if published.default else "",
        instances=rows,
        groups=[
            GroupRow(
                name=name,
                version=version,
                drift=list(_of_version(f"launches version {version}", version, published)),
            )
            for name, version in groups.items()
        ],
        amis=[
            AmiRow(id=ami.id, build_id=ami.build_id, drift=[_row(FleetDrift.AMI, text, None)])
            for ami, text in there.faults
            if ami.image == published.image
        ],
        metrics=_metrics(rows, there),
        strangers={
            instance.id: instance.image_id
            for instance in there.instances
            if instance.image_id not in there.amis
            and not _belongs(instance, there, published, groups)
        },
    )


def _belongs(
    instance: AccountInstance,
    there: RegionLook,
    published: _Published,
    groups: Mapping[str, str],
) -> bool:
    ami = there.amis.get(instance.image_id)
    return (
        (ami is not None and ami.image == published.image)
        or instance.group in groups
        or bool(published.template and instance.template == published.template)
    )


def _instance(instance: AccountInstance, there: RegionLook, published: _Published) -> InstanceRow:
    found = there.amis.get(instance.image_id)
    ami = found if found and found.image == published.image else None
    version = instance.template_version if instance.template == published.template else ""
    return InstanceRow(
        id=instance.id,
        ami=instance.image_id,
        build_id=ami.build_id if ami else "",
        state=instance.state,
        group=instance.group,
        template_version=version,
        since=clock.stamp(instance.since) if instance.since else None,
        drift=[
            *_of_build(instance, ami, published),
            *_of_root(instance, ami, there),
            *_of_version(f"launched by version {version}", version, published, instance.since),
        ],
    )


def _of_root(
    instance: AccountInstance, ami: AccountAmi | None, there: RegionLook
) -> Iterator[DriftRow]:
    """A root volume that was made of anything but the AMI's snapshot: attached by hand, or by a
    task. An instance that only begins or ends has none yet, or no more."""
    if ami and instance.volume and there.made_from.get(instance.volume) not in ami.snapshots:
        yield _row(
            FleetDrift.ROOT,
            f"{instance.volume} was not made from the snapshot of {ami.id}",
            instance.since,
        )


def _of_build(
    instance: AccountInstance, ami: AccountAmi | None, published: _Published
) -> Iterator[DriftRow]:
    ledger = published.ledger
    wanted = [entry.build_id for entry in (ledger.latest, ledger.of(Channel.CANDIDATE)) if entry]
    if ami is None:
        yield _row(
            FleetDrift.FOREIGN,
            f"{instance.image_id} is no build of {published.image}",
            instance.since,
        )
    elif ami.build_id in ledger.withdrawn:
        yield _row(
            FleetDrift.WITHDRAWN,
            f"build {ami.build_id} was rolled back",
            instance.since,
            published.moved,
        )
    elif ledger.latest and ami.build_id not in wanted:
        yield _row(
            FleetDrift.OTHER,
            f"build {ami.build_id}, and `latest` is {ledger.latest.build_id}",
            instance.since,
            published.moved,
        )


def _of_version(
    what: str, version: str, published: _Published, since: datetime | None = None
) -> Iterator[DriftRow]:
    default = published.default
    if default and version not in ("", "$Default", str(default.number)):
        yield _row(
            FleetDrift.VERSION,
            f"{what}, and the default is {default.number}",
            since,
            published.moved,
        )


def _row(kind: FleetDrift, what: str, *moments: datetime | None) -> DriftRow:
    known = [moment for moment in moments if moment]
    return DriftRow(kind=kind, what=what, since=clock.stamp(max(known)) if known else None)


def _metrics(rows: Sequence[InstanceRow], there: RegionLook) -> FleetMetrics:
    made = [there.amis[row.ami].created for row in rows if row.build_id]
    days = (clock.now() - min(made)).total_seconds() / DAY_S if made else None
    return FleetMetrics(
        instances=len(rows),
        drifted=sum(bool(row.drift) for row in rows),
        instances_by_build=dict(sorted(Counter(row.build_id or "foreign" for row in rows).items())),
        oldest_build_days=None if days is None else round(days, 2),
    )
