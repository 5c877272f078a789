"""Make root trees with mmdebstrap from a local repository, without the network."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from goldenami.core import shell
from goldenami.core.process import ProcessId
from goldenami.local.machine import container
from goldenami.local.sandbox import events
from goldenami.local.tree.layers import DamagedLayer, Stack
from goldenami.model.builds.plans import Tree, TreePlan

BASE_EPOCH = 315532800
"""1980-01-01: locks of different dates share a base tree, so it carries none of their dates."""

_DEVICES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
"""Major and minor numbers, from the kernel's Documentation/admin-guide/devices.txt."""


def bootstrap(tree: Tree, target: Path, *, log: Path, epoch: int) -> None:
    """Make `target` (which must not exist) from `tree`; a failure leaves nothing."""
    aside = target.with_name(f"{target.name}.{ProcessId.current()}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    argv = [
        shell.require("mmdebstrap", "mmdebstrap"),
        "--mode=root",
        "--variant=essential",
        "--format=directory",
        f"--architectures={tree.architecture}",
        f"--include={','.join(tree.include)}",
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        # dpkg's fsyncs dominate on slow disks, and the tree is worthless anyway if the machine
        # dies.
        "--dpkgopt=force-unsafe-io",
        tree.suite,
        str(aside),
        f"deb [trusted=yes] copy:{tree.repository} ./",
    ]
    try:
        shell.stream(argv, log=log, env={"SOURCE_DATE_EPOCH": str(epoch)})
        (aside / "etc/hostname").write_text("golden\n", encoding="utf-8")
        (aside / "etc/resolv.conf").write_text("", encoding="utf-8")
        for source in [
            aside / "etc/apt/sources.list",
            *(aside / "etc/apt/sources.list.d").glob("*"),
        ]:
            source.unlink(missing_ok=True)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def devices(tree: Path) -> Path:
    """Mount a /dev of its own in `tree`, and return its path. If a build replaced the host's
    /dev/null by a file, every later compilation would break."""
    target = tree / "dev"
    shell.output(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(target)])
    for name, (major, minor) in _DEVICES.items():
        os.mknod(target / name, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
        (target / name).chmod(0o666)
    for name, link in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        (target / name).symlink_to(f"/proc/self/fd{link}")
    (target / "shm").mkdir()
    (target / "shm").chmod(0o1777)
    return target


def base(stack: Stack, plan: TreePlan) -> None:
    """Put the base tree of `plan` at the bottom of `stack`; make it if it is not there yet."""
    if not stack.take(plan.base_key):
        with stack.make(plan.base_key, "base") as folder:
            if folder is None:
                return
            (folder / "nothing").mkdir()
            # On an overlay, because it is `volatile`: nothing waits for the disk.
            with container.overlay([folder / "nothing"], folder) as merged:
                bootstrap(plan.tree, merged / "root", log=plan.log, epoch=BASE_EPOCH)
            (folder / "upper/root").rename(folder / "root")
            container.forget_overlay(folder)
            (folder / "nothing").rmdir()


@contextlib.contextmanager
def scratch(plan: TreePlan) -> Iterator[Path]:
    """Yield a tree to compile in: the base tree of `plan` below a folder that goes with the
    work."""
    while True:
        # A damaged layer is removed; the loop makes it anew.
        with contextlib.suppress(DamagedLayer), Stack(plan.layers) as stack:
            with events.step("toolchain"):
                base(stack, plan)
                stack.check_whole()
            with container.overlay(stack.lowers, plan.work / "layer") as tree:
                yield tree
            return
