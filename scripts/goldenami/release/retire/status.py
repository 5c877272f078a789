"""The work of the `status` command: what each region has of each image, which instances run it, and
what it costs a month.

It takes nine calls a region for hundreds of AMIs, one more for each image and each key, and two for
each further page of a thousand. The price list is read once for all regions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from pydantic import Field

from goldenami.aws.channels import channels, evidence, pointers, refresh
from goldenami.aws.channels.ledger import Channel, Ledger, withdrawn_in
from goldenami.aws.images import AmiState
from goldenami.aws.inventory.region_look import RegionLook, looks
from goldenami.aws.inventory.topology import AccountAmi, AccountInstance, AccountSnapshot
from goldenami.aws.pricing import price_list, prices
from goldenami.aws.regions import in_parallel
from goldenami.aws.session import Account, translated
from goldenami.core import clock, units
from goldenami.core.errors import GoldenError
from goldenami.core.records import Record
from goldenami.core.terminal import columns
from goldenami.model.builds.build_records import Utc
from goldenami.model.definitions.definition import Definition

_PRICES = "prices"


class Problem(Record):
    """Something that is not as it should be. `region` is "" if it is about all regions."""

    image: str
    region: str
    what: str

    def __str__(self) -> str:
        return f"{self.image}{' in ' if self.region else ''}{self.region}: {self.what}"


class AmiStatus(Record):
    """One AMI. `groups` are Auto Scaling groups with the number of their instances that run it.

    `bytes` are those of its snapshots that are billed; `bytes_exact` is False if they are an upper
    bound. `usd_month` is None if the price is not known.
    """

    build_id: str
    ami: str
    created: Utc
    state: str
    deprecated: bool
    instances: int
    groups: dict[str, int]
    bytes: int
    bytes_exact: bool
    usd_month: float | None = None


class Pointer(Record):
    """The AMI that a channel or template names. `build_id` is "" if the AMI is not ours or does not
    exist (`exists`). `signature` is `signed`, with the key's id if a tag has it, or `unsigned`.

    `gpu` says on which GPUs the build was tested, or "" if on none.
    """

    ami: str
    build_id: str
    exists: bool
    gpu: str = ""
    signature: str = ""


class ImageStatus(Record):
    """One image in one region. `published_to` are all regions that its ledger knows.

    `template` is what the default version of its launch template launches; `template_groups` are
    the Auto Scaling groups that launch from the template, with the version that each names.
    `overdue` are instances of a test or a bake that should have ended.
    """

    image: str
    latest: Pointer | None
    candidate: Pointer | None
    template: Pointer | None
    template_version: int | None
    template_groups: dict[str, str]
    published_to: tuple[str, ...] = ()
    amis: list[AmiStatus]
    overdue: list[str] = Field(default_factory=list)

    @property
    def builds(self) -> list[Pointer]:
        """Those of the channels' pointers that name a build of ours."""
        return [
            pointer for pointer in (self.latest, self.candidate) if pointer and pointer.build_id
        ]


class StatusRecord(Record):
    """All images in all regions. A region that could not be read is only in `unreachable`, with the
    cause.

    `prices` says where prices are from and of which day, or why they are unknown. `containers` are
    the builds that `latest` names in each registry, or "" if it is none of ours.
    """

    schema_version: Literal[2] = 2
    asked_at: Utc
    prices: str
    regions: dict[str, list[ImageStatus]]
    unreachable: dict[str, str]
    containers: dict[str, str] = Field(default_factory=dict)
    problems: list[Problem] = Field(default_factory=list)


@dataclass(frozen=True)
class _RegionStatus:
    """The images, ledgers and problems of one region."""

    images: list[ImageStatus]
    ledgers: Mapping[str, Ledger]
    problems: list[Problem]


