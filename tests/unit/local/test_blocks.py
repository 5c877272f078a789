from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from goldenami.core import records
from goldenami.core.errors import BadInput
from goldenami.core.units import GIB
from goldenami.local.disk import checksum
from goldenami.model.builds import disk_blocks, sparse_disk
from goldenami.model.builds.build_records import Disk
from goldenami.model.builds.disk_blocks import PIECE, SLOT, ZEROS_SHA256, BlockMap, differing, scan
from goldenami.model.builds.sparse_disk import BLOCK


def write(path: Path, parts: dict[int, bytes], size: int) -> Path:
    with path.open("wb") as sink:
        sink.truncate(size)
        for at, data in parts.items():
            os.pwrite(sink.fileno(), data, at)
    return path


def data_blocks(path: Path) -> list[int]:
    with path.open("rb") as source:
        return list(sparse_disk.data_blocks(source.fileno()))


def test_blocks_with_data_are_found_once_and_holes_are_not_read(tmp_path: Path) -> None:
    parts = {BLOCK - 4096: b"x" * 8192, 5 * BLOCK: b"x", 5 * BLOCK + 65536: b"x", 1 << 42: b"x"}
    disk = write(tmp_path / "disk", parts, (1 << 42) + 1)
    assert data_blocks(disk) == [0, 1, 5, (1 << 42) // BLOCK]
    assert data_blocks(write(tmp_path / "hole", {}, 1 << 40)) == []


def test_equal_bytes_have_one_name_whatever_their_holes(tmp_path: Path) -> None:
    holes = scan(write(tmp_path / "a", {BLOCK: b"x"}, 4 * BLOCK), tmp_path / "a.blocks")
    zeros = scan(
        write(tmp_path / "b", {0: bytes(4 * BLOCK), BLOCK: b"x"}, 4 * BLOCK), tmp_path / "b.blocks"
    )
    other = scan(write(tmp_path / "c", {BLOCK: b"y"}, 4 * BLOCK), tmp_path / "c.blocks")
    larger = scan(write(tmp_path / "d", {BLOCK: b"x"}, GIB + 1), tmp_path / "d.blocks")
    assert holes.content() == zeros.content()
    assert len({holes.content(), other.content(), larger.content()}) == 3
    assert (holes.count(), list(differing(holes, zeros))) == (1, [])


def test_a_difference_names_what_changed_came_and_went(tmp_path: Path) -> None:
    old = scan(
        write(tmp_path / "a", {0: b"same", BLOCK: b"old", 2 * BLOCK: b"gone"}, GIB),
        tmp_path / "a.blocks",
    )
    after = {0: b"same", BLOCK: b"new", 3000 * BLOCK: b"came"}
    new = scan(write(tmp_path / "b", after, 2 * GIB), tmp_path / "b.blocks")
    found = dict(differing(new, old))
    assert sorted(found) == [1, 2, 3000] and found[2] == ZEROS_SHA256
    assert dict(differing(new, None)) == dict(new)
    with pytest.raises(BadInput, match="a volume of 1 GiB cannot follow one of 2 GiB"):
        next(differing(old, new))


def test_a_list_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        BlockMap.open(tmp_path / "none")
    (tmp_path / "cut").write_bytes(bytes(PIECE * SLOT - 1))
    with pytest.raises(BadInput, match="no list of blocks"):
        BlockMap.open(tmp_path / "cut")


def test_a_disk_is_listed_while_it_is_written(tmp_path: Path) -> None:
    """In pieces that end within blocks; holes are filled behind what is final, and one is left."""
    disk, size = write(tmp_path / "disk", {}, 9 * BLOCK - 4096), 9 * BLOCK - 4096
    with checksum.following(disk, tmp_path / "blocks") as follower:
        for number, until in enumerate((0, 1, BLOCK + 5, 3 * BLOCK, 5 * BLOCK - 1, 8 * BLOCK)):
            with disk.open("r+b") as sink:
                os.pwrite(sink.fileno(), bytes([number + 1]) * 10_000, until)
            time.sleep(0.02)
            follower.advance(until)
        found = follower.result(size)
    assert found == records.sha256_file(disk)
    scan(disk, tmp_path / "after")
    assert (tmp_path / "blocks").read_bytes() == (tmp_path / "after").read_bytes()


def test_a_disk_is_as_baked_by_its_blocks(tmp_path: Path) -> None:
    disk = write(tmp_path / "disk", {BLOCK: b"x"}, 4 * BLOCK)
    listed = Disk(
        path="disk",
        bytes_apparent=4 * BLOCK,
        bytes_allocated=0,
        sha256=records.sha256_file(disk),
        blocks_sha256=disk_blocks.digest_of(disk),
    )
    assert disk_blocks.is_as_baked(disk, listed)
    for parts, size in (
        ({BLOCK: b"y"}, 4 * BLOCK),
        ({BLOCK: b"x", 3 * BLOCK: b"z"}, 4 * BLOCK),
        ({}, 4 * BLOCK),
        ({BLOCK: b"x"}, 4 * BLOCK + 1),
    ):
        write(disk, parts, size)
        assert not disk_blocks.is_as_baked(disk, listed), parts
