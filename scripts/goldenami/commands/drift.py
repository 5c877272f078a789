"""The commands on drift: what runs against what was baked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from goldenami.aws.services import notify
from goldenami.aws.session import Account, check_regions, translated
from goldenami.commands import AsJson, BuildId, Regions, print_record, raise_failed, run_url
from goldenami.commands.checkout import Checkout
from goldenami.core import clock, records
from goldenami.core.errors import BadInput, GoldenError, NotVerified
from goldenami.fleet.drift import fleet, fleet_records, outside, running_instance
from goldenami.fleet.drift.fleet_records import DRIFT_FILE
from goldenami.fleet.drift.running_instance import RunningInstance
from goldenami.image.provenance import provenance, published_provenance
from goldenami.local.drift import baked_disk, disk_check, disk_records, manifest, may_differ
from goldenami.local.drift.disk_records import DiskRecord, DiskVerdict
from goldenami.local.drift.launched_with import LaunchedWith
from goldenami.model.builds.build_folder import BuildFolder

FOLDER = "build/drift"
"""Where the records are."""


@dataclass(frozen=True, kw_only=True)
class DriftAsked:
    """What was asked of `golden drift`: of all that runs, of one instance or of one disk."""

    image: Annotated[
        str | None,
        typer.Argument(metavar="IMAGE", help="name of packer/images/IMAGE.yml, else all"),
    ] = None
    as_json: AsJson = False
    region: Regions = field(default_factory=list)
    instance: Annotated[
        str | None,
        typer.Option(
            "--instance",
            metavar="ID",
            help="compare this instance's disk with its bake, by a temporary snapshot",
        ),
    ] = None
    disk: Annotated[
        Path | None,
        typer.Option(
            "--disk",
            metavar="FILE",
            help="compare this disk (raw, or an overlay of qcow2) with the newest build here",
            exists=True,
            dir_okay=False,
        ),
    ] = None
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="FILE",
            help="with --instance: its AMI and manifest have to be signed, by this public key",
        ),
    ] = None
    build: BuildId = None
    user_data: Annotated[
        Path | None,
        typer.Option(
            "--user-data",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="of --disk: what its machine was launched with; EC2 says it of --instance",
        ),
    ] = None


@translated()
def cmd_drift(checkout: Checkout, asked: DriftAsked) -> int:
    """Say what runs and is not as published, or what of an instance's disk is not as baked."""
    if asked.disk:
        return _disk(checkout, asked, asked.disk)
    _check_not_of_disk(asked)
    if asked.instance:
        return _instance(checkout, asked, asked.instance)
    return _fleet(checkout, asked)


def _check_not_of_disk(asked: DriftAsked) -> None:
    """BadInput for an option that only a disk has."""
    if asked.build is not None:
        raise BadInput(
            "--build is of --disk: the tags of an instance's AMI say which build it is",
            hint="leave --build out, or `golden drift IMAGE --disk FILE --build ID`",
        )
    if asked.user_data is not None:
        raise BadInput(
            "--user-data is of --disk: EC2 says what an instance was launched with",
            hint="leave it out",
        )


def _named(asked: DriftAsked) -> str:
    if asked.image is None:
        raise BadInput("of which image is it?", hint="`golden drift IMAGE ...`")
    return asked.image


def _disk(checkout: Checkout, asked: DriftAsked, path: Path) -> int:
    image = _named(asked)
    definition, builds = checkout.definition(image), checkout.builds(image)
    may = may_differ.allowed_paths(definition, clock.now().date())
    build = builds.build(asked.build) if asked.build else builds.latest
    if build is None or not build.is_baked:
        missing = f"build {asked.build}" if asked.build else "verified build"
        raise BadInput(
            f"{image} has no {missing} here",
            hint=f"run `make bake IMAGE={image}`, or name a build with --build",
        )
    launch = LaunchedWith(asked.user_data.read_bytes() if asked.user_data else None)
    record = disk_check.check(build, baked_disk.opened(path, build, launch), may)
    drift = _written(checkout, record, "disk", [], as_json=asked.as_json)
    _end(drift, [], "launch the image again: what is on this disk is no longer what was baked")
    return 0