def look(
    account: Account,
    images: Mapping[str, list[str]],
) -> tuple[StatusRecord, dict[str, GoldenError]]:
    """Read the status of every region. `images` are those to look for, by region. Return the errors
    of regions that could not be read, too."""
    account = account.with_short_timeouts()
    asks: dict[str, Callable[[], Any]] = {**looks(account, images, _region_status)}
    if images:
        asks[_PRICES] = partial(price_list.of_usage, account, price_list.SNAPSHOT_GIB_MONTH, images)
    results = in_parallel(asks)
    listed = results.done.pop(_PRICES, None)
    statuses: Mapping[str, _RegionStatus] = results.done
    problems = [problem for region in statuses.values() for problem in region.problems]
    for image in sorted({image for region in statuses.values() for image in region.ledgers}):
        problems += _between_regions(
            image,
            {
                name: region.ledgers[image]
                for name, region in statuses.items()
                if image in region.ledgers
            },
        )
    return StatusRecord(
        asked_at=clock.stamp(),
        unreachable=results.causes,
        problems=problems,
        prices=listed.source if listed and results.done else "nothing to price",
        regions={
            name: [
                _priced(image, listed.usd.get(name) if listed else None) for image in region.images
            ]
            for name, region in statuses.items()
        },
    ), results.failed


def _priced(image: ImageStatus, usd_gib_month: float | None) -> ImageStatus:
    return image.model_copy(
        update={
            "amis": [
                ami.model_copy(update={"usd_month": prices.monthly(ami.bytes, usd_gib_month)})
                for ami in image.amis
            ]
        }
    )


def _region_status(look: RegionLook) -> _RegionStatus:
    running = defaultdict[str, list[AccountInstance]](list)
    for instance in look.instances:
        running[instance.image_id].append(instance)
    ami_statuses = {
        ami.id: _ami(ami, look.snapshots, running[ami.id])
        for ami in look.amis.values()
        if ami.image in look.images
    }
    pointed_amis = {ami_id for amis in look.pointers.values() for ami_id in amis.values()}
    tests = look.parameters(
        [
            evidence.parameter(ami.image, ami.build_id)
            for ami in look.amis.values()
            if ami.image in look.images and ami.id in pointed_amis
        ]
    )
    overdue = [
        instance
        for instance in look.instances
        if instance.expires and instance.expires < clock.now()
    ]
    images = [
        _image(image, look, ami_statuses, tests).model_copy(
            update={
                "published_to": look.ledgers[image].regions,
                "overdue": sorted(instance.id for instance in overdue if instance.image == image),
            }
        )
        for image in look.images
    ]
    problems = [
        Problem(image=image, region=look.region, what=problem)
        for image in look.images
        for problem in _in_region(look, image)
    ]
    return _RegionStatus(images, look.ledgers, problems)


def _image(
    image: str, look: RegionLook, ami_statuses: Mapping[str, AmiStatus], tests: Mapping[str, str]
) -> ImageStatus:
    """The status of an image. `ami_statuses` are by the AMI's id, `tests` the records of GPU tests
    by the name of their parameter."""
    default, pointed_amis = look.defaults[image], look.pointers[image]

    def pointer(ami: str | None) -> Pointer | None:
        if ami is None:
            return None
        existing = look.amis.get(ami)
        build_id = existing.build_id if existing else ""
        return Pointer(
            ami=ami,
            exists=existing is not None,
            build_id=build_id,
            signature=_signature(existing) if existing and build_id else "",
            gpu=evidence.summary(tests.get(evidence.parameter(image, build_id)), image, build_id),
        )

    newest_first = sorted(look.amis.values(), key=lambda ami: (ami.created, ami.id), reverse=True)
    return ImageStatus(
        image=image,
        latest=pointer(pointed_amis.get(Channel.LATEST)),
        candidate=pointer(pointed_amis.get(Channel.CANDIDATE)),
        template=pointer(default.image_ref) if default else None,
        template_version=default.number if default else None,
        template_groups={
            group.name: version
            for group in look.groups
            for version in group.versions(image, default)
        },
        amis=[ami_statuses[ami.id] for ami in newest_first if ami.image == image],
    )


