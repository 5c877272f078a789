"""The reader of disks against the kernel, on disks that the project's own writer made."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.local.disk import disk
from goldenami.local.reader import ext4_journal
from goldenami.local.reader.block_source import ChangedBlocks, RawFile, merged, overlay
from goldenami.local.reader.directory import entries
from goldenami.local.reader.ext4 import FLAG_INDEX, KINDS, ROOT_INODE, Ext4
from goldenami.local.reader.inode import Inode
from goldenami.local.reader.limits import Unreadable
from goldenami.local.reader.observe import Observation, observe
from goldenami.local.reader.path_state import PathState
from goldenami.local.reader.walk import Area
from goldenami.model.builds.build_folder import BuildFolder
from support.builds.tools import need, need_disk_tools
from support.drift import small_image
from support.drift.small_image import MIB, differing, root


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    need_disk_tools()
    return small_image.bake(tmp_path_factory.mktemp("build") / "0123456789ab")


@pytest.fixture
def image(build: BuildFolder, tmp_path: Path) -> Path:
    return small_image.copy(build, tmp_path / "disk.raw")


def sizes(states: list[PathState]) -> dict[str, int]:
    return {state.path: state.size if state.kind == "file" else -1 for state in states}


def of_kernel(tree: Path) -> Iterator[PathState]:
    first: dict[int, str] = {}
    for path in sorted([tree, *tree.rglob("*")], key=lambda path: os.fsencode(path).split(b"/")):
        name, status = f"/{path.relative_to(tree)}" if path != tree else "/", path.lstat()
        kind = KINDS[stat.S_IFMT(status.st_mode)]
        target = os.readlink(path) if kind == "symlink" else ""  # noqa: PTH115 - as it is written
        if kind != "directory" and first.setdefault(status.st_ino, name) != name:
            kind, target = "hardlink", first[status.st_ino]
        plain = kind == "file"
        yield PathState(
            path=name,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            size=status.st_size if plain else 0,
            target=target,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest() if plain else None,
            device=(os.major(status.st_rdev), os.minor(status.st_rdev))
            if kind in ("character", "block")
            else (0, 0),
            attributes={
                each: os.getxattr(path, each, follow_symlinks=False).hex()
                for each in os.listxattr(path, follow_symlinks=False)
            },
        )


def change(tree: Path) -> None:
    """What varies metadata: large folders, fragments, holes, attributes in blocks of their own."""
    (tree / "srv").mkdir()
    for number in range(1500):
        (tree / f"srv/{'n' * 40}-{number}").write_text(str(number), encoding="utf-8")
    for number in range(0, 1500, 3):
        (tree / f"srv/{'n' * 40}-{number}").unlink()
    with (tree / "srv/holes").open("wb") as file:
        for number in range(400):
            file.seek(number * 12_288)
            file.write(b"x" * 4096)
    os.setxattr(tree / "srv/holes", "user.large", b"v" * 3000)
    os.setxattr(tree / "srv/holes", "user.small", b"v")
    os.setxattr(tree / "srv", "trusted.folder", b"t")
    (tree / "srv/owned").touch()
    os.chown(tree / "srv/owned", 70_000, 80_000)
    os.mknod(tree / "srv/device", 0o600 | stat.S_IFBLK, os.makedev(259, 70_000))


def test_a_file_system_is_what_the_kernel_shows(image: Path, tmp_path: Path) -> None:
    with small_image.mounted(image, tmp_path / "mount") as tree:
        change(tree)
        expected = list(of_kernel(tree))
    found = observe(Observation(root(image), {}, sizes(expected), "")).states
    assert [state for state in found if state not in expected] == []
    assert found == expected


def committed(tree: Path) -> None:
    """What was done is in the journal; `sync` would also write it to its place."""
    folder = os.open(tree, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A folder that is not in memory, where the kernel may write all back before anybody looks."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


def test_a_disk_without_a_clean_end_is_what_the_kernel_makes_of_it(
    image: Path, on_disk: Path
) -> None:
    """The copy's journal is not played back: both the kernel and the reader do that now."""
    lost = on_disk / "lost.raw"
    with small_image.unclean(image, on_disk / "mount", lost) as tree:
        change(tree)
        committed(tree)
        for number in range(1, 1500, 3):
            (tree / f"srv/{'n' * 40}-{number}").rename(tree / f"srv/renamed-{number}")
        shell.output(["rm", "-rf", str(tree / "usr/share/many")])
        (tree / "usr/again").mkdir()
        for number in range(300):
            (tree / f"usr/again/{number}").write_bytes(b"again" * 1000)
        committed(tree)
    system = Ext4(root(lost))
    names = entries(system, system.inode(ROOT_INODE, "/"), "/")
    assert b"srv" not in names
    assert system.needs_recovery
    assert ext4_journal.replay(system) > 1
    assert b"srv" in entries(system, system.inode(ROOT_INODE, "/"), "/")
    read = small_image.copy_file(lost, on_disk / "read.raw")
    with small_image.mounted(lost, on_disk / "mount") as tree:
        expected = list(of_kernel(tree))
    assert observe(Observation(root(read), {}, sizes(expected), "")).states == expected


