"""Read an ext4 file system, as Linux' documentation describes it ("ext4 Data Structures and
Algorithms").

Nothing in it is trusted: each number is compared with the size of the disk, and each block of
metadata with its checksum. Features that no image has are refused, because a reader that does not
know them would see another tree than the kernel.
"""

from __future__ import annotations

import bisect
import hashlib
import stat
import struct
import uuid
from collections.abc import Iterator, Sequence

from goldenami.local.reader import limits
from goldenami.local.reader.block_source import BlockSource, Extent
from goldenami.local.reader.crc32c import START, crc32c
from goldenami.local.reader.inode import Inode
from goldenami.local.reader.limits import Unreadable

BLOCK = 4096
ROOT_INODE, JOURNAL_INODE, FIRST_INODE = 2, 8, 11
"""Inodes that Linux knows by number, and the first that a name may have."""
SUPERBLOCK_AT, SUPERBLOCK_BYTES = 1024, 1024
_INCOMPATIBLE = {
    "filetype": 0x2,
    "recover": 0x4,
    "extents": 0x40,
    "64bit": 0x80,
    "flex_bg": 0x200,
    "csum_seed": 0x2000,
}
_FAST_COMMIT = 0x400
"""A compatible feature that changes what the journal means."""
_METADATA_CSUM = 0x400
FLAG_INDEX, FLAG_HUGE_FILE, FLAG_EXTENTS = 0x1000, 0x40000, 0x80000
LAYOUT_FLAGS = FLAG_INDEX | FLAG_HUGE_FILE | FLAG_EXTENTS
"""Inode flags that say how content is laid out; all others say what may be done with it."""
_EXTENT_DEPTH = 5
"""Greatest depth of a tree of extents (EXT4_MAX_EXTENT_DEPTH)."""
_UNWRITTEN = 32768
"""Extents with more blocks than this are allocated but not written: they read as zeros."""

Run = tuple[int, int, int]
"""Logical block, first block on the disk (0: zeros), blocks."""


