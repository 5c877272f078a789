"""Turn a root tree into a bootable disk image, without a loop device, a mount or a random byte.

The disk has a GPT with three partitions: BIOS boot (GRUB's core image), EFI system, and the ext4
root last, so that it can grow. An immutable root has two more behind it (see `immutable`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from goldenami.core import shell
from goldenami.core.errors import BadInput, HostNotReady
from goldenami.local.disk import boot_regions, checksum, grub, immutable, slots, verity
from goldenami.local.disk.slots import FileSystem
from goldenami.local.reader import ext4
from goldenami.local.tree import tree as trees
from goldenami.model.builds.build_records import BLOCKS_FILE

MIB = 1 << 20
BIOS_BOOT = (1 * MIB, 1 * MIB)
"""Offset and size in bytes: GRUB's core image has about 100 KiB."""
ESP = (2 * MIB, 126 * MIB)
"""Offset and size in bytes: room for a distribution's own loaders, and the root starts at a round
128 MiB."""
ROOT_OFFSET = ESP[0] + ESP[1]
TAIL_BYTES = 1 * MIB
"""Bytes kept free behind the root for the second partition table (33 sectors), in whole MiB."""
BLOCK = 4096
SLACK = 1.05
"""The root needs this many times its files' bytes: directories, inode tables, journal (measured:
1.03 for Debian)."""
MANIFEST = "manifest.json"

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "goldenami")
_TYPES = {
    "bios": "21686148-6449-6E6F-744E-656564454649",
    "esp": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "root": "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
    "tree": "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5",
    "persist": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
}
"""Partition types: UEFI specification 2.10, table 5.7; GRUB manual, "BIOS installation"; UAPI
"Discoverable Partitions" (root and its verity hashes, x86-64; generic data)."""

_MKE2FS_CONFIG = """\
[defaults]
base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
default_mntopts = acl,user_xattr
enable_periodic_fsck = 0
blocksize = 4096
inode_size = 256
inode_ratio = 16384
[fs_types]
ext4 = {
  features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
}
small = {
}
floppy = {
}
"""
"""Settings of mke2fs, because the host's /etc/mke2fs.conf differs between distributions. GRUB 2.06
and the kernels and e2fsck of every supported image know these features."""

NOT_REPRODUCIBLE = (
    "mke2fs of this host cannot read a tar, so the disk's bytes depend on the host's file system "
    "too"
)


