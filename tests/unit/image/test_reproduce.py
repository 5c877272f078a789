"""What `reproduce` varies between two bakes, and what it names where they differ: on real disks of
a few files."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from goldenami.core import records, shell
from goldenami.core.errors import StageFailed
from goldenami.image.bake import reproduce
from goldenami.local.disk import disk
from goldenami.local.host import other_machine
from goldenami.model.builds.build_records import BakeRecord, Disk, Host
from support.builds.tools import need, need_disk_tools, need_reproducible_disks
from support.files import write

MIB = 1 << 20
FILES = {
    "etc/motd": "hello\n",
    "etc/same": "same\n",
    "boot/vmlinuz-6.1": "kernel",
    "boot/initrd.img-6.1": "initrd",
}
Change = Callable[[Path], None]


@pytest.fixture(autouse=True)
def tools() -> None:
    need_disk_tools()
    need_reproducible_disks()


class Bakes:
    """Bakes of one tree; `change` is done to the second's tree, `spoil` to its disk. Notes where
    and when each ran."""

    def __init__(
        self, folder: Path, change: Change = lambda _: None, spoil: Change = lambda _: None
    ) -> None:
        self.folder, self.change, self.spoil = folder, change, spoil
        self.seen: list[tuple[str, str, Path]] = []

    def __call__(self, work: Path, layers: Path) -> BakeRecord:
        layers.mkdir()
        second = bool(self.seen)
        self.seen.append(
            (shell.output(["uname", "-n"]).strip(), shell.output(["date", "+%F"]).strip(), work)
        )
        tree = write(work / "tree", FILES)
        if second:
            self.change(tree)
        layout = disk.DiskLayout(
            image="test", size_bytes=256 * MIB, source_date_epoch=1_700_000_000
        )
        facts = disk.write_disk(tree, work / "out/disk.raw", layout=layout, log=work / "log")
        if second:
            self.spoil(facts.disk)
        return BakeRecord(
            image="test",
            build_id="0" * 12,
            lock_sha256="0" * 64,
            git_commit="0" * 40,
            phases=[],
            roles=[],
            started_at="2026-01-01T00:00:00Z",
            seconds=1.0,
            components=[],
            layers=[],
            packages_count=0,
            host=Host(cpus=2, python="3.11", packer="1.6.6", tools={"mke2fs-package": "1.47"}),
            manifest_sha256="0" * 64,
            disk=Disk(
                path="disk.raw",
                bytes_apparent=256 * MIB,
                bytes_allocated=1,
                sha256=records.sha256_sparse(facts.disk),
                blocks_sha256="0" * 64,
            ),
        )

    def run(self) -> str:
        return reproduce.run(self, self.folder)

    def failure(self) -> StageFailed:
        with pytest.raises(StageFailed) as caught:
            self.run()
        return caught.value


def test_the_second_bake_is_elsewhere_on_another_day_and_gives_the_same_bytes(
    tmp_path: Path,
) -> None:
    need("faketime")
    before, environment = socket.gethostname(), dict(os.environ)
    bakes = Bakes(tmp_path)
    said = bakes.run()
    (host, day, work), (other_host, other_day, other_work) = bakes.seen
    assert (host, other_host) == (before, other_machine.HOSTNAME)
    assert (int(other_day[:4]) - int(day[:4]), work == other_work) in ((1, False), (2, False))
    assert said.startswith("reproduced: both disks have SHA-256 ")
    assert said.endswith("the second was baked as on the machine `elsewhere`, 400 days later")
    assert (socket.gethostname(), dict(os.environ)) == (before, environment)


def test_without_faketime_it_says_that_the_clock_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_machine, "_LIBRARIES", "nowhere/*")
    assert Bakes(tmp_path).run().endswith("with this machine's clock (faketime is not installed)")


def test_a_failed_bake_ends_the_stay(tmp_path: Path) -> None:
    def fail(_: Path) -> None:
        raise StageFailed("a role failed")

    before, environment = socket.gethostname(), dict(os.environ)
    assert Bakes(tmp_path, change=fail).failure().message == "a role failed"
    assert (socket.gethostname(), dict(os.environ)) == (before, environment)


def test_files_that_differ_are_named_with_what_differs(tmp_path: Path) -> None:
    def change(tree: Path) -> None:
        (tree / "etc/motd").write_text("hello, it is Tuesday\n", encoding="utf-8")
        (tree / "etc/same").chmod(0o600)
        (tree / "etc/more").write_text("", encoding="utf-8")

    error = Bakes(tmp_path, change).failure()
    assert error.message == "two bakes of 000000000000 differ: 3 files"
    assert error.tail.splitlines()[:3] == [
        "/etc/more: only in the second",
        "/etc/motd: sha256, size",
        "/etc/same: mode",
    ]
    assert "the second was baked as on the machine `elsewhere`" in error.hint


def test_diffoscope_looks_into_them_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of that name shows that it is given both files' content, out of both disks."""
    program = tmp_path / "bin/diffoscope"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\n[ "$1" = --timeout=60 ] && shift && exec diff "$@"\n', encoding="utf-8"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    work = tmp_path / "work"
    work.mkdir()

    def change(tree: Path) -> None:
        (tree / "etc/motd").write_text("bye\n", encoding="utf-8")

    error = Bakes(work, change).failure()
    assert error.tail.splitlines() == [
        "/etc/motd: sha256, size",
        "    1c1",
        "    < hello",
        "    ---",
        "    > bye",
    ]


PLACES = {
    0: "the first sectors and the partition table",
    disk.BIOS_BOOT[0] + 7: "GRUB's core image",
    disk.ESP[0]: "the EFI system partition",
    disk.ROOT_OFFSET + 5 * MIB + 3: "the root file system",
    255 * MIB + 9: "the second partition table",
}


def test_disks_that_differ_in_no_file_say_where(tmp_path: Path) -> None:
    def spoil(image: Path) -> None:
        with image.open("r+b") as file:
            for offset in PLACES:
                file.seek(offset)
                byte = file.read(1)
                file.seek(offset)
                file.write(bytes([byte[0] ^ 1]))

    error = Bakes(tmp_path, spoil=spoil).failure()
    assert error.message == "two bakes of 000000000000 differ in the disk, but in no file"
    assert error.tail.splitlines() == [
        *(f"{place}: 1 MiB, first at byte {offset}" for offset, place in PLACES.items()),
        "made by mke2fs-package 1.47",
    ]
