"""A bake of a changed role, without a mirror and without the newer mke2fs; and boots of its disk
that are killed, or that do not succeed."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.local.disk.disk import NOT_REPRODUCIBLE
from goldenami.local.sandbox import namespaces
from goldenami.model.builds.build_records import BakeRecord
from support.builds import checkout
from support.builds.bakes import IMAGE, build_of_lock, changed, finish, kill, settle, until
from support.builds.layer_checkout import LAYERS, LayerCheckout
from support.debian import debrepo

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Baked:
    """A checkout with layers of its own and a whole build that nobody has verified yet; what the
    bake said, and its record."""

    copy: LayerCheckout
    output: str
    record: BakeRecord


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Baked]:
    """A build with a changed role, of which a bake before was killed.

    It is baked while the mirror has lost every file, for which it would be asked if the store
    lacked one, and without the newer mke2fs, as on Debian 12 and Ubuntu.
    """
    folder = tmp_path_factory.mktemp("boots")
    copy = LayerCheckout(folder)
    defaults = copy.root / "roles/kernel/defaults/main.yml"
    changed(copy.root, defaults, f"{defaults.read_text(encoding='utf-8')}# changed\n")
    kept = set(copy.layers().values())
    process = copy.start("bake", "--no-verify")
    until(process, "role kernel")
    kill(process)
    assert set(copy.layers().values()) == kept, "a step that is killed leaves no layer"

    program, real = folder / "bin/mke2fs", shell.require("mke2fs", "e2fsprogs")
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *"-d - "*) exit 1;; esac\nexec {real} "$@"\n', encoding="utf-8"
    )
    program.chmod(0o755)
    empty = debrepo.Mirror(folder)
    lost = {f"GOLDEN_MIRROR_{name}": empty.uri for name in ("DEBIAN", "DEBIAN_SECURITY", "PYPI")}
    old_mke2fs = f"{program.parent}:{os.environ['PATH']}"
    output, record = copy.bake(**lost, PATH=old_mke2fs, GOLDEN_LAYERS_GB="0")
    assert empty.requests == []
    status, said = finish(
        checkout.golden(
            copy.root, "bake", IMAGE, "--fetch-only", GOLDEN_CACHE=str(folder / "empty"), **lost
        )
    )
    empty.close()
    assert (status, "is no longer at" in said) == (4, True), said
    yield Baked(copy, output, record)
    assert settle(copy.root) == []
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def root(baked: Baked) -> Path:
    return baked.copy.root


@pytest.fixture
def copied(root: Path) -> Iterator[Path]:
    """The build's folder, with a copy of its disk."""
    folder = build_of_lock(root)
    disk, whole = folder / "disk.raw", folder / "whole.raw"
    disk.rename(whole)
    subprocess.run(["cp", "--sparse=always", whole, disk], check=True)
    yield folder
    whole.replace(disk)


def overwrite(disk: Path, at: int, content: bytes) -> None:
    """Write over a part of the disk."""
    with disk.open("r+b") as image:
        image.seek(at)
        image.write(content)


@pytest.fixture
def damaged(copied: Path) -> Path:
    """The folder with zeros behind the partition table and the loaders: where the root file system
    begins."""
    overwrite(copied / "disk.raw", 130 << 20, b"\0" * (8 << 20))
    return copied


def test_the_record_says_that_the_disk_is_not_reproducible(baked: Baked) -> None:
    assert f"not reproducible: {NOT_REPRODUCIBLE}" in baked.output
    assert baked.record.disk is not None and baked.record.disk.note == NOT_REPRODUCIBLE
    assert baked.record.host.tools["e2fsprogs"]


def test_a_changed_role_is_baked_from_the_layer_below_it(baked: Baked) -> None:
    """Then layers that do not fit the limit go."""
    assert "starts from layer instance_store+tools" in baked.output
    assert baked.record.layers == LAYERS[:-1]
    assert [timing.name for timing in baked.record.roles] == [
        "kernel",
        "hardening",
        "limits",
        "network_tuning",
        "first_touch",
        "fast_boot",
        "provenance",
        "seal",
    ]
    assert not list(baked.copy.cache.glob("layers/*.part"))
    assert "layer base removed: not used for longest" in baked.output
    assert baked.copy.layers() == {}


