"""This machine: the versions of its programs that make an image, which no lock fixes, and how busy
it is."""

from __future__ import annotations

import os
import platform
import re
import shutil
from pathlib import Path

from goldenami.core import shell
from goldenami.core.units import size
from goldenami.local.disk import grub

PACKAGES = (
    "apt",
    "dosfstools",
    "dpkg",
    "e2fsprogs",
    "fdisk",
    "grub-common",
    *grub.PACKAGES.values(),
    "libarchive13",
    "libarchive13t64",
    "mmdebstrap",
    "mtools",
    "systemd-container",
)
"""Packages that bootstrap the tree, run the container and write the disk (rootfs.py, container.py,
disk.py, grub.py)."""


def versions() -> dict[str, str]:
    """Return the version of each of PACKAGES that is installed."""
    output = shell.output(
        ["dpkg-query", "-W", "-f", "${db:Status-Status}\\t${Package}\\t${Version}\\n", *PACKAGES],
        check=False,
    )
    lines = (line.split("\t") for line in output.splitlines())
    return {name: version for status, name, version in lines if status == "installed"}


def distribution() -> str:
    """Return the distribution by its own identifiers (os-release(5)): `debian-13`,
    `ubuntu-24.04`."""
    facts = platform.freedesktop_os_release()
    return f"{facts['ID']}-{facts['VERSION_ID']}" if "VERSION_ID" in facts else facts["ID"]


def free_memory() -> int:
    """Return the bytes of memory that programs could get: MemAvailable of proc(5), or 0 without
    it."""
    available = re.search(
        r"^MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text(encoding="utf-8"), re.MULTILINE
    )
    return int(available[1]) << 10 if available else 0


def business(folder: Path) -> str:
    """Return how busy the machine is: `load 40.2 on 2 processors, 1.20 GiB of memory and 70.1 GiB
    of disk free`. The disk is that of `folder`, the load that of the last minute
    (getloadavg(3))."""
    return (
        f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} processors, "
        f"{size(free_memory())} of memory and {size(shutil.disk_usage(folder).free)} of disk free"
    )
