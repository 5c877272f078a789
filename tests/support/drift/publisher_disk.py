"""A disk in the layout of Debian's own image for EC2: the root is the first of the table and lies
last, without names.

Its file systems are what this machine's programs make by themselves, other than the bake's own.
"""

from __future__ import annotations

from pathlib import Path

from goldenami.core import shell
from goldenami.local.disk.grub import SECTOR

from support.drift import small_image

MIB = small_image.MIB
SIZE = 192 * MIB
ROOT, BIOS, ESP = (19 * MIB, SIZE - 20 * MIB), (1 * MIB, 2 * MIB), (3 * MIB, 16 * MIB)
"""Offset and size in bytes of partitions 1, 14 and 15."""
_TYPES = {
    1: (ROOT, "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"),
    14: (BIOS, "21686148-6449-6E6F-744E-656564454649"),
    15: (ESP, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"),
}
MENU = "menuentry x {\n  linux /boot/vmlinuz-6.1 root=PARTUUID=1 ro quiet\n}\n"


def write(folder: Path) -> Path:
    """Write it with the files of the small image; returns its path."""
    tree, disk = small_image.make_tree(folder / "tree"), folder / "publisher.raw"
    (tree / "boot/grub").mkdir()
    (tree / "boot/grub/grub.cfg").write_text(MENU, encoding="utf-8")
    with disk.open("wb") as image:
        image.truncate(SIZE)
    rows = [
        f"{number}: start={start // SECTOR}, size={size // SECTOR}, type={kind}"
        for number, ((start, size), kind) in _TYPES.items()
    ]
    argv = [shell.require("sfdisk", "fdisk"), "--quiet", "--no-reread", "--no-tell-kernel"]
    shell.Command([*argv, str(disk)]).output(
        stdin="\n".join(["label: gpt", "unit: sectors", *rows, ""])
    )
    shell.output(
        [
            shell.require("mkfs.vfat", "dosfstools"),
            "--offset",
            str(ESP[0] // SECTOR),
            "-F",
            "32",
            str(disk),
            str(ESP[1] // 1024),
        ]
    )
    shell.output(
        [
            shell.require("mke2fs", "e2fsprogs"),
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            "4096",
            "-I",
            "256",
            "-d",
            str(tree),
            "-E",
            f"offset={ROOT[0]},root_owner=0:0",
            str(disk),
            f"{ROOT[1] // 1024}k",
        ]
    )
    return disk


def mounted_once(disk: Path, target: Path) -> Path:
    """A copy whose EFI partition says that it is mounted, as that of a running instance does."""
    small_image.copy_file(disk, target)
    with target.open("r+b") as image:
        image.seek(ESP[0] + 0x41)
        image.write(b"\x01")
    return target
