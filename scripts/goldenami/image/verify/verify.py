"""The `verify` stage: the sealed disk booted as if on EC2, twice, and every check of tests/image
run on it.

A build that is an AMI is launched once instead.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path

from goldenami.core import process, records
from goldenami.core.errors import NotVerified, StageFailed
from goldenami.core.terminal.progress import Progress
from goldenami.image.builders.builder import Builder
from goldenami.image.verify import hardening
from goldenami.local import workspace
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import Outcome, Verdict, VerifyRecord
from goldenami.model.builds.hardening_records import HARDENING_FILE
from goldenami.model.builds.lockfile import Lock


def run(
    root: Path, build: BuildFolder, lock: Lock, progress: Progress, builder: Builder
) -> VerifyRecord:
    """Boot `build`, check it, write verify.json and junit.xml, and move `latest` (see
    `point_latest`).

    Of an image with the role `hardening`, hardening.json too; `root` is the checkout.

    A boot that breaks off takes the record of an earlier one with it; what says nothing of the
    build (an interrupt, a host not ready) leaves all of it.
    """
    bake = build.read_bake()
    builder.check_host()
    builder.check_build(build)
    log = build.log("verify")
    log.parent.mkdir(exist_ok=True)
    log.write_text("", encoding="utf-8")
    began = time.monotonic()
    with workspace.scratch_in(build.image.path, "verify") as work:
        try:
            result = builder.verify(lock, build, work, log, progress)
        except StageFailed:
            _keep(work, build)
            point_latest(build)
            raise
        _keep(work, build)
    passed = bool(result.checks) and all(check.outcome is Outcome.CORRECT
                                         for check in result.checks)
    record = VerifyRecord(
        schema_version=1, image=lock.image, build_id=build.build_id,
        verdict=Verdict.VERIFIED if passed else Verdict.NOT_VERIFIED, accel=result.accel,
        boots=result.boots, checks=result.checks, seconds=round(time.monotonic() - began, 1),
        disk_sha256=bake.disk_sha256, ami=bake.ami_id,
    )
    if result.hardening:
        hardness = hardening.judge(root, build, result.hardening)
        records.write(build.path / HARDENING_FILE, hardness)
        progress.say(f"hardening: {hardness}")
    records.write(build.verify, record)
    point_latest(build)
    progress.remember()
    return record


def point_latest(build: BuildFolder) -> None:
    """Make build/<image>/latest name this build if its record passes, by an atomic rename.

    If it does not, and `latest` names it or nothing, the newest other verified build is named, or
    nothing.
    """
    link, passed = build.image.latest_link, build.is_verified
    if not passed and link.is_symlink() and link.readlink() != Path(build.build_id):
        return
    target = build if passed else previous(build, whole=True)
    if target is None:
        link.unlink(missing_ok=True)
        return
    aside = process.aside(link)
    aside.unlink(missing_ok=True)
    aside.symlink_to(target.build_id)
    aside.rename(link)


def previous(build: BuildFolder, *, whole: bool = False) -> BuildFolder | None:
    """The newest other verified build of the image, by the time of its record; with `whole` one
    that `clean` has left its disk, if it is one."""
    others = [other for other in build.image.builds if other.build_id != build.build_id
              and other.is_verified
              and not (whole and _lost_its_disk(other))]
    return max(others, key=lambda other: other.verify.stat().st_mtime, default=None)


def _lost_its_disk(build: BuildFolder) -> bool:
    return build.read_bake().disk is not None and not build.disk.exists()


def _keep(work: Path, build: BuildFolder) -> None:
    """Keep the evidence (serial consoles, JUnit, metadata requests) with the build, also of a
    failed verify.

    An earlier verdict goes first, with the page that shows it: it was not reached by this evidence.
    """
    for path in (build.verify, build.report, build.summary, build.path / HARDENING_FILE):
        path.unlink(missing_ok=True)
    for name in ("junit.xml", "junit-disk.xml", "serial-bios.log", "serial-uefi.log", "imds.log"):
        if (work / name).exists():
            shutil.copyfile(work / name, build.path / name)


def summary(record: VerifyRecord) -> str:
    """`61 correct, 1 missing; SSH after 39 s (bios), 44 s (uefi) under tcg`."""
    counts = Counter(check.outcome.value for check in record.checks)
    outcomes = ", ".join(f"{counts[outcome.value]} {outcome.value}" for outcome in Outcome
                         if counts[outcome.value])
    boots = ", ".join(f"{boot.seconds_to_ssh:.0f} s ({boot.firmware})" for boot in record.boots)
    return f"{outcomes or 'no check ran'}; SSH after {boots} under {record.accel.value}"


def failure(record: VerifyRecord, build: BuildFolder) -> NotVerified:
    """The error of a build that did not pass, with its first failing checks."""
    wrong = [check for check in record.checks if check.outcome is not Outcome.CORRECT]
    lines = [f"{check.outcome.value:>11}  {check.id}: {check.detail.splitlines()[0] if check.detail else ''}"
             for check in wrong[:12]]
    return NotVerified(f"{record.image} {record.build_id} is not verified: {len(wrong)} of "
                       f"{len(record.checks)} checks",
                       tail="\n".join(lines), log=build.verify,
                       hint=f"see {build.report}; `latest` does not name this build")
