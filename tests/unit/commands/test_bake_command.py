"""`golden bake` looks first at what costs least: whether it may work here, and whether the build is
there already."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from goldenami import cli
from goldenami.core import records
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import ExitCode
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import BakeRecord, Disk, Host
from goldenami.model.locked import lockfile
from support.builds.tools import ROOT, need

IMAGE = "debian-13-ml-cpu"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The definitions, locks and roles of this one, an empty store, and mirrors that nobody can
    reach."""
    for name in ("packer", "roles", "ansible", "ansible.cfg"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setenv("GOLDEN_CACHE", str(tmp_path / "cache"))
    for archive in ("DEBIAN", "DEBIAN_SECURITY", "PYPI"):
        monkeypatch.setenv(f"GOLDEN_MIRROR_{archive}", "http://127.0.0.1:1/")
    return tmp_path


def test_a_build_that_is_there_needs_none_of_its_files(
    checkout: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lock, digest = lockfile.read(lockfile.path_of(ROOT, IMAGE))
    build = BuildFolder(checkout / "build" / IMAGE / digest[: lockfile.ID_LENGTH])
    records.write(
        build.bake,
        BakeRecord(
            image=IMAGE,
            build_id=build.build_id,
            lock_sha256=digest,
            git_commit="0" * 40,
            phases=[],
            roles=[],
            components=[],
            started_at="2026-01-01T00:00:00Z",
            seconds=1.0,
            layers=[],
            packages_count=1,
            manifest_sha256="0" * 64,
            host=Host(cpus=1, python="3.11", packer="1.6.6"),
            disk=Disk(
                path="disk.raw",
                bytes_apparent=1,
                bytes_allocated=1,
                sha256="0" * 64,
                blocks_sha256="0" * 64,
            ),
        ),
    )
    build.disk.touch()
    for name, package in lock.packages.items():  # what the bills of materials are made of
        records.write_text(
            CachePaths(checkout / "cache").control / package.sha256, f"Package: {name}\n"
        )
    assert cli.main(["--root", str(checkout), "bake", IMAGE, "--no-verify"]) == 0, (
        capsys.readouterr().err
    )
    assert "nothing to do" in capsys.readouterr().err
    assert (
        cli.main(["--root", str(checkout), "bake", IMAGE, "--no-verify", "--force"])
        == ExitCode.UNREACHABLE
    )


@pytest.mark.parametrize("command", ["bake", "reproduce"])
def test_who_may_not_bake_fetches_nothing(checkout: Path, command: str) -> None:
    need("unshare")
    argv = [sys.executable, "-m", "goldenami.cli", "--root", str(checkout), command, IMAGE]
    ran = subprocess.run(
        ["unshare", "--user", *argv],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
    )
    assert (ran.returncode, "root is needed for namespaces" in ran.stderr) == (
        ExitCode.HOST,
        True,
    ), ran.stderr
    assert not (checkout / "cache").exists() and not (checkout / "build").exists()
