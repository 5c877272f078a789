"""The `verify` stage: the sealed disk booted as if on EC2, twice, and every check of tests/image run on it.

A build that is an AMI is launched once instead.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from pathlib import Path

from goldenami.builders import ec2_builder
from goldenami.builders.ec2_builder import Place
from goldenami.core import records, shell
from goldenami.core.errors import BadInput, NotVerified, StageFailed
from goldenami.core.progress import Progress
from goldenami.local import container, ssh, workspace
from goldenami.local.sandbox import namespaces, program
from goldenami.model import lockfile
from goldenami.model.build_records import (
    BAKE_FILE,
    COVERAGE_FILE,
    PUBLISH_FILE,
    REPORT_FILE,
    VERIFY_FILE,
    BakeRecord,
    Outcome,
    Verdict,
    VerifyRecord,
)
from goldenami.model.lockfile import Lock
from goldenami.model.plans import BootPlan, VerifyPlan, VerifyResult

USERS = {"debian": "debian", "ubuntu": "ubuntu"}
"""cloud-init's default user of each distribution's own package."""
DISK = "disk.raw"
GROWTH_BYTES = 1 << 30
"""The volume is launched this much larger than the image, so that growing the root can be seen."""


def run(root: Path, folder: Path, lock: Lock, progress: Progress, place: Place | None = None) -> VerifyRecord:
    """Boot the build in `folder`, check it, write verify.json and junit.xml, and move `latest` (see `point_latest`).

    A disk is booted here; an AMI is launched at `place`, which then has to be given. A boot that breaks off takes the
    record of an earlier one with it; what says nothing of the build (an interrupt, a host not ready) leaves all of it.
    """
    bake = records.read(folder / BAKE_FILE, BakeRecord)
    if place is None:
        container.check_host()
        _demand_disk(folder)
    log = folder.parent / "logs" / f"verify-{folder.name}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("", encoding="utf-8")
    began = time.monotonic()
    with workspace.scratch_in(folder.parent, "verify") as work:
        try:
            if place is None:
                plan = _plan(root, folder, lock, bake, work, log)
                result = program.call("goldenami.local.programs.verify", plan, VerifyResult, progress)
            else:
                result = ec2_builder.verify(root, lock, bake, folder, work, log, place, progress)
        except StageFailed:
            _keep(work, folder)
            point_latest(folder)
            raise
        _keep(work, folder)
    passed = bool(result.checks) and all(check.outcome is Outcome.CORRECT for check in result.checks)
    record = VerifyRecord(
        schema_version=1, image=lock.image, build_id=folder.name,
        verdict=Verdict.VERIFIED if passed else Verdict.NOT_VERIFIED, accel=result.accel,
        boots=result.boots, checks=result.checks, seconds=round(time.monotonic() - began, 1),
        disk_sha256=bake.disk_sha256, ami=bake.ami_id,
    )
    records.write(folder / VERIFY_FILE, record)
    point_latest(folder)
    progress.remember()
    return record


def is_verified(folder: Path) -> bool:
    """Whether this build has a passing record."""
    path = folder / VERIFY_FILE
    return path.exists() and records.read(path, VerifyRecord).verdict is Verdict.VERIFIED


def point_latest(folder: Path) -> None:
    """Make build/<image>/latest name this build if its record passes, by an atomic rename.

    If it does not, and `latest` names it or nothing, the newest other verified build is named, or nothing.
    """
    latest, passed = folder.parent / "latest", is_verified(folder)
    if not passed and latest.is_symlink() and latest.readlink() != Path(folder.name):
        return
    target = folder if passed else previous(folder, whole=True)
    if target is None:
        latest.unlink(missing_ok=True)
        return
    aside = folder.parent / f".latest-{os.getpid()}"
    aside.unlink(missing_ok=True)
    aside.symlink_to(target.name)
    aside.rename(latest)


def _lost_its_disk(folder: Path) -> bool:
    """Whether this is a build that had a disk, and has none any more."""
    return records.read(folder / BAKE_FILE, BakeRecord).disk is not None and not (folder / DISK).exists()


def _demand_disk(folder: Path) -> None:
    """BadInput where `clean` has removed the disk of this build."""
    if not (folder / DISK).exists():
        raise BadInput(f"{folder / DISK} does not exist", hint="bake it again: the same lock gives the same disk")


def _plan(root: Path, folder: Path, lock: Lock, bake: BakeRecord, work: Path, log: Path) -> VerifyPlan:
    assert bake.disk is not None
    return VerifyPlan(
        work=work, log=log, root=root, disk=folder / DISK, disk_sha256=bake.disk.sha256, variables=folder / "vars.json",
        coverage=folder / COVERAGE_FILE, user=USERS[lock.base.distribution], roles=lock.roles,
        features=lock.hardware.features, growth_bytes=GROWTH_BYTES, boot_limit_s=ssh.boot_limit_s())


def _keep(work: Path, folder: Path) -> None:
    """Keep the evidence (serial consoles, JUnit, metadata requests) with the build, also of a failed verify.

    An earlier verdict goes first, with the page that shows it: it was not reached by this evidence.
    """
    for name in (VERIFY_FILE, REPORT_FILE):
        (folder / name).unlink(missing_ok=True)
    for name in ("junit.xml", "junit-disk.xml", "serial-bios.log", "serial-uefi.log", "imds.log"):
        if (work / name).exists():
            shutil.copyfile(work / name, folder / name)


def summary(record: VerifyRecord) -> str:
    """`61 correct, 1 missing; SSH after 39 s (bios), 44 s (uefi) under tcg`."""
    counts = Counter(check.outcome.value for check in record.checks)
    found = ", ".join(f"{counts[outcome.value]} {outcome.value}" for outcome in Outcome if counts[outcome.value])
    boots = ", ".join(f"{boot.seconds_to_ssh:.0f} s ({boot.firmware})" for boot in record.boots)
    return f"{found or 'no check ran'}; SSH after {boots} under {record.accel.value}"


def failure(record: VerifyRecord, folder: Path) -> NotVerified:
    """The error of a build that did not pass, with its first failing checks."""
    wrong = [check for check in record.checks if check.outcome is not Outcome.CORRECT]
    lines = [f"{check.outcome.value:>11}  {check.id}: {check.detail.splitlines()[0] if check.detail else ''}"
             for check in wrong[:12]]
    return NotVerified(f"{record.image} {record.build_id} is not verified: {len(wrong)} of {len(record.checks)} checks",
                       tail="\n".join(lines), log=folder / VERIFY_FILE,
                       hint=f"see {folder / 'report.html'}; `latest` does not name this build")


def previous(folder: Path, *, whole: bool = False) -> Path | None:
    """The newest other verified build of the image, by the time of its record; with `whole` one that `clean` has left
    its disk, if it is one."""
    others = [path.parent for path in folder.parent.glob(f"*/{VERIFY_FILE}")
              if path.parent.name not in (folder.name, "latest") and (path.parent / BAKE_FILE).exists()
              and not (whole and _lost_its_disk(path.parent))]
    return max(filter(is_verified, others), key=lambda other: (other / VERIFY_FILE).stat().st_mtime, default=None)


def shell_session(root: Path, image: str) -> int:
    """Boot the newest verified disk of `image` and run an interactive SSH session in it."""
    latest = root / "build" / image / "latest"
    if not latest.exists():
        raise BadInput(f"{image} has no verified build", hint=f"run `make bake IMAGE={image}`")
    folder = latest.resolve()
    if records.read(folder / BAKE_FILE, BakeRecord).disk is None:
        raise BadInput(f"{folder} was baked on EC2: there is no disk to boot", hint="launch its AMI")
    _demand_disk(folder)
    lock, _ = lockfile.read_copy(folder / "lock.json")
    with workspace.scratch_in(folder.parent, "shell") as work, namespaces.own_cgroup() as cgroup:
        plan = BootPlan(work=work, log=work / "log", disk=folder / DISK, user=USERS[lock.base.distribution],
                        boot_limit_s=ssh.boot_limit_s())
        argv = program.argv("goldenami.local.programs.shell", plan)
        return shell.interactive(namespaces.unshare_argv(namespaces.join_argv(cgroup, argv)),
                                 env=namespaces.python_env())


def clean(image: Path, *, everything: bool) -> list[str]:
    """Remove builds and leftovers in build/<image>; the newest verified build stays unless `everything`.

    Of what is published only the disk goes: by its records the next upload is a difference, and can be read back. The
    caller holds the image's lock: a build in progress is in this folder too. What a session of `shell` uses stays.
    """
    latest = image / "latest"
    keep = {"logs", latest.resolve().name if latest.exists() else ""} if not everything else set()
    freed: list[str] = []
    for folder in sorted(path for path in image.iterdir() if path.is_dir() and not path.is_symlink()):
        if folder.name in keep or workspace.in_use(folder):
            continue
        if not (folder / PUBLISH_FILE).exists():
            freed.append(_free(folder, f"{image.name}/{folder.name}"))
        elif (folder / DISK).exists():
            freed.append(_free(folder / DISK, f"{image.name}/{folder.name}/{DISK}"))
    if everything:
        latest.unlink(missing_ok=True)
    return freed or [f"nothing to free of {image.name}"]


def clean_demo(demo: Path) -> str:
    """Remove what `make demo` left; the caller holds its lock."""
    return _free(demo, demo.name)


def _free(what: Path, name: str) -> str:
    """Remove a folder or a file; returns what to say of it."""
    size = sum(path.stat().st_blocks * 512 for path in (what, *what.rglob("*")) if path.is_file())
    if what.is_dir():
        shutil.rmtree(what)
    else:
        what.unlink()
    return f"removed {name} ({size / 1e6:.0f} MB)"
