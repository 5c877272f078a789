from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import ebs_sink
import pytest
from botocore.config import Config
from ebs_sink import BLOCK, Sink
from goldenami.aws import blocks, ebs
from goldenami.aws.blocks import BlockMap

TAGS = {"goldenami:image": "i", "goldenami:owner": "o"}


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()


def client(sink: Sink, service: str, attempts: int = 10) -> Any:
    return boto3.client(service, endpoint_url=sink.url, region_name="us-east-1", aws_access_key_id=ebs_sink.KEY_ID,
                        aws_secret_access_key=ebs_sink.SECRET,
                        config=Config(max_pool_connections=64, retries={"mode": "standard", "max_attempts": attempts}))


class Bench:
    """A disk, its sink and what an upload needs."""

    def __init__(self, sink: Sink, folder: Path, name: str = "disk") -> None:
        self.sink, self.folder, self.disk = sink, folder, folder / f"{name}.raw"
        self.ebs, self.ec2 = client(sink, "ebs"), client(sink, "ec2")
        self.said: list[str] = []

    def write(self, parts: dict[int, bytes], size: int) -> BlockMap:
        """A sparse disk of `size` bytes with `parts` by offset; scanned."""
        with self.disk.open("wb") as sink:
            sink.truncate(size)
            for at, data in parts.items():
                os.pwrite(sink.fileno(), data, at)
        return blocks.scan(self.disk, self.disk.with_suffix(".blocks"))

    def upload(self, listed: BlockMap, **given: Any) -> ebs.Snapshot:
        arguments: dict[str, Any] = {
            "journal": self.folder / "journal", "tags": TAGS, "description": "d", "in_flight": 8, "say": self.said.append}
        return ebs.upload(self.ebs, self.ec2, self.disk, listed, **(arguments | given))


@pytest.fixture
def bench(sink: Sink, tmp_path: Path) -> Bench:
    return Bench(sink, tmp_path)


def noise(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


def test_a_disk_arrives_whole_and_only_its_data_is_sent(bench: Bench) -> None:
    data = {0: noise(BLOCK), 5 * BLOCK + 100: noise(BLOCK), 900 * BLOCK: bytes(3 * BLOCK)}
    listed = bench.write(data, 1000 * BLOCK)
    done = bench.upload(listed)
    assert bench.sink.differences(done.id, bench.disk) == []
    assert (done.blocks_sent, done.blocks_written, done.gib) == (3, 3, 1), "zeros written as data were sent"
    assert bench.sink.stored.total() == 3
    assert bench.sink.snaps[done.id].tags == TAGS