class Ext4:
    """The file system that fills `source`. It raises Unreadable at whatever does not fit.

    The journal's version of a block replaces the block, from `replace` on. `changed` are the parts
    that were written since the bake, in bytes: the rest was checked when it was written. If it is
    None, nothing is known and all is checked.
    """

    def __init__(self, source: BlockSource, changed: Sequence[Extent] | None = None) -> None:
        self.source = source
        self._changed = changed
        self._starts = [start for start, _ in changed or ()]
        self._ends = [end for _, end in changed or ()]
        self._tables: dict[int, tuple[int, int]] = {}
        self._replaced: dict[int, bytes] = {}
        self._replaced_numbers: list[int] = []
        self._base: Ext4 | None = None
        self._same: dict[int, bool] = {}
        self.load()

    def check_groups(self) -> None:
        """Compare each block group's descriptor with its checksum and with the disk: Linux mounts
        no file system with a wrong one."""
        for group in range(self.groups):
            self._inode_table(group)

    def compare_with(self, base: Ext4) -> None:
        """Take a block for changed only if it differs from that of the file system as it was
        baked."""
        self._base = base
        self._same.clear()

    def replace(self, blocks: dict[int, bytes]) -> None:
        """Read these blocks from here, and the superblock anew: it may be among them."""
        self._replaced, self._replaced_numbers = blocks, sorted(blocks)
        self._tables.clear()
        self.load()

    def load(self) -> None:
        """Read the superblock and check it."""
        block = self.block_at(0)
        raw = block[SUPERBLOCK_AT : SUPERBLOCK_AT + SUPERBLOCK_BYTES]
        if raw[0x38:0x3A] != b"\x53\xef":
            raise Unreadable("there is no ext4 file system in the root partition")
        fields = struct.unpack_from("<13I", raw)
        self.settings = settings(raw)
        self.compatible, self.incompatible, self.read_only = struct.unpack_from("<3I", raw, 0x5C)
        self._check_features()
        if crc32c(START, raw[:0x3FC]) != int.from_bytes(raw[0x3FC:], "little"):
            raise Unreadable("the superblock does not match its checksum")
        self.inodes: int = fields[0]
        self.block_count: int = fields[1]
        self.blocks_per_group: int = fields[8]
        self.inodes_per_group: int = fields[10]
        self.inode_size: int = struct.unpack_from("<H", raw, 0x58)[0]
        self.descriptor_size = 32
        if self.incompatible & _INCOMPATIBLE["64bit"]:
            self.block_count |= int.from_bytes(raw[0x150:0x154], "little") << 32
            self.descriptor_size = int.from_bytes(raw[0xFE:0x100], "little")
        if self.incompatible & _INCOMPATIBLE["csum_seed"]:
            self.seed = int.from_bytes(raw[0x270:0x274], "little")
        else:
            self.seed = crc32c(START, raw[0x68:0x78])
        self.hash_seed: tuple[int, ...] = struct.unpack_from("<4I", raw, 0xEC)
        self.hashes_are_signed = not raw[0x160] & 2
        self.needs_recovery = bool(self.incompatible & _INCOMPATIBLE["recover"])
        if fields[6] != 2 or fields[5] != 0:
            raise Unreadable(f"blocks of {1024 << min(fields[6], 20)} bytes: images have {BLOCK}")
        self._check_geometry()

    def _check_features(self) -> None:
        unknown = self.incompatible & ~sum(_INCOMPATIBLE.values())
        if unknown or not self.incompatible & _INCOMPATIBLE["extents"]:
            raise Unreadable(
                f"the file system has features that no image has (incompatible: {unknown:#x})"
            )
        if self.compatible & _FAST_COMMIT:
            raise Unreadable("the file system has the feature fast_commit, which no image has")
        if not self.read_only & _METADATA_CSUM:
            raise Unreadable("the file system has no checksums, as every image has (metadata_csum)")

    def _check_geometry(self) -> None:
        groups = -(-self.block_count // self.blocks_per_group) if self.blocks_per_group else 0
        sound = (
            0 < self.blocks_per_group <= 8 * BLOCK
            and 0 < self.inodes_per_group <= 8 * BLOCK
            and self.inode_size in (128, 256, 512, 1024)
            and self.descriptor_size in (32, 64)
            and self.inodes == groups * self.inodes_per_group
        )
        if not sound:
            raise Unreadable("the superblock's figures contradict one another")
        if self.block_count * BLOCK > self.source.size:
            raise Unreadable(
                f"the file system has {self.block_count} blocks, its partition "
                f"{self.source.size // BLOCK}"
            )
        self.groups = groups

    # --- blocks

    def block_at(self, number: int) -> bytes:
        if number in self._replaced:
            return self._replaced[number]
        return self.source.read(number * BLOCK, BLOCK)

    def blocks_at(self, number: int, count: int) -> bytes:
        index = bisect.bisect_left(self._replaced_numbers, number)
        if index == len(self._replaced_numbers) or self._replaced_numbers[index] >= number + count:
            return self.source.read(number * BLOCK, count * BLOCK)
        return b"".join(self.block_at(block) for block in range(number, number + count))

    def is_changed(self, number: int, count: int = 1) -> bool:
        """Return whether any of these blocks may differ from the bake; a single one is compared."""
        return self._was_written(number, count) and not (count == 1 and self._is_same(number))

    def _is_same(self, number: int) -> bool:
        if self._base is None or number >= self._base.block_count:
            return False
        if number not in self._same:
            self._same[number] = self.block_at(number) == self._base.block_at(number)
        return self._same[number]

    def _was_written(self, number: int, count: int) -> bool:
        if self._changed is None:
            return True
        replaced = self._replaced_numbers
        index = bisect.bisect_left(replaced, number)
        if index < len(replaced) and replaced[index] < number + count:
            return True
        index = bisect.bisect_right(self._ends, number * BLOCK)
        return index < len(self._ends) and self._starts[index] < (number + count) * BLOCK

    def changed_within(self, number: int, count: int) -> Iterator[tuple[int, int]]:
        """Yield those of these blocks that may differ from the bake: the first and how many."""
        if self._changed is None:
            yield number, count
            return
        replaced, end = self._replaced_numbers, number + count
        index = bisect.bisect_left(replaced, number)
        while index < len(replaced) and replaced[index] < end:
            yield replaced[index], 1
            index += 1
        index = bisect.bisect_right(self._ends, number * BLOCK)
        while index < len(self._changed) and self._changed[index][0] < end * BLOCK:
            first = max(number, self._changed[index][0] // BLOCK)
            yield first, min(end, -(-self._changed[index][1] // BLOCK)) - first
            index += 1

    def check_block(self, number: int, count: int, subject: str) -> None:
        """Raise Unreadable if the blocks are not on the disk."""
        if not 0 < number <= number + count <= self.block_count:
            raise Unreadable(f"{subject} names block {number} (+{count}) of {self.block_count}")

    # --- inodes

    def inode(self, number: int, subject: str, *, checked: bool = True) -> Inode:
        """Return an inode; `subject` names in an error what has it."""
        place, begin = divmod(self._inode_at(number, subject), BLOCK)
        inode = Inode(
            number,
            self.block_at(place)[begin : begin + self.inode_size],
            self.seed,
            checked and self.is_changed(place),
        )
        if inode.changed:
            self._check_inode(inode, subject)
        return inode

    def place_of(self, number: int) -> int:
        return self._inode_at(number, f"inode {number}")

    def _inode_at(self, number: int, subject: str) -> int:
        """Return the place of an inode in bytes."""
        if not 0 < number <= self.inodes:
            raise Unreadable(f"{subject} names inode {number} of {self.inodes}")
        group, index = divmod(number - 1, self.inodes_per_group)
        if group not in self._tables:
            self._tables[group] = self._inode_table(group)
        table, used = self._tables[group]
        if index >= used:
            raise Unreadable(f"{subject} names inode {number}, which Linux overwrites with zeros")
        return table * BLOCK + index * self.inode_size

    def _inode_table(self, group: int) -> tuple[int, int]:
        """Return the first block of a group's inodes, and how many were ever in use."""
        at = BLOCK + group * self.descriptor_size
        block = self.block_at(at // BLOCK)
        raw = block[at % BLOCK : at % BLOCK + self.descriptor_size]
        if self.is_changed(at // BLOCK):
            self._check_descriptor(group, raw)
        wide = raw.ljust(64, b"\0")  # the upper halves stand in the second 32 bytes
        lows, highs = struct.unpack_from("<3I", wide), struct.unpack_from("<3I", wide, 0x20)
        bitmap, inode_bitmap, first = (
            int(low | high << 32) for low, high in zip(lows, highs, strict=True)
        )
        for number in (bitmap, inode_bitmap):
            self.check_block(number, 1, f"block group {group}")
        self.check_block(
            first, -(-self.inodes_per_group * self.inode_size // BLOCK), f"block group {group}"
        )
        unused = int.from_bytes(wide[0x1C:0x1E] + wide[0x32:0x34], "little")
        return first, self.inodes_per_group - unused

    def _check_descriptor(self, group: int, raw: bytes) -> None:
        """Raise Unreadable if the descriptor of a block group does not match its checksum."""
        blank = raw[:0x1E] + b"\0\0" + raw[0x20:]
        computed = crc32c(crc32c(self.seed, group.to_bytes(4, "little")), blank) & 0xFFFF
        if computed != int.from_bytes(raw[0x1E:0x20], "little"):
            raise Unreadable(f"the descriptor of block group {group} does not match its checksum")

    def _check_inode(self, inode: Inode, subject: str) -> None:
        raw, mask = inode.raw, 0xFFFF
        blank = bytearray(raw)
        blank[0x7C:0x7E] = b"\0\0"
        stated = int.from_bytes(raw[0x7C:0x7E], "little")
        # Only an inode with extra fields has the upper half.
        if inode.extra_size >= 4:
            blank[0x82:0x84] = b"\0\0"
            stated |= int.from_bytes(raw[0x82:0x84], "little") << 16
            mask = 0xFFFFFFFF
        if crc32c(inode.seed, blank) & mask != stated:
            raise Unreadable(f"{subject}: inode {inode.number} does not match its checksum")
        if inode.extra_size > self.inode_size - 128 or inode.extra_size % 4:
            raise Unreadable(
                f"{subject}: inode {inode.number} has {inode.extra_size} bytes of extra fields"
            )

    # --- content

    def runs(self, inode: Inode, subject: str) -> list[Run]:
        """Return where a content is: in order, without overlaps, each within the disk."""
        return [run for run in self.layout(inode, subject) if run[2]]

    def layout(self, inode: Inode, subject: str) -> list[Run]:
        """Return the same with the blocks that lead there, which have no blocks of content."""
        if not inode.flags & FLAG_EXTENTS:
            if inode.size == 0 and not any(inode.blocks):
                return []
            raise Unreadable(f"{subject}: its content is not in extents, as that of every image is")
        runs, end = list[Run](), 0
        for run in self._extents(inode, inode.blocks, _EXTENT_DEPTH, subject):
            if run[0] < end or len(runs) >= limits.EXTENTS:
                raise Unreadable(f"{subject}: its extents overlap, or there are too many")
            end = run[0] + run[2]
            runs.append(run)
        return runs

    def _extents(self, inode: Inode, node: bytes, most: int, subject: str) -> Iterator[Run]:
        """Yield the extents below a node of the tree, whose depth is at most `most`, and the blocks
        of the nodes."""
        magic, entries, room, depth = struct.unpack_from("<4H", node)
        if (
            magic != 0xF30A
            or entries > room
            or 12 + 12 * room > len(node)
            or depth > most
            or (not entries and (depth or len(node) == BLOCK))
        ):
            raise Unreadable(f"{subject}: the tree of its extents is damaged")
        rows = node[12 : 12 + 12 * entries]
        if depth == 0:
            yield from self._leaf(rows, subject)
            return
        for logical, low, high, _ in struct.iter_unpack("<IIHH", rows):
            child = low | high << 32
            block = self._node(inode, child, depth - 1, subject)
            # Each node has to be where the kernel looks for what is below it.
            if logical != int.from_bytes(block[12:16], "little"):
                raise Unreadable(f"{subject}: the tree of its extents is damaged")
            yield logical, child, 0
            yield from self._extents(inode, block, depth - 1, subject)

    def _leaf(self, rows: bytes, subject: str) -> Iterator[Run]:
        """Yield the extents in the rows of a leaf."""
        for logical, length, high, low in struct.iter_unpack("<IHHI", rows):
            first = low | high << 32
            if length == 0:
                raise Unreadable(f"{subject}: one of its extents is empty")
            if length <= _UNWRITTEN:
                self.check_block(first, length, subject)
                yield logical, first, length
            else:
                self.check_block(first, length - _UNWRITTEN, subject)
                yield logical, 0, length - _UNWRITTEN

    def _node(self, inode: Inode, number: int, depth: int, subject: str) -> bytes:
        """Return the block of a node of that depth, after its checksum was compared."""
        self.check_block(number, 1, subject)
        block = self.block_at(number)
        (stated_depth,) = struct.unpack_from("<H", block, 6)
        tail = 12 + 12 * int.from_bytes(block[4:6], "little")
        is_sound = stated_depth == depth and tail + 4 <= BLOCK
        if is_sound and (inode.changed or self.is_changed(number)):
            stated = int.from_bytes(block[tail : tail + 4], "little")
            is_sound = crc32c(inode.seed, block[:tail]) == stated
        if not is_sound:
            raise Unreadable(f"{subject}: a block of its extents does not match its checksum")
        return block

    def content(self, inode: Inode, runs: list[Run], chunk: int = 256) -> Iterator[bytes]:
        """Yield the content in pieces of at most `chunk` blocks; holes are zeros."""
        left, at = inode.size, 0
        for logical, physical, length in [*runs, (-(-inode.size // BLOCK), 0, 0)]:
            for first, count in [(0, logical - at), (physical, length)]:
                for begin in range(0, max(count, 0), chunk):
                    take = min(chunk, count - begin)
                    size = min(left, take * BLOCK)
                    if size <= 0:
                        return
                    data = self.blocks_at(first + begin, take) if first else bytes(take * BLOCK)
                    yield data[:size]
                    left -= size
            at = logical + length

    def link(self, inode: Inode, subject: str) -> bytes:
        """Return the target of a symbolic link."""
        held = inode.sectors - (8 if inode.attribute_block else 0)
        if inode.size == 0 or inode.size > limits.PATH_BYTES or inode.flags & FLAG_HUGE_FILE:
            raise Unreadable(f"{subject}: a link of {inode.size} bytes")
        if held == 0:  # as ext4_inode_is_fast_symlink; else the kernel reads blocks
            if inode.size >= len(inode.blocks):
                raise Unreadable(f"{subject}: a link of {inode.size} bytes in its inode")
            return inode.blocks[: inode.size]
        return b"".join(self.content(inode, self.runs(inode, subject)))


_USED = (
    (0x00, 0x14),
    (0x150, 0x15C),
    (0x248, 0x24C),  # numbers of inodes and blocks
    (0x2C, 0x38),
    (0x40, 0x44),
    (0x274, 0x276),
    (0x277, 0x27C),  # times; mounts, and how many may be
    (0x3A, 0x3C),
    (0x178, 0x180),
    (0x194, 0x200),  # state, KiB written, errors
    (0x5C, 0x68),  # features, which `settings` shows
    (0x88, 0xC8),
    (0xCE, 0xD0),  # where it was mounted, blocks reserved for the table of groups
    (0xE8, 0xEC),
    (0x3FC, 0x400),  # files that were removed while open, checksum
)
"""Parts of a superblock that Linux, resize2fs and e2fsck change in use ("Super Block")."""


def settings(superblock: bytes) -> str:
    """Return what a file system says of itself and no use of it changes: features, what an error
    does, options of a mount, its journal, UUIDs, and a digest of the rest."""
    rest = bytearray(superblock)
    for start, stop in _USED:
        rest[start:stop] = bytes(stop - start)
    journal, device = struct.unpack_from("<2I", superblock, 0xE0)
    identities = [uuid.UUID(bytes=superblock[at : at + 16]) for at in (0xD0, 0x68)]
    # Linux sets extended attributes, large files, a journal or orphans to play back; resize2fs uses
    # up what is reserved.
    features = (
        value & ~changes
        for value, changes in zip(
            struct.unpack_from("<3I", superblock, 0x5C),
            (0x18, _INCOMPATIBLE["recover"], 0x10002),
            strict=True,
        )
    )
    (errors,) = struct.unpack_from("<H", superblock, 0x3C)
    reserved = struct.unpack_from("<2H", superblock, 0x50)
    (options,) = struct.unpack_from("<I", superblock, 0x100)
    words = superblock[0x200:0x240].rstrip(b"\0").decode("ascii", "backslashreplace")
    shown = " ".join(f"{value:#x}" for value in features)
    before = (
        f"features {shown}, errors {errors}, reserved for {reserved[0]}:{reserved[1]}, "
        f"options {options:#x} {words}"
    ).rstrip()
    return (
        f"{before}; journal inode {journal} device {device} UUID {identities[0]}, "
        f"UUID {identities[1]}, rest {hashlib.sha256(rest).hexdigest()[:16]}"
    )


def device(inode: Inode) -> tuple[int, int]:
    """Return major and minor number of a device, in whichever of both encodings it is
    (linux/kdev_t.h)."""
    old, new = struct.unpack_from("<2I", inode.blocks)
    if old:
        return old >> 8 & 0xFF, old & 0xFF
    return new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00


KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFCHR: "character",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFLNK: "symlink",
}
"""Types as the manifest names them (it has no sockets), in the order of their numbers in a folder,
from 1 on."""