def _signature(ami: AccountAmi) -> str:
    return (
        f"signed{f' by key {ami.signed_by}' if ami.signed_by else ''}" if ami.signed else "unsigned"
    )


def _ami(
    ami: AccountAmi,
    snapshots: Mapping[str, AccountSnapshot],
    running: Sequence[AccountInstance],
) -> AmiStatus:
    sizes = [
        prices.stored(snapshots[name], snapshots) for name in ami.snapshots if name in snapshots
    ]
    count = sum(size for size, _ in sizes)
    return AmiStatus(
        build_id=ami.build_id,
        ami=ami.id,
        created=clock.stamp(ami.created),
        state=ami.state.value,
        deprecated=ami.deprecated is not None and ami.deprecated <= clock.now(),
        instances=len(running),
        groups=dict(
            sorted(Counter(instance.group for instance in running if instance.group).items())
        ),
        bytes=count,
        bytes_exact=all(exact for _, exact in sizes),
    )


# --- problems -------------------------------------------------------------------------------------


def _in_region(look: RegionLook, image: str) -> Iterator[str]:
    """Yield the problems of an image within one region."""
    ledger, amis, default = look.ledgers[image], look.pointers[image], look.defaults[image]
    for _, text in channels.misplaced_pointers(
        image, ledger, amis, default.image_ref if default else None
    ):
        yield text
    for channel, ami in amis.items():
        if ami not in look.amis:
            yield f"`{channel}` names {ami}, which does not exist"
        elif look.amis[ami].state is not AmiState.AVAILABLE:
            yield f"`{channel}` names {ami}, which is {look.amis[ami].state}"
    yield from (text for ami, text in look.faults if ami.image == image)


def _between_regions(image: str, ledgers: Mapping[str, Ledger]) -> Iterator[Problem]:
    """Yield the problems of an image in which regions contradict each other."""
    withdrawn = withdrawn_in(ledgers)
    for region, ledger in ledgers.items():
        for problem in _of_withdrawn(ledger, withdrawn):
            yield Problem(image=image, region=region, what=problem)
    if difference := channels.differing(
        {region: ledger for region, ledger in ledgers.items() if ledger.latest}
    ):
        yield Problem(image=image, region="", what=difference)


