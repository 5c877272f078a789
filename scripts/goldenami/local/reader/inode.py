"""An inode of ext4, as it is on the disk."""

from __future__ import annotations

from dataclasses import dataclass

from goldenami.local.reader.crc32c import crc32c


@dataclass(frozen=True)
class Inode:
    """One inode; `raw` is all of it, `filesystem_seed` the seed of its file system's checksums,
    `changed` whether its block may differ from the bake."""

    number: int
    raw: bytes
    filesystem_seed: int
    changed: bool

    @property
    def seed(self) -> int:
        """Seed of the checksums of its blocks."""
        return crc32c(
            crc32c(self.filesystem_seed, self.number.to_bytes(4, "little")), self.raw[0x64:0x68]
        )

    def _u16(self, at: int) -> int:
        return int.from_bytes(self.raw[at : at + 2], "little")

    def _u32(self, at: int) -> int:
        return int.from_bytes(self.raw[at : at + 4], "little")

    @property
    def mode(self) -> int:
        return self._u16(0)

    @property
    def uid(self) -> int:
        return self._u16(2) | self._u16(0x78) << 16

    @property
    def gid(self) -> int:
        return self._u16(0x18) | self._u16(0x7A) << 16

    @property
    def size(self) -> int:
        return self._u32(4) | self._u32(0x6C) << 32

    @property
    def links(self) -> int:
        return self._u16(0x1A)

    @property
    def flags(self) -> int:
        """Flags that `lsattr` shows, and that say how content is laid out."""
        return self._u32(0x20)

    @property
    def sectors(self) -> int:
        """512-byte sectors (blocks, for a huge file) that it holds."""
        return self._u32(0x1C) | self._u16(0x74) << 32

    @property
    def attribute_block(self) -> int:
        """Block of its attributes, or 0."""
        return self._u32(0x68) | self._u16(0x76) << 32

    @property
    def extra_size(self) -> int:
        """Bytes of fields behind the first 128."""
        return self._u16(0x80) if len(self.raw) > 128 else 0

    @property
    def blocks(self) -> bytes:
        """The 60 bytes that hold a tree of extents, a short link or a device's number."""
        return self.raw[0x28:0x64]
