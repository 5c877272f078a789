"""The status of an account in lines for a person."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from goldenami.core import units
from goldenami.core.terminal import columns
from goldenami.release.retire.status import AmiStatus, ImageStatus, Pointer, StatusRecord

_COLUMNS = ("image", "region", "latest", "candidate", "template", "AMIs", "running", "a month")


def lines(record: StatusRecord, *, details: bool, with_gpus: Collection[str] = ()) -> Iterator[str]:
    """The status in lines for a person: a table with a row for each image and region, and with
    `details` their AMIs. `with_gpus` are the images whose builds have to be tested on a GPU."""
    rows = list[tuple[ImageStatus, str]]()
    for region, images in record.regions.items():
        rows += [(image, region) for image in images]
    rows.sort(key=lambda row: (row[0].image, row[1]))
    yield from columns.aligned([_COLUMNS, *(_row(image, region) for image, region in rows)])
    yield from _gpu_tests(rows, with_gpus)
    yield from _signatures(rows)
    for image, region in rows:
        for name in image.overdue:
            yield (
                f"{name} of {image.image} in {region} has expired and still runs: `golden "
                "sweep` ends it"
            )
    for region in record.unreachable:  # the error that follows says why
        yield f"{region} is unreachable"
    if details:
        for image, region in rows:
            yield from _details(image, region)
    yield f"prices: {record.prices}"


def _details(image: ImageStatus, region: str) -> Iterator[str]:
    yield ""
    yield f"{image.image} in {region}"
    yield from _pointers(image)
    for ami in image.amis:
        yield _line(ami)


def _gpu_tests(rows: Sequence[tuple[ImageStatus, str]], with_gpus: Collection[str]) -> list[str]:
    """A line for each build on the GPUs that ran it, if it has to run on any."""
    lines = set[str]()
    for image, _ in rows:
        for pointer in image.builds:
            if pointer.gpu or image.image in with_gpus:
                gpu = pointer.gpu or "no GPU has run this build"
                lines.add(f"{image.image} {pointer.build_id}: {gpu}")
    return sorted(lines)


def _signatures(rows: Sequence[tuple[ImageStatus, str]]) -> Iterator[str]:
    """A line for each build's signature, with its regions if they differ."""
    regions_by_build: dict[str, dict[str, list[str]]] = {}
    for image, region in rows:
        for pointer in dict.fromkeys(image.builds):
            by_signature = regions_by_build.setdefault(f"{image.image} {pointer.build_id}", {})
            by_signature.setdefault(pointer.signature, []).append(region)
    for build, by_signature in sorted(regions_by_build.items()):
        for signature, regions in sorted(by_signature.items()):
            line = f"{build}: {signature}"
            if len(by_signature) > 1:
                line += f" in {', '.join(regions)}"
            yield line


def _row(image: ImageStatus, region: str) -> tuple[str, ...]:
    template = "-"
    if image.template:
        template = f"v{image.template_version} {_build(image.template)}"
    usd_month = units.total(ami.usd_month for ami in image.amis)
    is_exact = all(ami.bytes_exact for ami in image.amis)
    return (
        image.image,
        region,
        _build(image.latest),
        _build(image.candidate),
        template,
        str(len(image.amis)),
        str(sum(ami.instances for ami in image.amis)),
        units.price(usd_month, exact=is_exact),
    )


def _build(pointer: Pointer | None) -> str:
    if pointer is None:
        return "-"
    if not pointer.exists:
        return pointer.build_id or "GONE"
    return pointer.build_id or "not ours"


def _pointers(image: ImageStatus) -> Iterator[str]:
    for name, pointer in (
        ("latest", image.latest),
        ("candidate", image.candidate),
        (f"template v{image.template_version or '-'}", image.template),
    ):
        if pointer is None:
            yield f"  {name:<12} nothing"
            continue
        what = pointer.build_id or "no build of ours"
        if not (pointer.build_id or pointer.exists):
            what = "THIS AMI DOES NOT EXIST"
        yield f"  {name:<12} {what} ({pointer.ami})"
    for group, version in image.template_groups.items():
        yield f"  group {group} launches version {version}"


def _line(ami: AmiStatus) -> str:
    state, users, bound = ami.state, "", ""
    if ami.deprecated and ami.state == "available":
        state = "deprecated"
    if ami.groups:
        counts = ", ".join(f"{count} in {group}" for group, count in ami.groups.items())
        users = f" ({counts})"
    if not ami.bytes_exact:
        bound = "<= "
    return (
        f"    {ami.build_id} {ami.ami:<21} {ami.created[:10]} {state:<10} {ami.instances:>4} "
        f"running{users}  "
        f"{bound}{units.size(ami.bytes)}  "
        f"{units.price(ami.usd_month, exact=ami.bytes_exact, per=' a month')}"
    )
