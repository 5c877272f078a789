"""Programs with device code, without nvcc: fat binaries as it writes them, in the section that it
fills."""

from __future__ import annotations

import struct
from pathlib import Path

from goldenami.core import shell

from support.builds import tools

PTX, SASS, EXACT, FAMILY = 1, 2, 1 << 20, 1 << 21
COMPRESSED = 0x2011
"""Flags of what nvcc compresses."""
MAGIC = 0xBA55ED50
PAYLOAD = b"\xf0" * 16

Image = tuple[int, int, int]
"""Kind, compute capability, flags beside COMPRESSED."""


def fat_binary(*images: Image) -> bytes:
    """What nvcc writes: for each image a header of 64 bytes and a compressed payload."""
    size = len(PAYLOAD)
    content = b""
    for kind, capability, flags in images:
        header = struct.pack(
            "<HHIQIIIIIIQIIQ",
            kind,
            0x101,
            64,
            size,
            size,
            0,
            0x10008,
            capability,
            0,
            0,
            COMPRESSED | flags,
            0,
            0,
            0,
        )
        content += header + PAYLOAD
    return struct.pack("<IHHQ", MAGIC, 1, 16, len(content)) + content


def library(path: Path, *binaries: bytes, source: str = "int answer(void) { return 42; }") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    blob, text = path.with_name(f"{path.name}.blob"), path.with_name(f"{path.name}.c")
    blob.write_bytes(b"".join(binaries))
    section = rf".section .nv_fatbin,\"a\"\n.balign 8\n.incbin \"{blob}\"\n.text"
    text.write_text(f'__asm__("{section}");\n{source}\n', encoding="utf-8")
    shell.output([tools.find("gcc"), "-O3", "-shared", "-fPIC", "-o", str(path), str(text)])
    blob.unlink()
    text.unlink()
    return path