def test_an_overlay_is_its_changes_over_the_disk(build: BuildFolder, tmp_path: Path) -> None:
    need("qemu-img", "qemu-io")
    path = tmp_path / "overlay.qcow2"
    shell.output(
        [
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            str(build.disk),
            str(path),
            "200M",
        ]
    )
    shell.output(
        [
            "qemu-io",
            "-f",
            "qcow2",
            "-c",
            f"write -P 7 {150 * MIB} 70000",
            "-c",
            f"write -z {MIB} 65536",
            str(path),
        ]
    )
    baked = RawFile(build.disk)
    found = overlay(path, baked)
    assert found.size == 200 * MIB
    assert found.read(150 * MIB - 3, 10) == baked.read(150 * MIB - 3, 3) + b"\7" * 7
    assert found.read(MIB - 2, 65_540) == baked.read(MIB - 2, 2) + bytes(65_536) + baked.read(
        MIB + 65_536, 2
    )
    assert found.read(192 * MIB - 2, 10) == baked.read(192 * MIB - 2, 2) + bytes(8)


def test_changed_blocks_stand_before_the_base() -> None:
    class Letters:
        size = 30

        def read(self, offset: int, length: int) -> bytes:
            return bytes(range(offset, offset + length))

    disk = ChangedBlocks(
        40, Letters(), merged([(20, 25), (5, 8), (8, 10)]), lambda _, length: b"x" * length
    )
    whole = b"".join(
        (bytes(range(5)), b"x" * 5, bytes(range(10, 20)), b"x" * 5, bytes(range(25, 30)), bytes(10))
    )
    for start in range(41):
        for stop in range(start, 41):
            assert disk.read(start, stop - start) == whole[start:stop]


class Counted:
    def __init__(self, image: Path) -> None:
        self.disk = RawFile(image)
        self.size, self.bytes = self.disk.size, 0

    def read(self, offset: int, length: int) -> bytes:
        self.bytes += length
        return self.disk.read(offset, length)


def changed_parts(first: Path, second: Path, size: int = 1 << 16) -> list[tuple[int, int]]:
    """As EBS lists them: blocks of 64 KiB here, since the disk is small."""
    one, other = first.read_bytes(), second.read_bytes()
    return merged(
        (at, at + size)
        for at in range(0, len(one), size)
        if one[at : at + size] != other[at : at + size]
    )


def test_only_what_was_written_is_read(build: BuildFolder, image: Path, tmp_path: Path) -> None:
    """Reading a file on a running machine writes the time of that into its inode; 3 MiB of it stay
    unread here."""
    with small_image.mounted(image, tmp_path / "mount") as tree:
        os.utime(tree / "usr/lib/large.so", (1, 1))
        (tree / "usr/bin/false").write_text("other", encoding="utf-8")
    base, now = Counted(build.disk), RawFile(image)
    parts = changed_parts(build.disk, image)
    disk = ChangedBlocks(now.size, base, parts, now.read)
    assert differing(build, disk, base, parts) == {"/usr/bin/false"}
    assert base.bytes < 2 * MIB
    assert differing(build, disk) == {"/usr/bin/false"}


