"""Look into the written disk without a boot: mount its root tree, and check what it holds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from goldenami.core import records, shell
from goldenami.core.errors import HostNotReady, NotVerified
from goldenami.local.checks import image_tests, unused_space
from goldenami.local.disk import disk
from goldenami.local.machine import container
from goldenami.local.tree import rootfs, sealed
from goldenami.model.builds.build_records import Check, CoverageRecord
from goldenami.model.builds.plans import VerifyPlan

ROOT = "root"
"""Folder of a plan's `work` where the root tree is mounted."""
_BELOW = "disk"
"""Folder of `scratch` where the partition itself is mounted, read-only."""


@contextlib.contextmanager
def root_tree(image: Path, scratch: Path) -> Iterator[Path]:
    """Mount the root of the disk `image` with a /proc and a /dev of its own, and yield it. Raises
    HostNotReady without a loop device, NotVerified for a disk that has no such root."""
    below = scratch / _BELOW
    below.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        try:
            shell.output(
                [
                    "mount",
                    "-t",
                    "ext4",
                    "-o",
                    # noload: not even the journal may be replayed (ext4(5)), so that the disk stays
                    # as it is.
                    f"loop,ro,noload,offset={disk.ROOT_OFFSET}",
                    str(image),
                    str(below),
                ]
            )
        except shell.CommandFailed as error:
            if "loop device" in error.output:
                raise HostNotReady(
                    "`verify` needs a loop device, and there is none",
                    hint="`modprobe loop`",
                    tail=error.tail,
                ) from None
            raise NotVerified(
                f"the root of {image} cannot be mounted: {error.message}", tail=error.tail
            ) from None
        stack.callback(_unmount, below)
        tree = stack.enter_context(container.overlay([below], scratch))
        shell.output(["mount", "-t", "proc", "proc", str(tree / "proc")])
        stack.callback(_unmount, tree / "proc")
        stack.callback(_unmount, rootfs.devices(tree))
        yield tree


def _unmount(target: Path) -> None:
    shell.output(["umount", "--lazy", str(target)], check=False)


def check(plan: VerifyPlan, tree: Path) -> list[Check]:
    """Check what the written disk holds, in its root `tree` and beside it, while a machine
    boots."""
    began = time.monotonic()
    beside = unused_space.find(plan.disk)
    searched = time.monotonic()
    checks = [
        Check.of_boot(
            "disk_is_its_tree",
            "Beside its files the disk is zeros, and no secret is in what boots it",
            not beside,
            "; ".join(beside[: sealed.SHOWN]),
            round(searched - began, 2),
        )
    ]
    leftovers = sealed.findings_of_image(plan.work / ROOT / _BELOW, plan.root, plan.variables)
    checks.append(
        Check.of_boot(
            "disk_is_sealed",
            "No file of the written disk is secret, or one machine's own",
            not leftovers,
            "; ".join(leftovers[: sealed.SHOWN]),
            round(time.monotonic() - searched, 2),
        )
    )
    return checks + code(
        plan,
        lambda command: shell.output(
            # At the lowest priority, so that the boots beside it keep their time.
            ["nice", "-n", "19", "chroot", str(tree), "sh", "-c", command]
        ),
    )


def code(plan: VerifyPlan, ask: Callable[[str], str]) -> list[Check]:
    """Check that the disk has the files that the coverage check read at the bake; `ask` runs a
    command there as root."""
    return image_tests.code(records.read(plan.coverage, CoverageRecord), ask)
