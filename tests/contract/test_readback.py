from __future__ import annotations

import random

import pytest
from goldenami.aws.snapshots import ebs, readback, send
from goldenami.model.builds.build_records import Outcome
from goldenami.model.builds.disk_blocks import BlockMap
from support.aws import ebs_sink
from support.aws.ebs_sink import BLOCK, Snap
from support.aws.ebs_wire import Refused
from support.aws.upload_setup import UploadSetup, noise


def stored(setup: UploadSetup) -> tuple[BlockMap, Snap]:
    """A disk with holes whose snapshot is good."""
    listed = setup.write({at * BLOCK: noise(BLOCK, at) for at in (0, 1, 7, 30, 31)}, 40 * BLOCK)
    return listed, setup.sink.snaps[setup.upload(listed).id]


def read(setup: UploadSetup, listed: BlockMap, snap: str) -> readback.Readback:
    return readback.verify(setup.ebs, snap, listed, in_flight=4)


def test_a_good_snapshot_is_correct(setup: UploadSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ebs_sink, "PAGE", 2)
    listed, snap = stored(setup)
    told: list[int] = []
    found = readback.verify(setup.ebs, snap.id, listed, on_bytes=told.append)
    assert (found.outcome, found.blocks_read, found.detail) == (Outcome.CORRECT, 5, "")
    assert sum(told) == 5 * BLOCK and setup.sink.calls["ListSnapshotBlocks"] == 3


def test_a_delta_with_zeros_over_its_parent_is_correct(setup: UploadSetup) -> None:
    old, first = stored(setup)
    new = setup.write({0: noise(BLOCK, 99), BLOCK: bytes(BLOCK)}, 40 * BLOCK, "new")
    done = setup.upload(new, journal=setup.folder / "new", parent=ebs.Parent(first.id, old))
    assert read(setup, new, done.id).outcome is Outcome.CORRECT
    assert read(setup, old, done.id).detail == "5 blocks differ (0, 1, 7, 30, 31)"


@pytest.mark.parametrize("seed", range(4))
def test_one_flipped_bit_is_found(setup: UploadSetup, seed: int) -> None:
    listed, snap = stored(setup)
    source = random.Random(seed)
    index = source.choice(sorted(snap.blocks))
    setup.sink.flip(snap.id, index, source.randrange(8 * BLOCK))
    found = read(setup, listed, snap.id)
    assert (found.outcome, found.detail) == (Outcome.INCORRECT, f"1 block differs ({index})")


def test_missing_and_unwanted_blocks_and_another_size_are_named(setup: UploadSetup) -> None:
    listed, snap = stored(setup)
    snap.blocks[20] = snap.blocks.pop(30)
    snap.gib = 2
    snap.blocks[4000] = snap.blocks[0]
    found = read(setup, listed, snap.id)
    assert found.outcome is Outcome.INCORRECT
    assert found.detail == ("1 block is missing (30); 2 blocks should be zeros (20, 4000); "
                            "the volume has 2 GiB, the disk needs 1")


def test_many_differences_are_counted_and_the_first_named(setup: UploadSetup) -> None:
    listed = setup.sparse(20)
    other = setup.upload(setup.write({}, 20 * BLOCK, "zeros"))
    found = read(setup, listed, other.id)
    assert found.detail == "20 blocks are missing (0, 1, 2, 3, 4, 5, 6, 7, ...)"


def test_a_snapshot_that_is_not_there_is_missing(setup: UploadSetup) -> None:
    listed, snap = stored(setup)
    setup.sink.delete(snap.id)
    found = read(setup, listed, snap.id)
    assert (found.outcome, found.detail) == (Outcome.MISSING, f"{snap.id} does not exist in us-east-1")


def test_who_may_not_read_is_told_so_and_nothing_passes(setup: UploadSetup) -> None:
    listed, snap = stored(setup)

    def deny(action: str, count: int) -> None:
        if action == "GetSnapshotBlock" and count > 2:
            raise Refused(403, "AccessDeniedException", "User: x is not authorized to perform: ebs:GetSnapshotBlock")

    setup.sink.faults.before = deny
    found = read(setup, listed, snap.id)
    assert found.outcome is Outcome.UNREACHABLE and "may not call ebs:GetSnapshotBlock" in found.detail


@pytest.mark.usefixtures("quick")
def test_a_server_that_stops_answering_is_unreachable(setup: UploadSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, snap = stored(setup)
    monkeypatch.setattr(send, "PATIENCE_S", 0.2)

    def down(action: str, _count: int) -> None:
        if action == "GetSnapshotBlock":
            raise Refused(503, "InternalServerException", "down")

    setup.sink.faults.before = down
    found = read(setup, listed, snap.id)
    assert found.outcome is Outcome.UNREACHABLE
    assert found.detail.startswith(f"EBS has not given a block of {snap.id} for 0 s")


@pytest.mark.usefixtures("quick")
def test_what_the_network_damages_is_read_again(setup: UploadSetup) -> None:
    listed, snap = stored(setup)

    def damage(action: str, count: int) -> bool | None:
        if action == "GetSnapshotBlock" and count in (4, 5):
            setup.sink.flip(snap.id, 7, 5)  # there for the first reading of that block, gone for the second
        return action != "GetSnapshotBlock" or count != 1

    setup.sink.faults.before = damage
    assert readback.verify(setup.ebs, snap.id, listed, in_flight=1).outcome is Outcome.CORRECT
    assert setup.sink.calls["GetSnapshotBlock"] == 7, "five blocks, one of them twice, and one broken connection"