def test_content_that_lies_elsewhere_is_read(
    build: BuildFolder, image: Path, tmp_path: Path
) -> None:
    """Both files' blocks are as baked, and each has the other's."""
    true, false = (small_image.blocks(image, f"/usr/bin/{name}") for name in ("true", "false"))
    small_image.debugfs(
        image,
        *(
            f"set_inode_field /usr/bin/{name} block[5] {blocks}"
            for name, blocks in (("true", false), ("false", true))
        ),
    )
    now = RawFile(image)
    parts = changed_parts(build.disk, image)
    disk = ChangedBlocks(now.size, RawFile(build.disk), parts, now.read)
    found = differing(build, disk, RawFile(build.disk), parts)
    assert {"/usr/bin/same", "/usr/bin/false"} <= found


def asked(image: Path, request: str, answer: str) -> list[int]:
    """Numbers that debugfs answers with, behind `answer`."""
    said = shell.output(
        [shell.require("debugfs", "e2fsprogs"), "-R", request, f"{image}?offset={disk.ROOT_OFFSET}"]
    )
    return [
        int(word)
        for word in said.partition(answer)[2].partition("\n")[0].split()
        if word.isdecimal()
    ]


def test_inodes_that_are_read_from_elsewhere_are_not_as_baked(
    build: BuildFolder, tmp_path: Path
) -> None:
    """The table of inodes with two of them exchanged lies on the disk since the bake, and now the
    group's descriptor names it: nothing else is written, and each inode's block is as baked."""
    base = small_image.copy(build, tmp_path / "base.raw")
    system = Ext4(root(base))
    begin, size = system.place_of(1), system.inodes * system.inode_size
    table = bytearray(system.source.read(begin, size))
    places = [
        system.place_of(asked(base, f"stat /usr/bin/{name}", "Inode:")[0]) - begin
        for name in ("true", "false")
    ]
    one, other = (slice(place, place + system.inode_size) for place in places)
    table[one], table[other] = table[other], table[one]
    free = asked(base, f"ffb {size // 4096}", "Free blocks found:")
    assert (system.groups, free) == (1, list(range(free[0], free[0] + size // 4096)))
    with base.open("r+b") as file:
        file.seek(disk.ROOT_OFFSET + free[0] * 4096)
        file.write(table)
    image = small_image.copy_file(base, tmp_path / "disk.raw")
    small_image.debugfs(
        image, f"set_block_group 0 inode_table {free[0]}", "set_block_group 0 checksum calc"
    )
    parts = changed_parts(base, image, 4096)
    disk_now = ChangedBlocks(base.stat().st_size, RawFile(base), parts, RawFile(image).read)
    found = differing(build, disk_now, RawFile(base), parts)
    assert {"/usr/bin/same", "/usr/bin/false"} <= found


def test_a_damaged_transaction_is_no_end_of_the_journal(image: Path, tmp_path: Path) -> None:
    """Else whoever changes a bit of it would take back what the kernel has done since; it refuses
    such a disk too."""
    lost = tmp_path / "lost.raw"
    with small_image.unclean(image, tmp_path / "mount", lost) as tree:
        (tree / "srv").mkdir()
        committed(tree)
    found = ext4_journal._Journal.of(Ext4(root(lost)))
    assert found
    with lost.open("r+b") as file:
        file.seek(disk.ROOT_OFFSET + found.physical[found.next(found.start)] * 4096 + 100)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(Unreadable, match="does not match its checksum"):
        observe(Observation(root(lost), {}, {}, ""))


def folder(system: Ext4, path: str) -> Inode:
    inode = system.inode(ROOT_INODE, "/")
    for name in path.split("/"):
        inode = system.inode(entries(system, inode, path)[name.encode()].inode, path)
    return inode


@pytest.mark.parametrize("sign", [1, 2])
def test_each_name_that_the_kernel_made_is_found_through_its_index(
    image: Path, tmp_path: Path, sign: int
) -> None:
    """As superblocks state it, bytes above 127 are signed or not. Long names take two levels."""
    small_image.debugfs(image, f"set_super_value flags {sign}")
    counts = {"few": (100, "é" * 20), "more": (3000, "ñ漢"), "long": (6500, "x" * 120 + "é" * 60)}
    with small_image.mounted(image, tmp_path / "mount") as tree:
        for name, (count, text) in counts.items():
            (tree / name).mkdir()
            for number in range(count):
                (tree / name / f"{number}{text}").hardlink_to(tree / "etc/hostname")
        for number in range(0, 6500, 13):
            (tree / f"long/{number}{counts['long'][1]}").unlink()
    system = Ext4(root(image))
    for name in counts:
        inode = folder(system, name)
        assert inode.flags & FLAG_INDEX
        assert all(entry.is_found for entry in entries(system, inode, name).values())
    assert system.block_at(system.runs(folder(system, "long"), "long")[0][1])[30] == 1
    system.hashes_are_signed = not system.hashes_are_signed
    assert not all(entry.is_found for entry in entries(system, folder(system, "more"), "").values())


DATA = (("early", "/data|/data/.+"), ("srv", "/srv/.+"), ("state", "/var/.+"))


def counted(
    image: Path, mount: Path, count: int, base: Path | None = None
) -> tuple[set[tuple[str, str]], dict[str, Area]]:
    """What is listed of data and what is counted, with a folder of so many names more; `base` is
    the disk as it was baked."""
    with small_image.mounted(image, mount) as tree:
        many = tree / f"srv/{count}"
        many.mkdir()
        (many / "0").write_bytes(b"x" * 10)
        for number in range(1, count):
            (many / str(number)).hardlink_to(many / "0")
    parts = [
        (max(start - disk.ROOT_OFFSET, 0), stop - disk.ROOT_OFFSET)
        for start, stop in (changed_parts(base, image) if base else [])
        if stop > disk.ROOT_OFFSET
    ]
    found = observe(
        Observation(
            root(image),
            {},
            {"/srv": -1, "/var/lib": -1},
            "/srv/key",
            data=DATA,
            base=root(base) if base else None,
            changed=parts,
        )
    )
    assert {
        state.kind for state in found.states if state.path in {"/etc/hostname", "/usr/bin/sudo"}
    } == {"file"}
    data = re.compile("/(srv|data|var)/.+")
    return (
        {(state.path, state.kind) for state in found.states if data.fullmatch(state.path)},
        found.areas,
    )


def test_data_is_counted(build: BuildFolder, image: Path, tmp_path: Path) -> None:
    """Listed are folders that were baked, what gives rights, and what is handed over, among any
    number of names. A file of the system keeps its own path, though a name in data comes first."""
    with small_image.mounted(image, tmp_path / "mount") as tree:
        (tree / "data").mkdir()
        (tree / "data/name").hardlink_to(tree / "etc/hostname")
        (tree / "data/sudo").hardlink_to(tree / "usr/bin/sudo")
        (tree / "srv").mkdir()
        (tree / "srv/key").write_text("key", encoding="utf-8")
        (tree / "srv/able").touch()
        os.setxattr(
            tree / "srv/able",
            "security.capability",
            bytes.fromhex("0100000200040000000000000000000000000000"),
        )
        os.mknod(tree / "srv/disk", 0o600 | stat.S_IFBLK, os.makedev(259, 1))
        os.mknod(tree / "srv/removed", 0o600 | stat.S_IFCHR, os.makedev(0, 0))
        (tree / "srv/deep/").joinpath(*"d" * 120).mkdir(parents=True)
    few, before = counted(image, tmp_path / "mount", 30)
    assert few == {
        ("/var/lib", "directory"),
        ("/data/sudo", "file"),
        ("/srv/key", "file"),
        ("/srv/able", "file"),
        ("/srv/disk", "block"),
    }
    assert before["srv"] == Area(4 + 121 + 31, 3 + 10)
    many, after = counted(image, tmp_path / "mount", 30_000, build.disk)
    assert many == few
    assert after["srv"] == Area(before["srv"].paths + 30_001, 3 + 10 + 10)
    assert after["early"].paths == 3
    small_image.debugfs(image, "set_inode_field /srv/30 block[5] 9")
    with pytest.raises(Unreadable, match="/srv/30"):
        counted(image, tmp_path / "mount", 1)
