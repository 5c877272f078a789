"""Limits of what a disk may ask of its reader: each is far above what an image has, and ends the
reading."""

from __future__ import annotations

from goldenami.core.errors import Unreachable

ENTRIES = 1_000_000
"""Most paths that are listed; an image with CUDA and PyTorch has about 60,000."""
COUNTED = 100_000_000
"""Most paths that are counted as data; ImageNet has 1.3 million."""
DEPTH = 100
"""Most listed folders within one another."""
PATH_BYTES = 4096
"""Most bytes of a path (PATH_MAX, limits.h): a longer one cannot be opened."""
EXTENTS = 4_000_000
"""Most extents of one file."""
MEMORY_BYTES = 2 << 30
"""Address space of the reader's process."""
CPU_S = 120
"""Processor seconds of the reader; hashing and the disk's size add to them (HASHED_PER_S,
SEARCHED_PER_S)."""
SEARCHED_PER_S = 128 << 20
"""Bytes of a disk whose paths the slowest machine counts in a second: 8,192 paths, of 16 KiB each,
as mke2fs makes inodes."""
HASHED_PER_S = 50_000_000
"""Bytes that the slowest machine hashes in a second."""
SILENCE_S = 600
"""Wall-clock seconds for which a reader may send nothing: far above what any file takes."""
OUTPUT_BYTES = 1 << 30
"""Bytes that a reader may send."""
KEPT_BYTES = 64 << 20
"""Bytes of a file's content that is handed over. containerd's list of containers is the largest
file that a rule looks at; a package's list of files has less than 1 MiB."""


class Unreadable(Unreachable):
    """The disk cannot be read, or contradicts itself."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"could not look: {problem}",
            hint="nothing is known about this disk: replace the instance, and keep "
            "the disk as evidence",
        )
