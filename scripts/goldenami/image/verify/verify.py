"""The `verify` stage: the sealed disk is booted as if on EC2, twice, and every check of tests/image
runs on it.

A build that is an AMI is launched once instead.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from goldenami.core import process, records
from goldenami.core.errors import HostNotReady, NotVerified
from goldenami.core.terminal.progress import Progress
from goldenami.image.builders.builder import Builder
from goldenami.image.verify import hardening
from goldenami.local.host import host_tools, workspace
from goldenami.model.builds import figures
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import (
    REPORT_FILE,
    SUMMARY_FILE,
    VERIFY_FILE,
    Check,
    Outcome,
    Verdict,
    VerifyRecord,
)
from goldenami.model.builds.hardening_records import HARDENING_FILE
from goldenami.model.locked.lockfile import Lock

_VERDICT_FILES = (VERIFY_FILE, REPORT_FILE, SUMMARY_FILE, HARDENING_FILE)
"""Files of a build that hold a verdict or are made from one."""


def run(
    root: Path, build: BuildFolder, lock: Lock, progress: Progress, builder: Builder
) -> VerifyRecord:
    """Boot `build`, check it, write verify.json and junit.xml, and move `latest` (see
    `point_latest`).

    An image with the role `hardening` gets hardening.json too; `root` is the checkout.

    Only a check that ran and failed, or a boot that came to a dead end, takes an earlier record and
    `latest` from the build. What says nothing of the build (an interrupt, a busy host, a module
    that the host lacks) changes nothing.
    """
    bake = build.read_bake()
    builder.check_host()
    builder.check_build(build)
    log = build.log("verify")
    log.parent.mkdir(exist_ok=True)
    log.write_text("", encoding="utf-8")
    began = time.monotonic()
    with workspace.scratch_in(build.image.path, "verify") as work, _evidence(work, build):
        result = builder.verify(lock, build, work, log, progress)
        figures.keep(build, work)
        # A host that is too busy for some checks must not take an earlier verdict away.
        if build.is_verified:
            _demand_a_verdict(result.checks, log)
    passed = _all_are(result.checks, {Outcome.CORRECT})
    record = VerifyRecord(
        schema_version=1,
        image=lock.image,
        build_id=build.build_id,
        verdict=Verdict.VERIFIED if passed else Verdict.NOT_VERIFIED,
        accel=result.accel,
        boots=result.boots,
        checks=result.checks,
        seconds=round(time.monotonic() - began, 1),
        disk_sha256=bake.disk_sha256,
        ami=bake.ami_id,
    )
    if result.hardening:
        hardness = hardening.judge(root, build, result.hardening)
        records.write(build.path / HARDENING_FILE, hardness)
        progress.say(f"hardening: {hardness}")
    records.write(build.verify, record)
    # The next lines write them anew. They go after the record: a kill before it leaves all as is.
    _forget(build, REPORT_FILE, SUMMARY_FILE)
    if not result.hardening:
        _forget(build, HARDENING_FILE)
    point_latest(build)
    progress.remember()
    return record


@contextlib.contextmanager
def _evidence(work: Path, build: BuildFolder) -> Iterator[None]:
    """Keep what the block wrote into `work`: with the build if there is a verdict, else with the
    log."""
    try:
        yield
    except NotVerified:
        _copy_evidence(work, build.path)
        _forget(build, *_VERDICT_FILES)
        point_latest(build)
        raise
    except BaseException:
        _copy_evidence(work, build.log("verify").parent)
        raise
    _copy_evidence(work, build.path)


def _all_are(checks: Sequence[Check], allowed: set[Outcome]) -> bool:
    return bool(checks) and all(check.outcome in allowed for check in checks)


def _demand_a_verdict(checks: Sequence[Check], log: Path) -> None:
    """Raise HostNotReady if no check failed but some could not look."""
    blind = [check for check in checks if check.outcome is Outcome.UNREACHABLE]
    if checks and not (blind and _all_are(checks, {Outcome.CORRECT, Outcome.UNREACHABLE})):
        return
    # This is no verdict on a disk that was verified before: its record stays.
    raise HostNotReady(
        f"{len(blind)} of {len(checks)} checks could not look: {host_tools.business(log.parent)}",
        tail="\n".join(f"{check.id}: {check.detail.partition(chr(10))[0]}" for check in blind[:12]),
        hint="the build is still verified, by its last record; "
        "verify it again when the host is idle",
        log=log,
    )


def point_latest(build: BuildFolder) -> None:
    """Make build/<image>/latest name this build if its record passes, by an atomic rename.

    If it does not pass, and `latest` names it or nothing, the newest other verified build is named.
    If there is none, `latest` is removed.
    """
    link, passed = build.image.latest_link, build.is_verified
    if not passed and link.is_symlink() and link.readlink() != Path(build.build_id):
        return
    target = build if passed else previous(build, whole=True)
    if target is None:
        link.unlink(missing_ok=True)
        return
    # A link cannot be changed in place: `latest` would be missing for a moment.
    aside = process.aside(link)
    aside.unlink(missing_ok=True)
    aside.symlink_to(target.build_id)
    aside.rename(link)


def previous(build: BuildFolder, *, whole: bool = False) -> BuildFolder | None:
    """The newest other verified build of the image, by the time of its record, or None. With
    `whole` only builds whose disk `clean` has not removed."""
    others = list[BuildFolder]()
    for candidate in build.image.builds:
        if candidate.build_id == build.build_id or not candidate.is_verified:
            continue
        if not (whole and _lost_its_disk(candidate)):
            others.append(candidate)
    return max(others, key=lambda candidate: candidate.verify.stat().st_mtime, default=None)


def _lost_its_disk(build: BuildFolder) -> bool:
    return build.read_bake().disk is not None and not build.disk.exists()


def _forget(build: BuildFolder, *names: str) -> None:
    for name in names:
        (build.path / name).unlink(missing_ok=True)


def _copy_evidence(work: Path, folder: Path) -> None:
    """Copy serial consoles, JUnit files and metadata requests of a verify, even of one that
    failed."""
    for name in ("junit.xml", "junit-disk.xml", "serial-bios.log", "serial-uefi.log", "imds.log"):
        if (work / name).exists():
            shutil.copyfile(work / name, folder / name)


def summary(record: VerifyRecord) -> str:
    """One line such as `61 correct, 1 missing; SSH after 39 s (bios), 44 s (uefi) under tcg`."""
    counts = Counter(check.outcome.value for check in record.checks)
    outcomes = ", ".join(
        f"{counts[outcome.value]} {outcome.value}" for outcome in Outcome if counts[outcome.value]
    )
    boots = ", ".join(f"{boot.seconds_to_ssh:.0f} s ({boot.firmware})" for boot in record.boots)
    return f"{outcomes or 'no check ran'}; SSH after {boots} under {record.accel.value}"


def failure(record: VerifyRecord, build: BuildFolder) -> NotVerified:
    """The error about a build that did not pass, with its first failed checks."""
    failed = [check for check in record.checks if check.outcome is not Outcome.CORRECT]
    lines = list[str]()
    for check in failed[:12]:
        first_line = check.detail.splitlines()[0] if check.detail else ""
        lines.append(f"{check.outcome.value:>11}  {check.id}: {first_line}")
    return NotVerified(
        f"{record.image} {record.build_id} is not verified: {len(failed)} of "
        f"{len(record.checks)} checks",
        tail="\n".join(lines),
        log=build.verify,
        hint=f"see {build.report}; `latest` does not name this build",
    )
