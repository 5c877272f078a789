"""Facts about a machine beside its GPUs: its type, local disks, network adapters and clock."""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Iterator
from pathlib import Path

from golden_health import gpu_facts
from golden_health.gpu_calls import Facts, file_text, output

DISK = "Amazon EC2 NVMe Instance Storage"
"""The model that controllers of local disks name (EC2 user guide, "SSD instance store volumes")."""
DAEMONS = ("nvidia-persistenced", "nvidia-fabricmanager", "golden-instance-store")
DAEMONS_S = 120.0
"""Seconds: longer than systemd waits for one to start (90)."""
EFA = "0xefa"
"""The beginning of the device numbers of Elastic Fabric Adapters, 0xefa0 and on (Linux:
drivers/infiniband/hw/efa)."""
ENDED = frozenset({"ro", "emergency_ro", "shutdown"})
"""Options of a file system that takes no more writes (Linux: fs/ext4/super.c)."""
PERSISTENCE = "etc/systemd/system/multi-user.target.wants/nvidia-persistenced.service"
UNSYNCHRONIZED = 5  # adjtimex(2), TIME_ERROR
TIMEX_BYTES = 208


def gather(root: Path, *, cuda: bool) -> Facts:
    """Return all facts of the machine below `root` with those of its GPUs, and CUDA's if `cuda`."""
    return gpu_facts.gpus(cuda=cuda) | around(root)


def wait_for_daemons() -> None:
    """Wait until the daemons have started or failed whose absence would look like a fault."""

    def are_starting() -> bool:
        states = output("systemctl", "show", "--property=ActiveState,Job", *DAEMONS)
        return bool(re.search(r"^(ActiveState=activating|Job=\d+)$", states, re.MULTILINE))

    deadline = time.monotonic() + DAEMONS_S
    while are_starting() and time.monotonic() < deadline:
        time.sleep(0.2)


def around(root: Path) -> Facts:
    """Return the facts for which the driver need not be asked."""
    controllers = list[tuple[str, str]]()
    for folder in sorted((root / "sys/class/nvme").glob("nvme*")):
        if file_text(folder / "model") == DISK:
            controllers.append((folder.name, file_text(folder / "state")))
    disks = sum(
        file_text(block / "device/model") == DISK
        and file_text(block / "hidden") in ("", "0")
        and file_text(block / "ro") != "1"
        and file_text(block / "size") != "0"
        for block in (root / "sys/block").glob("nvme*")
    )
    facts, efa = gpu_facts.around(root), list(adapters(root))
    cpus = root / "sys/devices/system/cpu"
    return facts | {
        # Nitro's firmware says which type it is: no network is needed, and no metadata service.
        "type": file_text(root / "sys/class/dmi/id/product_name"),
        "persistence": (root / PERSISTENCE).is_symlink(),
        "disks": disks,
        "clock": is_synchronized(),
        "controllers": controllers,
        "read_only": list(read_only(root)),
        "efa": efa,
        "seen": [(address,) for address in (*facts["bus"], *dict(efa))],
        "processors": [file_text(cpus / name) for name in ("online", "present", "smt/control")],
        "up_s": time.clock_gettime(time.CLOCK_BOOTTIME),
    }


def read_only(root: Path) -> Iterator[str]:
    """Yield the image's file systems that are read-only although their disk is not: ext4 makes
    itself read-only after an error. A verified root's disk is read-only itself."""
    for line in file_text(root / "proc/self/mountinfo").splitlines():
        mount, _, file_system = line.partition(" - ")
        _, _, disk, _, mount_point, *_ = mount.split()
        # The file system's own flag: the mount's alone may be of this unit's sandbox.
        if (
            mount_point in ("/", "/persist")
            and not ENDED.isdisjoint(file_system.split()[-1].split(","))
            and file_text(root / f"sys/dev/block/{disk}/ro") != "1"
        ):
            yield mount_point


def adapters(root: Path) -> Iterator[tuple[str, str]]:
    """Yield each Elastic Fabric Adapter that the machine was launched with, and the state of its
    port, or "" without a driver. No machine knows how many its launch asked for."""
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        if file_text(device / "device").startswith(EFA):
            ports = sorted(device.glob("infiniband/*/ports/1/state"))
            yield device.name, file_text(ports[0]) if ports else ""


def is_synchronized() -> bool:
    """Return whether a server keeps the kernel's clock right, whichever program asks the server."""
    state = ctypes.create_string_buffer(TIMEX_BYTES)  # modes 0: nothing is set
    return bool(ctypes.CDLL(None).adjtimex(state) != UNSYNCHRONIZED)
