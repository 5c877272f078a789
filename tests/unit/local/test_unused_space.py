"""What a written disk holds beside its files: nothing where nothing was put, and each place named
where something was.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.local.checks import unused_space
from goldenami.local.disk import boot_regions, disk
from goldenami.local.reader.block_source import RawFile
from support.builds.tools import need_disk_tools, need_reproducible_disks
from support.drift import small_image
from support.security import canaries

MIB = 1 << 20
GROUPS = 12
"""Of 128 MiB: some of them keep copies of the superblock, and most have no bitmap."""
SIZE = disk.ROOT_OFFSET + GROUPS * 128 * MIB + MIB
TOKEN = f"export GH_TOKEN=ghp_{canaries.noise('boot', 36)}".encode()
LIST = {"etc/default/golden-persistent": "overlay /etc\noverlay /var\n"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_disk_tools()
    layout = disk.DiskLayout(image="small", size_bytes=SIZE, source_date_epoch=1_700_000_000)
    return small_image.bake(tmp_path_factory.mktemp("ordinary") / "0123456789ab", layout).disk


@pytest.fixture(scope="module")
def immutable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_disk_tools()
    need_reproducible_disks()
    layout = disk.DiskLayout(
        image="small", size_bytes=512 * MIB, source_date_epoch=1_700_000_000, immutable=True
    )
    return small_image.bake(
        tmp_path_factory.mktemp("immutable") / "0123456789ab", layout, LIST
    ).disk


def put(image: Path, copy: Path, at: int, data: bytes = b"x") -> list[str]:
    """What is found where `data` was put at a byte of a copy."""
    small_image.copy_file(image, copy)
    with copy.open("r+b") as target:
        target.seek(at)
        target.write(data)
    return unused_space.find(copy)


def said(image: Path, request: str) -> str:
    return shell.output(
        [shell.require("debugfs", "e2fsprogs"), "-R", request, f"{image}?offset={disk.ROOT_OFFSET}"]
    )


def test_a_disk_as_it_is_written_has_nothing_else(written: Path, immutable: Path) -> None:
    assert unused_space.find(written) == []
    assert unused_space.find(immutable) == []


@pytest.mark.parametrize("first", [1, 40_000, 100_000, 390_000])
def test_a_free_block_that_has_content_is_named(written: Path, tmp_path: Path, first: int) -> None:
    block = int(said(written, f"ffb 1 {first}").split()[-1])
    found = put(written, tmp_path / "copy.raw", disk.ROOT_OFFSET + block * 4096 + 77)
    assert len(found) == 1 and " of no file in root, from byte " in found[0], found


def test_the_journal_has_nothing_but_its_beginning(written: Path, tmp_path: Path) -> None:
    blocks = said(written, "blocks <8>").split()
    place = [disk.ROOT_OFFSET + int(block) * 4096 for block in blocks[:2]]
    assert put(written, tmp_path / "copy.raw", place[0] + 4095) == []
    assert len(put(written, tmp_path / "copy.raw", place[1])) == 1


def test_between_the_partitions_and_behind_them_is_nothing(
    written: Path, immutable: Path, tmp_path: Path
) -> None:
    for at in (40 * 512, SIZE - 40 * 512):
        found = put(written, tmp_path / "copy.raw", at)
        assert len(found) == 1 and "between the partitions" in found[0], found
    source = RawFile(immutable)
    (tree,) = (entry for entry in boot_regions.partitions(source.read) if entry["name"] == "tree")
    found = put(immutable, tmp_path / "copy.raw", tree["offset"] + tree["size"] - 1)
    assert len(found) == 1 and "behind the hashes" in found[0], found


@pytest.mark.parametrize("part", ["bios", "esp"])
def test_what_boots_the_disk_is_read_for_secrets(written: Path, tmp_path: Path, part: str) -> None:
    (entry,) = (
        entry for entry in boot_regions.partitions(RawFile(written).read) if entry["name"] == part
    )
    found = put(
        written,
        tmp_path / "copy.raw",
        entry["offset"] + entry["size"] - 4096,
        b"\n" + TOKEN + b"\n",
    )
    assert found == [f"GitHub token in partition {part}"]
