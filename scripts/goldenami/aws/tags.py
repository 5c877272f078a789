"""The tags on everything that goldenami creates in an account, by which it finds it again.

Names and values are within the limits of EBS (127 and 255 characters; EBS direct APIs, "Tag").
"""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from goldenami.core import clock
from goldenami.core.process import ProcessId
from goldenami.model.operation import publish_section

IMAGE = "goldenami:image"
BUILD_ID = "goldenami:build-id"
LOCK_SHA256 = "goldenami:lock-sha256"
GIT_COMMIT = "goldenami:git-commit"
DISK_SHA256 = "goldenami:disk-sha256"
MANIFEST_SHA256 = "goldenami:manifest-sha256"
GPU_TEST = "goldenami:gpu-test"
"""On an AMI for GPUs: the requirements that a GPU test has to prove, from its lock."""
INSTANCE_TYPES = "goldenami:instance-types"
"""On an AMI: a digest of the types that its publish allowed, by which `status` and `drift` see that
somebody changed them."""
PROVENANCE_SHA256 = "goldenami:provenance-sha256"
"""On an AMI and its snapshot: the SHA-256 of the signed provenance envelope."""
SIGNED_BY = "goldenami:signed-by"
"""On the same: the id of the key that signed it. It proves nothing; whoever has the public key runs
`verify-provenance`."""
CLUSTER = "goldenami:cluster"
"""On the machines of a cluster: the image. They do not carry IMAGE, because policies let pipelines
terminate machines that do."""
TEAM = "goldenami:team"
"""On a role of machines: the prefix of the bucket that they may keep their users' files below."""
OWNER = "goldenami:owner"
PERSON = "Owner"
"""On what a person launches: whose it is, by a tag that many companies use."""
EXPIRES = "goldenami:expires"
RETIRING = "goldenami:retiring-since"
DISABLED = "goldenami:disabled-since"
DEPRECATED_BEFORE = "goldenami:deprecated-before"
"""On an AMI that is being retired: when this was announced, when it was disabled, and its
deprecation date before that."""
BASE_AMI = "goldenami:base-ami"
"""On an AMI that was baked on EC2: the publisher's AMI that the bake started from.
packer/golden.pkr.hcl sets it."""
PARENT = "goldenami:parent-snapshot"
STORED_BYTES = "goldenami:stored-bytes"
"""On a snapshot: the snapshot whose unchanged blocks it shares, and the bytes of its own blocks."""

SELFTEST = publish_section.SELFTEST_TAG
"""On all that `golden selftest` makes: when it may be deleted (UTC), and its owner, with a space
between."""
DRIFT_OF = "goldenami:drift-of"
"""On the snapshot that a drift check makes: the instance whose volume it holds."""

OF_IAM = re.compile(r"[\w .:/=+@-]*")
"""Values of tags that IAM takes (IAM API reference, "Tag")."""
Tags = dict[str, str]


def of_build(image: str, lock_sha256: str, build_id: str, git_commit: str) -> Tags:
    """The tags that name a build: on its AMI, its snapshot, and what launches it."""
    return {
        IMAGE: image,
        BUILD_ID: build_id,
        LOCK_SHA256: lock_sha256,
        GIT_COMMIT: git_commit,
    }


def of_bytes(disk_sha256: str | None, manifest_sha256: str | None) -> Tags:
    """The tags that identify a build's bytes: the digest of its disk, if it was baked as one, and
    that of its files' manifest."""
    digests: Tags = {}
    if disk_sha256:
        digests[DISK_SHA256] = disk_sha256
    if manifest_sha256:
        digests[MANIFEST_SHA256] = manifest_sha256
    return digests


def of_blocks(stored: int, parent: str | None) -> Tags:
    """The tags of a snapshot's blocks: the bytes that it stores itself, and its parent if any."""
    return {STORED_BYTES: str(stored), **({PARENT: parent} if parent else {})}


def owner() -> str:
    """This process as a person can find it: `user@host:pid-...`. A user without a name is given by
    number."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}:{ProcessId.current()}"


def has_ended(owner_text: str) -> bool:
    """Whether `owner_text`, which `owner` returned, is a process of this machine that has ended, or
    this process itself: then it was an earlier command."""
    process = ProcessId.parse(owner_text)
    return process is not None and (process.has_ended or process == ProcessId.current())


def temporary(lifetime: timedelta) -> Tags:
    """The tags of a resource that must not outlive its run: the process that created it, and when
    it may be deleted (UTC)."""
    return {OWNER: owner(), EXPIRES: clock.stamp(clock.now() + lifetime)}


def of_selftest(lifetime: timedelta) -> Tags:
    """The tags of all that this process makes as `golden selftest`. Unlike those of `temporary`,
    `golden publish` leaves them on an AMI."""
    return {SELFTEST: f"{clock.stamp(clock.now() + lifetime)} {owner()}"}


def to_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """`tags` in the form that EC2's calls take, sorted by name."""
    return [{"Key": name, "Value": value} for name, value in sorted(tags.items())]


def from_list(listed: Iterable[Mapping[str, str]] | None) -> Tags:
    """The tags in a description by EC2, which leaves the list out if there are none."""
    return {tag["Key"]: tag["Value"] for tag in listed or []}


def specifications(tags: Mapping[str, str], *resource_types: str) -> list[dict[str, Any]]:
    """TagSpecifications that put `tags` on each of the resource types that a call creates."""
    return [{"ResourceType": kind, "Tags": to_list(tags)} for kind in resource_types]


def optional(text: str | None) -> datetime | None:
    """Parse a time with its zone, or return None: a person may write anything into a tag."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None
