"""The commands on drift: compare what runs with what was baked."""

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
from goldenami.image.provenance import provenance, published_provenance
from goldenami.local.drift import baked_disk, disk_check, disk_records, manifest, may_differ
from goldenami.local.drift.disk_records import DiskRecord, DiskVerdict
from goldenami.local.drift.launched_with import LaunchedWith
from goldenami.model.builds.build_folder import BuildFolder

from goldenami_fleet.drift import fleet, fleet_records, outside, running_instance
from goldenami_fleet.drift.fleet_records import DRIFT_FILE
from goldenami_fleet.drift.running_instance import RunningInstance

FOLDER = "build/drift"
"""Folder of the records in the checkout."""


@dataclass(frozen=True, kw_only=True)
class DriftOptions:
    """The arguments and options of `golden drift`: for the fleet, one instance or one disk."""

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
def cmd_drift(checkout: Checkout, options: DriftOptions) -> int:
    """Say what runs and is not as published, or what of an instance's disk is not as baked."""
    if options.disk:
        return _compare_disk(checkout, options, options.disk)
    _check_not_of_disk(options)
    if options.instance:
        return _compare_instance(checkout, options, options.instance)
    return _compare_fleet(checkout, options)


def _check_not_of_disk(options: DriftOptions) -> None:
    """Raises BadInput for an option that only --disk takes."""
    if options.build is not None:
        raise BadInput(
            "--build is of --disk: the tags of an instance's AMI say which build it is",
            hint="leave --build out, or `golden drift IMAGE --disk FILE --build ID`",
        )
    if options.user_data is not None:
        raise BadInput(
            "--user-data is of --disk: EC2 says what an instance was launched with",
            hint="leave it out",
        )


def _required_image(options: DriftOptions) -> str:
    if options.image is None:
        raise BadInput("of which image is it?", hint="`golden drift IMAGE ...`")
    return options.image


def _compare_disk(checkout: Checkout, options: DriftOptions, path: Path) -> int:
    image = _required_image(options)
    definition, builds = checkout.definition(image), checkout.builds(image)
    allowed_differences = may_differ.allowed_paths(definition, clock.now().date())
    build, missing = builds.latest, "verified build"
    if options.build:
        build, missing = builds.build(options.build), f"build {options.build}"
    if build is None or not build.is_baked:
        raise BadInput(
            f"{image} has no {missing} here",
            hint=f"run `make bake IMAGE={image}`, or name a build with --build",
        )
    launched_with = LaunchedWith(options.user_data.read_bytes() if options.user_data else None)
    record = disk_check.check(
        build, baked_disk.opened(path, build, launched_with), allowed_differences
    )
    drift = _print_disk_record(checkout, record, "disk", [], as_json=options.as_json)
    _raise_outcome(
        drift, [], "launch the image again: what is on this disk is no longer what was baked"
    )
    return 0


def _print_disk_record(
    checkout: Checkout, record: DiskRecord, name: str, first: Iterable[str], *, as_json: bool
) -> str:
    """Write and print the record; return its headline, or "" if the disk did not drift. `first` are
    lines about more than this disk."""
    records.write(checkout.root / FOLDER / f"{name}.json", record)
    print_record(record, [*first, *disk_records.lines(record)], as_json)
    return disk_records.headline(record) if record.verdict is DiskVerdict.DRIFTED else ""


def _compare_instance(checkout: Checkout, options: DriftOptions, instance: str) -> int:
    image = _required_image(options)
    # A wrong address for notices is refused now, not after minutes of reading.
    notify.check()
    definition, builds = checkout.definition(image), checkout.builds(image)
    account, progress = checkout.account(definition), checkout.progress("drift", image)
    regions = options.region or definition.regions
    check_regions(regions)
    target = running_instance.find(account, regions, instance)
    # EC2 hides the tags of another account's AMI: the publish records here name its build.
    if target.owner:
        target = running_instance.identified(target, builds)
    target.demand_build(image)
    build = builds.build(target.build_id)
    if options.key:
        _check_signed(account, target, build, options.key)
    manifest.demand_published(build, target.manifest_sha256)
    allowed_differences = may_differ.allowed_paths(definition, clock.now().date())
    with outside.opened(account, target, build, checkout.root / FOLDER, progress) as looked_at:
        record = disk_check.check(build, looked_at, allowed_differences)
    unlike_siblings = disk_records.unlike(record, _siblings(checkout))
    drift = _print_disk_record(checkout, record, instance, unlike_siblings, as_json=options.as_json)
    notice_errors = list[GoldenError]()
    if drift:
        notice_errors = notify.tell(account, drift, "\n".join(disk_records.lines(record)))
    _raise_outcome(drift, notice_errors, running_instance.replacing(target.region, instance))
    return 0


def _check_signed(account: Account, target: RunningInstance, build: BuildFolder, key: Path) -> None:
    """Check signatures: in the AMI's account, or, if that is another account, by their copies
    beside the build."""
    if target.owner:
        provenance.verify(build, key, provenance.LASTING)
    else:
        published_provenance.verify(account, [target.region], target.ami, key)


def _siblings(checkout: Checkout) -> Iterator[DiskRecord]:
    """Yield the records of instances that were compared before, without those of another version of
    the program."""
    for path in sorted((checkout.root / FOLDER).glob("i-*.json")):
        # A record of another version of the program may not be readable.
        with contextlib.suppress(GoldenError):
            yield records.read(path, DiskRecord)


def _compare_fleet(checkout: Checkout, options: DriftOptions) -> int:
    notify.check()
    images = checkout.images_by_region(options.image, options.region)
    account = checkout.account(also=images)
    definitions = list(checkout.definitions(options.image))
    # The ledger and the tags are only in the account that publishes.
    for definition in definitions:
        if definition.publish and definition.publish.account:
            account.expect(definition.publish.account, (options.region or definition.regions)[0])
    record, failed = fleet.read_fleet(account, images)
    records.write(checkout.root / FOLDER / DRIFT_FILE, record)
    lines = list(fleet_records.lines(record))
    print_record(record, lines, options.as_json)
    drifted = any(record.rows())
    # Regions that failed are reported, too: drift may hide there.
    notice_errors = list[GoldenError]()
    if drifted or failed:
        notice_errors = notify.tell(
            checkout.account(*definitions), lines[-1], "\n".join([*lines[:-1], run_url()])
        )
    _raise_outcome(
        fleet_records.headline(record) if drifted else "",
        notice_errors,
        f"{running_instance.replacing('REGION', 'ID')}; a group takes the default by its next "
        "refresh",
    )
    raise_failed(failed, "not every region could be read")
    return 0


def _raise_outcome(drift: str, notice_errors: list[GoldenError], hint: str) -> None:
    """End with an error for the drift, or else for a notice that could not be sent."""
    if drift:
        raise NotVerified(
            f"drift: {drift}", tail="\n".join(error.message for error in notice_errors), hint=hint
        )
    if notice_errors:
        raise notice_errors[0]
