"""What a disk may ask of its reader: limits far above what an image has, each of which ends the
reading."""

from __future__ import annotations

from goldenami.core.errors import Unreachable

ENTRIES = 1_000_000
"""Paths that are listed; an image with CUDA and PyTorch has about 60,000."""
COUNTED = 100_000_000
"""Paths that are counted as data; ImageNet has 1.3 million."""
DEPTH = 100
"""Listed folders within one another."""
PATH_BYTES = 4096
"""Of a path (PATH_MAX, limits.h): what is longer cannot be opened."""
EXTENTS = 4_000_000
"""Extents of one file."""
MEMORY_BYTES = 2 << 30
"""Address space of the reader's process."""
CPU_S = 120
"""Processor seconds of the reader, to which hashing and the disk's size add: HASHED_PER_S,
SEARCHED_PER_S."""
SEARCHED_PER_S = 128 << 20
"""Bytes of a disk whose paths the slowest machine counts in a second: 8,192, of 16 KiB each, as
mke2fs makes inodes."""
HASHED_PER_S = 50_000_000
"""Bytes that the slowest machine hashes in a second."""
SILENCE_S = 600
"""Wall-clock seconds for which a reader may say nothing: far above what any file takes."""
OUTPUT_BYTES = 1 << 30
"""What a reader may say."""
KEPT_BYTES = 64 << 20
"""Content of a file that is handed over: containerd's list of containers has the most of what a
rule looks at; a package's list of files has less than one."""


class Unreadable(Unreachable):
    """A disk that cannot be read, or does not fit together."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"could not look: {problem}",
            hint="nothing is known about this disk: replace the instance, and keep "
            "the disk as evidence",
        )
