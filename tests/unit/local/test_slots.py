"""Large files in slots of 512 KiB: the file system stays clean, and one file's growth moves no
other."""

from __future__ import annotations

import json
import os
import re
import resource
from pathlib import Path

import pytest
from goldenami.core import records, shell
from goldenami.core.errors import BadInput, StageFailed
from goldenami.local.disk import disk, slots
from goldenami.local.disk.large_files import BLOCK, SLOT, SLOT_BYTES
from goldenami.local.tree import tree as trees
from support.builds.tools import need_disk_tools, need_reproducible_disks

MIB = 1 << 20
LAYOUT = disk.DiskLayout(image="test", size_bytes=512 * MIB, source_date_epoch=1_700_000_000)


@pytest.fixture(autouse=True)
def tools() -> None:
    need_disk_tools()
    need_reproducible_disks()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make(tmp_path / "root")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> disk.DiskFacts:
    """The disk of such a tree, for those who only read it."""
    need_disk_tools()
    need_reproducible_disks()
    folder = tmp_path_factory.mktemp("slots")
    return write(make(folder / "root"), folder / "out")


def make(made: Path) -> Path:
    """Small files, and large ones of awkward sizes: to the byte a slot, a hole, an odd tail, many
    extents."""
    contents = {
        "boot/vmlinuz-6.1": b"kernel",
        "boot/initrd.img-6.1": b"initrd",
        "etc/small": b"x" * (SLOT_BYTES - 1),
        "usr/lib/slot": os.urandom(SLOT_BYTES),
        "usr/lib/odd": os.urandom(3 * SLOT_BYTES + 17),
        "usr/lib/zzz-last": os.urandom(5 * MIB),
        "usr/lib/café": os.urandom(MIB),
    }
    for name, content in contents.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(content)
    with (made / "usr/lib/hole").open("wb") as sparse:
        sparse.truncate(160 * MIB)  # more than an extent holds (128 MiB)
        sparse.seek(150 * MIB)
        sparse.write(b"end")
    os.link(made / "usr/lib/odd", made / "usr/lib/odd-twin")
    return made


def write(tree: Path, folder: Path, ranks: dict[str, int] | None = None) -> disk.DiskFacts:
    folder.mkdir()
    return disk.write_disk(
        tree, folder / "disk.raw", layout=LAYOUT, log=folder / "disk.log", ranks=ranks
    )


def debugfs(facts: disk.DiskFacts, request: str) -> str:
    return shell.output(
        ["/usr/sbin/debugfs", "-R", request, f"{facts.disk}?offset={disk.ROOT_OFFSET}"]
    )


def places(facts: disk.DiskFacts, path: str) -> list[int]:
    """The file's blocks in their order; holes have none."""
    return [int(number) for number in debugfs(facts, f"blocks {path}").split()]


def changed(one: disk.DiskFacts, other: disk.DiskFacts) -> int:
    """Blocks of 512 KiB that differ."""
    pieces = [
        [data[at : at + SLOT_BYTES] for at in range(0, len(data), SLOT_BYTES)]
        for data in (one.disk.read_bytes(), other.disk.read_bytes())
    ]
    return sum(first != second for first, second in zip(*pieces, strict=True))


def test_the_file_system_is_clean_sparse_and_holds_every_byte(
    written: disk.DiskFacts,
    tmp_path: Path,
) -> None:
    tree = written.disk.parents[1] / "root"
    assert written.sha256 == records.sha256_file(written.disk)
    shell.output(["/usr/sbin/e2fsck", "-fn", f"{written.disk}?offset={disk.ROOT_OFFSET}"])
    for name in ("slot", "odd", "odd-twin", "hole", "zzz-last", "café"):
        debugfs(written, f"dump /usr/lib/{name} {tmp_path / 'copy'}")
        assert (tmp_path / "copy").read_bytes() == (tree / "usr/lib" / name).read_bytes(), name
    assert "Links: 2" in debugfs(written, "stat /usr/lib/odd")
    assert written.data_bytes < 40 * MIB


