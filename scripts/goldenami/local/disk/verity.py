"""Write dm-verity's hash tree of a file system beside it into the disk image, as `veritysetup
format` does, but without the device mapper.

Linux, Documentation/admin-guide/device-mapper/verity.rst, describes the tree, cryptsetup's
lib/verity/verity.c the block in front of it.
"""

from __future__ import annotations

import hashlib
import os
import struct
import uuid
from pathlib import Path

from goldenami.core.errors import BadInput

BLOCK = 4096
"""Bytes of a block of data and of hashes."""
_DIGEST = hashlib.sha256().digest_size
_PER_BLOCK = BLOCK // _DIGEST
_SUPERBLOCK = struct.Struct("<8sII16s32sIIQH6x256s168x")
"""struct verity_sb: signature, version, type of hashes, UUID, algorithm, sizes of blocks, data
blocks, salt."""
_CHUNK = 8 << 20
"""Bytes that are read at once: whole blocks of the lowest level."""
_ZEROS = bytes(_CHUNK)


def tree_bytes(data_bytes: int) -> int:
    """Return the bytes of the tree of `data_bytes`, more than one block, with its superblock."""
    return BLOCK * (1 + sum(_levels(data_bytes // BLOCK)))


def _levels(blocks: int) -> list[int]:
    """Return the blocks of each level, the lowest first."""
    levels = [blocks]
    while len(levels) == 1 or levels[-1] > 1:
        levels.append(-(-levels[-1] // _PER_BLOCK))
    return levels[1:]


def write(
    disk: Path, data: tuple[int, int], tree: tuple[int, int], *, salt: bytes, identity: uuid.UUID
) -> str:
    """Write the tree of `data` to `tree`, both as offset and size in bytes of `disk`, and return
    the root hash in hex digits. `salt` has up to 256 bytes. Raises BadInput if the tree does not
    fit."""
    (offset, size), (at, room) = data, tree
    if tree_bytes(size) > room:
        raise BadInput(
            f"the hashes of {size} bytes need {tree_bytes(size)} bytes, their partition has {room}"
        )
    first = _SUPERBLOCK.pack(
        b"verity", 1, 1, identity.bytes, b"sha256", BLOCK, BLOCK, size // BLOCK, len(salt), salt
    )
    descriptor = os.open(disk, os.O_RDWR)
    try:
        levels = [_lowest(descriptor, offset, size, salt)]
        while len(levels[-1]) > BLOCK:
            levels.append(_padded(_hashes(levels[-1], salt)))
        written = first.ljust(BLOCK, b"\0") + b"".join(reversed(levels))
        for begin in range(0, len(written), _CHUNK):
            os.pwrite(descriptor, written[begin : begin + _CHUNK], at + begin)
    finally:
        os.close(descriptor)
    return hashlib.sha256(salt + levels[-1]).hexdigest()


def _lowest(descriptor: int, offset: int, size: int, salt: bytes) -> bytes:
    """Return the hashes of the data itself."""
    # Holes of the image are zeros: the hash of a block of zeros is computed once.
    zeros = _hashes(bytes(BLOCK), salt)

    def part(begin: int) -> bytes:
        length = min(_CHUNK, size - begin)
        chunk = os.pread(descriptor, length, offset + begin)
        return zeros * (length // BLOCK) if chunk == _ZEROS[:length] else _hashes(chunk, salt)

    return _padded(b"".join(map(part, range(0, size, _CHUNK))))


def _hashes(data: bytes, salt: bytes) -> bytes:
    salted = hashlib.sha256(salt)
    digests = []
    for begin in range(0, len(data), BLOCK):
        digest = salted.copy()
        digest.update(data[begin : begin + BLOCK])
        digests.append(digest.digest())
    return b"".join(digests)


def _padded(level: bytes) -> bytes:
    return level + bytes(-len(level) % BLOCK)
