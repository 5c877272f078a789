"""Two processes in two pid namespaces, as in two containers, share a checkout and a cache: each is
process 1."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from goldenami.core.errors import Busy
from goldenami.core.process import ProcessId
from goldenami.local.host import workspace
from support.waiting import until

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
AT_ONCE = """
import os, subprocess, sys
from pathlib import Path
from goldenami.core import process, records
from goldenami.core.process import ProcessId
from goldenami.core.wait import wait_until
from goldenami.local.host import workspace
from goldenami.local.code_coverage.coverage import CodeFacts, KnownCode
from goldenami.local.sandbox import namespaces
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.plans import CoverageRequest

folder, mine, other, namespaces.CGROUP_PREFIX = Path(sys.argv[1]), *sys.argv[2:5]
known = KnownCode(CoverageRequest(folders=[], features=[], sm=[], allow=[], known=folder))
facts = CodeFacts(instructions=1, extensions={}, sass=[], ptx=[], findings=[])

def together(what):
    (folder / f"{what}-{mine}").touch()
    assert wait_until(lambda: (folder / f"{what}-{other}").exists() or None, 120, 0.01)

with workspace.scratch_in(folder / "work", "x") as work, namespaces.own_cgroup() as cgroup:
    repository = folder / f"repos/abc.{ProcessId.current()}"
    repository.mkdir(parents=True)
    together("began")
    for number in range(100):
        records.write_text(folder / "record", str(number))
        known.keep("0" * 64, facts)
        disk_blocks.scan(folder / "disk", folder / "disk.blocks")
    sweep = [sys.executable, "-c", sys.argv[5], str(folder), namespaces.CGROUP_PREFIX]
    subprocess.run(sweep, check=True)
    together("swept")
    cgroups = [root / cgroup for root in namespaces._cgroup_roots()]
    print(os.getpid(), [path.name for path in (work, repository, *cgroups) if not path.exists()])
"""
SWEEP = """
import shutil, sys
from pathlib import Path
from goldenami.local.host import workspace
from goldenami.local.sandbox import namespaces
from goldenami.packages import local_repository
namespaces.CGROUP_PREFIX = sys.argv[2]
workspace.sweep(Path(sys.argv[1]) / "work")
for path in local_repository.abandoned(Path(sys.argv[1]) / "repos"):
    shutil.rmtree(path)
"""
HOLDING = """
import sys
from pathlib import Path
from goldenami.local.host import workspace
with workspace.image_lock(Path(sys.argv[1]), "demo"):
    print(sys.stdin.readline())
"""


def elsewhere(program: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python program in a pid namespace of its own."""
    argv = [
        "unshare",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child=KILL",
        sys.executable,
        "-c",
        program,
    ]
    return subprocess.Popen(
        [*argv, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
    )


@pytest.fixture(autouse=True)
def _root_only() -> None:
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("CI runs these as root")
        pytest.skip("root is needed for namespaces")


def test_they_neither_collide_nor_sweep_each_other(tmp_path: Path) -> None:
    with (tmp_path / "disk").open("wb") as disk:
        disk.truncate(1 << 20)
        disk.write(b"data")
    prefix = f"golden-test-{os.getpid()}-"
    both = [
        elsewhere(AT_ONCE, str(tmp_path), mine, other, prefix, SWEEP)
        for mine, other in ("ab", "ba")
    ]
    assert [process.communicate()[0] for process in both] == ["1 []\n"] * 2
    names = {path.name for path in tmp_path.iterdir() if path.is_file() and "-" not in path.name}
    assert names == {"disk", "disk.blocks", "record"}
    assert list((tmp_path / "work").iterdir()) == []


def test_who_holds_an_image_is_said(tmp_path: Path) -> None:
    holder = elsewhere(HOLDING, str(tmp_path))
    lock = tmp_path / "build/demo/.lock"
    until(
        "the lock's holder",
        lambda: lock.exists() and ProcessId.parse(lock.read_text(encoding="utf-8")),
    )
    with (
        pytest.raises(
            Busy, match="demo is being built by process 1 of another machine or container"
        ),
        workspace.image_lock(tmp_path, "demo"),
    ):
        pass
    holder.communicate("\n")
