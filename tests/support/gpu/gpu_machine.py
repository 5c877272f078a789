"""A made-up machine with GPUs: NVIDIA's libraries compiled from this folder's C, and a folder that
looks like its /sys.

The GPU checks run on it with the program that they run on a real one; what its GPUs answer is a
file of settings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldenami.model.supported.hardware import GpuType

HERE = Path(__file__).parent
GATHER = HERE.parents[1] / "image/nvidia_driver/gather_gpu.py"
ROLES = HERE.parents[2] / "roles"
ROLE_FILES = f"{ROLES / 'golden_health/files'}:{ROLES / 'golden_idle/files'}"
"""PYTHONPATH of the roles' modules."""
DRIVER = "580.105.08"


@dataclass(frozen=True)
class GpuMachine:
    """The folder `path` of a machine of one instance type. `libraries` holds NVIDIA's, for
    LD_LIBRARY_PATH."""

    path: Path
    libraries: Path

    @property
    def environment(self) -> dict[str, str]:
        """With which NVIDIA's libraries, the kernel's log and systemd are the machine's."""
        return {
            **os.environ,
            "LD_LIBRARY_PATH": str(self.libraries),
            "FAKE_GPU": str(self.path / "settings"),
            "PATH": f"{self.path / 'bin'}:{os.environ['PATH']}",
        }

    def set(self, settings: Mapping[str, object]) -> None:
        """Change what the GPUs answer: `name`, or `name.3` of the fourth GPU alone."""
        with (self.path / "settings").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} {value}\n" for name, value in settings.items())

    def program(self, name: str, output: str) -> None:
        """Have a command print `output`."""
        path = self.path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\n", encoding="utf-8")
        path.chmod(0o755)

    def put_on_bus(self, address: str, pci_class: str) -> None:
        """Plug in one of NVIDIA's devices."""
        device = self.path / "sys/bus/pci/devices" / address
        device.mkdir(parents=True)
        (device / "vendor").write_text("0x10de\n", encoding="utf-8")
        (device / "class").write_text(f"{pci_class}\n", encoding="utf-8")

    def module(self, version: str) -> None:
        """Load the kernel module of a version."""
        path = self.path / "sys/module/nvidia/version"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{version}\n", encoding="utf-8")

    def gather(self, call_s: float = 60.0, load_s: float = 0.0) -> dict[str, Any]:
        """What the GPU checks look at, if no call takes longer, under so long a load."""
        argv = [sys.executable, str(GATHER), str(self.path), str(call_s), str(load_s)]
        environment = {**self.environment, "PYTHONPATH": ROLE_FILES}
        done = subprocess.run(argv, env=environment, text=True, capture_output=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def compile_libraries(folder: Path, version: str = DRIVER) -> Path:
    """NVIDIA's two libraries below `folder`, under their sonames and their full names."""
    for source, stem, soname in (("nvml.c", "libnvidia-ml.so", "1"), ("cuda.c", "libcuda.so", "1")):
        file = folder / f"{stem}.{version}"
        subprocess.run(
            [
                "gcc",
                "-O1",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-shared",
                "-fPIC",
                "-o",
                str(file),
                str(HERE / source),
            ],
            check=True,
        )
        (folder / f"{stem}.{soname}").symlink_to(file.name)
    return folder


def healthy(path: Path, libraries: Path, kind: GpuType) -> GpuMachine:
    """A machine of the instance type on which nothing is wrong."""
    machine = GpuMachine(path, libraries)
    path.mkdir(parents=True, exist_ok=True)
    machine.set(
        {
            "driver": DRIVER,
            "count": kind.gpus,
            "name": f"NVIDIA {kind.gpu}",
            "memory_mib": kind.memory_mib,
            "copy_gb_s": int(0.85 * kind.memory_gb_s),
            "pcie_generation": kind.pcie_generation,
            "pcie_width": kind.pcie_width,
            "nvlinks": kind.nvlinks if kind.nvswitch else 0,
        }
    )
    machine.module(DRIVER)
    for number in range(kind.gpus):
        machine.put_on_bus(f"0000:00:{0x10 + number:02x}.0", "0x030200")
    for number in range(kind.nvswitches if kind.nvswitch else 0):
        machine.put_on_bus(f"0000:00:{0x05 + number:02x}.0", "0x068000")
    machine.program("dmesg", "[    4.2] nvidia: loading out-of-tree module taints kernel.")
    machine.program("journalctl", "")
    machine.program("systemctl", "active" if kind.nvswitch else "inactive")
    machine.program("nv-fabricmanager", f"Fabric Manager version is : {DRIVER}")
    return machine
