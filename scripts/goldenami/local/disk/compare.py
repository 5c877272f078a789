"""Where two disks of one layout differ, and what tells a file of one from the other's."""

from __future__ import annotations

import shutil
from pathlib import Path

from goldenami.core import shell
from goldenami.local.disk import disk
from goldenami.local.disk.disk import MIB

CONTENT_LIMIT_S = 60
"""What diffoscope may take for one file; a kernel's image would keep it busy for long."""
CONTENT_LINES = 10
"""Lines of its answer for one file: enough to see what kind of difference it is."""

_PLACES = (
    (disk.BIOS_BOOT[0], "the first sectors and the partition table"),
    (disk.ESP[0], "GRUB's core image"),
    (disk.ROOT_OFFSET, "the EFI system partition"),
)
"""Up to which byte of a disk what is."""


def places(first: Path, second: Path) -> list[str]:
    """One line for each part of the disk that differs: how many MiB do, and the first byte."""
    offsets: dict[str, list[int]] = {}
    size = first.stat().st_size
    with first.open("rb") as left, second.open("rb") as right:
        for offset in range(0, max(size, second.stat().st_size), MIB):
            mine, its = left.read(MIB), right.read(MIB)
            if mine != its:
                pairs = enumerate(zip(mine, its, strict=False))
                within = next(
                    (number for number, (a, b) in pairs if a != b), min(len(mine), len(its))
                )
                offsets.setdefault(_place(offset, size), []).append(offset + within)
    return [f"{place}: {len(at)} MiB, first at byte {at[0]}" for place, at in offsets.items()]


def _place(offset: int, size: int) -> str:
    for end, place in _PLACES:
        if offset < end:
            return place
    if offset < size - disk.TAIL_BYTES:
        return "the root file system"
    return "the second partition table"


def contents(first: Path, second: Path, path: str, scratch: Path) -> list[str]:
    """The first lines of what diffoscope, where it is installed, says of a file of both roots."""
    if shutil.which("diffoscope") is None:
        return []
    copies = []
    for name, image in (("first", first), ("second", second)):
        copies.append(scratch / name / path.lstrip("/"))
        copies[-1].parent.mkdir(parents=True, exist_ok=True)
        shell.output(
            [
                shell.require("debugfs", "e2fsprogs"),
                "-R",
                f'dump "{path}" "{copies[-1]}"',
                f"{image}?offset={disk.ROOT_OFFSET}",
            ]
        )
    said = shell.output(
        ["diffoscope", f"--timeout={CONTENT_LIMIT_S}", *map(str, copies)], check=False
    )
    return [f"    {line}" for line in said.splitlines()[:CONTENT_LINES]]
