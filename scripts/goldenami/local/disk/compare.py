"""Differences between two disks of one layout: where they are, and how a file of one differs from
the other's."""

from __future__ import annotations

import shutil
from pathlib import Path

from goldenami.core import shell
from goldenami.local.disk import disk
from goldenami.local.disk.disk import MIB

CONTENT_LIMIT_S = 60
"""Seconds that diffoscope may take for one file: a kernel's image would keep it busy for long."""
CONTENT_LINES = 10
"""Lines of its output for one file: enough to see what kind of difference it is."""

_PLACES = (
    (disk.BIOS_BOOT[0], "the first sectors and the partition table"),
    (disk.ESP[0], "GRUB's core image"),
    (disk.ROOT_OFFSET, "the EFI system partition"),
)
"""The end of each part of a disk, in bytes, and its name."""


def places(first: Path, second: Path) -> list[str]:
    """Return one line for each part of the disk that differs: how many MiB do, and the first
    byte."""
    offsets: dict[str, list[int]] = {}
    size = first.stat().st_size
    with first.open("rb") as left, second.open("rb") as right:
        for offset in range(0, max(size, second.stat().st_size), MIB):
            first_chunk, second_chunk = left.read(MIB), right.read(MIB)
            if first_chunk != second_chunk:
                pairs = enumerate(zip(first_chunk, second_chunk, strict=False))
                within = next(
                    (number for number, (a, b) in pairs if a != b),
                    min(len(first_chunk), len(second_chunk)),
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
    """Return the first lines of diffoscope's output for a file of both roots, or nothing if it is
    not installed."""
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
    output = shell.output(
        ["diffoscope", f"--timeout={CONTENT_LIMIT_S}", *map(str, copies)], check=False
    )
    return [f"    {line}" for line in output.splitlines()[:CONTENT_LINES]]
