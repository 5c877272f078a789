"""A copy of this checkout in which a test may break things, and what a bake must never leave
behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from goldenami.core.cache_paths import CachePaths

ROOT = Path(__file__).resolve().parents[3]


def copy(target: Path) -> Path:
    """Copy every file that git tracks or would track; the environment is shared by a link."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = (
        subprocess.run(listing, cwd=ROOT, check=True, capture_output=True)
        .stdout.decode()
        .split("\0")
    )
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    (target / ".venv").symlink_to(ROOT / ".venv")
    return target


def cache(folder: Path, *, built: Sequence[str] = ("modules", "apt")) -> Path:
    """A cache without trees in `folder`: what was downloaded is this machine's, so is what was
    `built`, by folder."""
    folder.mkdir(exist_ok=True)
    for name in ("store", "control", *built):
        (CachePaths.default().folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(CachePaths.default().folder / name)
    return folder


def golden(root: Path, *args: str, **env: str) -> subprocess.Popen[str]:
    """Start `scripts/golden` of the copy in a process group of its own, its messages on a pipe."""
    return subprocess.Popen(
        [str(root / "scripts/golden"), *args],
        cwd=root,
        env={**os.environ, **env},
        text=True,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def processes(mark: str) -> list[str]:
    """Process id and command of each process that names `mark`, but not this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (
                (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
        except OSError:
            continue
        if mark in command and int(folder.name) != os.getpid():
            found.append(f"{folder.name}: {command}")
    return found


def programs(mark: str) -> list[str]:
    """The same without `setpriv`: before it becomes a program, it does not die with its parent."""
    return [line for line in processes(mark) if "--pdeathsig" not in line]


def leftovers(root: Path) -> list[str]:
    """Processes, mounts, cgroups, links and work folders that name this copy or a dead bake."""
    found = [f"process {line[:130]}" for line in processes(str(root))]
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    found += [f"mount: {line}" for line in mounts.splitlines() if str(root) in line]
    found += [f"network namespace: {path}" for path in Path("/run/netns").glob("golden*")]
    found += [f"work folder: {path}" for path in root.glob("build/*/.work-*")]
    links = subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True).stdout
    found += [f"link: {line}" for line in links.splitlines() if "golden" in line]
    loops = subprocess.run(["losetup", "-a"], check=True, capture_output=True, text=True).stdout
    found += [f"loop device: {line}" for line in loops.splitlines() if str(root) in line]
    return found