def _written(
    checkout: Checkout, record: DiskRecord, name: str, first: Iterable[str], *, as_json: bool
) -> str:
    """The headline of a disk that drifted; `first` are lines of more than this disk."""
    records.write(checkout.root / FOLDER / f"{name}.json", record)
    print_record(record, [*first, *disk_records.show(record)], as_json)
    return disk_records.headline(record) if record.verdict is DiskVerdict.DRIFTED else ""


def _instance(checkout: Checkout, asked: DriftAsked, instance: str) -> int:
    image = _named(asked)
    notify.check()
    definition, builds = checkout.definition(image), checkout.builds(image)
    account, progress = checkout.account(definition), checkout.progress("drift", image)
    regions = asked.region or definition.regions
    check_regions(regions)
    target = running_instance.find(account, regions, instance)
    if target.owner:
        target = running_instance.identified(target, builds)
    target.demand_build(image)
    build = builds.build(target.build_id)
    if asked.key:
        _check_signed(account, target, build, asked.key)
    manifest.demand_published(build, target.manifest_sha256)
    may = may_differ.allowed_paths(definition, clock.now().date())
    with outside.opened(account, target, build, checkout.root / FOLDER, progress) as found:
        record = disk_check.check(build, found, may)
    unlike = disk_records.unlike(record, _siblings(checkout))
    drift = _written(checkout, record, instance, unlike, as_json=asked.as_json)
    untold = notify.tell(account, drift, "\n".join(disk_records.show(record))) if drift else []
    _end(drift, untold, running_instance.replacing(target.region, instance))
    return 0


def _check_signed(account: Account, target: RunningInstance, build: BuildFolder, key: Path) -> None:
    """What is signed of another account's AMI is in that account; its copies are beside the
    build."""
    if target.owner:
        provenance.verify(build, key, provenance.LASTING)
    else:
        published_provenance.verify(account, [target.region], target.ami, key)


def _siblings(checkout: Checkout) -> Iterator[DiskRecord]:
    """Instances that were looked at before; a record of another version of the program is none."""
    for path in sorted((checkout.root / FOLDER).glob("i-*.json")):
        with contextlib.suppress(GoldenError):
            yield records.read(path, DiskRecord)


def _fleet(checkout: Checkout, asked: DriftAsked) -> int:
    notify.check()
    images = checkout.images_by_region(asked.image, asked.region)
    account = checkout.account(also=images)
    definitions = list(checkout.definitions(asked.image))
    # Ledger and tags are in the account that publishes, and only there.
    for definition in definitions:
        if definition.publish and definition.publish.account:
            account.expect(definition.publish.account, (asked.region or definition.regions)[0])
    record, failed = fleet.look(account, images)
    records.write(checkout.root / FOLDER / DRIFT_FILE, record)
    lines = list(fleet_records.show(record))
    print_record(record, lines, asked.as_json)
    drifted = any(record.rows())
    untold = list[GoldenError]()
    if drifted or failed:
        untold = notify.tell(
            checkout.account(*definitions), lines[-1], "\n".join([*lines[:-1], run_url()])
        )
    _end(
        fleet_records.headline(record) if drifted else "",
        untold,
        f"{running_instance.replacing('REGION', 'ID')}; a group takes the default by its next "
        "refresh",
    )
    raise_failed(failed, "not every region could be read")
    return 0


def _end(drift: str, untold: list[GoldenError], hint: str) -> None:
    """What drifted outranks who could not be told of it."""
    if drift:
        raise NotVerified(
            f"drift: {drift}", tail="\n".join(error.message for error in untold), hint=hint
        )
    if untold:
        raise untold[0]
