"""`latest`: it names a verified build, the newest that is one, or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput, StageFailed
from goldenami.core.terminal.progress import Progress
from goldenami.image.builders.local import LocalBuilder
from goldenami.image.verify import verify
from goldenami.local import ssh
from goldenami.local.disk import disk
from goldenami.model.builds import lockfile
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import REPORT_FILE, VERIFY_FILE, Verdict
from support.builds import builds
from support.builds.tools import need


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Three verified builds, the last verified last; `latest` names it."""
    made = [builds.build(tmp_path, number) for number in (1, 2, 3)]
    for age, folder in enumerate(made):
        os.utime(folder / VERIFY_FILE, (1000 + age, 1000 + age))
    verify.point_latest(BuildFolder(made[-1]))
    return made


def fail(folder: Path) -> None:
    builds.write_verify(folder, verdict=Verdict.NOT_VERIFIED, checks=builds.wrong(builds.CHECKS[0]))
    verify.point_latest(BuildFolder(folder))


def latest(folder: Path) -> str | None:
    link = folder.parent / "latest"
    return link.readlink().name if link.is_symlink() else None


def test_a_build_that_fails_when_it_is_verified_again_is_not_the_latest_any_more(
    folders: list[Path],
) -> None:
    assert latest(folders[0]) == folders[2].name
    fail(folders[2])
    assert latest(folders[0]) == folders[1].name


def test_without_another_verified_build_nothing_is_the_latest(folders: list[Path]) -> None:
    for folder in folders[::-1]:
        fail(folder)
    assert latest(folders[0]) is None
    fail(folders[0])
    assert latest(folders[0]) is None


def test_another_build_that_fails_moves_nothing(folders: list[Path]) -> None:
    fail(folders[1])
    assert latest(folders[0]) == folders[2].name


def test_a_boot_that_breaks_off_leaves_no_verdict_of_an_earlier_one(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk has an empty root: no loader, no kernel. What it said replaces the evidence, and so
    the record goes."""
    need("qemu-system-x86_64", "unshare", "setpriv", "systemd-nspawn")
    for name in ("proc", "dev"):
        (tmp_path / "root" / name).mkdir(parents=True)
    shell.output(["mke2fs", "-q", "-F", "-t", "ext4", "-E", f"offset={disk.ROOT_OFFSET}", "-d",
                  str(tmp_path / "root"), str(folders[2] / "disk.raw"), "8M"])
    lock, _ = lockfile.read_copy(folders[2] / "lock.json")
    (folders[2] / REPORT_FILE).write_text("verified", encoding="utf-8")

    def again(limit: str) -> None:
        monkeypatch.setenv(ssh.LIMIT, limit)
        verify.run(tmp_path, BuildFolder(folders[2]), lock,
                   Progress.of("verify", builds.IMAGE, CachePaths(tmp_path)),
                   LocalBuilder(tmp_path))

    with pytest.raises(BadInput):
        again("1 s")
    assert (folders[2] / REPORT_FILE).exists()
    assert (BuildFolder(folders[2]).is_verified, latest(folders[0])) == (True, folders[2].name)
    with pytest.raises(StageFailed,
                       match=r"SSH did not answer within 1 s|the boot ended in: No bootable device"):
        again("1")
    assert (folders[2] / "serial-bios.log").exists()
    assert not (folders[2] / VERIFY_FILE).exists() and not (folders[2] / REPORT_FILE).exists()
    assert latest(folders[0]) == folders[1].name
