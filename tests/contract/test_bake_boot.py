"""A bake without a mirror and without the newer mke2fs, and boots of its disk that are killed, or
that do not succeed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core import records, shell
from goldenami.local.disk.disk import NOT_REPRODUCIBLE
from goldenami.model.builds.build_records import BakeRecord
from support.builds import checkout
from support.builds.bakes import IMAGE, build_of_lock, finish, kill, locked, settle, until
from support.debian import debrepo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the checkout with a whole build that nobody has verified yet.

    It is baked while the mirror has lost every file, for which it would be asked if the store
    lacked one, and without the newer mke2fs, as on Debian 12 and Ubuntu.
    """
    folder = tmp_path_factory.mktemp("boots")
    copy = locked(folder / "root")
    program, real = folder / "bin/mke2fs", shell.require("mke2fs", "e2fsprogs")
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ncase "$*" in *"-d - "*) exit 1;; esac\nexec {real} "$@"\n',
                       encoding="utf-8")
    program.chmod(0o755)
    empty = debrepo.Mirror(folder)
    lost = {f"GOLDEN_MIRROR_{name}": empty.uri for name in ("DEBIAN", "DEBIAN_SECURITY", "PYPI")}
    status, output = finish(checkout.golden(copy, "bake", IMAGE, "--no-verify", **lost,
                                            PATH=f"{program.parent}:{os.environ['PATH']}"))
    assert (status, empty.requests) == (0, []), output
    assert f"not reproducible: {NOT_REPRODUCIBLE}" in output
    status, output = finish(checkout.golden(copy, "bake", IMAGE, "--fetch-only",
                                            GOLDEN_CACHE=str(folder / "cache"), **lost))
    empty.close()
    assert (status, "is no longer at" in output) == (4, True), output
    yield copy
    assert settle(copy) == []
    shutil.rmtree(copy, ignore_errors=True)


@pytest.fixture
def copied(root: Path) -> Iterator[Path]:
    """The build's folder, with a copy of its disk."""
    folder = build_of_lock(root)
    disk, whole = folder / "disk.raw", folder / "whole.raw"
    disk.rename(whole)
    subprocess.run(["cp", "--sparse=always", whole, disk], check=True)
    yield folder
    whole.replace(disk)


def overwrite(disk: Path, at: int, content: bytes) -> None:
    """Write over a part of the disk."""
    with disk.open("r+b") as image:
        image.seek(at)
        image.write(content)


@pytest.fixture
def damaged(copied: Path) -> Path:
    """The folder with zeros behind the partition table and the loaders: where the root file system
    begins."""
    overwrite(copied / "disk.raw", 130 << 20, b"\0" * (8 << 20))
    return copied


def test_the_record_says_that_the_disk_is_not_reproducible(root: Path) -> None:
    record = records.read(build_of_lock(root) / "bake.json", BakeRecord)
    assert record.disk is not None and record.disk.note == NOT_REPRODUCIBLE
    assert record.host.tools["e2fsprogs"]


@pytest.mark.parametrize("step", ["boot bios", pytest.param("checks", marks=pytest.mark.long)])
def test_kill_9_while_the_disk_boots(root: Path, step: str) -> None:
    """Both boots, and the tests in the disk's root tree; while the machine is looked at, there is
    one ssh more."""
    process = checkout.golden(root, "verify", IMAGE)
    until(process, step)
    time.sleep(5)
    kill(process)
    assert settle(root) == []


@pytest.mark.long
def test_a_boot_that_never_reaches_ssh_shows_the_console(root: Path, damaged: Path) -> None:
    status, output = finish(checkout.golden(root, "verify", IMAGE, GOLDEN_BOOT_LIMIT_S="60"))
    assert status == 5, output
    assert "serial console" in output
    assert re.search(r"^  \| .*", output, re.M), "no line of the console"
    assert not (damaged / "verify.json").exists()


@pytest.mark.long
def test_a_disk_that_boots_under_bios_only(root: Path, copied: Path) -> None:
    """Its loader for UEFI is erased, as FAT does it: by a mark in its entry's first byte. It ends
    before the checks."""
    with (copied / "disk.raw").open("rb") as image:
        entry = image.read(130 << 20).index(b"BOOTX64 EFI")
    overwrite(copied / "disk.raw", entry, b"\xe5")
    status, output = finish(checkout.golden(root, "verify", IMAGE))
    assert (status, "uefi: the boot ended in: Shell>" in output) == (5, True), output
    assert "power off" not in output
    assert not (copied / "verify.json").exists()
    assert settle(root) == []
