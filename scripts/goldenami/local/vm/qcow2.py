"""An empty qcow2 overlay over a raw disk, larger than it: what `qemu-img create -b` writes.

QEMU's packages come without qemu-img, and its own package pulls in network storage clients. The format is
"qcow2 ImageFile Format" (QEMU, docs/interop/qcow2.rst), version 3, 64 KiB clusters, 16-bit reference counts.
"""

from __future__ import annotations

import struct
from pathlib import Path

CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
_L2_COVERS = (CLUSTER // 8) * CLUSTER
"""Bytes of the disk that one L2 table maps: 8192 clusters of 64 KiB, 512 MiB."""
MAX_BYTES = (CLUSTER // 8) * _L2_COVERS
"""What an L1 table of one cluster maps: 4 TiB."""
_BACKING_FORMAT = 0xE2792ACA
_HEADER_BYTES = 104


def overlay(path: Path, backing: Path, size_bytes: int) -> None:
    """Create `path`: reads fall through to the raw file `backing`, writes stay here; zeros beyond its end."""
    if not 0 < size_bytes <= MAX_BYTES:
        raise ValueError(f"{size_bytes} bytes: an overlay has at most {MAX_BYTES}")
    name = str(backing.resolve()).encode()
    extension = struct.pack(">II8s", _BACKING_FORMAT, 3, b"raw") + struct.pack(">II", 0, 0)
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, _HEADER_BYTES + len(extension), len(name), CLUSTER_BITS, size_bytes,
        0, -(-size_bytes // _L2_COVERS), 3 * CLUSTER, 1 * CLUSTER, 1, 0, 0, 0, 0, 0, 4, _HEADER_BYTES,
    )
    clusters = [
        header + extension + name,                # 0: header
        struct.pack(">Q", 2 * CLUSTER),           # 1: reference count table
        struct.pack(">4H", 1, 1, 1, 1),           # 2: reference counts of these four clusters
        b"",                                      # 3: L1 table, nothing allocated
    ]
    path.write_bytes(b"".join(cluster.ljust(CLUSTER, b"\0") for cluster in clusters))
