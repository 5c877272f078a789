"""The root of a sealed disk as a tree to run programs in, without a boot and at this machine's
speed.

Below is the partition of the disk itself, which nothing writes to; what a program writes goes to an
overlay that is thrown away. Runs in the namespaces of `sandbox`: the mounts go with them, and the
loop device with its mount.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import HostNotReady, StageFailed
from goldenami.local import container
from goldenami.local.disk import disk
from goldenami.local.tree import rootfs

BELOW = "disk"
"""Folder of `scratch` where the partition itself is mounted, which nobody can write to."""


@contextlib.contextmanager
def mounted(image: Path, scratch: Path) -> Iterator[Path]:
    """Mount the root of the disk `image` with a /proc and a /dev of its own; HostNotReady without
    a loop device, StageFailed for a disk that has no such root.

    `noload`: a journal is not played back, which would write.
    """
    below = scratch / BELOW
    below.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        try:
            shell.output(["mount", "-t", "ext4", "-o", f"loop,ro,noload,offset={disk.ROOT_OFFSET}",
                          str(image), str(below)])
        except shell.CommandFailed as error:
            if "loop device" in error.output:
                raise HostNotReady("`verify` needs a loop device, and there is none",
                                   hint="`modprobe loop`", tail=error.tail) from None
            raise StageFailed(f"the root of {image} cannot be mounted: {error.message}",
                              tail=error.tail) from None
        stack.callback(_unmount, below)
        root = stack.enter_context(container.overlay([below], scratch))
        shell.output(["mount", "-t", "proc", "proc", str(root / "proc")])
        stack.callback(_unmount, root / "proc")
        stack.callback(_unmount, rootfs.devices(root))
        yield root


def _unmount(target: Path) -> None:
    shell.output(["umount", "--lazy", str(target)], check=False)
