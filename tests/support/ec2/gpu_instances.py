"""`python -m support.ec2.gpu_instances SETTINGS`: EC2 here, whose instances have made-up GPUs.

An instance is a container with the distribution's packages; NVIDIA's libraries and the GPUs on its
bus are those of support/gpu. What is real: the launch, its key, SSH, the checks, the power-off.
What is not: a GPU.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from goldenami.local.machine import container
from goldenami.local.machine.container import BootableContainer
from goldenami.local.tree import layers, rootfs
from goldenami.model.supported import hardware

from support.ec2 import ec2_instances
from support.ec2.ec2_instances import InstanceRunner, Running
from support.ec2.instance_types import described
from support.gpu import gpu_machine

ROOT = "/opt/gpus"
"""Where an instance's made-up machine lies; GOLDEN_GPU_ROOT tells the checks."""
_LIBRARIES = "usr/lib/x86_64-linux-gnu"


class GpuInstanceRunner(InstanceRunner):
    """Gives each instance a container with the GPUs of its type."""

    user = "debian"
    """That of an image that was baked on this machine, as the candidate was."""

    def prepare(self) -> None:
        """The account is empty: the test publishes. NVIDIA's libraries are those of all
        instances."""
        self.libraries = gpu_machine.compile_libraries(self.work)

    def run_instance(self, running: Running, public_key: str) -> None:
        """A container; EC2 terminates the instance when it powers off."""
        name = running.raw["InstanceId"]
        with layers.Stack(self.plan.layers) as lowers:
            rootfs.base(lowers, self.plan)
            scratch = self.work / name
            scratch.mkdir()
            with container.overlay(lowers.lowers, scratch) as tree:
                self.like_the_publishers(tree, public_key)
                self._plug_in(tree, running.raw["InstanceType"])
                (scratch / "no-repository").mkdir()
                log = self.work / f"{name}.log"
                bootable = BootableContainer(name, tree, scratch, scratch / "no-repository", log)
                with bootable.running() as box:
                    while box.process.poll() is None and not running.over.is_set():
                        time.sleep(0.1)
        self.ec2.terminate_instances(InstanceIds=[name])

    def _plug_in(self, tree: Path, instance_type: str) -> None:
        row = next(row for row in described() if row["InstanceType"] == instance_type)
        kind = hardware.gpu_type(hardware.load(Path(self.settings["root"])), row)
        machine = gpu_machine.healthy(tree / ROOT.lstrip("/"), self.libraries, kind)
        for file in self.libraries.glob("lib*.so*"):
            shutil.copy2(file, tree / _LIBRARIES, follow_symlinks=False)
        for file in (machine.path / "bin").iterdir():
            if file.name != "systemctl":
                shutil.copy2(file, tree / "usr/local/sbin")
        shutil.copy(machine.path / "settings", tree / "etc/fake-gpu")
        fault = Path(self.settings["root"]) / "fault"
        if fault.exists():
            with (tree / "etc/fake-gpu").open("a", encoding="utf-8") as settings:
                settings.write(fault.read_text(encoding="utf-8"))


if __name__ == "__main__":
    ec2_instances.main(GpuInstanceRunner)
