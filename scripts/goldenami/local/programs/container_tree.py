"""Make the tree of a container from that of a machine: without what only a machine needs, and
sealed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from goldenami.core import shell
from goldenami.local.sandbox import events
from goldenami.local.tree import apt_sources, rootfs, sealed
from goldenami.local.tree.oci_layout import WORK
from goldenami.model import program_files
from goldenami.model.builds.plans import ContainerPlan

PROTECTED = ("e2fsprogs", "init", "systemd", "systemd-sysv")
"""Packages without which a machine does not boot: dpkg removes them only if they are named."""


def seal(plan: ContainerPlan, tree: Path) -> None:
    """Remove what only a machine needs and what belongs to the bake; then add what a container has
    instead of a first boot."""
    # Before the removal, since cloud-init goes with it.
    sources = apt_sources.of_cloud_init(tree, plan.tree.suite)
    with events.step("machine's parts"), _inside(tree):
        installed = _packages(tree)
        kept = [name for name in plan.keeps if name in installed]
        # apt removes what is marked `auto` and needed by nothing that is marked `manual`.
        _in(plan, tree, "apt-mark", "auto", *installed)
        _in(plan, tree, "apt-mark", "manual", *kept)
        _in(
            plan,
            tree,
            "apt-get",
            "--yes",
            "--purge",
            "--auto-remove",
            "remove",
            "-q",
            "--allow-remove-essential",
            *(name for name in PROTECTED if name in installed),
            "-o",
            "APT::AutoRemove::RecommendsImportant=false",
            "-o",
            "APT::AutoRemove::SuggestsImportant=false",
        )
    with events.step("seal"):
        script = program_files.role(plan.root, "seal") / "files/seal.py"
        shell.stream(
            [
                sys.executable,
                "-I",
                "-B",
                str(script),
                "--root",
                str(tree),
                "--epoch",
                str(rootfs.BASE_EPOCH),
            ],
            log=plan.log,
        )
        sealed.check_image(tree, plan.root, plan.work / "out/vars.json")
    (tree / apt_sources.PATH).write_text(sources, encoding="utf-8")
    shell.output(["install", "-d", "-m", "1777", f"{tree}{WORK}"])


def _packages(tree: Path) -> list[str]:
    text = shell.output(
        [
            "dpkg-query",
            f"--admindir={tree}/var/lib/dpkg",
            "-W",
            "-f",
            "${db:Status-Abbrev} ${Package}\n",
        ]
    )
    return sorted(line.split()[1] for line in text.splitlines() if line.startswith("ii"))


@contextlib.contextmanager
def _inside(tree: Path) -> Iterator[None]:
    """Mount a /dev and a /proc in `tree` while programs run in it."""
    dev = rootfs.devices(tree)
    shell.output(["mount", "-t", "proc", "proc", str(tree / "proc")])
    try:
        yield
    finally:
        shell.output(["umount", str(tree / "proc"), str(dev)])


def _in(plan: ContainerPlan, tree: Path, *words: str) -> None:
    shell.stream(
        [
            "chroot",
            str(tree),
            "env",
            "-i",
            "LC_ALL=C.UTF-8",
            "HOME=/root",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBIAN_FRONTEND=noninteractive",
            f"SOURCE_DATE_EPOCH={rootfs.BASE_EPOCH}",
            "SUDO_FORCE_REMOVE=yes",
            *words,
        ],
        log=plan.log,
    )
