"""Snapshots read back from the EBS direct server of the tests, and held to the disk's blocks."""

from __future__ import annotations

import random

import pytest
from goldenami.aws.snapshots import ebs, send
from goldenami.core.errors import Unreachable
from goldenami.model.builds.disk_blocks import BlockMap
from support.aws import ebs_sink
from support.aws.ebs_sink import BLOCK, Snap
from support.aws.ebs_wire import Refused
from support.aws.upload_setup import UploadSetup, holds, noise


def stored(setup: UploadSetup) -> tuple[BlockMap, Snap]:
    """A disk with holes whose snapshot is good."""
    listed = setup.write({at * BLOCK: noise(BLOCK, at) for at in (0, 1, 7, 30, 31)}, 40 * BLOCK)
    return listed, setup.sink.snaps[setup.upload(listed).id]


def test_a_good_snapshot_is_the_disk(setup: UploadSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ebs_sink, "PAGE", 2)
    listed, snap = stored(setup)
    told: list[int] = []
    assert holds(setup.ebs, snap.id, listed, told.append)
    assert sum(told) == 5 * BLOCK and setup.sink.calls["ListSnapshotBlocks"] == 3


def test_a_delta_with_zeros_over_its_parent_is_the_new_disk(setup: UploadSetup) -> None:
    old, first = stored(setup)
    new = setup.write({0: noise(BLOCK, 99), BLOCK: bytes(BLOCK)}, 40 * BLOCK, "new")
    done = setup.upload(new, journal=setup.folder / "new", parent=ebs.Parent(first.id, old))
    assert holds(setup.ebs, done.id, new)
    assert not holds(setup.ebs, done.id, old)


def test_one_flipped_bit_is_found(setup: UploadSetup) -> None:
    listed, snap = stored(setup)
    source = random.Random(0)
    setup.sink.flip(snap.id, source.choice(sorted(snap.blocks)), source.randrange(8 * BLOCK))
    assert not holds(setup.ebs, snap.id, listed)


def test_a_moved_block_and_another_size_are_found(setup: UploadSetup) -> None:
    listed, snap = stored(setup)
    snap.blocks[20] = snap.blocks.pop(30)
    assert not holds(setup.ebs, snap.id, listed)
    snap.blocks[30] = snap.blocks.pop(20)
    assert holds(setup.ebs, snap.id, listed)
    snap.gib = 2
    assert not holds(setup.ebs, snap.id, listed)


@pytest.mark.usefixtures("quick")
def test_a_broken_connection_is_survived(setup: UploadSetup) -> None:
    listed, snap = stored(setup)
    setup.sink.faults.before = lambda action, count: (action, count) != ("GetSnapshotBlock", 1)
    assert holds(setup.ebs, snap.id, listed)
    assert setup.sink.calls["GetSnapshotBlock"] == 6, "five blocks, and one broken connection"


@pytest.mark.usefixtures("quick")
def test_a_server_that_stops_answering_is_unreachable(
    setup: UploadSetup, monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed, snap = stored(setup)
    monkeypatch.setattr(send, "PATIENCE_S", 0.2)

    def down(action: str, _count: int) -> None:
        if action == "GetSnapshotBlock":
            raise Refused(503, "InternalServerException", "down")

    setup.sink.faults.before = down
    with pytest.raises(Unreachable, match=f"EBS has not given a block of {snap.id} for 0 s"):
        holds(setup.ebs, snap.id, listed)
