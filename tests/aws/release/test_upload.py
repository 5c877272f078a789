"""A disk becomes a snapshot: byte for byte, once, and whatever broke off before or fails on the
way."""

from __future__ import annotations

import os
import random
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from goldenami.aws.snapshots import ebs, send
from goldenami.aws.snapshots.snapshot_disk import SnapshotDisk
from goldenami.core.errors import BadInput, GoldenError, StageFailed, Unreachable
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.disk_blocks import BlockMap
from goldenami.model.builds.sparse_disk import BLOCK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.aws import unbound
from support.aws.emulator import Emulator, retry_at_once

REGION, PER_GIB = "us-east-1", 2048
PUT = "ebs:PutSnapshotBlock"


def noise(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


class Upload:
    """A disk, the emulated EBS, and uploads to it with eight blocks in flight."""

    def __init__(self, aws: Emulator, folder: Path) -> None:
        self.aws, self.folder, self.disk = aws, folder, folder / "disk.raw"
        self.ebs, self.ec2 = unbound.account().ebs(REGION), unbound.account().ec2(REGION)
        self.said: list[str] = []
        self.sent = 0

    def write(self, parts: dict[int, bytes], size: int, name: str = "disk") -> BlockMap:
        """A sparse disk of `size` bytes with `parts` by offset, and its list of blocks."""
        self.disk = self.folder / f"{name}.raw"
        with self.disk.open("wb") as sink:
            sink.truncate(size)
            for at, data in parts.items():
                os.pwrite(sink.fileno(), data, at)
        return disk_blocks.scan(self.disk, self.disk.with_suffix(".blocks"))

    def sparse(self, count: int, mark: bytes = b"!") -> BlockMap:
        """A disk of `count` blocks, each with a few bytes of its own."""
        return self.write(
            {index * BLOCK + 7: index.to_bytes(4) + mark for index in range(count)}, count * BLOCK
        )

    def upload(self, listed: BlockMap, **given: Any) -> str:
        """The snapshot; `sent` is how many blocks were put for it."""
        arguments: dict[str, Any] = {
            "journal": self.folder / "journal",
            "description": "d",
            "tags": {"goldenami:image": "i", "goldenami:owner": "o"},
            "say": self.said.append,
        }
        before = self.puts()
        done = ebs.Upload(self.ebs, self.ec2, self.disk, listed, **(arguments | given)).run()
        self.sent = self.puts() - before
        return done

    def puts(self) -> int:
        return self.aws.calls().count((PUT, REGION))

    def at(self, number: int, act: Callable[[], object]) -> None:
        """Do something before the block of that number is sent."""
        numbers, lock = iter(range(1, 1 << 20)), threading.Lock()

        def count(**_: object) -> None:
            with lock:
                if next(numbers) == number:
                    act()

        self.ebs.meta.events.register_first("before-call.ebs.PutSnapshotBlock", count)

    def abandon(self, listed: BlockMap) -> str:
        """An upload that ends at the ninth block; returns the snapshot that it began.

        With eight in flight the ninth begins when EBS has confirmed one of those before it.
        """
        self.at(9, lambda: self.aws.set(denied={"*": [PUT]}))
        with pytest.raises(GoldenError, match=f"may not call {PUT} in {REGION}"):
            self.upload(listed)
        self.aws.set(denied={})
        return self.snapshots()[-1]

    def snapshots(self) -> list[str]:
        found = self.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
        return [each["SnapshotId"] for each in sorted(found, key=lambda each: each["StartTime"])]

    def differences(self, snapshot: str) -> list[int]:
        """Blocks in which a volume of the snapshot differs from the disk."""
        stored = dict[int, bytes]()
        for row in self.ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]:
            stored[row["BlockIndex"]] = self.ebs.get_snapshot_block(SnapshotId=snapshot, **row)[
                "BlockData"
            ].read()
        content = self.disk.read_bytes()
        count = max(-(-len(content) // BLOCK), max(stored, default=-1) + 1)
        return [
            index
            for index in range(count)
            if stored.get(index, bytes(BLOCK))
            != content[index * BLOCK : (index + 1) * BLOCK].ljust(BLOCK, b"\0")
        ]


@pytest.fixture
def setup(aws: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Upload:
    aws.set(pending_s=0)
    monkeypatch.setattr(send, "LONGEST_PAUSE_S", 0.01)
    retry_at_once(monkeypatch)
    return Upload(aws, tmp_path)


# --- content ---

SIZES = st.integers(1, 9 * BLOCK)
PARTS = st.lists(
    st.tuples(
        st.integers(0, 9 * BLOCK), st.integers(1, 2 * BLOCK), st.booleans(), st.integers(0, 9)
    ),
    max_size=6,
)


def disk_of(size: int, parts: list[tuple[int, int, bool, int]]) -> dict[int, bytes]:
    """Holes where nothing is written; zeros as data, and noise, elsewhere."""
    return {
        at: noise(length, seed)[: size - at] if full else bytes(min(length, size - at))
        for at, length, full, seed in parts
        if at < size
    }


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(SIZES, PARTS, SIZES, PARTS)
def test_any_sparse_disk_and_any_successor_arrive_byte_for_byte(
    setup: Upload,
    tmp_path_factory: pytest.TempPathFactory,
    size: int,
    parts: list[tuple[int, int, bool, int]],
    more: int,
    changed: list[tuple[int, int, bool, int]],
) -> None:
    setup.folder = tmp_path_factory.mktemp("disks")
    setup.aws.reset()
    setup.aws.set(pending_s=0)
    old = setup.write(disk_of(size, parts), size, "old")
    first, old_bytes = setup.upload(old, journal=setup.folder / "1"), setup.disk.read_bytes()
    assert setup.differences(first) == []
    new = setup.write(disk_of(size, parts) | disk_of(size + more, changed), size + more, "new")
    second = setup.upload(new, journal=setup.folder / "2", parent=ebs.Parent(first, old))
    assert setup.differences(second) == []
    new_bytes = setup.disk.read_bytes()
    length = max(len(old_bytes), len(new_bytes))
    old_bytes, new_bytes = old_bytes.ljust(length, b"\0"), new_bytes.ljust(length, b"\0")
    assert setup.sent == sum(
        old_bytes[at : at + BLOCK] != new_bytes[at : at + BLOCK] for at in range(0, length, BLOCK)
    ), "more than the blocks that differ"


@pytest.mark.parametrize("change", ["gone", "larger"])
def test_a_parent_that_cannot_be_used_is_named_and_the_whole_disk_goes_up(
    setup: Upload, change: str
) -> None:
    size = (PER_GIB + 1) * BLOCK if change == "larger" else BLOCK
    old = setup.write({0: noise(BLOCK)}, size, "old")
    first = setup.upload(old)
    if change == "gone":
        setup.ec2.delete_snapshot(SnapshotId=first)
    done = setup.upload(
        setup.write({0: noise(2 * BLOCK)}, 2 * BLOCK, "new"),
        journal=setup.folder / "new",
        parent=ebs.Parent(first, old),
    )
    assert f"no difference to {first}, it" in setup.said[0] and change in setup.said[0]
    assert (setup.sent, setup.differences(done)) == (2, [])


def test_a_disk_of_a_tebibyte_needs_little_memory(setup: Upload) -> None:
    listed = setup.write({index << 34: b"data" for index in range(64)}, 1 << 40)
    tracemalloc.start()
    setup.upload(listed)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert setup.sent == 64
    assert peak < 64 << 20
    with pytest.raises(BadInput, match="0 bytes, which is no size for a volume"):
        setup.write({}, 0)


# --- again ---


def test_a_second_call_sends_nothing_and_another_disk_gets_a_snapshot_of_its_own(
    setup: Upload,
) -> None:
    listed = setup.sparse(5)
    first = setup.upload(listed)
    before = len(setup.aws.calls())
    again = setup.upload(listed)
    assert (again, setup.sent) == (first, 0)
    assert {call for call, _ in setup.aws.calls()[before:]} == {"ec2:DescribeSnapshots"}
    second = setup.upload(setup.sparse(3))
    assert second != first and setup.differences(second) == []
    assert "is of another disk or parent: a new one is begun" in setup.said[0]


def test_an_upload_that_broke_off_continues_with_its_snapshot(setup: Upload) -> None:
    listed = setup.sparse(40)
    begun = setup.abandon(listed)
    done = setup.upload(listed, tags={"goldenami:owner": "next"})
    assert (done, setup.snapshots(), setup.differences(done)) == (begun, [begun], [])
    assert 40 - 8 <= setup.sent < 40, "what EBS has is not sent again"
    [row] = setup.ec2.describe_snapshots(SnapshotIds=[begun])["Snapshots"]
    assert {"Key": "goldenami:owner", "Value": "next"} in row["Tags"], (
        "a sweep would take the dead run's snapshot"
    )


def test_a_snapshot_or_a_journal_that_is_lost_is_begun_anew(setup: Upload) -> None:
    """The token is known to AWS with the tags of the run before: that is a conflict, not an end."""
    listed = setup.sparse(10)
    lost = setup.abandon(listed)
    setup.ec2.delete_snapshot(SnapshotId=lost)
    second = setup.abandon(listed)
    assert setup.said[0].startswith(f"{lost}, begun ")
    assert setup.said[0].endswith("is gone: a new snapshot is begun")
    (setup.folder / "journal/upload.json").unlink()
    done = setup.upload(listed, tags={"goldenami:owner": "another"})
    assert done not in (lost, second) and setup.differences(done) == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "longer", "json"])
def test_no_damage_to_the_journal_harms_the_snapshot(setup: Upload, damage: str) -> None:
    listed = setup.sparse(10)
    path = setup.folder / f"journal/{setup.abandon(listed)}.sent"
    slots = path.read_bytes()
    if damage == "json":
        path, damaged = setup.folder / "journal/upload.json", b'{"schema_version": 1, "region"'
    else:
        damaged = {
            "cut": slots[:100],
            "flipped": bytes([slots[0] ^ 1]) + slots[1:],
            "emptied": b"",
            "longer": b"\1" * 64 * 1024 + slots,
        }[damage]
    path.write_bytes(damaged)
    assert setup.differences(setup.upload(listed)) == []


# --- faults ---


@pytest.mark.parametrize("mode", ["throttled", "lost", "cut"])
def test_thirty_percent_of_failing_calls_are_survived(setup: Upload, mode: str) -> None:
    listed = setup.sparse(40)
    setup.aws.late({"mode": mode, "calls": ["ebs:*"], "share": 0.3})
    done = setup.upload(listed)
    setup.aws.late()
    assert (setup.differences(done), setup.snapshots()) == ([], [done])


@pytest.mark.parametrize("mode", ["out", "hanging", "cut"])
def test_an_outage_is_outlived(setup: Upload, mode: str) -> None:
    """For a second, in which more calls fail than botocore's retries would bear."""
    listed = setup.sparse(40)

    def go() -> None:
        setup.aws.late({"mode": mode, "seconds": 3600})
        threading.Timer(1.0, setup.aws.late).start()

    setup.at(20, go)
    done = setup.upload(listed)
    assert (setup.differences(done), setup.snapshots()) == ([], [done])


def test_when_ebs_stops_answering_the_upload_ends_and_can_continue(
    setup: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so does reading the snapshot back."""
    listed = setup.sparse(20)
    setup.at(9, lambda: setup.aws.late({"mode": "cut", "calls": [PUT]}))
    with monkeypatch.context() as patch:
        patch.setattr(send, "PATIENCE_S", 0.2)
        with pytest.raises(Unreachable, match="EBS has not confirmed a block of snap-") as raised:
            setup.upload(listed)
    assert raised.value.hint.endswith("run again: it continues")
    setup.aws.late()
    done = setup.upload(listed)
    assert setup.sent < 20 and setup.differences(done) == []
    stored = SnapshotDisk(setup.ebs, done)
    stored.list()
    setup.aws.late({"mode": "cut", "calls": ["ebs:GetSnapshotBlock"]})
    monkeypatch.setattr(send, "PATIENCE_S", 0.2)
    with pytest.raises(Unreachable, match=f"EBS has not given a block of {done} for 0 s"):
        stored.hashed(setup.folder / "read")


def test_a_snapshot_deleted_during_the_upload_is_named(
    setup: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "SETTLE_S", 0.0)
    setup.at(10, lambda: setup.ec2.delete_snapshot(SnapshotId=setup.snapshots()[-1]))
    with pytest.raises(StageFailed, match="no longer takes blocks of snap-") as raised:
        setup.upload(setup.sparse(40))
    assert raised.value.hint == "run again: it begins a new snapshot"


def test_a_snapshot_that_never_completes_is_reported(
    setup: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ebs, "SEAL_S", 0.3)
    setup.aws.set(pending_s=60)
    with pytest.raises(StageFailed, match=r"snap-\w+ is pending \d s after it was completed"):
        setup.upload(setup.sparse(2))
