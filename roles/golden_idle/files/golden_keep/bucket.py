"""The team's bucket, as one owner's folder of it: conditional writes by s3transfer.

boto3 is loaded when this is used first. Credentials are the instance profile's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from golden_idle.account import AccountError, this_instance

from golden_keep.scan import STATE, File, shown
from golden_keep.state import KeepError

PART = 8 << 20
"""Bytes of a part. A file up to it is sent from memory, a larger one in parts."""
PARALLEL = 8
CONNECT_S, READ_S, TRIES = 5, 20, 4
"""Seconds until a connection and an answer, and the attempts of a request."""
_REFUSED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "409", "412")
_GUARDED = ("PutObject", "CompleteMultipartUpload", "GetObject")


class Refused(Exception):
    """The object is not the one that was expected."""


class Changed(Exception):
    """The file changed while it was read."""


@dataclass(frozen=True)
class Found:
    """An object. `mtime_ns`, `mode` and `machine` are of its metadata, and known to `head`."""

    path: str
    size: int
    etag: str
    at: datetime
    mtime_ns: int = 0
    mode: int | None = None
    machine: str = "other"


class Transfer:
    """One file on its way: the bytes that moved, and a way to end it. s3transfer calls it."""

    def __init__(self, size: int | None = None) -> None:
        self.moved, self.answer = 0, dict[str, Any]()
        self._size, self._future, self._cancelled = size, None, False

    def on_queued(self, future: Any, **_: Any) -> None:
        self._future = future
        if self._size is not None:  # otherwise s3transfer asks for it
            future.meta.provide_transfer_size(self._size)
        if self._cancelled:
            future.cancel()

    def on_progress(self, bytes_transferred: int, **_: Any) -> None:
        self.moved += bytes_transferred

    def cancel(self) -> None:
        """End it, from any thread."""
        self._cancelled = True
        if self._future is not None:
            self._future.cancel()


@dataclass(frozen=True)
class Guard:
    """What has to hold for a request: `headers` are S3's conditions, `check` raises Changed."""

    headers: Mapping[str, str]
    transfer: Transfer
    check: Callable[[], None] = lambda: None


ABSENT = {"If-None-Match": "*"}
"""The condition that there is no object of this name."""


def equal(etag: str) -> dict[str, str]:
    """Return the condition that the object is that one."""
    return {"If-Match": f'"{etag}"'}


