"""Extended attributes of an inode: those behind its fields, and those in a block of their own."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from goldenami.local.reader.crc32c import crc32c
from goldenami.local.reader.ext4 import BLOCK, Ext4
from goldenami.local.reader.inode import Inode
from goldenami.local.reader.limits import Unreadable

_MAGIC = 0xEA020000
_PREFIXES = {1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.",
             6: "security.", 7: "system.", 8: "system.richacl"}
"""By the number that stands for them (fs/ext4/xattr.h)."""
ACLS = ("system.posix_acl_access", "system.posix_acl_default")
_TAGS = {0x01: "user:", 0x02: "user:", 0x04: "group:", 0x08: "group:", 0x10: "mask:",
         0x20: "other:"}
_NAMED = (0x02, 0x08)


def attributes(system: Ext4, inode: Inode, what: str) -> dict[str, str]:
    """Values by name: ACLs as text, all others in hex."""
    found = dict[str, str]()
    at = 128 + inode.extra_size
    if 128 < at <= len(inode.raw) - 8 and inode.raw[at:at + 4] == _MAGIC.to_bytes(4, "little"):
        area = inode.raw[at + 4:]
        found |= _parse(area, area, what)
    if number := inode.attribute_block:
        system.check_block(number, 1, what)
        block = system.block_at(number)
        magic, _, blocks = struct.unpack_from("<3I", block)
        seed = crc32c(system.seed, number.to_bytes(8, "little"))
        stated = int.from_bytes(block[16:20], "little")
        if (magic, blocks) != (_MAGIC, 1) or (
                system.is_changed(number) and crc32c(seed, block[:16] + bytes(4) + block[20:])
                != stated):
            raise Unreadable(f"{what}: the block of its attributes does not match its checksum")
        found |= _parse(block[32:], block, what)
    return found


def _parse(entries: bytes, values: bytes, what: str) -> dict[str, str]:
    return {name: _acl(value, what) if name in ACLS else value.hex()
            for name, value in _pairs(entries, values, what)}


def _pairs(entries: bytes, values: bytes, what: str) -> Iterator[tuple[str, bytes]]:
    at = 0
    while entries[at:at + 4] != bytes(4):
        if at + 16 > len(entries):
            raise Unreadable(f"{what}: its attributes are damaged")
        length, prefix, offset, inode, size = struct.unpack_from("<BBHII", entries, at)
        end = at + 16 + length
        if (inode or prefix not in _PREFIXES or end > len(entries)
                or offset + size > len(values) or size > BLOCK):
            raise Unreadable(f"{what}: its attributes are damaged")
        name = entries[at + 16:end].decode("utf-8", "backslashreplace")
        yield _PREFIXES[prefix] + name, values[offset:offset + size]
        at = end + -end % 4


def _acl(value: bytes, what: str) -> str:
    """An ACL as `getfacl` writes it, with numbers for names (fs/ext4/acl.h)."""
    if value[:4] != b"\1\0\0\0":
        raise Unreadable(f"{what}: its ACL is damaged")
    at, said = 4, list[str]()
    while at < len(value):
        tag, rights = struct.unpack_from("<HH", value.ljust(at + 4, b"\0"), at)
        if tag not in _TAGS:
            raise Unreadable(f"{what}: its ACL is damaged")
        named = tag in _NAMED
        who = str(int.from_bytes(value[at + 4:at + 8], "little")) if named else ""
        said.append(f"{_TAGS[tag]}{who}:" + "".join(
            letter if rights & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1))))
        at += 8 if named else 4
    return ",".join(said)
