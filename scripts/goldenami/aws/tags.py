"""The tags on everything that goldenami creates in an account, by which it knows its own again.

Names and values are within EC2's limits (128 and 256 characters; "Tag your Amazon EC2 resources").
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from goldenami.core import clock
from goldenami.core.process import ProcessId

IMAGE = "goldenami:image"
BUILD_ID = "goldenami:build-id"
LOCK_SHA256 = "goldenami:lock-sha256"
GIT_COMMIT = "goldenami:git-commit"
DISK_SHA256 = "goldenami:disk-sha256"
MANIFEST_SHA256 = "goldenami:manifest-sha256"
GPU_TEST = "goldenami:gpu-test"
"""On an AMI for GPUs: what a test on GPUs has to show of it, by its lock."""
PROVENANCE_SHA256 = "goldenami:provenance-sha256"
"""On an AMI and its snapshot: the envelope that is signed of them."""
SIGNED_BY = "goldenami:signed-by"
"""Beside it: the id of the key that signed. It proves nothing: who has the public key asks
`verify-provenance`."""
CLUSTER = "goldenami:cluster"
"""On the machines of a cluster: the image. They do not carry IMAGE, since policies let pipelines
end what does."""
OWNER = "goldenami:owner"
PERSON = "Owner"
"""On what a person launches: whose it is, as many companies have it."""
EXPIRES = "goldenami:expires"
RETIRING = "goldenami:retiring-since"
DISABLED = "goldenami:disabled-since"
DEPRECATED_BEFORE = "goldenami:deprecated-before"
"""On an AMI that retirement works on: when it was announced and disabled, and its deprecation date
before that."""
BASE_AMI = "goldenami:base-ami"
"""On an AMI that was baked on EC2: the publisher's AMI that it began from. packer/golden.pkr.hcl
writes it."""
PARENT = "goldenami:parent-snapshot"
STORED_BYTES = "goldenami:stored-bytes"
"""On a snapshot: what an upload of changed blocks rests on, and the bytes of the blocks that it
stores itself."""

DRIFT_OF = "goldenami:drift-of"
"""On the snapshot that a drift check makes: the instance that it is of."""

Tags = dict[str, str]


def of_build(image: str, lock_sha256: str, build_id: str, git_commit: str) -> Tags:
    """What an AMI, its snapshot and what launches it carry: which build they are."""
    return {
        IMAGE: image,
        BUILD_ID: build_id,
        LOCK_SHA256: lock_sha256,
        GIT_COMMIT: git_commit,
    }


def of_bytes(disk_sha256: str | None, manifest_sha256: str | None) -> Tags:
    """Which bytes a build has: its disk, where it was baked as one, and the manifest of its
    files."""
    return {
        **({DISK_SHA256: disk_sha256} if disk_sha256 else {}),
        **({MANIFEST_SHA256: manifest_sha256} if manifest_sha256 else {}),
    }


def of_blocks(stored: int, parent: str | None) -> Tags:
    """The bytes that are a snapshot's own, and the snapshot that has the others."""
    return {STORED_BYTES: str(stored), **({PARENT: parent} if parent else {})}


def owner() -> str:
    """This process, as a person finds it again: `user@host:pid-...`. A user without a name is the
    number."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}:{ProcessId.current()}"


def has_ended(other: str) -> bool:
    """Whether that `owner` was a process of this machine that has ended, or an earlier command of
    this one."""
    process = ProcessId.parse(other)
    return process is not None and (process.has_ended or process == ProcessId.current())


def temporary(lifetime: timedelta) -> Tags:
    """What a thing carries that must not outlive its run: who made it, and when it may be swept
    (UTC)."""
    return {OWNER: owner(), EXPIRES: clock.stamp(clock.now() + lifetime)}


def to_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """`tags` as every EC2 call takes them, sorted by name."""
    return [{"Key": name, "Value": value} for name, value in sorted(tags.items())]


def from_list(listed: Iterable[Mapping[str, str]] | None) -> Tags:
    """The tags of a description; EC2 leaves the list out where there are none."""
    return {tag["Key"]: tag["Value"] for tag in listed or []}


def specifications(tags: Mapping[str, str], *resource_types: str) -> list[dict[str, Any]]:
    """TagSpecifications: `tags` on each of the resource types that a call creates."""
    return [{"ResourceType": kind, "Tags": to_list(tags)} for kind in resource_types]


def optional(text: str | None) -> datetime | None:
    """Parse a time with its zone, or return None: a person may write anything into a tag."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None
