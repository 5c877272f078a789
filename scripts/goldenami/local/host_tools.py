"""Which versions of this machine's programs make an image: no lock fixes them."""

from __future__ import annotations

import platform

from goldenami.core import shell
from goldenami.local.disk import grub

PACKAGES = (
    "apt", "dosfstools", "dpkg", "e2fsprogs", "fdisk", "grub-common", *grub.PACKAGES.values(),
    "libarchive13", "libarchive13t64", "mmdebstrap", "mtools", "systemd-container",
)
"""What bootstraps the tree, runs the container and writes the disk (rootfs.py, container.py,
disk.py, grub.py)."""


def versions() -> dict[str, str]:
    """The version of each of these packages that is installed."""
    shown = shell.output(["dpkg-query", "-W", "-f",
                          "${db:Status-Status}\\t${Package}\\t${Version}\\n", *PACKAGES],
                         check=False)
    lines = (line.split("\t") for line in shown.splitlines())
    return {name: version for status, name, version in lines if status == "installed"}


def distribution() -> str:
    """By its own identifiers (os-release(5)): `debian-13`, `ubuntu-24.04`."""
    facts = platform.freedesktop_os_release()
    return f"{facts['ID']}-{facts['VERSION_ID']}" if "VERSION_ID" in facts else facts["ID"]