@dataclass(frozen=True)
class DiskLayout:
    """Parameters of a disk beside its tree. `size_bytes` is the virtual size, in whole MiB."""

    image: str
    size_bytes: int
    source_date_epoch: int
    immutable: bool = False

    def __post_init__(self) -> None:
        if self.size_bytes % MIB or self.size_bytes <= ROOT_OFFSET + TAIL_BYTES:
            raise BadInput(
                f"{self.size_bytes} bytes is no size for a disk",
                hint=f"whole MiB, more than {ROOT_OFFSET // MIB}",
            )

    @property
    def root_bytes(self) -> int:
        return self.parts["root"][1]

    @property
    def parts(self) -> dict[str, tuple[int, int]]:
        """Offset and size in bytes of each partition, by name, in their order."""
        room = self.size_bytes - ROOT_OFFSET - TAIL_BYTES
        places, at = {"bios": BIOS_BOOT, "esp": ESP}, ROOT_OFFSET
        sizes = immutable.sizes(room) if self.immutable else {"root": room}
        for name, size in sizes.items():
            places[name] = (at, size)
            at += size
        return places

    @property
    def menu_at(self) -> tuple[str, str]:
        """Place of GRUB's menu: in the root, or in the ESP if the menu holds the root's hash."""
        if self.immutable:
            return f"{self.esp_id[:4]}-{self.esp_id[4:]}", "/grub"
        return self.uuid("root"), "/boot/grub"

    def uuid(self, part: str) -> str:
        """Return a UUID that belongs to the image and stays the same from build to build."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.image}/{part}"))

    @property
    def esp_id(self) -> str:
        return self.uuid("esp")[:8].upper()


@dataclass(frozen=True)
class DiskFacts:
    """Facts of a written disk. `data_bytes` is what the sparse file occupies; `note` says why the
    disk is not reproducible."""

    disk: Path
    manifest: Path
    sha256: str
    size_bytes: int
    data_bytes: int
    note: str


def write_disk(
    tree: Path,
    disk: Path,
    *,
    layout: DiskLayout,
    log: Path,
    ranks: Mapping[str, int] | None = None,
) -> DiskFacts:
    """Write `disk`, its `manifest.json` and its `disk.blocks` from the root `tree`; all appear
    whole or not at all.

    `ranks` orders files on the disk: by path as in `tree.scan`, with the highest rank for what
    changes most. The tree gets /boot/grub/grub.cfg and /etc/fstab. Raises HostNotReady without a
    tool, BadInput if the tree does not fit `layout`, StageFailed for a tree that cannot be kept or
    booted.
    """
    _check_tools()
    grub.write_boot_files(tree, layout.uuid("root"), layout.esp_id, immutable=layout.immutable)
    entries = trees.scan(tree)
    _check_fit(entries, layout)
    work = disk.with_name(f".{disk.name}.work")
    shutil.rmtree(work, ignore_errors=True)  # left by a killed run
    manifest = disk.with_name(MANIFEST)
    try:
        work.mkdir(parents=True)
        note, sha256 = _Writer(tree, entries, ranks or {}, layout, work, log).write()
        (work / MANIFEST).replace(manifest)
        (work / BLOCKS_FILE).replace(disk.with_name(BLOCKS_FILE))
        (work / "disk").replace(disk)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return DiskFacts(
        disk=disk,
        manifest=manifest,
        sha256=sha256,
        size_bytes=layout.size_bytes,
        data_bytes=disk.stat().st_blocks * 512,
        note=note,
    )


def _check_tools() -> None:
    for tool, package in (
        ("sfdisk", "fdisk"),
        ("mke2fs", "e2fsprogs"),
        ("mkfs.vfat", "dosfstools"),
        ("mcopy", "mtools"),
        ("mmd", "mtools"),
        ("grub-mkimage", "grub-common"),
    ):
        shell.require(tool, package)
    for kind in grub.PACKAGES:
        grub.modules_folder(kind)


def _check_fit(entries: Sequence[trees.Entry], layout: DiskLayout) -> None:
    needed = int(sum(entry.allocated for entry in entries) * SLACK)
    if needed > layout.root_bytes:
        raise BadInput(
            f"the tree needs {needed} bytes, the root partition has {layout.root_bytes}",
            hint=f"raise disk_size_gib of {layout.image} to at least "
            f"{(needed + ROOT_OFFSET) // (1 << 30) + 1}",
        )


@dataclass(frozen=True)
class _Writer:
    tree: Path
    entries: Sequence[trees.Entry]
    ranks: Mapping[str, int]
    layout: DiskLayout
    work: Path
    log: Path

    @property
    def disk(self) -> Path:
        return self.work / "disk"

    @property
    def _root(self) -> FileSystem:
        return FileSystem(self.disk, ROOT_OFFSET, self.layout.root_bytes)

    @property
    def env(self) -> dict[str, str]:
        """Variables that keep the host's clock, time zone and configuration from the tools."""
        return {
            "SOURCE_DATE_EPOCH": str(self.layout.source_date_epoch),
            "TZ": "UTC",
            "MTOOLSRC": os.devnull,
            "MKE2FS_CONFIG": str(self.work / "mke2fs.conf"),
        }

    def write(self) -> tuple[str, str]:
        """Write the disk. Return why it is not reproducible, or "", and its SHA-256."""
        with self.disk.open("wb") as image:
            image.truncate(self.layout.size_bytes)
        (self.work / "mke2fs.conf").write_text(_MKE2FS_CONFIG, encoding="utf-8")
        self._partitions()
        self._bios()
        self._esp()
        files = trees.FilesOnDisk()
        note = "" if self._reads_tar() else NOT_REPRODUCIBLE
        with checksum.following(self.disk, self.work / BLOCKS_FILE) as follower:
            if not note:
                ordered = slots.order(self.entries, self.ranks)
                small = self._feed(slots.without_content(ordered), self._root)
                # An immutable root's hash goes into the ESP, so nothing is final before the root
                # is written.
                final = follower.advance if not self.layout.immutable else lambda _: None
                large = slots.fill(self.tree, ordered, self._root, env=self.env, final=final)
                files = replace(large, digests={**small, **large.digests})
            else:
                self._root_from_directory()
            if self.layout.immutable:
                self._immutable()
            with self.disk.open("rb") as image:
                boot = boot_regions.describe(
                    lambda offset, length: os.pread(image.fileno(), length, offset)
                )
                boot["settings"] = {
                    name: self._settings(image, name)
                    for name in ("root", boot_regions.PERSIST)
                    if name in self.layout.parts
                }
            trees.write_manifest(self.tree, self.work / MANIFEST, self.entries, files, boot=boot)
            return note, follower.result(self.layout.size_bytes)

    def _run(self, tool: str, package: str, *args: str) -> None:
        shell.stream([shell.require(tool, package), *args], log=self.log, env=self.env)

    def _partitions(self) -> None:
        lines = [
            "label: gpt",
            f"label-id: {self.layout.uuid('disk')}",
            "unit: sectors",
            "sector-size: 512",
        ]
        for part, (start, size) in self.layout.parts.items():
            ids = f"type={_TYPES[part]}, uuid={self.layout.uuid(f'{part}-partition')}, name={part}"
            lines.append(f"start={start // grub.SECTOR}, size={size // grub.SECTOR}, {ids}")
        argv = [
            shell.require("sfdisk", "fdisk"),
            "--quiet",
            "--no-reread",
            "--no-tell-kernel",
            str(self.disk),
        ]
        shell.Command(argv, env=self.env).output(stdin="\n".join(lines) + "\n")

    def _bios(self) -> None:
        core = self.work / "core.img"
        modules = ("biosdisk", "fat") if self.layout.immutable else ("biosdisk",)
        argv = grub.core_image("i386-pc", core, modules=modules, menu_at=self.layout.menu_at)
        shell.stream(argv, log=self.log, env=self.env)
        lba = BIOS_BOOT[0] // grub.SECTOR
        boot = (grub.modules_folder("i386-pc") / "boot.img").read_bytes()
        with self.disk.open("r+b") as image:
            existing = image.read(grub.SECTOR)
            image.seek(0)
            image.write(grub.first_sector(boot, existing, lba))
            image.seek(BIOS_BOOT[0])
            image.write(grub.located_core(core.read_bytes(), lba, BIOS_BOOT[1]))

    def _esp(self) -> None:
        loader = self.work / "bootx64.efi"
        argv = grub.core_image("x86_64-efi", loader, modules=("fat",), menu_at=self.layout.menu_at)
        shell.stream(argv, log=self.log, env=self.env)
        self._run(
            "mkfs.vfat",
            "dosfstools",
            # Else mkfs.vfat writes the time of its creation.
            "--invariant",
            "--offset",
            str(ESP[0] // grub.SECTOR),
            "-F",
            "16",
            "-i",
            self.layout.esp_id,
            "-n",
            "ESP",
            str(self.disk),
            str(ESP[1] // 1024),
        )
        image = f"{self.disk}@@{ESP[0]}"
        self._run("mmd", "mtools", "-i", image, "::/EFI", "::/EFI/BOOT")
        self._run("mcopy", "mtools", "-i", image, str(loader), "::/EFI/BOOT/BOOTX64.EFI")

    def _immutable(self) -> None:
        """Write what lies behind an immutable root, and the menu."""
        parts, uuid_of = self.layout.parts, self.layout.uuid
        persist = FileSystem(self.disk, *parts["persist"], "persist")
        self._feed(immutable.persist(self.tree, self.entries), persist)
        root_hash = verity.write(
            self.disk,
            parts["root"],
            parts["tree"],
            salt=uuid.UUID(uuid_of("salt")).bytes,
            identity=uuid.UUID(uuid_of("tree")),
        )
        root = immutable.words(root_hash, {part: uuid_of(f"{part}-partition") for part in parts})
        menu, image = self.work / "grub.cfg", f"{self.disk}@@{ESP[0]}"
        menu.write_text(grub.menu(self.tree, uuid_of("root"), root), encoding="utf-8")
        self._run("mmd", "mtools", "-i", image, "::/grub")
        self._run("mcopy", "mtools", "-i", image, str(menu), "::/grub/grub.cfg")

    def _settings(self, image: BinaryIO, part: str) -> str:
        return ext4.settings(
            os.pread(image.fileno(), 1024, self.layout.parts[part][0] + ext4.SUPERBLOCK_AT)
        )

    def _mke2fs(self, source: str, system: FileSystem, extended: str) -> list[str]:
        # Nobody writes an immutable root, so it needs no journal.
        no_journal = (
            ["-O", "^has_journal"] if self.layout.immutable and system.name == "root" else []
        )
        return [
            shell.require("mke2fs", "e2fsprogs"),
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            str(BLOCK),
            "-m",
            "1",
            "-L",
            system.name,
            *no_journal,
            "-U",
            self.layout.uuid(system.name),
            "-d",
            source,
            "-E",
            f"offset={system.offset},hash_seed={self.layout.uuid('hash-seed')},nodiscard,"
            f"root_owner=0:0,{extended}",
            str(system.disk),
            str(system.blocks),
        ]

    def _reads_tar(self) -> bool:
        """Return whether this host's mke2fs can read a tar."""
        probe = self.work / "probe"
        with probe.open("wb") as image:
            image.truncate(8 * MIB)
        try:
            self._feed(self.entries[:1], FileSystem(probe, 0, 8 * MIB))
        except shell.CommandFailed as failure:
            # A full disk of the host says nothing about mke2fs.
            if os.strerror(errno.ENOSPC) in failure.output:
                raise
            return False
        return True

    def _feed(self, entries: Sequence[trees.Entry], system: FileSystem) -> dict[str, str]:
        """Make the file system from a tar of `entries`, and return the SHA-256 of each file."""
        argv = self._mke2fs("-", system, "assume_storage_prezeroed=1")
        mke2fs_log = self.work / "mke2fs.log"
        mke2fs_log.unlink(missing_ok=True)
        read_end, write_end = os.pipe()
        # mke2fs reads 4 KiB at a time: a larger pipe means fewer wake-ups.
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, trees.CHUNK_BYTES)
        try:
            process = shell.Command(argv, env=self.env).start(log=mke2fs_log, stdin=read_end)
        finally:
            os.close(read_end)
        digests: dict[str, str] = {}
        try:
            # If mke2fs has died, the broken pipe is no news: its words and status, below, are.
            with (
                contextlib.suppress(BrokenPipeError),
                os.fdopen(write_end, "wb", buffering=trees.CHUNK_BYTES) as sink,
            ):
                digests = trees.stream_tar(
                    self.tree, entries, sink, epoch=self.layout.source_date_epoch
                )
            status = process.wait()
        except BaseException:
            shell.stop(process)
            raise
        output = mke2fs_log.read_text(encoding="utf-8", errors="replace")
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(argv)}\n{output}")
        if status != 0:
            raise shell.CommandFailed(argv, status, output=output, log=self.log)
        return digests

    def _root_from_directory(self) -> None:
        if self.layout.immutable:
            raise HostNotReady(
                "mke2fs of this host cannot read a tar, as an immutable image wants it",
                hint="bake on Debian 13 or newer",
            )
        # No assume_storage_prezeroed: an e2fsprogs too old for a tar may not know it either.
        extended = "lazy_itable_init=1,lazy_journal_init=1"
        argv = self._mke2fs(str(self.tree), self._root, extended)
        shell.stream(argv, log=self.log, env=self.env)
