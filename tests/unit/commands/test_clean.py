"""`golden clean`: what it frees, and what it leaves alone since somebody is at it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami import cli
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput
from goldenami.core.process import ProcessId
from goldenami.core.terminal.progress import Progress
from goldenami.image.builders.local import LocalBuilder
from goldenami.image.verify import verify
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.locked import lockfile
from support.builds import builds

HOLD = """
import fcntl, sys, time
with open(sys.argv[1], "a") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("held", flush=True)
    time.sleep(300)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image with two builds, of which `latest` names the second."""
    (tmp_path / "packer/images").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    first, second = (builds.build(tmp_path, number) for number in (1, 2))
    verify.point_latest(BuildFolder(second))
    (first.parent / "logs").mkdir()
    return first.parent


@contextlib.contextmanager
def held(lock: Path) -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process.pid
        finally:
            process.kill()


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()}


def test_the_newest_verified_build_stays(folder: Path) -> None:
    assert cli.main(["clean"]) == 0
    assert left(folder) == {"logs", (folder / "latest").readlink().name, "latest"}
    assert cli.main(["clean", "--all"]) == 0
    assert left(folder) == set()


def test_the_only_build_stays_though_it_is_not_verified(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = (folder / "latest").readlink().name
    (folder / "latest").unlink()
    for build in folder.glob("*/verify.json"):
        build.unlink()
    assert cli.main(["clean"]) == 0
    assert left(folder) == {"logs", newest}
    assert (
        f"kept {folder.name}/{newest}, which is not verified: `golden clean --all` removes it\n"
        in capsys.readouterr().out
    )
    assert cli.main(["clean", "--all"]) == 0
    assert left(folder) == set()


@pytest.mark.parametrize("args", [[], ["--all"]])
def test_what_is_published_keeps_its_records(
    folder: Path,
    args: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is in the account is known by them: `disk.blocks` is the next upload's parent."""
    latest = (folder / "latest").resolve()
    first = next(
        path
        for path in folder.iterdir()
        if (path / "bake.json").exists() and path.resolve() != latest
    )
    for name in ("publish.json", "disk.blocks", "attest.json"):
        (first / name).write_text("{}", encoding="utf-8")
    (first / "upload").mkdir()
    before = {path.name for path in first.iterdir()}
    assert cli.main(["clean", *args]) == 0
    assert f"removed {folder.name}/{first.name}/disk.raw (2 MB)" in capsys.readouterr().out
    assert before - {path.name for path in first.iterdir()} == {"disk.raw"}
    assert latest.exists() == (not args)


def test_a_build_without_its_disk_is_neither_latest_nor_verified_again(
    folder: Path, tmp_path: Path
) -> None:
    latest = (folder / "latest").resolve()
    first = next(
        path
        for path in folder.iterdir()
        if (path / "bake.json").exists() and path.resolve() != latest
    )
    (first / "disk.raw").unlink()
    (latest / "verify.json").unlink()
    verify.point_latest(BuildFolder(latest))
    assert not (folder / "latest").is_symlink()
    lock, _ = lockfile.read_copy(first / "lock.json")
    with pytest.raises(BadInput, match=r"disk.raw does not exist"):
        verify.run(
            tmp_path,
            BuildFolder(first),
            lock,
            Progress.of("verify", builds.IMAGE, CachePaths(tmp_path)),
            LocalBuilder(tmp_path),
        )
    assert BuildFolder(first).is_verified


def test_the_work_folder_of_a_session_stays_while_it_lives(folder: Path) -> None:
    with held(folder / "any") as pid:
        process = ProcessId.of(pid)
        assert process is not None
        # No such pid; one that was used again.
        dead = (ProcessId(4194305, 1), ProcessId(pid, process.started - 1))
        for name in (process, *dead):
            (folder / f".work-shell-{name}").mkdir()
        assert cli.main(["clean", "--all"]) == 0
        assert left(folder) == {f".work-shell-{process}"}
    (folder / "logs").mkdir()
    assert cli.main(["clean"]) == 0
    assert left(folder) == {"logs"}


def test_builds_of_a_selftest_are_freed_unless_it_runs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    selftest = folder.parent / "selftest"
    (selftest / "build/golden-selftest").mkdir(parents=True)
    (selftest / "selftest.json").write_text("{}", encoding="utf-8")
    with held(selftest / ".lock"):
        assert cli.main(["clean"]) == 7
        assert (selftest / "build").is_dir()
    capsys.readouterr()
    assert cli.main(["clean", "--all"]) == 0
    assert not (selftest / "build").exists() and (selftest / "selftest.json").exists()
    assert "removed selftest/build (0 MB)" in capsys.readouterr().out


def test_it_waits_when_it_is_told_to(folder: Path) -> None:
    with held(folder / ".lock") as pid:
        assert cli.main(["clean"]) == 7
        threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
        assert cli.main(["clean", "--wait"]) == 0
