from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from goldenami.aws.snapshots import ebs
from goldenami.core.errors import BadInput
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.aws import ebs_sink
from support.aws.ebs_sink import BLOCK, PER_GIB, Sink
from support.aws.upload_setup import TAGS, UploadSetup, abandon, noise

# --- content ---

def test_a_disk_arrives_whole_and_only_its_data_is_sent(setup: UploadSetup) -> None:
    data = {0: noise(BLOCK), 5 * BLOCK + 100: noise(BLOCK), 900 * BLOCK: bytes(3 * BLOCK)}
    listed = setup.write(data, 1000 * BLOCK)
    done = setup.upload(listed)
    assert setup.sink.differences(done.id, setup.disk) == []
    assert (done.blocks_sent, done.blocks_written, done.gib) == (3, 3, 1), (
        "zeros written as data were sent"
    )
    assert ebs.plan(listed) == ebs.UploadPlan(gib=1, blocks_total=3, blocks=3)
    assert setup.sink.stored.total() == 3
    assert setup.sink.snaps[done.id].tags == TAGS | {"goldenami:stored-bytes": str(3 * BLOCK)}
    assert setup.sink.snaps[done.id].state == "completed"


SIZES = st.integers(1, 9 * BLOCK)
PARTS = st.lists(st.tuples(st.integers(0, 9 * BLOCK), st.integers(1, 2 * BLOCK), st.booleans(),
                           st.integers(0, 9)),
                 max_size=6)


def disk_of(size: int, parts: list[tuple[int, int, bool, int]]) -> dict[int, bytes]:
    """Holes where nothing is written; zeros as data, and noise, elsewhere."""
    return {at: noise(length, seed)[:size - at] if full else bytes(min(length, size - at))
            for at, length, full, seed in parts if at < size}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SIZES, PARTS, SIZES, PARTS)
def test_any_sparse_disk_and_any_successor_arrive_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, shared: Sink, size: int,
    parts: list[tuple[int, int, bool, int]],
    more: int, changed: list[tuple[int, int, bool, int]],
) -> None:
    setup = UploadSetup(shared, tmp_path_factory.mktemp("disks"))
    old = setup.write(disk_of(size, parts), size, "old")
    first, old_bytes = setup.upload(old, journal=setup.folder / "1"), setup.disk.read_bytes()
    assert shared.differences(first.id, setup.disk) == []
    new = setup.write(disk_of(size, parts) | disk_of(size + more, changed), size + more, "new")
    second = setup.upload(new, journal=setup.folder / "2", parent=ebs.Parent(first.id, old))
    assert shared.differences(second.id, setup.disk) == []
    new_bytes = setup.disk.read_bytes()
    length = max(len(old_bytes), len(new_bytes))
    old_bytes, new_bytes = old_bytes.ljust(length, b"\0"), new_bytes.ljust(length, b"\0")
    assert second.blocks_sent == sum(old_bytes[at:at + BLOCK] != new_bytes[at:at + BLOCK]
                                     for at in range(0, length,
                                                     BLOCK)), "more than the blocks that differ"


@pytest.fixture(scope="module")
def shared() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()


def test_a_block_that_became_zeros_is_written_over_the_parents(setup: UploadSetup) -> None:
    old = setup.write({0: noise(3 * BLOCK)}, 4 * BLOCK, "old")
    first = setup.upload(old)
    new = setup.write({0: noise(BLOCK)}, 4 * BLOCK, "new")
    done = setup.upload(new, journal=setup.folder / "new", parent=ebs.Parent(first.id, old))
    assert setup.sink.differences(done.id, setup.disk) == []
    assert (done.blocks_sent, done.blocks_total) == (2, 1)
    assert setup.sink.snaps[done.id].parent == first.id


@pytest.mark.parametrize("change", ["gone", "pending", "larger"])
def test_a_parent_that_cannot_be_used_is_named_and_the_whole_disk_goes_up(
    setup: UploadSetup, change: str
) -> None:
    old = setup.write({0: noise(BLOCK)}, (PER_GIB + 1) * BLOCK if change == "larger" else BLOCK,
                      "old")
    first = setup.upload(old)
    if change == "gone":
        setup.sink.delete(first.id)
    elif change == "pending":
        setup.sink.snaps[first.id].state = "pending"
    done = setup.upload(setup.write({0: noise(2 * BLOCK)}, 2 * BLOCK, "new"),
                        journal=setup.folder / "new",
                        parent=ebs.Parent(first.id, old))
    assert f"no difference to {first.id}, it" in setup.said[0] and change in setup.said[0]
    assert (done.blocks_sent, setup.sink.snaps[done.id].parent) == (2, "")
    assert setup.sink.differences(done.id, setup.disk) == []


# --- again ---

def test_a_second_call_sends_nothing_and_names_the_same_snapshot(setup: UploadSetup) -> None:
    listed = setup.sparse(5)
    first = setup.upload(listed)
    calls = dict(setup.sink.calls)
    again = setup.upload(listed)
    assert (again.id, again.blocks_sent, again.blocks_written) == (first.id, 0, 5)
    assert setup.sink.calls["EC2"] == calls["EC2"] + 1
    assert {name: count for name, count in setup.sink.calls.items() if name != "EC2"} == \
        {name: count for name, count in calls.items() if name != "EC2"}


def test_a_rebaked_disk_gets_a_snapshot_of_its_own(setup: UploadSetup) -> None:
    first = setup.upload(setup.sparse(2))
    second = setup.upload(setup.sparse(3))
    assert (
        second.id != first.id
        and "is of another disk or parent: a new one is begun" in setup.said[0]
    )
    assert setup.sink.differences(second.id, setup.disk) == []


