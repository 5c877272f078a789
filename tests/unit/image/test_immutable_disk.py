"""Disks with an immutable root: read back by other tools than those that wrote, and held to what
veritysetup says."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.core.errors import BadInput, StageFailed
from goldenami.core.terminal.progress import Progress
from goldenami.image.builders.ec2 import Ec2Builder
from goldenami.local.disk import disk, grub, immutable, verity
from support import files
from support.aws import unbound
from support.builds import sample_lock, sample_plan
from support.builds.tools import need_disk_tools, need_reproducible_disks

MIB = 1 << 20
LAYOUT = disk.DiskLayout(
    image="test", size_bytes=320 * MIB, source_date_epoch=1_700_000_000, immutable=True
)
ZEROS = 20_000
"""Blocks of a hole, behind 300 that hold their own numbers."""
ROOT_HASH = "aa15448c1a08358f10c8e4f36ff123fbd6b08797e891cb96fb7e404e453577b0"
TREE_SHA256 = "0b7bf1c5e009cbcb3494e1036d61657817636c58dbbf0e640b3369e259f1f542"
"""Of these 20,300 blocks, with `SALT` and `IDENTITY`, by `veritysetup format` 2.7.5; three levels
of hashes."""
SALT = bytes(range(16))
IDENTITY = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")
LIST = "# a comment\noverlay /etc\noverlay /root\nplain /var/lib/docker\n"
NAMES = {
    "etc/hostname": "x\n",
    "root/.profile": "",
    "boot/vmlinuz-6.1": "kernel",
    "boot/initrd.img-6.1": "initrd",
    "boot/grub/grub.cfg": "of an older bake",
    str(immutable.LIST): LIST,
}


def numbered(path: Path) -> int:
    """Write the blocks that `veritysetup` was given; returns their bytes."""
    with path.open("wb") as image:
        image.write(b"".join(number.to_bytes(4) * 1024 for number in range(300)))
        image.truncate((300 + ZEROS) * verity.BLOCK)
        return image.seek(0, 2)


def test_tree_is_veritysetup_s(tmp_path: Path) -> None:
    size = numbered(tmp_path / "image")
    found = verity.write(tmp_path / "image", (0, size), (size, MIB), salt=SALT, identity=IDENTITY)
    assert found == ROOT_HASH
    written = (tmp_path / "image").read_bytes()[size:]
    assert len(written) == verity.tree_bytes(size)
    assert hashlib.sha256(written).hexdigest() == TREE_SHA256


def test_a_changed_byte_makes_another_hash(tmp_path: Path) -> None:
    size = numbered(tmp_path / "image")
    with (tmp_path / "image").open("r+b") as image:
        image.seek(10_000 * verity.BLOCK + 17)
        image.write(b"\x80")
    assert (
        verity.write(tmp_path / "image", (0, size), (size, MIB), salt=SALT, identity=IDENTITY)
        != ROOT_HASH
    )


def test_tree_without_room(tmp_path: Path) -> None:
    size = numbered(tmp_path / "image")
    with pytest.raises(
        BadInput, match=r"the hashes of 83148800 bytes need 667648 bytes, their partition has 4096"
    ):
        verity.write(tmp_path / "image", (0, size), (size, 4096), salt=SALT, identity=IDENTITY)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_disk_tools()
    need_reproducible_disks()
    folder = files.write(tmp_path_factory.mktemp("immutable") / "root", NAMES)
    (folder / "var/lib/docker").mkdir(parents=True)
    for name, mode in (("root", 0o700), ("var/lib/docker", 0o710)):
        (folder / name).chmod(mode)
    return folder


@pytest.fixture(scope="module")
def written(tree: Path) -> disk.DiskFacts:
    return write(tree, tree.parent / "first")


def write(tree: Path, folder: Path) -> disk.DiskFacts:
    return disk.write_disk(tree, folder / "disk.raw", layout=LAYOUT, log=tree.parent / "disk.log")


def menu(image: Path) -> str:
    return shell.output(["mtype", "-i", f"{image}@@{disk.ESP[0]}", "::/grub/grub.cfg"])


def partition(image: Path, name: str) -> bytes:
    offset, size = LAYOUT.parts[name]
    with image.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def test_disk_is_made_alike_twice(tree: Path, written: disk.DiskFacts, tmp_path: Path) -> None:
    assert (
        write(tree, tmp_path).sha256
        == written.sha256
        == hashlib.sha256(written.disk.read_bytes()).hexdigest()
    )


def test_root_is_named_by_its_hash(written: disk.DiskFacts, tmp_path: Path) -> None:
    copy, (size, room) = tmp_path / "copy", (LAYOUT.root_bytes, LAYOUT.parts["tree"][1])
    copy.write_bytes(partition(written.disk, "root") + bytes(room))
    found = verity.write(
        copy,
        (0, size),
        (size, room),
        salt=uuid.UUID(LAYOUT.uuid("salt")).bytes,
        identity=uuid.UUID(LAYOUT.uuid("tree")),
    )
    assert copy.read_bytes()[size:] == partition(written.disk, "tree")
    words = re.search(r"^  linux /boot/vmlinuz-6.1 (.*)$", menu(written.disk), re.MULTILINE)
    assert words and words[1].startswith(f"root=/dev/mapper/root golden.hash={found} golden.root=")
    assert f" {grub.ALWAYS} " in words[1]
    table = json.loads(shell.output(["/usr/sbin/sfdisk", "--json", str(written.disk)]))[
        "partitiontable"
    ]["partitions"]
    assert [part["name"] for part in table] == ["bios", "esp", "root", "tree", "persist"]
    assert all(f" golden.{part['name']}={part['uuid'].lower()}" in words[1] for part in table[2:])


def test_nothing_writes_the_root(tree: Path, written: disk.DiskFacts) -> None:
    assert (
        (tree / "etc/fstab")
        .read_text(encoding="utf-8")
        .startswith("/dev/mapper/root / ext4 ro 0 0\n")
    )
    assert not (tree / "boot/grub/grub.cfg").exists()
    features = debugfs(written.disk, "root", "show_super_stats -h")
    assert "metadata_csum" in features and "has_journal" not in features


def debugfs(image: Path, part: str, request: str) -> str:
    return shell.output(
        ["/usr/sbin/debugfs", "-R", request, f"{image}?offset={LAYOUT.parts[part][0]}"]
    )


def test_persistent_file_system_begins_with_the_folders(written: disk.DiskFacts) -> None:
    shell.output(["/usr/sbin/e2fsck", "-fn", f"{written.disk}?offset={LAYOUT.parts['persist'][0]}"])

    def mode(path: str) -> str:
        found = re.search(
            r"Type: directory +Mode: +(\d+)", debugfs(written.disk, "persist", f"stat {path}")
        )
        return found[1] if found else ""

    assert [
        mode(path)
        for path in (
            "/",
            "/upper",
            "/upper/etc",
            "/upper/root",
            "/work/etc",
            "/plain/var/lib/docker",
        )
    ] == ["0700", "0755", "0755", "0700", "0700", "0710"]
    assert mode("/upper/var") == ""


@pytest.mark.parametrize("text", ["", "overlay etc\n", "overlay /etc\nbind /var\n"])
def test_list_of_folders_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / immutable.LIST).parent.mkdir(parents=True)
    (tmp_path / immutable.LIST).write_text(text, encoding="utf-8")
    with pytest.raises(StageFailed, match="/etc/default/golden-persistent does not list folders"):
        immutable.folders(tmp_path)


def test_an_instance_cannot_write_such_a_disk(tmp_path: Path) -> None:
    lock = sample_lock.sample(roles=["os_updates", "immutable"])
    builder = Ec2Builder(tmp_path, unbound.account(), "us-east-1", "m7i.large")
    with pytest.raises(BadInput, match="is immutable: an instance cannot write its disk"):
        builder.bake(
            lock,
            sample_plan.sample(tmp_path, lock, "0" * 64),
            Progress("bake", lock.image, tmp_path / "timings"),
            force=False,
        )
