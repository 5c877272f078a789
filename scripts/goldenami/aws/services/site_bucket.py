"""The site in an S3 bucket."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Iterator
from pathlib import Path

from goldenami.aws.services.remote_store import S3Store
from goldenami.aws.session import Client, translated


class SiteBucket:
    """A folder of a bucket that has the site's files under their paths."""

    def __init__(self, s3: Client, bucket: str, prefix: str) -> None:
        self._s3, self._bucket, self._prefix = s3, bucket, f"{prefix}/" if prefix else ""

    @classmethod
    def at(cls, s3: Client, location: str) -> SiteBucket:
        """The folder `s3://bucket/prefix`; BadInput where it is not of this form."""
        bucket, prefix = S3Store.location(location, "GOLDEN_SITE_S3")
        return cls(s3, bucket, prefix)

    def pull(self, site: Path, name: str) -> int:
        """Have every `<image>/<build id>/<name>` of the bucket that `site` lacks; returns how many
        came."""
        missing = [
            path
            for path in self._digests()
            if path.count("/") == 2 and path.endswith(f"/{name}") and not (site / path).exists()
        ]
        for path in missing:
            target = site / path
            if not target.resolve().is_relative_to(site.resolve()):
                continue  # a key is any text, `..` too
            with translated():
                content = self._s3.get_object(Bucket=self._bucket, Key=self._prefix + path)[
                    "Body"
                ].read()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        return len(missing)

    def push(self, site: Path) -> int:
        """Send every file that the bucket has not, or with other bytes; the page itself last.
        Returns how many were sent. Nothing is removed."""
        known = self._digests()
        files = sorted(
            (path for path in site.rglob("*") if path.is_file()),
            key=lambda path: path.parent == site,
        )
        return sum(self._send(path, path.relative_to(site).as_posix(), known) for path in files)

    def _send(self, path: Path, name: str, known: dict[str, str]) -> bool:
        content = path.read_bytes()
        if known.get(name) == hashlib.md5(content, usedforsecurity=False).hexdigest():
            return False
        kind = mimetypes.guess_type(name)[0] or "text/plain"
        with translated():
            self._s3.put_object(
                Bucket=self._bucket,
                Key=self._prefix + name,
                Body=content,
                ChecksumAlgorithm="SHA256",
                ContentType=f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
            )
        return True

    def _digests(self) -> dict[str, str]:
        """The objects by their path in the site. An ETag is the content's MD5 unless a key of KMS
        encrypts it; then the object is sent again."""
        with translated():
            return dict(self._objects())

    def _objects(self) -> Iterator[tuple[str, str]]:
        for page in self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix
        ):
            for row in page.get("Contents", []):  # an empty answer has no list
                yield row["Key"].removeprefix(self._prefix), row["ETag"].strip('"')
