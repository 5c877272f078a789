"""What there is to know of a machine beside its GPUs: its type, local disks and clock."""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Iterator
from pathlib import Path

from golden_health import gpu_facts
from golden_health.gpu_calls import Facts

DISK = "Amazon EC2 NVMe Instance Storage"
"""What the controllers of local disks call themselves (EC2 user guide, "SSD instance store
volumes")."""
DAEMONS = ("nvidia-persistenced", "nvidia-fabricmanager", "golden-instance-store")
DAEMONS_S = 120.0
"""Seconds: longer than systemd waits for one to start (90)."""
EFA = "0xefa"
"""The adapter's device numbers, 0xefa0 and on, begin so (Linux: drivers/infiniband/hw/efa)."""
PERSISTENCE = "etc/systemd/system/multi-user.target.wants/nvidia-persistenced.service"
UNSYNCHRONIZED = 5  # adjtimex(2), TIME_ERROR
TIMEX_BYTES = 208


def gather(root: Path, *, cuda: bool) -> Facts:
    """All facts of the machine below `root`, those of its GPUs among them, CUDA's where asked."""
    return gpu_facts.gpus(cuda=cuda) | around(root)


def wait_for_daemons() -> None:
    """Until those have started whose work a look would take for a fault, or have failed to."""

    def starts() -> bool:
        said = gpu_facts.output("systemctl", "show", "--property=ActiveState,Job", *DAEMONS)
        return bool(re.search(r"^(ActiveState=activating|Job=\d+)$", said, re.MULTILINE))

    ends = time.monotonic() + DAEMONS_S
    while starts() and time.monotonic() < ends:
        time.sleep(0.2)


def around(root: Path) -> Facts:
    """Those for which the driver need not be asked."""
    controllers = [
        folder
        for folder in sorted((root / "sys/class/nvme").glob("nvme*"))
        if _text(folder / "model") == DISK
    ]
    disks = [
        block
        for block in (root / "sys/block").glob("nvme*")
        if _text(block / "device/model") == DISK and _text(block / "hidden") in ("", "0")
    ]
    return gpu_facts.around(root) | {
        # Nitro's firmware says which type it is: no network is needed, and no metadata service.
        "type": _text(root / "sys/class/dmi/id/product_name"),
        "persistence": (root / PERSISTENCE).is_symlink(),
        "disks": len(disks),
        "clock": is_synchronized(),
        "controllers": [(folder.name, _text(folder / "state")) for folder in controllers],
        "read_only": list(read_only(root)),
        "efa": list(adapters(root)),
        "up_s": time.clock_gettime(time.CLOCK_BOOTTIME),
    }


def read_only(root: Path) -> Iterator[str]:
    """Which of the image's file systems are read-only, though their disk is not, as a verified
    root's is: ext4 makes itself so after an error. The flag of a mount alone is this unit's own."""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        mount, _, system = line.partition(" - ")
        _, _, disk, _, place, *_ = mount.split()
        if (
            place in ("/", "/persist")
            and "ro" in system.split()[-1].split(",")
            and (_text(root / f"sys/dev/block/{disk}/ro") == "0")
        ):
            yield place


def adapters(root: Path) -> Iterator[tuple[str, str]]:
    """Each Elastic Fabric Adapter that the machine was launched with, and the state of its port; ""
    without a driver. How many a launch asked for, no machine knows."""
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        if _text(device / "device").startswith(EFA):
            ports = sorted(device.glob("infiniband/*/ports/1/state"))
            yield device.name, _text(ports[0]) if ports else ""


def is_synchronized() -> bool:
    """Whether a server keeps the kernel's clock right, whichever program asks it."""
    state = ctypes.create_string_buffer(TIMEX_BYTES)  # modes 0: nothing is set
    return bool(ctypes.CDLL(None).adjtimex(state) != UNSYNCHRONIZED)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
