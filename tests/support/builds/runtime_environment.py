"""An environment of Python that has what `make bake` installs, and nothing of what tests need."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from support.builds.tools import ROOT


def make(folder: Path) -> Path:
    """An environment in `folder` with the packages of requirements/run.txt, by links to this
    environment's, which has the same versions; returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = next((folder / "lib").glob("python*/site-packages"))
    lines = (ROOT / "requirements/run.txt").read_text(encoding="utf-8").splitlines()
    for line in filter(lambda line: "==" in line and line[0].isalnum(), lines):
        pin = Requirement(line.rstrip(" \\"))
        if pin.marker and not pin.marker.evaluate():
            continue
        distribution = metadata.distribution(pin.name)
        tops = {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}
        for top in tops:
            target = Path(str(distribution.locate_file(top)))
            if not (packages / top).exists():
                (packages / top).symlink_to(target)
    return folder / "bin/python"