def _of_withdrawn(ledger: Ledger, withdrawn: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield the problems of a region's ledger with builds that were withdrawn in any region."""
    for build_id, regions in withdrawn.items():
        regions_text = f"in {', '.join(regions)}"
        for channel in Channel:
            if (entry := ledger.of(channel)) and entry.build_id == build_id:
                yield f"`{channel}` names {build_id}, which was withdrawn {regions_text}"
        if build_id not in ledger.withdrawn:
            yield f"the ledger does not say that {build_id} was withdrawn, as it was {regions_text}"


def behind(account: Account, definition: Definition, record: StatusRecord) -> Iterator[Problem]:
    """Yield the groups that the definition wants refreshed, but that launch another version than
    the default while no refresh takes them to it."""
    section = definition.publish and definition.publish.instance_refresh
    statuses = [
        (region, image)
        for region, images in record.regions.items()
        for image in images
        if section and image.image == definition.image
    ]
    for region, image in statuses:
        for group, version in image.template_groups.items():
            if (section and group not in section.groups) or version == str(image.template_version):
                continue
            with translated(region):
                default = pointers.default_version(
                    account.ec2(region), pointers.template_name(image.image)
                )
                refresh_status = default and refresh.refresh_status(
                    account.autoscaling(region), group, default
                )
            if refresh_status not in refresh.UNDER_WAY:
                yield Problem(
                    image=image.image,
                    region=region,
                    what=(
                        f"the group {group} launches version {version}, and the default is "
                        f"{image.template_version}; its refresh is {refresh_status or 'not begun'}"
                    ),
                )


# --- for a person ---------------------------------------------------------------------------------

_COLUMNS = ("image", "region", "latest", "candidate", "template", "AMIs", "running", "a month")


def show(record: StatusRecord, *, details: bool, with_gpus: Collection[str] = ()) -> Iterator[str]:
    """The status in lines for a person: a table with a row for each image and region, and with
    `details` their AMIs. `with_gpus` are the images whose builds have to be tested on a GPU."""
    rows = sorted(
        ((image, region) for region, images in record.regions.items() for image in images),
        key=lambda row: (row[0].image, row[1]),
    )
    yield from columns.aligned([_COLUMNS, *(_row(image, region) for image, region in rows)])
    yield from sorted(
        {
            f"{image.image} {pointer.build_id}: {pointer.gpu or 'no GPU has run this build'}"
            for image, _ in rows
            for pointer in image.builds
            if pointer.gpu or image.image in with_gpus
        }
    )
    yield from _signatures(rows)
    for image, region in rows:
        yield from (
            f"{name} of {image.image} in {region} has expired and still runs: `golden "
            "sweep` ends it"
            for name in image.overdue
        )
    for region in record.unreachable:  # the error that follows says why
        yield f"{region} is unreachable"
    if details:
        for image, region in rows:
            yield ""
            yield f"{image.image} in {region}"
            yield from _pointers(image)
            yield from (_line(ami) for ami in image.amis)
    yield f"prices: {record.prices}"


def _signatures(rows: Sequence[tuple[ImageStatus, str]]) -> Iterator[str]:
    """A line for each build's signature, with its regions if they differ."""
    regions_by_build: dict[str, dict[str, list[str]]] = {}
    for image, region in rows:
        for pointer in dict.fromkeys(image.builds):
            by_signature = regions_by_build.setdefault(f"{image.image} {pointer.build_id}", {})
            by_signature.setdefault(pointer.signature, []).append(region)
    for build, by_signature in sorted(regions_by_build.items()):
        for signature, regions in sorted(by_signature.items()):
            yield f"{build}: {signature}" + (
                f" in {', '.join(regions)}" if len(by_signature) > 1 else ""
            )


def pointed(record: StatusRecord) -> list[tuple[str, str]]:
    """The image and build id of each build that a channel names in any region."""
    return sorted(
        {
            (image.image, pointer.build_id)
            for images in record.regions.values()
            for image in images
            for pointer in image.builds
        }
    )


def _row(image: ImageStatus, region: str) -> tuple[str, ...]:
    template = f"v{image.template_version} {_build(image.template)}" if image.template else "-"
    return (
        image.image,
        region,
        _build(image.latest),
        _build(image.candidate),
        template,
        str(len(image.amis)),
        str(sum(ami.instances for ami in image.amis)),
        units.price(
            units.total(ami.usd_month for ami in image.amis),
            exact=all(ami.bytes_exact for ami in image.amis),
        ),
    )


def _build(pointer: Pointer | None) -> str:
    return (
        "-" if pointer is None else pointer.build_id or ("not ours" if pointer.exists else "GONE")
    )


def _pointers(image: ImageStatus) -> Iterator[str]:
    for name, pointer in (
        ("latest", image.latest),
        ("candidate", image.candidate),
        (f"template v{image.template_version or '-'}", image.template),
    ):
        if pointer is None:
            yield f"  {name:<12} nothing"
        else:
            what = pointer.build_id or (
                "no build of ours" if pointer.exists else "THIS AMI DOES NOT EXIST"
            )
            yield f"  {name:<12} {what} ({pointer.ami})"
    for group, version in image.template_groups.items():
        yield f"  group {group} launches version {version}"


def _line(ami: AmiStatus) -> str:
    state = "deprecated" if ami.deprecated and ami.state == "available" else ami.state
    users = ", ".join(f"{count} in {group}" for group, count in ami.groups.items())
    return (
        f"    {ami.build_id} {ami.ami:<21} {ami.created[:10]} {state:<10} {ami.instances:>4} "
        "running"
        f"{f' ({users})' if users else ''}  "
        f"{'' if ami.bytes_exact else '<= '}{units.size(ami.bytes)}  "
        f"{units.price(ami.usd_month, exact=ami.bytes_exact, per=' a month')}"
    )
