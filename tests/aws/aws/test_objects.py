"""The remote package store in S3, and `golden` with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from goldenami.aws.services.remote_store import S3Store
from goldenami.core import shell
from goldenami.core.errors import BadInput, ExitCode, HostNotReady
from goldenami.core.records import sha256_file
from goldenami.packages.store import Store
from support.aws import unbound
from support.debian import debrepo
from support.debian.lock_commands import SCRIPTS

REGION = "us-east-1"
CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def bucket(aws: Any) -> Any:
    """An S3 client of an account with the empty bucket `golden-store`."""
    client = boto3.client("s3", REGION)
    client.create_bucket(Bucket="golden-store")
    return client


@pytest.fixture
def remote(bucket: Any) -> S3Store:
    return S3Store.at(unbound.account().s3(REGION), "s3://golden-store/packages/")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


def joined(chunks: Iterator[bytes] | None) -> bytes | None:
    return None if chunks is None else b"".join(chunks)


def test_what_was_put_is_there_once(remote: S3Store, bucket: Any, source: Path) -> None:
    digest = sha256_file(source)
    assert remote.get(digest, 0) is None
    assert remote.put(digest, source)
    assert not remote.put(digest, source)
    assert [
        found["Key"] for found in bucket.list_objects_v2(Bucket="golden-store")["Contents"]
    ] == [f"packages/{digest[:2]}/{digest}"]
    assert joined(remote.get(digest, 0)) == CONTENT
    assert joined(remote.get(digest, 1000)) == CONTENT[1000:]
    assert joined(remote.get(digest, len(CONTENT))) == b""


def test_a_damaged_object_is_sent_again(remote: S3Store, bucket: Any, source: Path) -> None:
    digest = sha256_file(source)
    bucket.put_object(
        Bucket="golden-store",
        Key=f"packages/{digest[:2]}/{digest}",
        Body=b"other",
        ChecksumAlgorithm="SHA256",
    )
    assert joined(remote.get(digest, 0)) == b"other"
    assert remote.put(digest, source)
    assert joined(remote.get(digest, 0)) == CONTENT


def test_a_location_that_is_none() -> None:
    for location in ("golden-store", "s3:/golden-store", "https://x/y", "s3://UPPER/x", "s3://"):
        with pytest.raises(BadInput, match="is no location of S3"):
            S3Store.at(None, location)


def test_a_permission_that_is_missing(remote: S3Store, source: Path, aws: Any) -> None:
    aws.set(denied={"*": ["s3:PutObject"]})
    with pytest.raises(HostNotReady, match="PutObject") as caught:
        remote.put(sha256_file(source), source)
    assert caught.value.exit_code is ExitCode.HOST


@pytest.mark.usefixtures("bucket")
def test_a_lock_whose_files_are_pushed_is_fetched_without_its_mirror(
    root: Path,
    debian: debrepo.Mirror,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def golden(*args: str) -> str:
        return shell.output(
            [sys.executable, "-m", "goldenami.cli", "--root", str(root), *args],
            env={"PYTHONPATH": str(SCRIPTS), "PYTHONDONTWRITEBYTECODE": "1"},
        )

    golden("lock", "debian-13-ml-cpu")
    monkeypatch.setenv("GOLDEN_STORE_S3", "s3://golden-store/packages")
    pushed = golden("store", "push")
    assert golden("store", "push").endswith("sent 0, 0 MB; it had the others\n")
    debian.close()
    monkeypatch.setenv("GOLDEN_CACHE", str(tmp_path / "other"))
    golden("bake", "debian-13-ml-cpu", "--fetch-only")
    assert f"{len(Store(tmp_path / 'other').objects())} files, " in pushed
