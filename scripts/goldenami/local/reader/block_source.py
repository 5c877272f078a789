"""Sources of a disk's bytes: a file, an overlay, or the changed blocks of a snapshot over its
parent."""

from __future__ import annotations

import bisect
import json
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from goldenami.core import shell, sparse_file
from goldenami.core.errors import BadInput

Extent = tuple[int, int]
"""First byte of a part of a disk, and the first one behind it."""


class BlockSource(Protocol):
    """A disk to be read."""

    @property
    def size(self) -> int:
        """Size in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes at `offset`, both within `size`. Raises an error of the
        product if that is not possible."""


class RawFile:
    """A raw disk image; holes are zeros."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror}", hint="name a raw disk image") from None
        weakref.finalize(self, os.close, self._file)
        self.path = path
        self.size = os.lseek(self._file, 0, os.SEEK_END)  # st_size of a block device is 0

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes as `BlockSource` does. Raises BadInput if the file shrinks."""
        # Linux reads up to 2 GiB at once, so a short answer is the end of the file.
        data = os.pread(self._file, length, offset)
        if len(data) != length:
            raise BadInput(
                f"{self.path} ended at {offset + len(data)} bytes while it was read",
                hint="look at a disk that nothing writes to",
            )
        return data

    def data(self, start: int, stop: int) -> Iterator[Extent]:
        return sparse_file.data(self._file, start, stop)


@dataclass(frozen=True)
class ChangedBlocks:
    """A disk of which parts have `changed`: `read_changed` reads those, and is never called across
    the border of one. All else is the disk `base`, or zeros behind its end. The parts are sorted
    and do not overlap."""

    size: int
    base: BlockSource
    changed: Sequence[Extent]
    read_changed: Callable[[int, int], bytes]

    def read(self, offset: int, length: int) -> bytes:
        parts, at, end = list[bytes](), offset, offset + length
        index = bisect.bisect_right(self.changed, at, key=lambda extent: extent[1])
        while at < end:
            start, stop = self.changed[index] if index < len(self.changed) else (end, end)
            if at < start:
                until = min(start, end)
                parts.append(self._unchanged(at, until - at))
            else:
                until = min(stop, end)
                parts.append(self.read_changed(at, until - at))
                index += 1
            at = until
        return b"".join(parts)

    def _unchanged(self, offset: int, length: int) -> bytes:
        available = max(0, min(length, self.base.size - offset))
        if not available:
            return bytes(length)
        return self.base.read(offset, available) + bytes(length - available)


def merged(extents: Iterable[Extent]) -> list[Extent]:
    """Return the same parts, sorted, with neighbours joined into one."""
    parts = list[Extent]()
    for start, stop in sorted(extents):
        if parts and start <= parts[-1][1]:
            parts[-1] = (parts[-1][0], max(stop, parts[-1][1]))
        else:
            parts.append((start, stop))
    return parts


def overlay(path: Path, base: BlockSource) -> ChangedBlocks:
    """Return a qcow2 overlay over the raw disk `base`; its clusters are what changed. If its
    machine still runs, what QEMU has not yet written is missing."""
    try:
        output = shell.output(
            [
                shell.require("qemu-img", "qemu-utils"),
                "map",
                # The machine that writes to it may still run, and holds its lock.
                "--force-share",
                "--output=json",
                "-f",
                "qcow2",
                str(path),
            ]
        )
    except shell.CommandFailed as failure:
        raise BadInput(
            f"{path} is no overlay: {failure.tail}", hint="name a raw disk image or a qcow2 file"
        ) from None
    rows = [row for row in json.loads(output) if row["depth"] == 0 and row["present"]]
    if not all(row["zero"] or "offset" in row for row in rows):
        raise BadInput(
            f"{path} is compressed, as no machine writes it",
            hint=f"`qemu-img convert -O raw {path} disk.raw`, and name that",
        )
    starts = [row["start"] for row in rows]
    file = RawFile(path)

    def read_changed(offset: int, length: int) -> bytes:
        """Read a changed part; neighbours in the disk may be apart in the file."""
        data, at = b"", offset
        while at < offset + length:
            row = rows[bisect.bisect_right(starts, at) - 1]
            take = min(offset + length, row["start"] + row["length"]) - at
            if row["zero"]:
                data += bytes(take)
            else:
                data += file.read(row["offset"] + at - row["start"], take)
            at += take
        return data

    size = json.loads(output)[-1]
    return ChangedBlocks(
        size=size["start"] + size["length"],
        base=base,
        read_changed=read_changed,
        changed=merged((row["start"], row["start"] + row["length"]) for row in rows),
    )
