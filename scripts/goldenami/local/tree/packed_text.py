"""Find the text in compressed, encoded or binary data."""

from __future__ import annotations

import base64
import binascii
import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

_MOST = 16 << 20
"""Bytes that are decompressed of one stream at most."""
_PACKERS: dict[bytes, Callable[[], Any]] = {
    # 31: 15 for zlib's largest window, and 16 for gzip's header (zlib.h, inflateInit2).
    b"\x1f\x8b": lambda: zlib.decompressobj(31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lzma.LZMADecompressor,
    **dict.fromkeys((b"x\x01", b"x\x5e", b"x\x9c", b"x\xda"), zlib.decompressobj),
}
"""Decompressors by a file's first bytes: gzip, bzip2, xz, and zlib's four levels."""
_PRINTABLE = re.compile(rb"[\t\n\r -~]{8,}")
_WIDE = re.compile(rb"(?:[\t\n\r -~]\0){8,}")
"""Text of one byte a character, and of two (UTF-16)."""
_WRAP = re.compile(rb"(?<=[\w+/-]{40})\r?\n[ \t]*(?=[\w+/-]{4,}={0,2}[ \t]*\r?$)", re.MULTILINE)
"""Line break within base64, which encoders wrap."""
_ENCODED = re.compile(rb"[A-Za-z0-9+/_-]{20,}")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2})+")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def is_packed(data: bytes) -> bool:
    """Return whether `data` begins like a compressed file."""
    return data.startswith(tuple(_PACKERS))


def readable(data: bytes) -> tuple[bytes, bool]:
    """Return the text of a file, and whether the whole file is text. Of another file only its
    printable parts are returned."""
    data = _unpacked(data)
    if b"\0" not in data:
        return data, True
    is_wide = 5 * data.count(b"\0") > 2 * len(data) and _WIDE.search(data[:1024]) is not None
    return _printable(data), is_wide


def unescaped(text: bytes) -> bytes:
    """Return the text without the escapes of strings in JSON and in shells."""
    text = re.sub(rb"\\u00([2-7][0-9a-fA-F])", lambda match: bytes.fromhex(match[1].decode()), text)
    text = text.replace(b"'\"'\"'", b"'")
    text = re.sub(rb"(?<!\\)\\+n", b"\n", text)
    return re.sub(rb"(?<!\\)\\+([\"'/])", rb"\1", text)


def inner(text: bytes) -> bytes:
    """Return what the text holds in base64 or hex, each on a line."""
    return b"\n".join(filter(None, map(_decoded, _parts(_WRAP.sub(b"", text)))))


def _parts(text: bytes) -> Iterator[bytes]:
    """Yield the runs of `text` that may be base64, and what follows a path or a name in one."""
    for run in _ENCODED.findall(text):
        # `/`, `_` and `-` are letters of base64, and may also stand before it.
        ends = [run.split(b"/", number)[-1] for number in range(1, min(4, run.count(b"/")) + 1)]
        yield run
        yield from {part for part in [*re.split(b"[_-]", run), *ends] if 20 <= len(part) < len(run)}


def _decoded(run: bytes) -> bytes:
    try:
        data = (
            bytes.fromhex(run.decode())
            if _HEX.fullmatch(run)
            else base64.b64decode(run.translate(_URL_SAFE) + b"=" * (-len(run) % 4))
        )
    except binascii.Error:
        return b""
    return _printable(_unpacked(data))


def _printable(data: bytes) -> bytes:
    return b"\n".join(
        [*_PRINTABLE.findall(data), *(run.replace(b"\0", b"") for run in _WIDE.findall(data))]
    )


def _unpacked(data: bytes) -> bytes:
    """Return the data decompressed, followed by what is behind the compressed streams."""
    make = next((make for begin, make in _PACKERS.items() if data.startswith(begin)), None)
    parts, rest = list[bytes](), data
    while make and rest and sum(map(len, parts)) < _MOST:
        packer = make()
        try:
            parts.append(packer.decompress(rest, _MOST))
        except (zlib.error, lzma.LZMAError, OSError, ValueError):
            break
        rest = packer.unused_data
    return b"".join([*parts, rest])
