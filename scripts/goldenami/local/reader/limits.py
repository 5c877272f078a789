"""What a disk may ask of its reader: limits far above what an image has, each of which ends the
reading."""

from __future__ import annotations

from goldenami.core.errors import Unreachable

ENTRIES = 1_000_000
"""Paths of a file system; an image with CUDA and PyTorch has about 60,000."""
DEPTH = 100
"""Folders within one another."""
PATH_BYTES = 4096
"""Of a path (PATH_MAX, limits.h): what is longer cannot be opened."""
EXTENTS = 4_000_000
"""Extents of all files together."""
MEMORY_BYTES = 2 << 30
"""Address space of the reader's process."""
CPU_S = 120
"""Processor seconds of the reader beside hashing, for which HASHED_PER_S is added."""
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
        super().__init__(f"could not look: {problem}",
                         hint="nothing is known about this disk: replace the instance, and keep "
                              "the disk as evidence")