def test_large_files_begin_at_a_slot_and_share_none(written: disk.DiskFacts) -> None:
    assert disk.ROOT_OFFSET % SLOT_BYTES == 0
    owners: dict[int, str] = {}
    for name in ("slot", "odd", "zzz-last", "café", "hole"):
        blocks = places(written, f"/usr/lib/{name}")
        assert blocks[0] % SLOT == 0, name
        for slot in {block // SLOT for block in blocks}:
            assert owners.setdefault(slot, name) == name
    assert len(places(written, "/etc/small")) == SLOT


def test_zeros_are_holes_wherever_the_host_has_some(tree: Path, tmp_path: Path) -> None:
    """What a file holds lies together in slots, whatever the host's file system."""
    piece, gap = os.urandom(3 * BLOCK), bytes(slots.HOLE * BLOCK)
    parts = [b"\1" * BLOCK, gap, piece, gap[BLOCK:], piece[:17], bytes(200 * BLOCK), piece, gap]
    content = b"".join(part.ljust(-(-len(part) // BLOCK) * BLOCK, b"\0") for part in parts)[:-5]
    library = tree / "usr/lib/library"
    library.write_bytes(content)
    dense = write(tree, tmp_path / "dense")
    held = [block for block in places(dense, "/usr/lib/library") if block]
    assert len(held) == 1 + 3 + (slots.HOLE - 1) + 1 + 3
    assert held == list(range(held[0], held[0] + len(held)))
    debugfs(dense, f"dump /usr/lib/library {tmp_path / 'copy'}")
    assert (tmp_path / "copy").read_bytes() == content
    shell.output(["/usr/sbin/e2fsck", "-fn", f"{dense.disk}?offset={disk.ROOT_OFFSET}"])
    rows = {
        row["path"]: row
        for row in json.loads(dense.manifest.read_text(encoding="utf-8"))["entries"]
    }
    assert rows["/usr/lib/library"]["stored"] == len(held) * BLOCK
    assert "stored" not in rows["/usr/lib/odd"]
    with library.open("wb") as sparse:
        for at in range(0, len(content), BLOCK):
            sparse.seek(at)
            if content[at : at + BLOCK].strip(b"\0"):
                sparse.write(content[at : at + BLOCK])
        sparse.truncate(len(content))
    assert library.stat().st_blocks * 512 < len(content) // 2
    assert write(tree, tmp_path / "sparse").sha256 == dense.sha256


def test_a_file_that_grows_moves_no_other_of_a_lower_rank(tree: Path, tmp_path: Path) -> None:
    ranks = {f"./usr/lib/{name}": 1 for name in ("odd", "odd-twin")}
    before = write(tree, tmp_path / "one", ranks)
    (tree / "usr/lib/odd").write_bytes(os.urandom(4 * SLOT_BYTES + 5))
    after = write(tree, tmp_path / "two", ranks)
    # its five slots, and what describes them: superblock, group descriptors, bitmaps, inode table
    assert 5 <= changed(before, after) <= 5 + 6
    unordered = {f"./usr/lib/{name}": 0 for name in ("odd", "odd-twin")}
    (tree / "usr/lib/odd").write_bytes(os.urandom(5 * SLOT_BYTES + 5))
    assert changed(write(tree, tmp_path / "three", unordered), after) > 5 + 6


def test_too_little_room_for_slots(tree: Path, tmp_path: Path) -> None:
    for number in range(240):
        (tree / f"usr/lib/many-{number}").write_bytes(os.urandom(SLOT_BYTES + 1))
    small = disk.DiskLayout("test", 384 * MIB, LAYOUT.source_date_epoch)
    with pytest.raises((StageFailed, BadInput), match="disk"):
        disk.write_disk(tree, tmp_path / "disk.raw", layout=small, log=tmp_path / "log")
    assert not (tmp_path / "disk.raw").exists()


def test_one_that_changes_its_size_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * SLOT_BYTES)
    (entry,) = (entry for entry in trees.scan(tmp_path) if entry.kind == "file")
    (tmp_path / "file").write_bytes(b"x" * (SLOT_BYTES + BLOCK))
    sink = os.open(tmp_path / "disk", os.O_WRONLY | os.O_CREAT)
    try:
        with pytest.raises(
            StageFailed, match=re.escape(f"/file changed its size from {SLOT_BYTES}")
        ):
            slots._copy(tmp_path, entry, [(0, 0, SLOT)], sink, 0)
    finally:
        os.close(sink)


def test_a_write_that_takes_only_a_part_is_not_taken_for_whole(tmp_path: Path) -> None:
    """A limit on the size of files ends a write as a full file system does: first less is taken,
    then it is refused."""
    (tmp_path / "file").write_bytes(os.urandom(SLOT_BYTES))
    (entry,) = (entry for entry in trees.scan(tmp_path) if entry.kind == "file")
    sink = os.open(tmp_path / "disk", os.O_WRONLY | os.O_CREAT)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SLOT_BYTES - BLOCK, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            slots._copy(tmp_path, entry, [(0, 0, SLOT)], sink, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        os.close(sink)
