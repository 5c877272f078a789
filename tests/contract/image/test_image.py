"""The default image, as `scripts/test all` has just made it by `make bake` in a clone: records,
evidence and repetition."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from fnmatch import fnmatch
from pathlib import Path

import pytest
from goldenami.core import records, shell
from goldenami.local.disk import disk
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.build_records import BakeRecord, Outcome, Verdict, VerifyRecord
from goldenami.model.locked import lockfile
from support.builds.checkout import ROOT, leftovers

pytestmark = pytest.mark.slow
IMAGE, CLONE = "debian-13-ml", ROOT / "build/tests/clone"


@pytest.fixture(scope="module")
def build() -> Path:
    latest = CLONE / "build" / IMAGE / "latest"
    assert latest.is_symlink(), "scripts/test makes the clone, and `make bake` in it"
    return latest.resolve()


@pytest.fixture(scope="module")
def baked(build: Path) -> BakeRecord:
    return records.read(build / "bake.json", BakeRecord)


@pytest.fixture(scope="module")
def verified(build: Path) -> VerifyRecord:
    return records.read(build / "verify.json", VerifyRecord)


def test_the_build_is_the_committed_locks(build: Path, baked: BakeRecord) -> None:
    lock, digest = lockfile.read(lockfile.path_of(CLONE, IMAGE))
    assert baked.lock_sha256 == digest == records.sha256_file(build / "lock.json")
    assert build.name == digest[:12] == baked.build_id
    entries = json.loads((build / "manifest.json").read_text(encoding="utf-8"))["entries"]
    lists = [
        entry["path"] for entry in entries if fnmatch(entry["path"], "/var/lib/dpkg/info/*.list")
    ]
    assert baked.packages_count == len(lists) <= len(lock.packages)


def test_every_check_is_correct(verified: VerifyRecord) -> None:
    assert verified.verdict is Verdict.VERIFIED
    assert [check.id for check in verified.checks if check.outcome is not Outcome.CORRECT] == []
    roles = {check.role for check in verified.checks}
    assert {
        "os_updates",
        "cuda",
        "kernel",
        "nvidia_driver",
        "limits",
        "network_tuning",
        "provenance",
        "seal",
        "boot",
    } <= roles


def test_it_booted_under_both_firmwares(verified: VerifyRecord) -> None:
    assert [boot.firmware for boot in verified.boots] == ["bios", "uefi"]


def test_the_disk_is_what_the_record_says(build: Path, baked: BakeRecord) -> None:
    assert baked.disk is not None
    with (build / "disk.raw").open("rb") as disk:
        assert hashlib.file_digest(disk, "sha256").hexdigest() == baked.disk.sha256
    assert (build / "disk.raw").stat().st_size == baked.disk.bytes_apparent
    assert disk_blocks.digest_of(build / "disk.raw") == baked.disk.blocks_sha256
    assert records.sha256_file(build / "disk.blocks") == baked.disk.blocks_sha256
    assert records.sha256_file(build / "manifest.json") == baked.manifest_sha256


def test_the_file_system_is_clean(build: Path) -> None:
    shell.output(
        [
            shell.require("e2fsck", "e2fsprogs"),
            "-fn",
            f"{build / 'disk.raw'}?offset={disk.ROOT_OFFSET}",
        ]
    )


def test_the_evidence_is_kept(build: Path, verified: VerifyRecord) -> None:
    suite = ElementTree.parse(build / "junit.xml").getroot()
    assert sum(1 for _ in suite.iter("testcase")) > 20
    without_boot = ElementTree.parse(build / "junit-disk.xml").getroot()
    assert sum(1 for _ in without_boot.iter("testcase")) > 20
    assert "Linux version" in (build / "serial-bios.log").read_text(
        encoding="utf-8", errors="replace"
    )
    assert "Linux version" in (build / "serial-uefi.log").read_text(
        encoding="utf-8", errors="replace"
    )
    assert "/latest/api/token" in (build / "imds.log").read_text(encoding="utf-8")


def test_the_manifest_holds_the_driver(build: Path) -> None:
    lock, _ = lockfile.read(lockfile.path_of(CLONE, IMAGE))
    text = (build / "manifest.json").read_text(encoding="utf-8")
    assert json.loads(text)
    assert f"/lib/modules/{lock.kernel.release}/updates/dkms/" in text


def test_a_second_bake_has_nothing_to_do() -> None:
    began = time.monotonic()
    done = subprocess.run(
        [str(CLONE / "scripts/golden"), "bake", IMAGE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stderr
    print(f"second bake: {time.monotonic() - began:.1f} s")


def test_nothing_is_left_behind() -> None:
    assert [line for line in leftovers(CLONE / "build") if "pytest" not in line] == []
