"""A disk, the EBS direct server of the tests, and uploads to it, in this process or in one that can
be killed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from goldenami.aws import session
from goldenami.aws.snapshots import ebs, readback
from goldenami.aws.snapshots.fetch import SnapshotSource
from goldenami.core.errors import GoldenError
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.disk_blocks import BlockMap

from support.aws import ebs_sink, ebs_wire
from support.aws.ebs_sink import BLOCK, Sink
from support.aws.ebs_wire import Refused

ROOT = Path(__file__).resolve().parents[3]
TAGS = {"goldenami:image": "i", "goldenami:owner": "o"}
CONNECT_S = 0.3
"""Seconds until a server that does not answer at all counts as out."""


def client(sink: Sink, service: str) -> Any:
    return boto3.client(service, endpoint_url=sink.url, region_name="us-east-1",
                        aws_access_key_id=ebs_wire.KEY_ID,
                        aws_secret_access_key=ebs_wire.SECRET,
                        config=Config(max_pool_connections=64, connect_timeout=CONNECT_S,
                                      retries={"mode": "standard",
                                               "total_max_attempts": session.attempts_of(service)}))


class UploadSetup:
    """A disk, a sink and what an upload needs."""

    def __init__(self, sink: Sink, folder: Path) -> None:
        self.sink, self.folder, self.disk = sink, folder, folder / "disk.raw"
        self.ebs, self.ec2 = client(sink, "ebs"), client(sink, "ec2")
        self.said: list[str] = []

    def write(self, parts: dict[int, bytes], size: int, name: str = "disk") -> BlockMap:
        """A sparse disk of `size` bytes with `parts` by offset; scanned."""
        self.disk = self.folder / f"{name}.raw"
        with self.disk.open("wb") as sink:
            sink.truncate(size)
            for at, data in parts.items():
                os.pwrite(sink.fileno(), data, at)
        return disk_blocks.scan(self.disk, self.disk.with_suffix(".blocks"))

    def sparse(self, count: int) -> BlockMap:
        """A disk of `count` blocks, each with a few bytes of its own."""
        return self.write({index * BLOCK + 7: index.to_bytes(4) + b"!" for index in range(count)},
                          count * BLOCK)

    def upload(self, listed: BlockMap, **given: Any) -> ebs.UploadedSnapshot:
        arguments: dict[str, Any] = {"journal": self.folder / "journal", "tags": TAGS,
                                     "description": "d",
                                     "in_flight": 8, "say": self.said.append}
        return ebs.upload(self.ebs, self.ec2, self.disk, listed, **(arguments | given))

    def process(self, *arguments: str) -> subprocess.Popen[str]:
        """The same upload by a process of its own, 2 blocks in flight."""
        argv = [sys.executable, str(ROOT / "tests/support/aws/upload_process.py"), str(self.disk),
                str(self.folder / "journal"), *(arguments or ("2",))]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=os.environ | self.sink.environment()
                                | {"PYTHONPATH": str(ROOT / "scripts")})

    def finish(self, *arguments: str) -> dict[str, Any]:
        """Run the process to its end, which must be a good one."""
        process = self.process(*arguments)
        out, problems = process.communicate()
        assert process.returncode == 0, problems
        self.said += problems.splitlines()
        return dict(json.loads(out))

    def sent_twice(self) -> int:
        """PUTs of blocks that EBS had already."""
        return self.sink.stored.total() - len(self.sink.stored)


def holds(
    client: Any, snapshot_id: str, listed: BlockMap,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> bool:
    """Whether the snapshot, read back from EBS, has the listed blocks and no others."""
    source = SnapshotSource(client, snapshot_id)
    with tempfile.TemporaryDirectory() as scratch:
        found = readback.scan_snapshot(
            source, list(source.listed()), Path(scratch, "blocks"), on_bytes)
        return found.content() == listed.content()


def noise(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


def abandon(setup: UploadSetup, listed: BlockMap, at: int) -> str:
    """An upload that a refused block ends; returns the snapshot that it began."""
    def refuse(action: str, count: int) -> None:
        if action == "PutSnapshotBlock" and count >= at:
            raise Refused(403, "AccessDeniedException",
                          "User: x is not authorized to perform: ebs:PutSnapshotBlock")

    setup.sink.faults.before = refuse
    with pytest.raises(GoldenError, match="may not call ebs:PutSnapshotBlock in us-east-1"):
        setup.upload(listed)
    setup.sink.faults = ebs_sink.Faults()
    return max(setup.sink.snaps)
