"""Data that EC2 gave an instance at its launch, as far as they are known."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes


@dataclass(frozen=True)
class LaunchedWith:
    """Data of a launch. `user_data` is empty without any, `key` is the public key, `hostname` EC2's
    private name; each is None if unknown."""

    user_data: bytes | None = None
    key: str | None = None
    hostname: str | None = None

    def has_in_user_data(self, word: str) -> bool:
        """Return whether user data has `word`: as it is, compressed, or in a part of MIME."""
        return any(word.encode() in part for part in self._parts())

    def _parts(self) -> Iterator[bytes]:
        data = self.user_data or b""
        with contextlib.suppress(OSError, EOFError, zlib.error):
            data = gzip.decompress(data)
        yield data
        for part in message_from_bytes(data).walk():
            decoded = part.get_payload(decode=True)
            if isinstance(decoded, bytes):
                yield decoded


UNKNOWN = LaunchedWith()
