"""Compare one disk, of an instance or in a file, with its bake."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from goldenami.aws.services import notify
from goldenami.aws.session import Account, check_regions
from goldenami.commands import print_record
from goldenami.commands.checkout import Checkout
from goldenami.core import clock, records
from goldenami.core.errors import BadInput, GoldenError
from goldenami.image.provenance import provenance, published_provenance
from goldenami.local.drift import baked_disk, disk_check, disk_records, manifest, may_differ
from goldenami.local.drift.disk_records import DiskRecord, DiskVerdict
from goldenami.local.drift.launched_with import LaunchedWith
from goldenami.model.builds.build_folder import BuildFolder

from goldenami_fleet.commands.drift_options import FOLDER, DriftOptions, raise_outcome
from goldenami_fleet.drift import outside, running_instance
from goldenami_fleet.drift.running_instance import RunningInstance


def _required_image(options: DriftOptions) -> str:
    if options.image is None:
        raise BadInput("of which image is it?", hint="`golden drift IMAGE ...`")
    return options.image


def compare_disk(checkout: Checkout, options: DriftOptions, path: Path) -> int:
    """Compare a disk in a file with a build that is here. Raises NotVerified if it drifted."""
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
    raise_outcome(
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


def compare_instance(checkout: Checkout, options: DriftOptions, instance: str) -> int:
    """Compare an instance's disk with the build of its AMI, and send a notice of drift. Raises
    NotVerified if it drifted."""
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
    raise_outcome(drift, notice_errors, running_instance.replacing(target.region, instance))
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
