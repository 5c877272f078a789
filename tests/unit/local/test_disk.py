"""Disks of a few files: real tools, read back by other tools than those that wrote."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import stat
import struct
import tarfile
from pathlib import Path

import pytest
import yaml
from goldenami.core import records, shell
from goldenami.core.errors import BadInput, StageFailed
from goldenami.local.disk import disk, grub
from goldenami.local.tree import tree as tree_entries
from goldenami.model.builds import disk_blocks
from support.builds.tools import ROOT, need_disk_tools, need_reproducible_disks

MIB = 1 << 20
EPOCH = 1_700_000_000
LAYOUT = disk.DiskLayout(image="test", size_bytes=256 * MIB, source_date_epoch=EPOCH)
NAMES = {
    "etc/hostname": "x\n",
    "usr/share/café-ñ": "ü",
    "boot/vmlinuz-6.1": "kernel",
    "boot/initrd.img-6.1": "initrd",
}


@pytest.fixture(autouse=True)
def tools() -> None:
    need_disk_tools()


def make_tree(tree: Path, names: dict[str, str] = NAMES) -> Path:
    for name, text in names.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text, encoding="utf-8")
    (tree / "etc/link").symlink_to("hostname")
    os.link(tree / "etc/hostname", tree / "etc/same")
    (tree / "etc/hostname").chmod(0o4750)
    return tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "root")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out/disk.raw"


def write(tree: Path, target: Path, layout: disk.DiskLayout = LAYOUT) -> disk.DiskFacts:
    return disk.write_disk(tree, target, layout=layout, log=target.parent.parent / "disk.log")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def debugfs(image: Path, request: str) -> str:
    return shell.output(["/usr/sbin/debugfs", "-R", request, f"{image}?offset={disk.ROOT_OFFSET}"])


def test_equal_trees_make_equal_bytes(
    tmp_path: Path,
    tree: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need_reproducible_disks()
    facts = write(tree, target)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    other = make_tree(tmp_path / "other", dict(reversed(NAMES.items())))
    for path in other.rglob("*"):
        os.utime(path, (EPOCH + 5, EPOCH + 10_000), follow_symlinks=False)
    (tmp_path / "out2").mkdir()
    again = write(other, tmp_path / "out2/disk.raw")
    assert sha256(facts.disk) == sha256(again.disk)
    assert facts.manifest.read_bytes() == again.manifest.read_bytes()
    assert facts.note == ""
    other_image = disk.DiskLayout("other", 256 * MIB, EPOCH)  # both may be attached to one machine
    assert other_image.uuid("root") != LAYOUT.uuid("root")


def test_file_system_is_clean_and_holds_the_tree(tree: Path, target: Path) -> None:
    os.setxattr(tree / "boot/vmlinuz-6.1", tree_entries.CAPABILITY, CAPABILITY)
    (tree / "boot").chmod(0o700)
    os.utime(tree / "boot/vmlinuz-6.1", (1_600_000_000, 1_600_000_000))
    facts = write(tree, target)
    shell.output(["/usr/sbin/e2fsck", "-fn", f"{facts.disk}?offset={disk.ROOT_OFFSET}"])
    hostname = debugfs(facts.disk, "stat /etc/hostname")
    assert "Mode:  04750" in hostname
    assert "Links: 2" in hostname
    assert 'Fast link dest: "hostname"' in debugfs(facts.disk, "stat /etc/link")
    assert debugfs(facts.disk, "cat /usr/share/café-ñ") == "ü"
    assert "Mode:  0700" in debugfs(facts.disk, "stat /boot")
    kernel = debugfs(facts.disk, "stat /boot/vmlinuz-6.1")
    assert "mtime: 0x5f5e1000" in kernel.replace(":00000000", "")
    assert CAPABILITY.hex(" ") in debugfs(
        facts.disk, f"ea_get -x /boot/vmlinuz-6.1 {tree_entries.CAPABILITY}"
    )


CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
"""cap_net_bind_service=ep, revision 2 (linux/capability.h)."""


def test_partitions_loaders_and_what_is_said_of_them(tree: Path, target: Path) -> None:
    facts = write(tree, target)
    assert facts.sha256 == sha256(target)
    assert records.sha256_file(target.with_name("disk.blocks")) == disk_blocks.digest_of(target)
    assert facts.disk.stat().st_size == facts.size_bytes == 256 * MIB
    assert facts.data_bytes == facts.disk.stat().st_blocks * 512 < 24 * MIB
    table = json.loads(shell.output(["/usr/sbin/sfdisk", "--json", str(facts.disk)]))[
        "partitiontable"
    ]
    assert [part["name"] for part in table["partitions"]] == ["bios", "esp", "root"]
    assert table["partitions"][2]["start"] * 512 == disk.ROOT_OFFSET
    esp = f"{facts.disk}@@{disk.ESP[0]}"
    assert "BOOTX64" in shell.output(["mdir", "-i", esp, "::/EFI/BOOT"])
    image = facts.disk.read_bytes()[: 2 * MIB]
    (core_lba,) = struct.unpack_from("<Q", image, 0x5C)
    (rest_lba,) = struct.unpack_from("<Q", image, core_lba * 512 + 500)
    assert (core_lba, rest_lba) == (2048, 2049)
    assert image[510:512] == b"\x55\xaa"
    assert image[450] == 0xEE  # the protective entry that sfdisk wrote


def test_menu_follows_the_links(tree: Path, target: Path) -> None:
    (tree / "vmlinuz").symlink_to("boot/vmlinuz-6.1")
    (tree / "initrd.img").symlink_to("/boot/initrd.img-6.1")
    (tree / "boot/vmlinuz-6.2").write_text("another", encoding="utf-8")
    facts = write(tree, target)
    menu = debugfs(facts.disk, "cat /boot/grub/grub.cfg")
    assert (
        f"linux /vmlinuz root=UUID={LAYOUT.uuid('root')} ro no_timer_check {grub.COMMAND_LINE}\n"
        in menu
    )
    assert "initrd /initrd.img\n" in menu


def test_menu_has_no_word_twice_and_the_role_s_words_alone(tree: Path) -> None:
    path = ROOT / "roles/kernel/vars/main.yml"
    words = yaml.safe_load(path.read_text(encoding="utf-8"))["__kernel_own_cmdline"]
    words.remove("net.ifnames=0")
    (tree / "etc/default").mkdir()
    (tree / grub.EXTRA_COMMAND_LINE).write_text(f"{' '.join(words)}\n", encoding="utf-8")
    assert grub.command_line(tree, "root=X").split() == ["root=X", "ro", "no_timer_check", *words]


def test_command_line_that_grub_would_change(tree: Path) -> None:
    (tree / "etc/default").mkdir()
    (tree / grub.EXTRA_COMMAND_LINE).write_text("a=$b\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"golden-cmdline has '\$'"):
        grub.command_line(tree, "X")


@pytest.mark.parametrize("change", ["two", "no initrd"])
def test_no_kernel_to_choose(tree: Path, target: Path, change: str) -> None:
    if change == "two":
        (tree / "boot/vmlinuz-6.2").write_text("another", encoding="utf-8")
    else:
        (tree / "boot/initrd.img-6.1").unlink()
    with pytest.raises(StageFailed, match="has no kernel to boot"):
        write(tree, target)


def test_mount_table_is_not_written_through_a_link(
    tmp_path: Path,
    tree: Path,
    target: Path,
) -> None:
    (tmp_path / "outside").write_text("precious", encoding="utf-8")
    (tree / "etc/fstab").symlink_to(tmp_path / "outside")
    write(tree, target)
    assert (tmp_path / "outside").read_text(encoding="utf-8") == "precious"
    (tree / "etc/fstab").unlink()
    given = "# UNCONFIGURED\n/dev/sda1 / ext4 x 0 1\ntmpfs /scratch tmpfs size=1g 0 0\n"
    (tree / "etc/fstab").write_text(given, encoding="utf-8")
    write(tree, target)
    (target.parent / ".disk.raw.work").mkdir()  # as a killed run leaves it
    (target.parent / ".disk.raw.work/disk").write_text("half", encoding="utf-8")
    write(tree, target)
    left = sorted(path.name for path in target.parent.iterdir())
    assert left == ["disk.blocks", "disk.raw", "manifest.json"]
    esp = f"{LAYOUT.esp_id[:4]}-{LAYOUT.esp_id[4:]}"
    assert (tree / "etc/fstab").read_text(encoding="utf-8").splitlines() == [
        f"UUID={LAYOUT.uuid('root')} / ext4 defaults,errors=remount-ro 0 1",
        f"UUID={esp} /boot/efi vfat umask=0077,nofail 0 0",
        "tmpfs /scratch tmpfs size=1g 0 0",
    ]


def test_attribute_that_would_be_lost(tree: Path, target: Path) -> None:
    os.setxattr(tree / "usr/share", "user.golden", b"x")
    with pytest.raises(StageFailed, match=r"/usr/share \(user.golden\)"):
        write(tree, target)
    assert list(target.parent.iterdir()) == []


def test_tree_larger_than_its_disk(tree: Path, target: Path) -> None:
    (tree / "big").write_bytes(os.urandom(8 * MIB))
    small = disk.DiskLayout("test", 136 * MIB, EPOCH)
    with pytest.raises(BadInput, match=rf"the root partition has {7 * MIB}") as caught:
        write(tree, target, small)
    assert "disk_size_gib of test to at least 1" in caught.value.hint


# --- other versions of mke2fs, and one that fails ---


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a script before the real mke2fs, which it may exec."""
    folder.mkdir()
    script = folder / "mke2fs"
    script.write_text(
        f'#!/bin/sh\n{body}\nexec {shell.require("mke2fs", "e2fsprogs")} "$@"\n', encoding="utf-8"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_tool_that_fails_leaves_the_last_good_disk(
    tmp_path: Path,
    tree: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = sha256(write(tree, target).disk)
    # More than a pipe holds: the writer meets the reader's death.
    (tree / "big").write_bytes(b"x" * 8 * MIB)
    stand_in(
        tmp_path / "bin",
        monkeypatch,
        'case "$*" in *probe*) ;; *) echo "mke2fs: odd thing"; exit 7;; esac',
    )
    with pytest.raises(shell.CommandFailed, match="exited with status 7") as caught:
        write(tree, target)
    assert "odd thing" in caught.value.tail
    assert sorted(path.name for path in target.parent.iterdir()) == [
        "disk.blocks",
        "disk.raw",
        "manifest.json",
    ]
    assert sha256(target) == before


# --- tree and manifest ---


def test_manifest(tmp_path: Path, tree: Path) -> None:
    os.setxattr(tree / "etc/hostname", tree_entries.CAPABILITY, CAPABILITY)
    os.symlink(".//hostname", tree / "etc/odd")  # noqa: PTH211 - pathlib would tidy the target
    files = tree_entries.FilesOnDisk()
    tree_entries.write_manifest(
        tree, tmp_path / "manifest.json", tree_entries.scan(tree), files, boot={}
    )
    entries = {
        entry["path"]: entry
        for entry in json.loads((tmp_path / "manifest.json").read_text())["entries"]
    }
    assert list(entries)[:2] == ["/", "/boot"]
    assert entries["/etc/hostname"] == {
        "path": "/etc/hostname",
        "type": "file",
        "mode": "4750",
        "uid": os.getuid(),
        "gid": os.getgid(),
        "size": 2,
        "sha256": hashlib.sha256(b"x\n").hexdigest(),
        "capability": CAPABILITY.hex(),
    }
    assert entries["/etc/same"]["target"] == "/etc/hostname"
    assert entries["/etc/link"]["target"] == "hostname"
    assert entries["/etc/odd"]["target"] == ".//hostname"


def test_manifest_is_the_same_by_either_way(tmp_path: Path, tree: Path, target: Path) -> None:
    facts = write(tree, target)
    boot = json.loads(facts.manifest.read_text(encoding="utf-8"))["boot"]
    assert [part["name"] for part in boot["partitions"]] == ["bios", "esp", "root"]
    files = tree_entries.FilesOnDisk()
    tree_entries.write_manifest(
        tree, tmp_path / "again.json", tree_entries.scan(tree), files, boot=boot
    )
    assert facts.manifest.read_bytes() == (tmp_path / "again.json").read_bytes()


def test_tar_has_no_time_after_the_epoch(tree: Path) -> None:
    def times(epoch: int) -> set[int]:
        archive = io.BytesIO()
        tree_entries.stream_tar(tree, tree_entries.scan(tree), archive, epoch=epoch)
        archive.seek(0)
        with tarfile.open(fileobj=archive) as opened:
            return {int(member.mtime) for member in opened}

    os.utime(tree / "etc/hostname", (5, 5))
    assert times(EPOCH) == {5, EPOCH}


def test_special_files_and_names_that_are_no_text(
    tree: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tree)  # a socket's path ends at 108 characters
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind("plug")
    os.mknod(tree / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    Path(os.fsdecode(bytes(tree) + b"/etc/\xff\xfe")).write_text("odd", encoding="utf-8")
    facts = write(tree, target)
    manifest = facts.manifest.read_text(encoding="utf-8")
    assert "\\udcff\\udcfe" in manifest
    entries = {entry["path"]: entry for entry in json.loads(manifest)["entries"]}
    assert (entries["/pipe"]["type"], entries["/null"]["device"]) == ("fifo", [1, 3])
    assert "/plug" not in entries
    assert "Type: character special" in debugfs(facts.disk, "stat /null")
    shell.output(["/usr/sbin/e2fsck", "-fn", f"{facts.disk}?offset={disk.ROOT_OFFSET}"])
