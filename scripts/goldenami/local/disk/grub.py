"""GRUB for a disk that nobody may mount: two core images, a patched first sector, one static menu.

`grub-install` and `grub-bios-setup` want block devices; `grub-mkimage` wants none. All that is left
of their work are three numbers in two sectors (GRUB 2.12, include/grub/i386/pc/boot.h and
grub-core/boot/i386/pc). Every module that booting needs is in the core image, so the tree needs no
GRUB package.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import BadInput, StageFailed

PACKAGES = {"i386-pc": "grub-pc-bin", "x86_64-efi": "grub-efi-amd64-bin"}
"""The host's packages with GRUB's modules, by GRUB's platforms: both platforms are on every
disk."""
SECTOR = 512
_KERNEL_SECTOR = 0x5C
"""GRUB_BOOT_MACHINE_KERNEL_SECTOR: where boot.img keeps the first sector of core.img (64 bits,
little endian)."""
_DRIVE_CHECK = 0x66
"""GRUB_BOOT_MACHINE_DRIVE_CHECK: two no-ops here make boot.img trust 0x80, for firmware that passes
nonsense."""
_BLOCK_LIST = SECTOR - 12
"""GRUB_BOOT_MACHINE_LIST: the first sector of core.img ends in (start, length, segment) of the rest
of it."""
_TABLE = slice(0x1B8, SECTOR - 2)
"""Disk signature and protective partition table, which stay as sfdisk wrote them."""

_MODULES = (
    "part_gpt",
    "ext2",
    "search",
    "search_fs_uuid",
    "normal",
    "linux",
    "configfile",
    "serial",
    "terminal",
    "echo",
    "test",
    "minicmd",
    "reboot",
    "halt",
    "ls",
    "cat",
)
ALWAYS = "ro no_timer_check"
"""Words of every command line. A kernel sets no_timer_check itself under KVM, so on EC2; under
emulation on a busy host its check of the timer ended in a panic ("IO-APIC + timer doesn't
work")."""
COMMAND_LINE = "console=tty0 console=ttyS0,115200n8 net.ifnames=0 nvme_core.io_timeout=4294967295"
"""Words for a tree whose roles name none. EC2's serial console is ttyS0; the NVMe timeout is what
AWS documents for EBS volumes ("I/O operation timeout"), the highest value that kernels since 4.15
take."""
EXTRA_COMMAND_LINE = Path("etc/default/golden-cmdline")
"""A role's kernel command line, as a path in the tree; lines that start with `#` are comments."""


def find_kernel(tree: Path) -> tuple[str, str]:
    """Return the paths of kernel and initrd as GRUB sees them: the distribution's own links, which
    survive a kernel update in a running instance, else the only kernel there is."""
    for folder in ("", "/boot"):
        kernel, initrd = f"{folder}/vmlinuz", f"{folder}/initrd.img"
        if _exists(tree, kernel) and _exists(tree, initrd):
            return kernel, initrd
    releases = sorted(
        path.name.removeprefix("vmlinuz-") for path in (tree / "boot").glob("vmlinuz-*")
    )
    if len(releases) == 1 and _exists(tree, f"/boot/initrd.img-{releases[0]}"):
        return f"/boot/vmlinuz-{releases[0]}", f"/boot/initrd.img-{releases[0]}"
    raise StageFailed(
        f"{tree} has no kernel to boot: no vmlinuz link, and {len(releases)} kernels in /boot",
        hint="the role kernel installs the kernel and its initrd; with several, keep the "
        "distribution's links",
    )


def _exists(tree: Path, path: str) -> bool:
    """Return whether `path` leads to a file in `tree`, following one link as the tree itself
    would."""
    real = tree / path.lstrip("/")
    if real.is_symlink():
        target = real.readlink()
        real = tree / target.relative_to("/") if target.is_absolute() else real.parent / target
    return real.is_file()


def command_line(tree: Path, root: str) -> str:
    """Return the words that name the root, `ALWAYS`, then a role's words in `EXTRA_COMMAND_LINE`,
    else `COMMAND_LINE`."""
    extra = COMMAND_LINE
    source = tree / EXTRA_COMMAND_LINE
    if source.is_file():
        lines = [line.strip() for line in source.read_text(encoding="utf-8").splitlines()]
        extra = " ".join(line for line in lines if line and not line.startswith("#"))
    if odd := re.search(r"[^\w.,:=/+@%~ -]", extra):
        raise BadInput(
            f"/{EXTRA_COMMAND_LINE} has {odd[0]!r}, which GRUB's script would not pass on as it is",
            hint="use plain words: key=value, separated by spaces",
        )
    return " ".join(filter(None, [root, ALWAYS, extra]))


def menu(tree: Path, root_uuid: str, root: str = "") -> str:
    """Return the static grub.cfg, for VGA and serial console alike. The kernel finds its root by
    the words `root`, or without them by `root_uuid`, where GRUB finds the kernel."""
    kernel, initrd = find_kernel(tree)
    line = command_line(tree, root or f"root=UUID={root_uuid}")
    return "\n".join(
        [
            "# Written with the disk; a kernel update moves the links that it follows.",
            "set timeout=0",
            "set default=0",
            "serial --unit=0 --speed=115200",
            "terminal_input console serial",
            "terminal_output console serial",
            'menuentry "Linux" {',
            f"  search --no-floppy --fs-uuid --set=root {root_uuid}",
            f"  linux {kernel} {line}",
            f"  initrd {initrd}",
            "}",
            "",
        ]
    )


def write_boot_files(tree: Path, root_uuid: str, esp: str, *, immutable: bool) -> None:
    """Put GRUB's menu, the mount table and the ESP's mount point into the tree."""
    target = tree / "boot/grub/grub.cfg"
    (tree / "boot/efi").mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if immutable:
        # Its menu holds the root's hash, so it cannot lie in the root.
        target.unlink(missing_ok=True)
    else:
        _replace(target, menu(tree, root_uuid))
    fstab = tree / "etc/fstab"
    lines = fstab.read_text(encoding="utf-8").splitlines() if fstab.is_file() else []
    # Mounts of roles stay; root and ESP are written anew.
    mounts = [
        line
        for line in lines
        if not line.startswith("#") and line.split()[1:2] not in ([], ["/"], ["/boot/efi"])
    ]
    root = f"UUID={root_uuid} / ext4 defaults,errors=remount-ro 0 1"
    # nofail: nothing at run time needs the ESP, and a failed mount would end in a shell that no
    # instance has.
    options = "umask=0077,nofail"
    if immutable:
        root = "/dev/mapper/root / ext4 ro 0 0"
        options += ",ro"
    esp_mount = f"UUID={esp[:4]}-{esp[4:]} /boot/efi vfat {options} 0 0"
    _replace(fstab, "\n".join([root, esp_mount, *mounts, ""]))


def _replace(path: Path, text: str) -> None:
    """Write a new file in the place of `path`."""
    # The old one may be a link that leads out of the tree.
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)


