"""The folder of a build: one that is baked again takes its place, and keeps what is still true of
it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from goldenami.core import records
from goldenami.image.verify import verify
from goldenami.local.host import workspace
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import BAKE_FILE, VERIFY_FILE
from support.builds import builds
from support.files import write

KEEP = """
import os, signal, sys
from pathlib import Path
from goldenami.local.host import workspace
from goldenami.model.builds.build_folder import BuildFolder

made, build, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
steps = 0
def count(event, arguments):
    global steps
    if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "shutil.rmtree",
                 "shutil.copyfile"):
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)
with workspace.scratch_in(build.parent, "bake") as work:
    made.rename(work / "out")
    sys.addaudithook(count)
    workspace.keep(work / "out", BuildFolder(build))
    last = 0
"""
SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
LATER = {"attest.json": "GPU", "publish.json": "AMIs", "upload/x/upload.json": "state"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A verified and published build, which `latest` names."""
    made = builds.build(tmp_path, 1)
    verify.point_latest(BuildFolder(made))
    return write(made, LATER)


def baked_again(folder: Path, seed: int = 1) -> Path:
    """What a bake of the same lock has left in its work folder; another `seed` makes another
    disk."""
    root = folder.parents[2] / "again"
    made = builds.build(root, seed)
    (made / VERIFY_FILE).unlink()
    (made / "manifest.json").write_text("of the second", encoding="utf-8")
    out = folder.parent / ".work-1/out"
    shutil.copytree(made, out)
    return out


def later(folder: Path) -> dict[str, str]:
    return {
        name: (folder / name).read_text(encoding="utf-8")
        for name in LATER
        if (folder / name).exists()
    }


def test_what_is_known_of_the_same_disk_stays(folder: Path) -> None:
    (folder / "manifest.json").write_text("of the first", encoding="utf-8")
    workspace.keep(baked_again(folder), BuildFolder(folder))
    assert (later(folder), BuildFolder(folder).is_verified) == (LATER, True)
    assert (folder / "manifest.json").read_text(encoding="utf-8") == "of the second"
    assert (folder.parent / "latest").resolve() == folder
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted(
        [folder.name, "latest", ".work-1"]
    )


def test_nothing_is_known_of_another_disk(folder: Path) -> None:
    workspace.keep(baked_again(folder, seed=2), BuildFolder(folder))
    assert (later(folder), BuildFolder(folder).is_verified) == ({}, False)
    assert not (folder.parent / "latest").is_symlink()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_kill_at_any_step_loses_no_build(folder: Path, tmp_path: Path, seed: int) -> None:
    """The old one or the new one is there, whole; `latest` names it or nothing."""
    new = baked_again(folder, seed)
    before, steps, status = tmp_path / "before", 0, -signal.SIGKILL
    shutil.copytree(folder.parent, before, symlinks=True)
    digests = {BuildFolder(path).read_bake().disk_sha256 for path in (folder, new)}
    while status == -signal.SIGKILL:
        steps += 1
        shutil.rmtree(folder.parent)
        shutil.copytree(before, folder.parent, symlinks=True)
        argv = [sys.executable, "-c", KEEP, str(new), str(folder), str(steps)]
        status = subprocess.run(argv, env={"PYTHONPATH": str(SCRIPTS)}, check=False).returncode
        workspace.sweep(folder.parent)
        found, latest = BuildFolder(folder), folder.parent / "latest"
        assert found.read_bake().disk_sha256 == records.sha256_sparse(found.disk), f"step {steps}"
        assert found.read_bake().disk_sha256 in digests
        assert not latest.is_symlink() or (found.is_verified and latest.resolve() == folder)
    assert (status, steps) == (0, {1: 10, 2: 5}[seed])
    assert (folder / "manifest.json").read_text(encoding="utf-8") == "of the second"


@pytest.mark.parametrize("record", ["{}", None])
def test_a_build_without_a_record_that_can_be_read_gives_way_whole(
    folder: Path, record: str | None
) -> None:
    (folder / BAKE_FILE).unlink()
    if record:
        (folder / BAKE_FILE).write_text(record, encoding="utf-8")
    workspace.keep(baked_again(folder), BuildFolder(folder))
    assert later(folder) == {}
