"""Commands on the CPU image of a checkout whose archives are synthetic, each as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from goldenami.model import lockfile

IMAGE = "debian-13-ml-cpu"


def golden(root: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the program in `root`."""
    return subprocess.run(
        [sys.executable, "-m", "goldenami.cli", "--root", str(root),
         *args], text=True, capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": str(root / "scripts"), "PYTHONDONTWRITEBYTECODE": "1", **env})


def lock_path(root: Path) -> Path:
    return lockfile.path_of(root, IMAGE)


def edit(root: Path, old: str, new: str) -> None:
    """Replace what the image's definition says."""
    path = root / f"packer/images/{IMAGE}.yml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
