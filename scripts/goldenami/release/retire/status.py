"""The work of the `status` command: what each region has of each image, which instances run it, and
what it costs a month.

It takes nine calls a region for hundreds of AMIs, one more for each image and each key, and two for
each further page of a thousand. The price list is read once for all regions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from goldenami.aws.channels import channels, evidence
from goldenami.aws.channels.ledger import Channel, Ledger, withdrawn_in
from goldenami.aws.images import AmiState
from goldenami.aws.inventory.region_look import RegionLook, looks
from goldenami.aws.inventory.topology import AccountAmi, AccountInstance, AccountSnapshot
from goldenami.aws.pricing import price_list, prices
from goldenami.aws.pricing.price_list import ListedPrices
from goldenami.aws.regions import RegionResults, in_parallel
from goldenami.aws.session import Account
from goldenami.core import clock
from goldenami.core.errors import GoldenError
from goldenami.core.records import Record
from goldenami.model.builds.build_records import Utc


class Problem(Record):
    """Something that is not as it should be. `region` is "" if it is about all regions."""

    image: str
    region: str
    what: str

    def __str__(self) -> str:
        if not self.region:
            return f"{self.image}: {self.what}"
        return f"{self.image} in {self.region}: {self.what}"


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


def read_status(
    account: Account,
    images: Mapping[str, list[str]],
) -> tuple[StatusRecord, dict[str, GoldenError]]:
    """Read the status of every region. `images` are those to look for, by region. Return the errors
    of regions that could not be read, too."""
    results, listed = _read(account.with_short_timeouts(), images)
    problems, ledgers = list[Problem](), defaultdict[str, dict[str, Ledger]](dict)
    for name, region in results.done.items():
        problems += region.problems
        for image, ledger in region.ledgers.items():
            ledgers[image][name] = ledger
    for image in sorted(ledgers):
        problems += _between_regions(image, ledgers[image])
    source = "nothing to price"
    if results.done:
        source = listed.source
    record = StatusRecord(
        asked_at=clock.stamp(),
        unreachable=results.causes,
        problems=problems,
        prices=source,
        regions={
            name: _priced(region.images, listed.usd.get(name))
            for name, region in results.done.items()
        },
    )
    return record, results.failed


def _read(
    account: Account, images: Mapping[str, list[str]]
) -> tuple[RegionResults[_RegionStatus], ListedPrices]:
    """Read every region, and beside them the price list, which is empty without regions."""
    if not images:
        return RegionResults({}, {}), ListedPrices()
    listed = ListedPrices()

    def read_prices() -> None:
        nonlocal listed
        listed = price_list.of_usage(account, price_list.SNAPSHOT_GIB_MONTH, images)

    asks: dict[str, Callable[[], _RegionStatus | None]] = {**looks(account, images, _region_status)}
    asks["prices"] = read_prices
    results = in_parallel(asks)
    statuses = {name: status for name, status in results.done.items() if status}
    return RegionResults(statuses, results.failed), listed


def _priced(images: Sequence[ImageStatus], usd_gib_month: float | None) -> list[ImageStatus]:
    priced_images = []
    for image in images:
        amis = [
            ami.model_copy(update={"usd_month": prices.monthly(ami.bytes, usd_gib_month)})
            for ami in image.amis
        ]
        priced_images.append(image.model_copy(update={"amis": amis}))
    return priced_images


def _region_status(region_look: RegionLook) -> _RegionStatus:
    running = defaultdict[str, list[AccountInstance]](list)
    overdue = defaultdict[str, list[str]](list)
    for instance in region_look.instances:
        running[instance.image_id].append(instance)
        if instance.expires and instance.expires < clock.now():
            overdue[instance.image].append(instance.id)
    ours = [ami for ami in region_look.amis.values() if ami.image in region_look.images]
    ami_statuses = {ami.id: _ami(ami, region_look.snapshots, running[ami.id]) for ami in ours}
    pointed_amis = set[str]().union(*(amis.values() for amis in region_look.pointers.values()))
    tests = region_look.parameters(
        [evidence.parameter(ami.image, ami.build_id) for ami in ours if ami.id in pointed_amis]
    )
    images, problems = list[ImageStatus](), list[Problem]()
    for image in region_look.images:
        changes = {
            "published_to": region_look.ledgers[image].regions,
            "overdue": sorted(overdue[image]),
        }
        images.append(_image(image, region_look, ami_statuses, tests).model_copy(update=changes))
        for problem in _in_region(region_look, image):
            problems.append(Problem(image=image, region=region_look.region, what=problem))
    return _RegionStatus(images, region_look.ledgers, problems)


def _image(
    image: str,
    region_look: RegionLook,
    ami_statuses: Mapping[str, AmiStatus],
    tests: Mapping[str, str],
) -> ImageStatus:
    """The status of an image. `ami_statuses` are by the AMI's id, `tests` the records of GPU tests
    by the name of their parameter."""
    default, pointed_amis = region_look.defaults[image], region_look.pointers[image]

    def pointer(ami: str | None) -> Pointer | None:
        if ami is None:
            return None
        return _pointer(image, ami, region_look.amis.get(ami), tests)

    template = template_version = None
    if default:
        template, template_version = pointer(default.image_ref), default.number
    template_groups = dict[str, str]()
    for group in region_look.groups:
        for version in group.versions(image, default):
            template_groups[group.name] = version
    newest_first = sorted(
        region_look.amis.values(), key=lambda ami: (ami.created, ami.id), reverse=True
    )
    return ImageStatus(
        image=image,
        latest=pointer(pointed_amis.get(Channel.LATEST)),
        candidate=pointer(pointed_amis.get(Channel.CANDIDATE)),
        template=template,
        template_version=template_version,
        template_groups=template_groups,
        amis=[ami_statuses[ami.id] for ami in newest_first if ami.image == image],
    )


def _pointer(
    image: str, ami: str, existing: AccountAmi | None, tests: Mapping[str, str]
) -> Pointer:
    """The pointer to an AMI, which may exist no more. `tests` are as in `_image`."""
    build_id = signature = ""
    if existing:
        build_id = existing.build_id
    if existing and build_id:
        signature = _signature(existing)
    return Pointer(
        ami=ami,
        exists=existing is not None,
        build_id=build_id,
        signature=signature,
        gpu=evidence.summary(tests.get(evidence.parameter(image, build_id)), image, build_id),
    )


def _signature(ami: AccountAmi) -> str:
    if not ami.signed:
        return "unsigned"
    if ami.signed_by:
        return f"signed by key {ami.signed_by}"
    return "signed"


def _ami(
    ami: AccountAmi,
    snapshots: Mapping[str, AccountSnapshot],
    running: Sequence[AccountInstance],
) -> AmiStatus:
    count, is_exact = 0, True
    for name in ami.snapshots:
        if name in snapshots:
            size, size_is_exact = prices.stored(snapshots[name], snapshots)
            count += size
            is_exact = is_exact and size_is_exact
    groups = Counter(instance.group for instance in running if instance.group)
    return AmiStatus(
        build_id=ami.build_id,
        ami=ami.id,
        created=clock.stamp(ami.created),
        state=ami.state.value,
        deprecated=ami.deprecated is not None and ami.deprecated <= clock.now(),
        instances=len(running),
        groups=dict(sorted(groups.items())),
        bytes=count,
        bytes_exact=is_exact,
    )


def pointed(record: StatusRecord) -> list[tuple[str, str]]:
    """The image and build id of each build that a channel names in any region."""
    builds = set[tuple[str, str]]()
    for images in record.regions.values():
        for image in images:
            builds |= {(image.image, pointer.build_id) for pointer in image.builds}
    return sorted(builds)


# --- problems -------------------------------------------------------------------------------------


def _in_region(region_look: RegionLook, image: str) -> Iterator[str]:
    """Yield the problems of an image within one region."""
    ledger, amis, default = (
        region_look.ledgers[image],
        region_look.pointers[image],
        region_look.defaults[image],
    )
    template_ami = None
    if default:
        template_ami = default.image_ref
    for _, text in channels.misplaced_pointers(image, ledger, amis, template_ami):
        yield text
    for channel, ami in amis.items():
        if ami not in region_look.amis:
            yield f"`{channel}` names {ami}, which does not exist"
        elif region_look.amis[ami].state is not AmiState.AVAILABLE:
            yield f"`{channel}` names {ami}, which is {region_look.amis[ami].state}"
    for faulty, text in region_look.faults:
        if faulty.image == image:
            yield text


def _between_regions(image: str, ledgers: Mapping[str, Ledger]) -> Iterator[Problem]:
    """Yield the problems of an image in which regions contradict each other."""
    withdrawn = withdrawn_in(ledgers)
    for region, ledger in ledgers.items():
        for problem in _of_withdrawn(ledger, withdrawn):
            yield Problem(image=image, region=region, what=problem)
    with_latest = {region: ledger for region, ledger in ledgers.items() if ledger.latest}
    if difference := channels.differing(with_latest):
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