class Bucket:
    """The objects at `place`, s3://BUCKET/PREFIX/OWNER."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._bucket, _, prefix = place.removeprefix("s3://").partition("/")
        self.prefix = f"{prefix}/"
        self._guards = dict[str, Guard]()
        try:
            instance = this_instance()
            import boto3  # noqa: PLC0415 - 60 MB, which a round without work does not need
            from botocore.config import Config  # noqa: PLC0415 - as above
            from s3transfer.manager import TransferConfig, TransferManager  # noqa: PLC0415
        except AccountError as error:
            raise KeepError(str(error)) from None
        except ImportError as error:
            raise KeepError(f"boto3 cannot be loaded: {error}: install python3-boto3") from None
        self.machine = instance.id
        self._client = boto3.session.Session(region_name=instance.region).client(
            "s3",
            config=Config(
                connect_timeout=CONNECT_S,
                read_timeout=READ_S,
                retries={"mode": "standard", "total_max_attempts": TRIES},
                max_pool_connections=2 * PARALLEL,
            ),
        )
        self._transfers = TransferManager(
            self._client,
            TransferConfig(
                multipart_threshold=PART + 1,
                multipart_chunksize=PART,
                max_request_concurrency=PARALLEL,
                # So that small files need not wait for all parts of a large one.
                max_request_queue_size=PARALLEL,
            ),
        )
        # Old versions of botocore have no parameters for conditions, s3transfer no answers.
        events = self._client.meta.events
        events.register("before-parameter-build.s3", self._find_guard)
        events.register("before-call.s3", self._add_condition)
        events.register("after-call.s3", self._note_answer)

    def _find_guard(self, params: dict[str, Any], model: Any, context: Any, **_: Any) -> None:
        guard = self._guards.get(params.get("Key", ""))
        if guard and model.name in _GUARDED:
            guard.check()
            context["golden_keep"] = guard

    def _add_condition(self, params: dict[str, Any], context: Any, **_: Any) -> None:
        if guard := context.get("golden_keep"):
            params["headers"].update(guard.headers)

    def _note_answer(self, parsed: dict[str, Any], context: Any, **_: Any) -> None:
        if guard := context.get("golden_keep"):
            guard.transfer.answer = parsed

    @contextmanager
    def _calling(self, path: str) -> Iterator[None]:
        """Turn boto3's errors into Refused or KeepError."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - as above
        from s3transfer import exceptions  # noqa: PLC0415 - as above

        try:
            yield
        # What new versions make of an answer to a download's condition.
        except getattr(exceptions, "S3DownloadFailedError", ()):
            raise Refused from None
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _REFUSED:
                raise Refused from None
            raise KeepError(f"{code}: {self.place}/{shown(path)}: {one_line(error)}") from None
        except (BotoCoreError, exceptions.RetriesExceededError) as error:
            kind = type(error).__name__
            raise KeepError(f"{kind}: {self.place}/{shown(path)}: {one_line(error)}") from None

    def _run(self, path: str, guard: Guard, start: Callable[[str], Any]) -> dict[str, Any]:
        """Have s3transfer do something with an object, under the conditions of `guard`."""
        key = self.prefix + path
        self._guards[key] = guard
        try:
            with self._calling(path):
                start(key).result()
        finally:
            del self._guards[key]
        return guard.transfer.answer

    def put(self, path: str, source: str | BinaryIO, file: File, guard: Guard) -> str:
        """Write an object and return its ETag. Raises Refused if a condition does not hold."""
        metadata = {
            "mtime": str(file.mtime_ns),
            "mode": f"{file.mode & 0o777:o}",
            "machine": self.machine,
        }
        answer = self._run(
            path,
            guard,
            lambda key: self._transfers.upload(
                source, self._bucket, key, {"Metadata": metadata}, [guard.transfer]
            ),
        )
        return str(answer["ETag"]).strip('"')

    def get(self, found: Found, target: Path, transfer: Transfer) -> Found:
        """Download an object as it was found; return it with its metadata. Raises Refused if it is
        another one by now."""
        guard = Guard(equal(found.etag), transfer)
        answer = self._run(
            found.path,
            guard,
            lambda key: self._transfers.download(
                self._bucket, key, str(target), subscribers=[transfer]
            ),
        )
        return _with_metadata(found, answer["Metadata"])

    def head(self, path: str) -> Found | None:
        """Return the object of that path, if there is one that may be read."""
        with self._calling(path):
            try:
                answer = self._client.head_object(Bucket=self._bucket, Key=self.prefix + path)
            except self._client.exceptions.ClientError as error:
                # 403: a role that may list one prefix is not told that there is none.
                if error.response["Error"]["Code"] in ("403", "404"):
                    return None
                raise
        found = Found(
            path, answer["ContentLength"], answer["ETag"].strip('"'), answer["LastModified"]
        )
        return _with_metadata(found, answer["Metadata"])

    def copy(self, found: Found, to: str) -> None:
        """Copy an object within the bucket. Raises Refused if it is another one by now."""
        source = {"Bucket": self._bucket, "Key": self.prefix + found.path}
        with self._calling(found.path):
            self._client.copy_object(
                Bucket=self._bucket,
                Key=self.prefix + to,
                CopySource=source,
                CopySourceIfMatch=found.etag,
            )

    def list(self) -> Iterator[Found]:
        """Yield the owner's objects, without their metadata."""
        pages = self._client.get_paginator("list_objects_v2")
        with self._calling(""):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self.prefix):
                for row in page.get("Contents", []):
                    path = row["Key"].removeprefix(self.prefix)
                    yield Found(path, row["Size"], row["ETag"].strip('"'), row["LastModified"])

    def write_record(self, values: dict[str, Any]) -> None:
        """Write what this machine says at its end."""
        path = f"{STATE}/{self.machine}.json"
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        body = json.dumps({"machine": self.machine, "at": at, **values}).encode()
        with self._calling(path):
            self._client.put_object(Bucket=self._bucket, Key=self.prefix + path, Body=body)

    def read_record(self, path: str) -> dict[str, Any]:
        """Return what a machine said at its end, or nothing if it is no such object."""
        with self._calling(path):
            answer = self._client.get_object(Bucket=self._bucket, Key=self.prefix + path)
            text = answer["Body"].read()
        try:
            return dict(json.loads(text))
        except (ValueError, TypeError):
            return {}


def one_line(error: Exception) -> str:
    """Return the error's text as one line."""
    return " ".join(str(error).split())


def _with_metadata(found: Found, metadata: Mapping[str, str]) -> Found:
    try:
        mtime_ns, mode = int(metadata["mtime"]), int(metadata["mode"], 8) & 0o777
    except (KeyError, ValueError):  # another tool's object
        return replace(found, mtime_ns=int(found.at.timestamp() * 1e9))
    machine = metadata.get("machine", "")
    # It becomes a part of files' names.
    known = machine if re.fullmatch(r"[A-Za-z0-9-]{1,64}", machine) else found.machine
    return replace(found, mtime_ns=mtime_ns, mode=mode, machine=known)


def same_content(file: int, size: int, etag: str) -> bool:
    """Return whether an open file has the content of an object with this ETag.

    An ETag is the MD5 of the content or of its parts' MD5s; with a KMS key it is neither, and never
    equal.
    """
    digest = partial(hashlib.md5, usedforsecurity=False)
    part = PART
    while size > part * 10_000:  # as s3transfer chooses it
        part *= 2
    whole, parts = digest(), []
    for start in range(0, size, part):
        piece = digest()
        for offset in range(start, min(start + part, size), PART):
            data = os.pread(file, min(PART, size - offset), offset)
            piece.update(data)
            whole.update(data)
        parts.append(piece.digest())
    return etag in (whole.hexdigest(), f"{digest(b''.join(parts)).hexdigest()}-{len(parts)}")