@pytest.mark.parametrize("step", ["boot bios", pytest.param("checks", marks=pytest.mark.long)])
def test_kill_9_while_the_disk_boots(root: Path, step: str) -> None:
    """Both boots, and the tests in the disk's root tree; while the machine is looked at, there is
    one ssh more."""
    process = checkout.golden(root, "verify", IMAGE)
    until(process, step)
    time.sleep(5)
    kill(process)
    assert settle(root) == []


@pytest.mark.long
def test_a_boot_that_never_reaches_ssh_shows_the_console(root: Path, damaged: Path) -> None:
    status, output = finish(checkout.golden(root, "verify", IMAGE))
    assert status == 6, output
    assert "serial console" in output
    assert re.search(r"^  \| .*", output, re.M), "no line of the console"
    assert not (damaged / "verify.json").exists()


@pytest.mark.long
def test_a_disk_that_boots_under_bios_only(root: Path, copied: Path) -> None:
    """Its loader for UEFI is erased, as FAT does it: by a mark in its entry's first byte. It ends
    before the checks."""
    with (copied / "disk.raw").open("rb") as image:
        entry = image.read(130 << 20).index(b"BOOTX64 EFI")
    overwrite(copied / "disk.raw", entry, b"\xe5")
    status, output = finish(checkout.golden(root, "verify", IMAGE))
    assert (status, "uefi: the boot ended in: Shell>" in output) == (6, True), output
    assert "power off" not in output
    assert not (copied / "verify.json").exists()
    assert settle(root) == []


@dataclass(frozen=True)
class Place:
    """Where a clone is, what of its caller's environment is other, and what is mounted there."""

    folder: str = "."
    changes: dict[str, str | None] = field(default_factory=dict)
    mounts: str = ":"
    umask: int = 0o022


USER = pwd.getpwnam("nobody")
PROXY = "http://127.0.0.1:9"
PLACES = {
    "below root's home, which an image closes, too, with umask 077": Place(
        "/root",
        {
            "HOME": None,
            "LANG": None,
            "LC_ALL": None,
            "http_proxy": PROXY,
            "https_proxy": PROXY,
        },
        umask=0o077,
    ),
    "a user's closed home by sudo, temporary folders in which nothing runs": Place(
        "home",
        {"SUDO_USER": USER.pw_name, "HOME": USER.pw_dir},
        mounts="mount --bind /tmp /tmp; mount -o remount,bind,noexec /tmp; "
        "mount -t tmpfs -o size=1m s /dev/shm",
    ),
    "a path with a space, through a link": Place("through a link"),
}


def at_rest(root: Path, clone: Path, place: Place) -> dict[str, str]:
    """The outcomes of the disk's checks that need no boot, asked in `clone`, a folder of links."""
    clone.mkdir()
    for name in ("ansible", "build", "packer", "requirements", "roles", "scripts", "tests"):
        (clone / name).symlink_to(root / name)
    env = {
        **os.environ,
        **shell.python_env(),
        "PYTHONPATH": f"{clone}/scripts:{clone}/tests",
        **place.changes,
    }
    with namespaces.own_cgroup("at-rest-") as cgroup:
        look = shell.python_argv(
            "support.builds.checks_at_rest",
            str(clone),
            str(build_of_lock(root)),
            str(clone / "work"),
        )
        inside = ["sh", "-ec", f'{place.mounts}; exec "$@"', "sh", *look]
        done = subprocess.run(
            namespaces.joined_argv(cgroup, inside),
            cwd=root,
            umask=place.umask,
            env={name: value for name, value in env.items() if value is not None},
            stdin=subprocess.DEVNULL,
            text=True,
            capture_output=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", PLACES)
def test_a_disk_has_one_verdict_wherever_and_by_whomever_it_is_asked(
    root: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    os.chown(tmp_path / "home", USER.pw_uid, USER.pw_gid)
    (tmp_path / "a real folder").mkdir()
    (tmp_path / "through a link").symlink_to(tmp_path / "a real folder")
    with tempfile.TemporaryDirectory(dir=tmp_path / PLACES[name].folder) as folder:
        found = at_rest(root, Path(folder) / "clone", PLACES[name])
    assert len(found) > 25
    assert {check: said for check, said in found.items() if said != "correct"} == {}
