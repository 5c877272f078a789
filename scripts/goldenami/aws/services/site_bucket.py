"""Upload and download of the report site's files in an S3 bucket."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Iterator
from pathlib import Path

from goldenami.aws.services.remote_store import S3Store
from goldenami.aws.session import Client, translated


class SiteBucket:
    """A folder of a bucket that holds the site's files under their relative paths."""

    def __init__(self, s3: Client, bucket: str, prefix: str) -> None:
        self._s3, self._bucket, self._prefix = s3, bucket, prefix
        if prefix:
            self._prefix = f"{prefix}/"

    @classmethod
    def at(cls, s3: Client, location: str) -> SiteBucket:
        """Return the folder `s3://bucket/prefix`. Raises BadInput for any other form."""
        bucket, prefix = S3Store.location(location, "GOLDEN_SITE_S3")
        return cls(s3, bucket, prefix)

    def pull(self, site: Path, name: str) -> int:
        """Download every `<image>/<build id>/<name>` that `site` lacks. Return how many `site`
        lacked."""
        missing = [
            path
            for path in self._digests()
            if path.count("/") == 2 and path.endswith(f"/{name}") and not (site / path).exists()
        ]
        for path in missing:
            target = site / path
            if not target.resolve().is_relative_to(site.resolve()):
                continue  # an S3 key is any text, `..` included
            with translated():
                content = self._s3.get_object(Bucket=self._bucket, Key=self._prefix + path)[
                    "Body"
                ].read()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        return len(missing)

    def push(self, site: Path) -> int:
        """Upload every file that the bucket lacks or has with other bytes, and return how many were
        sent. Nothing is removed."""
        digests = self._digests()
        # The page itself goes last: what it links to is there by then.
        files = sorted(
            (path for path in site.rglob("*") if path.is_file()),
            key=lambda path: path.parent == site,
        )
        return sum(self._send(path, path.relative_to(site).as_posix(), digests) for path in files)

    def _send(self, path: Path, name: str, digests: dict[str, str]) -> bool:
        content = path.read_bytes()
        if digests.get(name) == hashlib.md5(content, usedforsecurity=False).hexdigest():
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
        """The ETag of each object, by its path in the site."""
        # An ETag is the content's MD5 unless a KMS key encrypts the object, which is then sent
        # again each time.
        with translated():
            return dict(self._objects())

    def _objects(self) -> Iterator[tuple[str, str]]:
        for page in self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix
        ):
            for row in page.get("Contents", []):  # an empty answer has no list
                yield row["Key"].removeprefix(self._prefix), row["ETag"].strip('"')
