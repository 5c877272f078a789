"""A made-up GPU machine on which golden-health looks: with disks, an instance type and settings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from goldenami.model.supported import hardware

from support.ec2.instance_types import described
from support.gpu import gpu_machine
from support.gpu.gpu_machine import ROLE_FILES, GpuMachine

ROOT = Path(__file__).resolve().parents[3]
DISK = "Amazon EC2 NVMe Instance Storage"
PROGRAM = """import sys
from golden_health import jobs, looks
from golden_idle.settings import Settings
Settings.window_s = Settings.grace_s = 0.5
looks.QUICK_S, looks.PATIENT_S, looks.TRIES_S = 2.0, 3.0, (0,)
jobs.PERIOD_S, jobs.FIRST_S, jobs.YOUNG_S = 0.2, 0.5, float("inf")
sys.exit(looks.main(sys.argv[1:]))
"""
"""golden-health, in a hurry."""


def gpu_type(name: str) -> hardware.GpuType:
    """What a GPU check expects of an instance type."""
    return hardware.gpu_type(
        hardware.load(ROOT), next(row for row in described() if row["InstanceType"] == name)
    )


def whole(path: Path, libraries: Path, name: str, **settings: Any) -> GpuMachine:
    """A machine of the instance type on which nothing is wrong."""
    machine = gpu_machine.healthy(path, libraries, gpu_type(name))
    types = hardware.machines(ROOT, [name.partition(".")[0]])
    files = {
        "sys/class/dmi/id/product_name": name,
        "etc/golden-health.json": json.dumps(
            {"replace": "never", "publish_enabled": False, "types": types, **settings}
        ),
    }
    for number in range(types[name]["disks"]):
        files |= {
            f"sys/class/nvme/nvme{number}/model": DISK,
            f"sys/class/nvme/nvme{number}/state": "live",
            f"sys/block/nvme{number}n1/device/model": DISK,
        }
    for file, text in files.items():
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_text(f"{text}\n", encoding="utf-8")
    wanted = path / "etc/systemd/system/multi-user.target.wants"
    wanted.mkdir(parents=True)
    (wanted / "nvidia-persistenced.service").symlink_to("nowhere")
    return machine


def started(
    machine: GpuMachine,
    *argv: str,
    by: tuple[str, ...] = (),
) -> subprocess.Popen[str]:
    """The command, begun as a user, or as its unit, does; `by` what begins it."""
    environment = {
        **machine.environment,
        "PYTHONPATH": ROLE_FILES,
        "LD_PRELOAD": str(machine.libraries / "libnvidia-ml.so.1"),
    }
    return subprocess.Popen(
        [*by, sys.executable, "-B", "-c", PROGRAM, "--root", str(machine.path), *argv],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def golden_health(machine: GpuMachine, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    process = started(machine, *argv)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def found(machine: GpuMachine) -> dict[str, bool]:
    """What a look finds, and whether the machine is broken by it."""
    done = golden_health(machine, "look")
    assert done.returncode == 0, done.stderr
    state = json.loads((machine.path / "run/golden-health/state.json").read_text(encoding="utf-8"))
    return {row["text"]: row["broken"] for row in state["findings"]}


def texts(machine: GpuMachine) -> list[str]:
    """The words of the last look's findings, in their order."""
    state = json.loads((machine.path / "run/golden-health/state.json").read_text(encoding="utf-8"))
    return [row["text"] for row in state["findings"]]
