"""Programs of this machine's own archive for a bench: unpacked into a folder, installed nowhere."""

from __future__ import annotations

import re
from pathlib import Path

from goldenami.core import shell

_KEPT = ("libc6",)
"""This machine's own: a program's loader and C library have to be of one version."""


def unpack(package: str, folder: Path) -> Path:
    """Unpack a package, and the libraries that it depends on, into `folder`; returns it."""
    said = shell.output(["apt-cache", "depends", package])
    libraries = [name for name in re.findall(r"Depends: (lib[\w.+-]+|zlib1g)", said) if name not in _KEPT]
    debs = folder / "debs"
    debs.mkdir(parents=True)
    shell.output(["apt-get", "download", "-q", package, *libraries], cwd=debs)
    for deb in sorted(debs.glob("*.deb")):
        shell.output(["dpkg", "-x", str(deb), str(folder / "root")])
    return folder / "root"
