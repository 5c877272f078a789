"""Work folders: gone after use, and after a kill with the next run, whatever that one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput, GoldenError
from goldenami.core.terminal.progress import Progress
from goldenami.image.lock.compilation import wheel_builds
from goldenami.image.lock.compilation.kernel_modules import ModuleBuild, compile_modules
from goldenami.image.lock.compilation.wheel_builds import WheelBuild
from goldenami.local.host import workspace
from goldenami.model.locked.lockfile import Target
from goldenami.model.roles import recipes
from goldenami.packages.apt import Deb
from goldenami.packages.pypi import PyFile
from goldenami.packages.store import Store

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
DEB = Deb(
    name="gcc",
    version="1",
    architecture="amd64",
    sha256="a" * 64,
    size=1,
    installed_size=1,
    archive="debian",
    path="p",
    source="gcc",
)
RECIPE = recipes.Recipe(
    version="1",
    distribution="w",
    module="w",
    generic="x86-64-v3",
    build=recipes.BuildInstructions(requires=["setuptools"], environment={}, memory_mib=500),
)
ENDLESS = """
import sys
from pathlib import Path
from goldenami.local.host import workspace
with workspace.scratch_in(Path(sys.argv[1]), "other") as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def working(folder: Path) -> subprocess.Popen[str]:
    """A process that has a work folder in `folder`."""
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(SCRIPTS)},
    )
    assert process.stdout is not None
    assert Path(process.stdout.readline().strip()).is_dir()
    return process


def killed(folder: Path) -> None:
    """What a process that was killed left there."""
    process = working(folder)
    process.kill()
    process.communicate()
    assert list(folder.iterdir())


def test_a_work_folder_is_gone_afterwards_also_where_the_work_failed(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="failed"),
        workspace.scratch_in(tmp_path / "work", "a") as folder,
    ):
        (folder / "file").touch()
        raise ValueError("failed")
    assert list((tmp_path / "work").iterdir()) == []


def test_another_process_keeps_its_folder_while_it_lives(tmp_path: Path) -> None:
    process = working(tmp_path)
    with workspace.scratch_in(tmp_path, "b") as folder:
        assert len(list(tmp_path.iterdir())) == 2
    assert not folder.exists()
    process.kill()
    # A zombie, for whom nobody has waited yet.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with workspace.scratch_in(tmp_path, "b") as folder:
        assert list(tmp_path.iterdir()) == [folder]
    process.communicate()


def test_a_compilation_removes_what_a_kill_of_another_left(tmp_path: Path) -> None:
    """Both fail at once, because the store has no file of theirs."""
    store, log = Store(tmp_path / "cache"), tmp_path / "log"
    killed(workspace.in_cache(store))
    recipe = ModuleBuild(
        name="m",
        kernel_release="6.1.0-1",
        version="1",
        provides=[],
        depends=[],
        suite="trixie",
        source=DEB,
        toolchain=[DEB],
    )
    with pytest.raises((OSError, GoldenError)):
        compile_modules(recipe, store, log=log)
    assert list(workspace.in_cache(store).iterdir()) == []
    killed(workspace.in_cache(store))
    order = WheelBuild(
        name="w",
        recipe=RECIPE,
        target=Target(cpu="znver4", options=[]),
        suite="trixie",
        debs=[DEB],
        source=PyFile(project="w", version="1", filename="w-1.whl", sha256="0" * 64, size=3),
        requires=[],
        runs_with=[],
        tests=[],
    )
    with pytest.raises(BadInput, match="in the store is not what the lock names"):
        progress = Progress.of("wheels", "i", CachePaths(tmp_path))
        wheel_builds.WheelCompiler(tmp_path, store, progress, log).compiled(order)
    assert list(workspace.in_cache(store).iterdir()) == []
