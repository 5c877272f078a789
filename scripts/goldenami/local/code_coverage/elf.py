"""Read as much of ELF as the coverage check needs: 64-bit little-endian files, their sections,
functions and code.

Stripped files have an unwind table (.eh_frame_hdr), too. All is read in place by offsets: a
framework's library has half a million functions, for which a general reader takes minutes.
"""

from __future__ import annotations

import mmap
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

MAGIC = b"\x7fELF\x02\x01"
"""The four bytes of every ELF file, then "64-bit" and "little-endian" (ELF specification,
e_ident)."""
X86_64 = 62
"""e_machine (ELF specification, registered values)."""
_EXECUTABLE, _PROGBITS, _NOBITS = 0x4, 1, 8
_PT_LOAD, _PF_X = 1, 1
_FUNCTION_TYPES = (2, 10)
"""Types of symbols: STT_FUNC and STT_GNU_IFUNC."""
_DAMAGE = (struct.error, IndexError, ValueError, OverflowError)
_DATAREL_SDATA4 = 0x3B
"""Encoding of .eh_frame_hdr's table that every linker writes (LSB, "DWARF exception header
encoding")."""


class NotElf(Exception):
    """The file is no ELF file of this kind, or is cut off. The error never leaves `local/`."""


@dataclass(frozen=True)
class Section:
    """A section: its address when loaded, and its place in the file, in bytes."""

    name: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int

    @property
    def executable(self) -> bool:
        return bool(self.flags & _EXECUTABLE) and self.kind == _PROGBITS


@dataclass
class Elf:
    """An open ELF file; use it as a context manager."""

    path: Path
    data: mmap.mmap = field(init=False, repr=False)
    machine: int = field(init=False)
    sections: list[Section] = field(init=False)

    def __enter__(self) -> Elf:
        with self.path.open("rb") as file:
            try:
                self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:
                raise NotElf("is empty") from None
        try:
            self._read_header()
        except _DAMAGE as error:
            self.data.close()
            raise NotElf(f"is damaged: {error}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self.data.close()

    def _read_header(self) -> None:
        if self.data[:6] != MAGIC:
            raise ValueError("no 64-bit little-endian ELF file")
        (self.machine,) = struct.unpack_from("<H", self.data, 18)
        (table,) = struct.unpack_from("<Q", self.data, 40)
        size, count, names = struct.unpack_from("<3H", self.data, 58)
        rows = [
            struct.unpack_from("<IIQQQQI", self.data, table + index * size)
            for index in range(count)
        ]
        if any(row[1] != _NOBITS and row[4] + row[5] > len(self.data) for row in rows):
            raise ValueError("a section ends behind the file's end")
        text = rows[names][4] if rows else 0
        self.sections = [Section(self._string(text + row[0]), *row[1:]) for row in rows]
        # e_shnum is 0 if it cannot hold the number, which is elsewhere then (ELF specification).
        if table and not rows:
            raise ValueError("has more sections than its header counts")
        self._demand_sections()

    def _demand_sections(self) -> None:
        """Raise ValueError if code is loaded that no section names: it would run, and nobody would
        have checked it."""
        (table,) = struct.unpack_from("<Q", self.data, 32)
        size, count = struct.unpack_from("<2H", self.data, 54)
        for index in range(count):
            kind, flags, _, start, _, stored, memory, _ = struct.unpack_from(
                "<IIQQQQQQ", self.data, table + index * size
            )
            if (
                (kind, flags & _PF_X) == (_PT_LOAD, _PF_X)
                and stored
                and not any(
                    section.executable and start <= section.address < start + memory
                    for section in self.sections
                )
            ):
                raise ValueError(f"no section has the code that is loaded at {start:#x}")

    def _string(self, at: int) -> str:
        return self.data[at : self.data.find(b"\0", at)].decode(errors="replace")

    def content(self, section: Section) -> bytes:
        return self.data[section.offset : section.offset + section.size]

    def named(self, name: str) -> list[Section]:
        return [
            section for section in self.sections if section.name == name and section.kind != _NOBITS
        ]

    def functions(self) -> dict[int, str]:
        """Return the address of each known function and its name, "" if only the unwind table has
        it."""
        try:
            return self._functions()
        except _DAMAGE as error:
            raise NotElf(f"has damaged tables of functions: {error}") from None

    def _functions(self) -> dict[int, str]:
        functions: dict[int, str] = dict.fromkeys(self._unwound(), "")
        for table in (".dynsym", ".symtab"):
            for section in self.named(table):
                strings = self.sections[section.link].offset
                for name, info, _, index, value, _ in struct.iter_unpack(
                    "<IBBHQQ", self.content(section)
                ):
                    if info & 0xF in _FUNCTION_TYPES and index:
                        functions[value] = self._string(strings + name)
        return functions

    def _unwound(self) -> Iterator[int]:
        """Yield the start of each function in .eh_frame_hdr's table of (start, description), both
        relative to the header."""
        for section in self.named(".eh_frame_hdr"):
            version, frame, *encodings = struct.unpack_from("<4B", self.data, section.offset)
            is_known = (version, encodings) == (1, [3, _DATAREL_SDATA4])
            if not is_known or frame & 0xF not in (0x3, 0xB):
                return
            (count,) = struct.unpack_from("<I", self.data, section.offset + 8)
            table = self.data[section.offset + 12 : section.offset + 12 + 8 * count]
            yield from (section.address + start for start, _ in struct.iter_unpack("<ii", table))

    def code(self) -> Iterator[tuple[int, str, bytes]]:
        """Yield address, function's name (or `section+0xoffset`) and bytes of every stretch of
        code."""
        names = self.functions()
        starts = sorted(names)
        for section in self.sections:
            if not section.executable:
                continue
            content, end = self.content(section), section.address + section.size
            first, last = bisect_right(starts, section.address), bisect_right(starts, end - 1)
            cuts = [section.address, *starts[first:last], end]
            for start, stop in pairwise(cuts):
                name = names.get(start) or f"{section.name}+{start - section.address:#x}"
                yield start, name, content[start - section.address : stop - section.address]
