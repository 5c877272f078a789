"""The parts of a file that are no holes: lseek(2) finds them, and nobody reads the zeros
between."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator


def data(fd: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """First byte of each part with data between two bytes, and the first one behind it."""
    at = start
    while at < stop:
        try:
            first = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return  # a hole up to the file's end
        if first >= stop:
            return
        at = min(os.lseek(fd, first, os.SEEK_HOLE), stop)  # the end of a file counts as a hole
        yield first, at
