"""The disk of an immutable image against its bake: the root exactly, and what its overlays make of
it by the rules."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.local.disk import disk, immutable
from goldenami.local.drift.disk_records import DiskRecord, DiskVerdict
from goldenami.model.builds.build_folder import BuildFolder
from support.builds.tools import need_disk_tools
from support.drift import small_image, tampering

pytestmark = pytest.mark.slow

LAYOUT = disk.DiskLayout(
    image="small", size_bytes=320 << 20, source_date_epoch=1_700_000_000, immutable=True
)
OVERLAYS = ("etc", "home", "opt", "var", "root")
FILES = {
    str(immutable.LIST): "".join(f"overlay /{name}\n" for name in OVERLAYS)
    + "plain /var/lib/docker\n",
    "opt/tool/lib/a": "a",
    "opt/tool/lib/b": "b",
    "opt/tool/run": "run",
    "opt/other/x": "x",
    "usr/sbin/dockerd": "",
    "var/lib/docker/.keep": "",
}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    need_disk_tools()
    return small_image.bake(tmp_path_factory.mktemp("immutable") / "0123456789ab", LAYOUT, FILES)


@pytest.fixture
def image(build: BuildFolder, tmp_path: Path) -> Path:
    return small_image.copy(build, tmp_path / "disk.raw")


@contextlib.contextmanager
def running(image: Path, folder: Path) -> Iterator[Path]:
    """The tree as an instance sees it, mounted as its initramfs does."""
    with contextlib.ExitStack() as stack:

        def mount(point: Path, kind: str, options: str, source: str) -> None:
            point.mkdir(parents=True, exist_ok=True)
            shell.output(["mount", "-t", kind, "-o", options, source, str(point)])
            stack.callback(shell.output, ["umount", str(point)])
            # All of it is on the disk then, whoever else holds a copy of the mount.
            if kind == "ext4":
                stack.callback(shell.output, ["mount", "-o", "remount,ro", str(point)])

        root, persist = folder / "root", folder / "persist"
        for point, part, options in ((root, "root", "loop,ro"), (persist, "persist", "loop")):
            offset, size = LAYOUT.parts[part]
            mount(point, "ext4", f"{options},offset={offset},sizelimit={size}", str(image))
        for name in OVERLAYS:
            layers = (
                f"lowerdir={root}/{name},upperdir={persist}/upper/{name},"
                f"workdir={persist}/work/{name}"
            )
            mount(root / name, "overlay", f"{layers},redirect_dir=on", "overlay")
        mount(root / "tmp", "tmpfs", "mode=1777", "tmpfs")
        yield root


def look(build: BuildFolder, image: Path) -> DiskRecord:
    return small_image.look(build, image)


def named(record: DiskRecord) -> dict[str, str]:
    return {row.path: row.what[0] for row in record.drift}


def test_a_disk_that_was_just_baked_is_as_baked(build: BuildFolder) -> None:
    assert look(build, build.disk).verdict is DiskVerdict.AS_BAKED


def move_folder(root: Path) -> None:
    (root / "opt/tool/lib").rename(root / "opt/tool/bin")


def new_folder_in_its_place(root: Path) -> None:
    shutil.rmtree(root / "opt/tool")
    (root / "opt/tool").mkdir()
    (root / "opt/tool/run").write_text("mine", encoding="utf-8")


def remove_several(root: Path) -> None:
    for name in ("opt/tool/run", "etc/link", "etc/long"):
        (root / name).unlink()


def unit(root: Path) -> None:
    (root / "etc/systemd/system/mine.service").write_text(
        "[Service]\nExecStart=/opt/x\n", encoding="utf-8"
    )


def outside_of_overlays(root: Path) -> None:
    (root.parent / "persist/tool").write_text("mine", encoding="utf-8")


CHANGES: list[tuple[Callable[[Path], object], dict[str, str]]] = [
    (tampering.launch, {}),
    (unit, {"/etc/systemd/system/mine.service": "added: "}),
    (remove_several, {"/opt/tool/run": "removed", "/etc/link": "removed", "/etc/long": "removed"}),
    (lambda root: (root / "opt/tool/run").chmod(0o4755), {"/opt/tool/run": "mode: 0644, now 4755"}),
    (
        move_folder,
        {
            "/opt/tool/bin": "added: ",
            "/opt/tool/bin/a": "added: ",
            "/opt/tool/bin/b": "added: ",
            "/opt/tool/lib": "removed",
            "/opt/tool/lib/a": "removed",
            "/opt/tool/lib/b": "removed",
        },
    ),
    (
        new_folder_in_its_place,
        {
            "/opt/tool/run": "content: ",
            "/opt/tool/lib": "removed",
            "/opt/tool/lib/a": "removed",
            "/opt/tool/lib/b": "removed",
        },
    ),
    (outside_of_overlays, {"/persist/tool": "added: "}),
]


@pytest.mark.parametrize(
    ("change", "said"),
    CHANGES,
    ids=[
        "a launch",
        "a unit",
        "removed",
        "set-id",
        "a moved folder",
        "another folder",
        "beside the overlays",
    ],
)
def test_what_an_instance_has_written(
    build: BuildFolder,
    image: Path,
    tmp_path: Path,
    change: Callable[[Path], object],
    said: dict[str, str],
) -> None:
    with running(image, tmp_path) as root:
        change(root)
    found = named(look(build, image))
    assert found.keys() == said.keys()
    assert [(path, found[path]) for path in said if not found[path].startswith(said[path])] == []


def test_an_engine_s_storage_is_free(build: BuildFolder, image: Path, tmp_path: Path) -> None:
    with running(image, tmp_path):
        (tmp_path / "persist/plain/var/lib/docker/image").mkdir()
    assert named(look(build, image)) == {}


@pytest.mark.parametrize(("place", "said"), [("root", "/usr/bin/same"), ("tree", "partition tree")])
def test_a_changed_block_of_what_nobody_writes(
    build: BuildFolder, image: Path, place: str, said: str
) -> None:
    offset = LAYOUT.parts[place][0]
    offset += small_image.blocks(image, "/usr/bin/true") * 4096 if place == "root" else 8192
    with image.open("r+b") as file:
        file.seek(offset + 17)
        byte = os.pread(file.fileno(), 1, offset + 17)
        file.write(bytes([byte[0] ^ 1]))
    assert said in named(look(build, image))
