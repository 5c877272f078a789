"""golden-keep as a process, with the emulated account's bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from support.aws.emulator import Emulator
from support.idle import machine
from support.idle.machine import REGION
from support.keep.machine import BUCKET, KeepMachine, objects

HERE, NEXT = "i-0a00000000000000a", "i-0b00000000000000b"


@pytest.fixture
def bucket(aws: Emulator) -> Emulator:
    boto3.client("s3", REGION).create_bucket(Bucket=BUCKET)
    return aws


@pytest.fixture
def here(bucket: Emulator, tmp_path: Path) -> Iterator[KeepMachine]:
    with machine.metadata_service(HERE) as imds:
        yield KeepMachine(tmp_path / "here", imds)


def test_each_file_is_a_plain_object_and_nothing_is_copied_twice(
    here: KeepMachine, bucket: Emulator
) -> None:
    here.write("run.py", "print(1)")
    here.write("deep/er/ümläut name.bin", bytes(20 << 20))
    here.write("empty")
    status = here.copy()
    assert status["trouble"] == "" and status["waiting_files"] == 0, status
    assert objects() == {
        "run.py": b"print(1)",
        "deep/er/ümläut name.bin": bytes(20 << 20),
        "empty": b"",
    }
    calls = len(bucket.calls())
    again = here.copy()
    assert again["safe_since"] > status["safe_since"] and again["safe_files"] == 3
    assert len(bucket.calls()) == calls, "a round without work asks nothing"
