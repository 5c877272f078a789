"""Parts of a sparse file that hold data. lseek(2) finds them, so the zeros of holes are not
read."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator


def data(fd: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield offset and end (exclusive) of each part with data from `start` up to `stop`, in
    bytes."""
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
