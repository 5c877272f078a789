"""Builds as bake and verify leave them, with a disk of a few megabytes, for the tests that publish."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path
from typing import Any

from goldenami import lockfile, records
from goldenami.build_records import (
    BAKE_FILE,
    LOCK_FILE,
    VERIFY_FILE,
    Accel,
    BakeRecord,
    Boot,
    Check,
    Disk,
    Host,
    Outcome,
    Verdict,
    VerifyRecord,
)
from goldenami.lockfile import BaseLock, HardwareLock, Kernel, Lock

IMAGE = "debian-12-ml-cpu"
GPU_IMAGE = "debian-12-ml-gpu"
MIB = 1 << 20
REGIONS = ("us-east-1", "eu-west-1")
CHECKS = ("boot/imdsv2", "boot/disk_untouched", "seal/machine_id")


def write_disk(path: Path, seed: int, *, data_mib: int = 3, gib: int = 1) -> str:
    """A sparse disk with `data_mib` of noise in pieces of half a MiB that lie apart; returns its SHA-256.

    Two seeds share all pieces but the first, as two releases of an image do.
    """
    with path.open("wb") as sink:
        sink.truncate(gib << 30)
        for index in range(data_mib * 2):
            noise = random.Random(seed if index == 0 else -index)
            os.pwrite(sink.fileno(), noise.randbytes(MIB // 2), index * 16 * MIB)
    return records.sha256_sparse(path)


def lock(image: str, number: int, sm: tuple[str, ...] = ()) -> Lock:
    """A lock of no packages; `number` makes it another one."""
    return Lock(
        image=image, description="Debian 12 for tests", source_date_epoch=number, disk_size_gib=1,
        base=BaseLock(distribution="debian", release="bookworm", major=12, architecture="amd64", suites=[]),
        kernel=Kernel(release="6.1.0-50-cloud-amd64", package="linux-image-6.1.0-50-cloud-amd64", version="6.1.140-1"),
        driver=None, cuda=None, hardware=HardwareLock(families=["m7i"], sm=list(sm), march=[]), choices=[],
        base_packages=[], roles=["seal"], steps=[], variables={}, inputs={}, packages={})


def build(root: Path, number: int, *, image: str = IMAGE, sm: tuple[str, ...] = (), data_mib: int = 3) -> Path:
    """The `number`th build of `image` below `root`, verified; a higher number was baked later. Returns its folder."""
    made = lock(image, number, sm)
    digest = hashlib.sha256(records.canonical(made.model_dump(mode="json")).encode()).hexdigest()
    folder = root / "build" / image / digest[:lockfile.ID_LENGTH]
    folder.mkdir(parents=True)
    records.write(folder / LOCK_FILE, made)
    sha256 = write_disk(folder / "disk.raw", number, data_mib=data_mib)
    bake = BakeRecord(
        image=image, build_id=folder.name, lock_sha256=digest, git_commit="0" * 40,
        started_at=f"2026-11-{number:02d}T10:00:00Z", host=Host(cpus=2, python="3.11", packer="1.6.6"), phases=[],
        roles=[], components=[], packages_count=0, upgradable=[], layers=[], manifest_sha256="0" * 64,
        disk=Disk(path="disk.raw", bytes_apparent=1 << 30, bytes_allocated=data_mib * MIB, sha256=sha256))
    records.write(folder / BAKE_FILE, bake)
    write_verify(folder, disk_sha256=sha256)
    return folder


def write_verify(folder: Path, **changes: Any) -> None:
    """A passing verify record of the build in `folder`; `changes` replace keys."""
    checks = [Check(id=name, role=name.partition("/")[0], title=name, outcome=Outcome.CORRECT, seconds=0.1)
              for name in CHECKS]
    boots = [Boot(firmware=firmware, seconds_to_ssh=30.0) for firmware in ("bios", "uefi")]
    facts: dict[str, Any] = {
        "image": folder.parent.name, "build_id": folder.name, "verdict": Verdict.VERIFIED, "accel": Accel.TCG,
        "boots": boots, "checks": checks, "seconds": 60.0,
        "disk_sha256": records.read(folder / BAKE_FILE, BakeRecord).disk.sha256}
    records.write(folder / VERIFY_FILE, VerifyRecord(**(facts | changes)))


def wrong(check: str) -> list[Check]:
    """The checks with one that failed."""
    return [Check(id=name, role="boot", title=name, seconds=0.1,
                  outcome=Outcome.INCORRECT if name == check else Outcome.CORRECT) for name in CHECKS]
