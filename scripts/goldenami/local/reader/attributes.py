"""Extended attributes of an inode: those behind its fields, and those in a block of their own."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from goldenami.local.reader.crc32c import crc32c
from goldenami.local.reader.ext4 import BLOCK, Ext4
from goldenami.local.reader.inode import Inode
from goldenami.local.reader.limits import Unreadable

_MAGIC = 0xEA020000
ACLS = ("system.posix_acl_access", "system.posix_acl_default")
_PREFIXES = {1: "user.", 2: ACLS[0], 3: ACLS[1], 4: "trusted.", 6: "security."}
"""Prefixes of names, by the number that stands for them (fs/ext4/xattr.h). `system.` is not one of
them: the kernel finds no ACL below it."""
_TAGS = {
    0x01: "user:",
    0x02: "user:",
    0x04: "group:",
    0x08: "group:",
    0x10: "mask:",
    0x20: "other:",
}
_NAMED = (0x02, 0x08)
_RIGHTS = ("---", "--x", "-w-", "-wx", "r--", "r-x", "rw-", "rwx")
_Pair = tuple[tuple[int, int, bytes], bytes]
"""Prefix, length and rest of a name, by which a block is sorted, and its value."""


def attributes(system: Ext4, inode: Inode, subject: str) -> dict[str, str]:
    """Return the values by name: ACLs as text, all others in hex; `subject` names the path in
    errors.

    They are found as the kernel finds them: it looks into the inode first, takes the first of a
    name, and in a block stops at a greater one.
    """
    pairs = list[_Pair]()
    at = 128 + inode.extra_size
    if 128 < at <= len(inode.raw) - 8 and inode.raw[at : at + 4] == _MAGIC.to_bytes(4, "little"):
        area = inode.raw[at + 4 :]
        pairs += _pairs(area, area, subject)
    if inode.attribute_block:
        pairs += _block_pairs(system, inode.attribute_block, subject)
    values = dict[str, str]()
    # The first of a name counts: reversed, it is the last that goes into the dictionary.
    for (prefix, _, rest), value in reversed(pairs):
        name = _PREFIXES[prefix] + rest.decode("utf-8", "backslashreplace")
        values[name] = _acl(value, subject) if name in ACLS else value.hex()
    return values


def _block_pairs(system: Ext4, number: int, subject: str) -> Iterator[_Pair]:
    """Yield the pairs of a block of attributes that are greater than all before them."""
    system.check_block(number, 1, subject)
    block = system.block_at(number)
    magic, _, blocks = struct.unpack_from("<3I", block)
    seed = crc32c(system.seed, number.to_bytes(8, "little"))
    stated = int.from_bytes(block[16:20], "little")
    if (magic, blocks) != (_MAGIC, 1) or (
        system.is_changed(number) and crc32c(seed, block[:16] + bytes(4) + block[20:]) != stated
    ):
        raise Unreadable(f"{subject}: the block of its attributes does not match its checksum")
    greatest = (0, 0, b"")  # no prefix is 0
    for key, value in _pairs(block[32:], block, subject):
        if key > greatest:
            yield key, value
            greatest = key


def _pairs(entries: bytes, values: bytes, subject: str) -> Iterator[_Pair]:
    """Yield the names and values that `entries` lists; the values are at offsets of `values`."""
    at = 0
    while entries[at : at + 4] != bytes(4):
        if at + 16 > len(entries):
            raise Unreadable(f"{subject}: its attributes are damaged")
        length, prefix, offset, inode, size = struct.unpack_from("<BBHII", entries, at)
        end = at + 16 + length
        if (
            inode
            or prefix not in _PREFIXES
            or end > len(entries)
            or offset + size > len(values)
            or size > BLOCK
        ):
            raise Unreadable(f"{subject}: its attributes are damaged")
        yield (prefix, length, entries[at + 16 : end]), values[offset : offset + size]
        at = end + -end % 4


def _acl(value: bytes, subject: str) -> str:
    """Return an ACL as `getfacl` writes it, with numbers for names (fs/ext4/acl.h)."""
    if value[:4] != b"\1\0\0\0":
        raise Unreadable(f"{subject}: its ACL is damaged")
    at, entries = 4, list[str]()
    while at < len(value):
        tag, rights = struct.unpack_from("<HH", value.ljust(at + 4, b"\0"), at)
        if tag not in _TAGS:
            raise Unreadable(f"{subject}: its ACL is damaged")
        at += 4
        identity = ""
        if tag in _NAMED:
            identity = str(int.from_bytes(value[at : at + 4], "little"))
            at += 4
        entries.append(f"{_TAGS[tag]}{identity}:{_RIGHTS[rights & 7]}")
    return ",".join(entries)