POINTS = [("before", "StartSnapshot", 1), ("after", "StartSnapshot", 1),
          ("before", "PutSnapshotBlock", 1),
          ("after", "PutSnapshotBlock", 1), ("after", "PutSnapshotBlock", 150),
          ("before", "PutSnapshotBlock", 199),
          ("after", "PutSnapshotBlock", 200), ("before", "CompleteSnapshot", 1),
          ("after", "CompleteSnapshot", 1)]
FAST = {("after", "PutSnapshotBlock", 150), ("after", "CompleteSnapshot", 1)}


@pytest.mark.parametrize(("when", "action", "count"), [
    point if point in FAST else pytest.param(*point, marks=pytest.mark.long) for point in POINTS])
def test_a_killed_upload_continues_with_the_same_snapshot(
    setup: UploadSetup, when: str, action: str, count: int
) -> None:
    setup.sparse(200)
    killed: list[subprocess.Popen[str]] = []

    def kill(seen: str, number: int) -> bool | None:
        if (seen, number) != (action, count):
            return None
        os.kill(killed[0].pid, signal.SIGKILL)
        return False

    setattr(setup.sink.faults, when, kill)
    killed.append(setup.process())
    killed[0].communicate()
    assert killed[0].returncode == -signal.SIGKILL
    setup.sink.faults = ebs_sink.Faults()
    done = setup.finish()
    assert setup.sink.differences(done["id"], setup.disk) == []
    assert len(setup.sink.snaps) == 1, "a killed run left a second snapshot"
    assert setup.sent_twice() <= 2, "more was sent again than was in flight: 1 % of the blocks"
    assert len(setup.sink.stored) == 200


def test_an_interrupted_upload_ends_by_itself_and_continues(setup: UploadSetup) -> None:
    listed = setup.sparse(40)
    setup.sink.faults.latency_s = 0.05
    started: list[subprocess.Popen[str]] = []

    def interrupt(action: str, count: int) -> None:
        if (action, count) == ("PutSnapshotBlock", 20):
            started[0].send_signal(signal.SIGINT)

    setup.sink.faults.after = interrupt
    started.append(setup.process())
    _out, problems = started[0].communicate()
    assert started[0].returncode != 0 and "KeyboardInterrupt" in problems
    assert len(setup.sink.stored) < 40, "it went on sending"
    setup.sink.faults = ebs_sink.Faults()
    done = setup.upload(listed, tags={"goldenami:owner": "next"})
    assert setup.sink.differences(done.id, setup.disk) == []
    assert len(setup.sink.snaps) == 1 and setup.sent_twice() == 0
    assert setup.sink.snaps[done.id].tags["goldenami:owner"] == "next", (
        "a sweep would take the dead run's snapshot"
    )


@pytest.mark.parametrize("state", ["gone", "error"])
def test_a_snapshot_lost_behind_our_back_is_said_and_begun_anew(
    setup: UploadSetup, state: str
) -> None:
    listed = setup.sparse(10)
    lost = abandon(setup, listed, 5)
    if state == "gone":
        setup.sink.delete(lost)
    else:
        setup.sink.snaps[lost].state = "error"
    done = setup.upload(listed)
    assert done.id != lost and done.blocks_sent == 10
    assert setup.said[0].startswith(f"{lost}, begun ")
    assert setup.said[0].endswith(f"is {state}: a new snapshot is begun")
    assert setup.sink.differences(done.id, setup.disk) == []


def test_a_lost_journal_costs_a_snapshot_and_nothing_else(setup: UploadSetup) -> None:
    """The token is known to AWS with the tags of the run before: that is a conflict, not an end."""
    listed = setup.sparse(10)
    lost = abandon(setup, listed, 5)
    (setup.folder / "journal/upload.json").unlink()
    done = setup.upload(listed, tags=TAGS | {"goldenami:owner": "another"})
    assert done.id != lost and setup.sink.differences(done.id, setup.disk) == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "longer", "json"])
def test_no_damage_to_the_journal_harms_the_snapshot(setup: UploadSetup, damage: str) -> None:
    listed = setup.sparse(10)
    begun = abandon(setup, listed, 8)
    path = setup.folder / f"journal/{begun}.sent"
    slots = path.read_bytes()
    if damage == "json":
        (setup.folder / "journal/upload.json").write_text(
            '{"schema_version": 1, "region"', encoding="utf-8"
        )
    else:
        path.write_bytes({"cut": slots[:100], "flipped": bytes([slots[0] ^ 1]) + slots[1:],
                          "emptied": b"",
                          "longer": b"\1" * 64 * 1024 + slots}[damage])
    done = setup.upload(listed)
    assert setup.sink.differences(done.id, setup.disk) == []
    assert setup.sink.snaps[done.id].state == "completed"


# --- memory ---

def test_a_disk_of_a_tebibyte_needs_little_memory(setup: UploadSetup) -> None:
    setup.disk = setup.folder / "disk.raw"
    with setup.disk.open("wb") as disk:
        disk.truncate(1 << 40)
        for index in range(0, 1 << 21, 1 << 13):
            os.pwrite(disk.fileno(), b"data", index * BLOCK + 4096)
    done = setup.finish("64")
    assert done["blocks_sent"] == 256 and done["gib"] == 1024
    assert done["peak_kib"] < 256 << 10
    assert setup.sink.differences(done["id"], setup.disk) == []


def test_an_empty_file_is_no_disk(setup: UploadSetup) -> None:
    with pytest.raises(BadInput, match="0 bytes, which is no size for a volume"):
        setup.write({}, 0)
