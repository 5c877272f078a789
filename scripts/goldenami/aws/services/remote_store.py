"""The remote store that several machines share: objects in an S3 bucket, named by their SHA-256."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

from botocore.exceptions import ClientError

from goldenami.aws.calls import tolerate
from goldenami.aws.session import Client, code, translated
from goldenami.core.errors import BadInput

CHUNK = 1 << 16
"""Bytes read at once."""
_MISSING = frozenset({"NoSuchKey", "404"})
"""Error codes for a missing object: GetObject's, and the bare status of HeadObject, whose answer
has no body (S3 API reference)."""
_LOCATION = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/(?P<prefix>.*?))?/*")


class S3Store:
    """A folder of a bucket. S3 verifies uploads by SHA-256, and the local store downloads.

    An object is sent in one request, so it has at most 5 GiB (PutObject's limit) and one SHA-256
    over all of it.
    """

    def __init__(self, s3: Client, bucket: str, prefix: str) -> None:
        self._s3, self._bucket, self._prefix = s3, bucket, prefix

    @classmethod
    def at(cls, s3: Client, location: str) -> S3Store:
        """Return the store at `s3://bucket/prefix`. Raises BadInput for any other form."""
        return cls(s3, *cls.location(location, "GOLDEN_STORE_S3"))

    @staticmethod
    def location(text: str, variable: str) -> tuple[str, str]:
        """Split `s3://bucket/prefix`, the value of the environment's `variable`, into bucket and
        prefix. Raises BadInput for any other form."""
        match = _LOCATION.fullmatch(text)
        if match is None:
            raise BadInput(
                f"`{text}` is no location of S3", hint=f"set {variable} to s3://bucket/prefix"
            )
        return match["bucket"], match["prefix"] or ""

    def get(self, sha256: str, start: int) -> Iterator[bytes] | None:
        """Return an object's bytes from byte `start` on, or None if it does not exist."""
        byte_range = {"Range": f"bytes={start}-"} if start else {}
        with translated():
            try:
                return self._chunks(
                    self._s3.get_object(**self._where(sha256), **byte_range)["Body"]
                )
            except ClientError as error:
                if code(error) in _MISSING:
                    return None
                if code(error) == "InvalidRange":  # everything has arrived, or more than there is
                    return iter(())
                raise

    def _chunks(self, body: Client) -> Iterator[bytes]:
        with translated():
            yield from body.iter_chunks(CHUNK)

    def put(self, sha256: str, source: Path) -> bool:
        """Upload the object unless the bucket has it whole. Return whether it was sent."""
        digest = base64.b64encode(bytes.fromhex(sha256)).decode()
        with translated():
            if self._digest(sha256) == digest:
                return False
            with source.open("rb") as body:
                self._s3.put_object(
                    **self._where(sha256),
                    Body=body,
                    ChecksumAlgorithm="SHA256",
                    ChecksumSHA256=digest,
                )
        return True

    def _digest(self, sha256: str) -> str | None:
        with tolerate(*_MISSING):
            return str(
                self._s3.head_object(**self._where(sha256), ChecksumMode="ENABLED").get(
                    "ChecksumSHA256", ""
                )
            )
        return None

    def _where(self, sha256: str) -> dict[str, str]:
        prefix = f"{self._prefix}/" if self._prefix else ""
        return {"Bucket": self._bucket, "Key": f"{prefix}{sha256[:2]}/{sha256}"}
