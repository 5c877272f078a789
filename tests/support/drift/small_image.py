"""A build of a few files whose disk is real: written by `disk`, and changed by the kernel or by
debugfs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from goldenami.core import records, shell
from goldenami.local.disk import disk
from goldenami.local.drift import disk_check
from goldenami.local.drift.disk_check import LookedAt
from goldenami.local.drift.disk_records import DiskRecord
from goldenami.local.drift.may_differ import Allowed
from goldenami.local.reader.block_source import BlockSource, Extent, RawFile
from goldenami.local.reader.observe import Region
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import BakeRecord, Disk, Host

MIB = 1 << 20
LAYOUT = disk.DiskLayout(image="small", size_bytes=192 * MIB, source_date_epoch=1_700_000_000)
ACCOUNTS = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\nsshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n",
    "group": "root:x:0:\nsudo:x:27:\n",
    "shadow": "root:*:19000:0:99999:7:::\nsshd:!:19000::::::\n",
    "gshadow": "root:*::\nsudo:*::\n",
    "subuid": "",
    "subgid": "",
}
FILES = {
    **{f"etc/{name}": text for name, text in ACCOUNTS.items()},
    "etc/hostname": "localhost\n",
    "etc/machine-id": "",
    "boot/vmlinuz-6.1": "kernel",
    "boot/initrd.img-6.1": "initrd",
    "etc/ssh/sshd_config": "PermitRootLogin no\n",
    "root/.ssh/.keep": "",
    "etc/sudoers.d/README": "",
    "etc/systemd/system/golden.service": "[Service]\nExecStart=/usr/bin/true\n",
    "usr/lib/python3/tool.py": "print('tool')\n",
    "usr/lib/modules/6.1/extra/nvidia.ko": "module " * 400,
    "usr/share/café": "ü",
    "var/lib/cloud/.keep": "",
    "var/log/.keep": "",
    "var/lib/systemd/.keep": "",
    "var/lib/xfsprogs/.keep": "",
    "usr/bin/true": "\x7fELF true" * 900,
    "usr/bin/false": "\x7fELF fals" * 900,
    "usr/bin/sudo": "\x7fELF sudo",
    "root/.profile": "umask 022\n",
    "var/lib/dpkg/info/coreutils.list": "/bin\n/bin/true\n/bin/false\n",
}
MANY = 400
"""Files of one folder, so that it is of several blocks and has a tree of names."""


def make_tree(tree: Path) -> Path:
    """A tree with every type of path, capabilities and a set-id program."""
    for name, text in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text, encoding="utf-8")
    for number in range(MANY):
        path = tree / f"usr/share/many/a-rather-long-name-of-a-file-{number:04}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(number.to_bytes(2, "little") * (number % 50))
    (tree / "usr/lib/large.so").write_bytes(os.urandom(3 * MIB))
    (tree / "etc/link").symlink_to("hostname")
    (tree / "etc/long").symlink_to("/x" * 60)
    os.link(tree / "usr/bin/true", tree / "usr/bin/same")
    os.mknod(tree / "usr/null", 0o20666, os.makedev(1, 3))
    os.mkfifo(tree / "usr/pipe")
    (tree / "usr/bin/sudo").chmod(0o4755)
    (tree / "etc/shadow").chmod(0o640)
    (tree / "etc/gshadow").chmod(0o640)
    (tree / "home").mkdir()
    (tree / "tmp").mkdir(mode=0o1777)
    return tree


def bake(
    folder: Path, layout: disk.DiskLayout = LAYOUT, files: Mapping[str, str] | None = None
) -> BuildFolder:
    """The build of such a tree and other `files`, with the records that `bake` leaves; the test is
    skipped where nobody may mount."""
    if os.geteuid() or not Path("/dev/loop-control").exists():
        pytest.skip("making devices and mounting disks takes root and loop devices")
    folder.mkdir(parents=True)
    tree = make_tree(folder.parent / "tree")
    for name, text in (files or {}).items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text, encoding="utf-8")
    facts = disk.write_disk(
        tree, folder / "disk.raw", layout=layout, log=folder.parent / "disk.log"
    )
    build = BuildFolder(folder)
    records.write(
        build.bake,
        BakeRecord(
            image="small",
            build_id=folder.name,
            lock_sha256=folder.name.ljust(64, "0"),
            git_commit="0" * 40,
            phases=[],
            roles=[],
            components=[],
            started_at="2026-01-31T12:00:00Z",
            seconds=1.0,
            layers=[],
            packages_count=0,
            host=Host(cpus=2, python="3.11", packer="1.6.6"),
            manifest_sha256=records.sha256_file(facts.manifest),
            disk=Disk(
                path="disk.raw",
                bytes_apparent=facts.size_bytes,
                bytes_allocated=facts.data_bytes,
                sha256=facts.sha256,
                blocks_sha256=records.sha256_file(build.blocks),
            ),
        ),
    )
    return build


def copy(build: BuildFolder, target: Path) -> Path:
    """The disk of an instance that was launched: a sparse copy."""
    return copy_file(build.disk, target)


def copy_file(source: Path, target: Path) -> Path:
    shell.output(["cp", "--sparse=always", str(source), str(target)])
    return target


@contextlib.contextmanager
def mounted(
    image: Path,
    point: Path,
    options: str = "loop",
    *,
    grown: int = 0,
    offset: int = disk.ROOT_OFFSET,
    size: int = LAYOUT.root_bytes,
) -> Iterator[Path]:
    """The root partition of `image`, `grown` by so many bytes, as the kernel shows it, writable."""
    point.mkdir(exist_ok=True)
    place = f"offset={offset},sizelimit={size + grown}"
    shell.output(["mount", "-t", "ext4", "-o", f"{options},{place}", str(image), str(point)])
    try:
        yield point
    finally:
        # All of it is on the disk then: a test beside this one may hold a copy of the mount, in
        # namespaces of its own.
        shell.output(["mount", "-o", "remount,ro", str(point)])
        shell.output(["umount", str(point)])


@contextlib.contextmanager
def device(image: Path, grown: int = 0) -> Iterator[str]:
    """A block device that is the root partition of `image`, `grown` by so many bytes."""
    name = shell.output(
        [
            "losetup",
            "--find",
            "--show",
            f"--offset={disk.ROOT_OFFSET}",
            f"--sizelimit={LAYOUT.root_bytes + grown}",
            str(image),
        ]
    ).strip()
    try:
        yield name
    finally:
        shell.output(["losetup", "--detach", name])


@contextlib.contextmanager
def unclean(image: Path, point: Path, target: Path) -> Iterator[Path]:
    """Mount `image`; behind the `yield` its bytes are copied to `target` as if the machine had lost
    power."""
    with mounted(image, point, "loop,commit=1") as tree:
        yield tree
        copy_file(image, target)


def debugfs(image: Path, *requests: str, offset: int = disk.ROOT_OFFSET) -> None:
    """Change the root by debugfs, which writes to the file and asks no kernel."""
    script = image.with_name("debugfs.txt")
    script.write_text("\n".join(requests) + "\n", encoding="utf-8")
    shell.output(
        [shell.require("debugfs", "e2fsprogs"), "-w", "-f", str(script), f"{image}?offset={offset}"]
    )


def look(build: BuildFolder, image: Path, allowed: Allowed = lambda _: "") -> DiskRecord:
    return disk_check.check(build, LookedAt(label=image.name, disk=RawFile(image)), allowed)


def blocks(image: Path, path: str) -> int:
    said = shell.output(
        [
            shell.require("debugfs", "e2fsprogs"),
            "-R",
            f"blocks {path}",
            f"{image}?offset={disk.ROOT_OFFSET}",
        ]
    )
    return int(said.split()[0])


def root(image: Path, grown: int = 0) -> Region:
    """The root partition of `image`, `grown` by so many bytes, as the reader is given it."""
    return Region(RawFile(image), disk.ROOT_OFFSET, LAYOUT.root_bytes + grown)


def differing(
    build: BuildFolder,
    disk: BlockSource,
    base: BlockSource | None = None,
    changed: list[Extent] | None = None,
) -> set[str]:
    """Paths that are not as baked."""
    looked_at = LookedAt(label="", disk=disk, base=base, changed=changed)
    return {row.path for row in disk_check.check(build, looked_at).drift}
