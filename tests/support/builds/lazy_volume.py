"""A disk as one file, whose blocks wait when they are first read, as a volume does that is made
from a snapshot.

    lazy_volume.py DISK PLACE DELAY_MS

A block of 512 KiB is loaded DELAY_MS after somebody first asked for it; who asks meanwhile waits
for the rest of that time, and later nobody does. Any number of blocks is loaded at once. PLACE is
an empty file; the volume is mounted over it until the program gets SIGTERM. It speaks to /dev/fuse
itself, since libfuse's ten threads would be ten requests at once, each of 128 KiB. Source of the
messages: Linux, include/uapi/linux/fuse.h.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from goldenami.model.builds.sparse_disk import BLOCK

DEPTH = 256
"""Requests that the kernel sends at once; one has at most PAGES."""
PAGES = 256
GETATTR, OPEN, READ, RELEASE, FLUSH, INIT = 3, 14, 15, 18, 25, 26
NO_ANSWER = frozenset({2, 36, 42})
"""FORGET, INTERRUPT, BATCH_FORGET."""
ASYNC_READ, ASYNC_DIO, MAX_PAGES, KEEP_CACHE = 1 << 0, 1 << 15, 1 << 22, 1 << 1
ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
"""fuse_attr: inode, size, blocks, three times, their nanoseconds, mode, links, owner, group,
device, block size."""
FOREVER_S = 1 << 30


class Volume:
    """Answers the kernel's requests, read from `device`, with the bytes of `disk`."""

    def __init__(self, disk: Path, device: int, delay_s: float) -> None:
        self._disk, self._device, self._delay_s = os.open(disk, os.O_RDONLY), device, delay_s
        self._size, self._loaded_at = os.fstat(self._disk).st_size, dict[int, float]()

    def serve(self) -> None:
        """Until the volume is unmounted."""
        with ThreadPoolExecutor(DEPTH) as pool:
            while True:
                try:
                    request = os.read(self._device, 1 << 20)
                except OSError as error:
                    if error.errno == errno.ENODEV:
                        return
                    # ENOENT: the request was taken back.
                    if error.errno in (errno.EINTR, errno.ENOENT):
                        continue
                    raise
                if struct.unpack_from("<I", request, 4)[0] == READ:
                    pool.submit(self._read, request)
                else:
                    self._answer(request)

    def _read(self, request: bytes) -> None:
        offset, size = struct.unpack_from("<QI", request, 48)
        self._wait_for(range(offset // BLOCK, (offset + size - 1) // BLOCK + 1))
        self._reply(request, os.pread(self._disk, size, offset))

    def _wait_for(self, blocks: range) -> None:
        """Until all of the blocks are loaded."""
        now = time.monotonic()
        rest = max(self._loaded_at.setdefault(block, now + self._delay_s) for block in blocks) - now
        if rest > 0:
            time.sleep(rest)

    def _answer(self, request: bytes) -> None:
        kind: int = struct.unpack_from("<I", request, 4)[0]
        if kind == INIT:
            ahead, = struct.unpack_from("<I", request, 48)
            self._reply(request,
                        struct.pack("<IIIIHHIIHHI28x", 7, 31, ahead,
                                    ASYNC_READ | ASYNC_DIO | MAX_PAGES, DEPTH,
                                    DEPTH, 4096, 1, PAGES, 0, 0))
        elif kind == GETATTR:
            attributes = ATTRIBUTES.pack(1, self._size, self._size // 512, 0, 0, 0, 0, 0, 0,
                                         stat.S_IFREG | 0o400, 1, 0,
                                         0, 0, 4096, 0)
            self._reply(request, struct.pack("<QII", FOREVER_S, 0, 0) + attributes)
        elif kind == OPEN:
            self._reply(request, struct.pack("<QII", 0, KEEP_CACHE, 0))
        elif kind in (RELEASE, FLUSH):
            self._reply(request, b"")
        elif kind not in NO_ANSWER:
            self._reply(request, b"", errno.ENOSYS)

    def _reply(self, request: bytes, data: bytes, error: int = 0) -> None:
        head = struct.pack("<IiQ", 16 + len(data), -error, struct.unpack_from("<Q", request, 8)[0])
        os.writev(self._device, [head, data])


def main() -> None:
    """Mount, serve, unmount."""
    disk, place, delay_ms = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = (
        f"ro,fd={device},rootmode=100000,user_id=0,group_id=0,allow_other,max_read={PAGES * 4096}"
    )
    subprocess.run(["mount", "-i", "-t", "fuse", "-o", options, "lazy", place], check=True,
                   pass_fds=[device])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        Volume(disk, device, delay_ms / 1000).serve()
    finally:
        subprocess.run(["umount", "--lazy", place], check=False)


if __name__ == "__main__":
    main()
