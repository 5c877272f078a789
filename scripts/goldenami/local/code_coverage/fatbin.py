"""Device code in a program: for which GPUs nvcc compiled it, as `cuobjdump --list-elf --list-ptx`
lists it.

nvcc puts one "fat binary" for each source file into a section. Its header is magic, version,
header's size, size. An entry for each architecture follows: kind, header's size, payload's size,
compute capability, flags. NVIDIA does not document the format; the offsets were read off what nvcc
11.8 and 13.0 write, and tests check them on such files.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from goldenami.local.code_coverage.elf import Elf

SECTIONS = (".nv_fatbin", "__nv_relfatbin")
_MAGIC = 0xBA55ED50
_PTX, _SASS = 1, 2
_EXACT, _FAMILY, _COMPRESSED = 1 << 20, 1 << 21, 1 << 13 | 1 << 15
"""Bits of an entry's flags: sm_90a, sm_100f (nvcc manual, "GPU Feature List"), and a payload in LZ4
or zstd."""
_ALIGNMENT = 8
_HEADER, _ENTRY = 16, 64
"""Bytes of a fat binary's header, and the least of an entry."""


@dataclass(frozen=True)
class DeviceImage:
    """Code for one architecture. `suffix` is "a" if no other GPU runs it, "f" if only those of the
    same major number do."""

    capability: int
    suffix: str
    ptx: bool

    @property
    def name(self) -> str:
        """`90a`, as in sm_90a and compute_90a."""
        return f"{self.capability}{self.suffix}"

    def runs_on(self, capability: int) -> bool:
        """Apply CUDA's rule (CUDA C++ programming guide, "binary compatibility", "PTX
        compatibility")."""
        same_major = capability // 10 == self.capability // 10
        if self.suffix == "a":
            return capability == self.capability
        return self.capability <= capability and (same_major or (self.ptx and not self.suffix))


def modules(elf: Elf) -> Iterator[list[DeviceImage]]:
    """Yield the images of each fat binary that holds any code: the device linker leaves some
    empty."""
    for section in itertools.chain.from_iterable(map(elf.named, SECTIONS)):
        at, last = section.offset, section.offset + section.size
        while at + _HEADER <= last:
            magic, _, header, size = struct.unpack_from("<IHHQ", elf.data, at)
            if magic != _MAGIC:
                at += _ALIGNMENT
                continue
            end = min(at + header + size, last)
            if images := list(_images(elf.data[at + header : end])):
                yield images
            at += max(header + size, _ALIGNMENT)


def _images(data: bytes) -> Iterator[DeviceImage]:
    at = 0
    while at + _ENTRY <= len(data):
        kind, _, header, size = struct.unpack_from("<HHIQ", data, at)
        (capability,) = struct.unpack_from("<I", data, at + 28)
        (flags,) = struct.unpack_from("<Q", data, at + 40)
        payload = data[at + header : at + header + size]
        if kind in (_PTX, _SASS) and _holds_code(payload, kind, flags):
            yield DeviceImage(capability, _suffix(flags), ptx=kind == _PTX)
        # At least a step, since a damaged entry may state no size.
        at += max(header + size, _ALIGNMENT)


def _suffix(flags: int) -> str:
    if flags & _EXACT:
        return "a"
    if flags & _FAMILY:
        return "f"
    return ""


def _holds_code(payload: bytes, kind: int, flags: int) -> bool:
    # The names of sections cannot be seen in it.
    if flags & _COMPRESSED:
        return True
    return (b".text." if kind == _SASS else b".entry") in payload


def missing(images: Sequence[DeviceImage], sm: Sequence[str]) -> list[str]:
    """Return those of `sm` ("86") that none of the images runs on."""
    return [name for name in sm if not any(image.runs_on(int(name)) for image in images)]
