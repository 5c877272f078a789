"""Device code in a program: for which GPUs nvcc compiled it. Reads what `cuobjdump --list-elf --list-ptx` lists.

nvcc puts one "fat binary" for each source file into a section. Its header is magic, version, header's size, size;
then comes an entry for each architecture: kind, header's size, payload's size, compute capability, flags. NVIDIA does
not document it; the offsets were read off what nvcc 11.8 and 13.0 write, and tests hold them to such files.

The driver picks an entry by its header alone. So a payload that no GPU of an image runs may be zeros (the role `trim`
makes it so): it counts as no code here, but its fat binary as one that has to have code. The role runs this module in
the image, with nothing beside it but `elf`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from goldenami.local.code_coverage.elf import Elf

SECTIONS = (".nv_fatbin", "__nv_relfatbin")
_MAGIC = 0xBA55ED50
_PTX, _SASS = 1, 2
_EXACT, _FAMILY, _COMPRESSED = 1 << 20, 1 << 21, 1 << 13 | 1 << 15
"""Bits of an entry's flags: sm_90a, sm_100f (nvcc manual, "GPU Feature List"), and a payload in LZ4 or zstd."""
_ALIGNMENT = 8
_HEADER, _ENTRY = 16, 64
"""Bytes of a fat binary's header, and of an entry's at least."""


@dataclass(frozen=True)
class DeviceImage:
    """Code for one architecture. `suffix` is "a" where no other GPU runs it, "f" for the same major number's."""

    capability: int
    suffix: str
    ptx: bool

    @property
    def name(self) -> str:
        """`90a`, as in sm_90a and compute_90a."""
        return f"{self.capability}{self.suffix}"

    def runs_on(self, capability: int) -> bool:
        """CUDA's rule (CUDA C++ programming guide, "binary compatibility", "PTX compatibility")."""
        same_major = capability // 10 == self.capability // 10
        if self.suffix == "a":
            return capability == self.capability
        return self.capability <= capability and (same_major or (self.ptx and not self.suffix))


@dataclass(frozen=True)
class FatEntry:
    """One entry: the architecture of its code, and where its payload lies in the file, in bytes.

    `image` is None of what is neither PTX nor SASS, and where there is no code: in what the device linker left empty,
    and in a `blank` payload, of zeros.
    """

    image: DeviceImage | None
    blank: bool
    offset: int
    size: int


@dataclass(frozen=True)
class FatBinary:
    """The entries of one fat binary. `whole`: they fill it exactly and it ends within its section, so that no size in
    it lies."""

    entries: tuple[FatEntry, ...]
    whole: bool


def modules(elf: Elf) -> Iterator[list[DeviceImage]]:
    """The images of each fat binary that holds any code, or did before it was made blank: what the device linker leaves
    empty does not count."""
    for binary in binaries(elf):
        if any(entry.image or entry.blank for entry in binary.entries):
            yield [entry.image for entry in binary.entries if entry.image]


def binaries(elf: Elf) -> Iterator[FatBinary]:
    """Every fat binary of a program, in its order."""
    for section in (section for name in SECTIONS for section in elf.named(name)):
        at, last = section.offset, section.offset + section.size
        while at + _HEADER <= last:
            magic, _, header, size = struct.unpack_from("<IHHQ", elf.data, at)
            if magic != _MAGIC:
                at += _ALIGNMENT
                continue
            end = at + header + size
            yield _binary(elf.data[at + header:min(end, last)], at + header, end <= last)
            at += max(header + size, _ALIGNMENT)


def _binary(data: bytes, offset: int, fits: bool) -> FatBinary:
    """The fat binary with these bytes behind its header, which lie at `offset` of the file."""
    entries, at = list[FatEntry](), 0
    while at + _ENTRY <= len(data):
        kind, _, header, size = struct.unpack_from("<HHIQ", data, at)
        capability, = struct.unpack_from("<I", data, at + 28)
        flags, = struct.unpack_from("<Q", data, at + 40)
        payload = data[at + header:at + header + size]
        image, blank = None, kind in (_PTX, _SASS) and bool(payload) and not _is_written(payload)
        if kind in (_PTX, _SASS) and not blank and _holds_code(payload, kind, flags):
            suffix = "a" if flags & _EXACT else "f" if flags & _FAMILY else ""
            image = DeviceImage(capability=capability, suffix=suffix, ptx=kind == _PTX)
        fits = fits and header >= _ENTRY
        entries.append(FatEntry(image, blank, offset + at + header, len(payload)))
        at += max(header + size, _ALIGNMENT)
    return FatBinary(tuple(entries), fits and at == len(data))


def _is_written(payload: bytes) -> bool:
    """Whether it is anything but zeros; its first bytes nearly always tell."""
    return bool(payload[:_HEADER].strip(b"\0") or payload.strip(b"\0"))


def _holds_code(payload: bytes, kind: int, flags: int) -> bool:
    return bool(flags & _COMPRESSED) or (b".text." in payload if kind == _SASS else b".entry" in payload)


def unused(elf: Elf, sm: Sequence[str]) -> list[FatEntry]:
    """Machine code that none of the GPUs `sm` ("86") runs; nothing of a fat binary that is not understood to its end.

    PTX is not among it, whatever its architecture: the driver may compile it, and tools ask what there is.
    """
    return [entry for binary in binaries(elf) if binary.whole for entry in binary.entries
            if entry.image and not entry.image.ptx and not any(entry.image.runs_on(int(name)) for name in sm)]


def missing(images: Sequence[DeviceImage], sm: Sequence[str]) -> list[str]:
    """Those of `sm` ("86") that none of the images runs on."""
    return [name for name in sm if not any(image.runs_on(int(name)) for image in images)]