def core_image(
    kind: str, target: Path, *, modules: tuple[str, ...], menu_at: tuple[str, str]
) -> list[str]:
    """Return the argv that writes the core image of platform `kind` to `target`. It continues with
    the menu at `menu_at`: a file system's UUID, and the folder in it."""
    file_system, folder = menu_at
    early = target.with_suffix(".cfg")
    # The number of the disk depends on the firmware: GRUB searches the file system by its UUID.
    early.write_text(
        f"search.fs_uuid {file_system} root\nset prefix=($root){folder}\n"
        "configfile $prefix/grub.cfg\n",
        encoding="utf-8",
    )
    return [
        shell.require("grub-mkimage", "grub-common"),
        "--directory",
        str(modules_folder(kind)),
        "--format",
        kind,
        "--prefix",
        folder,
        "--config",
        str(early),
        "--output",
        str(target),
        *_MODULES,
        *modules,
    ]


def modules_folder(kind: str) -> Path:
    """Return the host's folder of GRUB's modules for platform `kind`. Raises HostNotReady with the
    package's name."""
    folder = Path("/usr/lib/grub") / kind
    if not (folder / "moddep.lst").is_file():
        shell.require(f"grub modules for {kind}", PACKAGES[kind])
    return folder


def first_sector(boot: bytes, existing: bytes, core_lba: int) -> bytes:
    """Return boot.img that loads core.img from sector `core_lba`, with the partition table of
    `existing`."""
    sector = bytearray(boot[:SECTOR])
    struct.pack_into("<Q", sector, _KERNEL_SECTOR, core_lba)
    sector[_DRIVE_CHECK : _DRIVE_CHECK + 2] = b"\x90\x90"
    sector[_TABLE] = existing[_TABLE]
    return bytes(sector)


def located_core(core: bytes, core_lba: int, room: int) -> bytes:
    """Return core.img that finds its rest at `core_lba` + 1. Raises StageFailed above `room`
    bytes."""
    if len(core) > room:
        raise StageFailed(f"GRUB's core image has {len(core)} bytes, its partition {room}")
    image = bytearray(core)
    struct.pack_into("<Q", image, _BLOCK_LIST, core_lba + 1)
    return bytes(image)
