"""`python -m support.ec2.selftest_instances SETTINGS`: EC2 here, whose instances boot the disk of
their AMI's snapshot.

An instance that is launched with a key is a virtual machine. Its disk is what EBS gives of the
snapshot's blocks, its firmware that of the AMI's boot mode; key and user data are in its metadata
service, which takes tokens only. One that is launched without a key has nobody who logs in, and is
no machine. The file `faults` of the checkout says what goes wrong.
"""

from __future__ import annotations

import base64
import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any
from unittest import mock

from goldenami.core import shell
from goldenami.local.machine import container
from goldenami.local.vm import imds, vm
from goldenami.model.builds import sparse_disk
from goldenami.model.builds.build_records import Accel
from goldenami_fleet.selftest.plan import LOCAL_DISK

from support.ec2 import ec2_instances
from support.ec2.ec2_instances import InstanceRunner, Running

USER = "debian"
"""The user of an image that is baked on this machine."""
UEFI, BIOS = "uefi-preferred", "legacy-bios"
"""Boot modes of AMIs."""
_LOCAL_DISK = """
runcmd:
  - [modprobe, -a, nvmet, nvme-loop]
  - truncate -s 400M /persist/local.img
  - mkdir -p /sys/kernel/config/nvmet/subsystems/local/namespaces/1 /sys/kernel/config/nvmet/ports/1
  - |
    cd /sys/kernel/config/nvmet
    echo 1 >subsystems/local/attr_allow_any_host
    echo 'Amazon EC2 NVMe Instance Storage' >subsystems/local/attr_model
    echo /persist/local.img >subsystems/local/namespaces/1/device_path
    echo 1 >subsystems/local/namespaces/1/enable
    echo loop >ports/1/addr_trtype
    ln -s "$PWD/subsystems/local" ports/1/subsystems/local
    echo transport=loop,nqn=local >/dev/nvme-fabrics
  - [udevadm, settle]
  - [systemctl, restart, golden-instance-store]
"""
"""User data by which a machine gets a disk with EC2's model: a file behind the kernel's own target
of NVMe. What mounts it at boot has to be started again."""
_BOOT_CODE = 440
"""Bytes of the first sector that BIOS runs. The partition table follows."""


class Fault(StrEnum):
    """What an account does otherwise. A line `BOOT-MODE FAULT` in the file `faults` says so of the
    instances of AMIs of a boot mode."""

    SILENT = "never-starts"
    NO_BOOT_CODE = "disk-without-boot-code"
    OTHER_FIRMWARE = "other-firmware"
    OTHER_KEY = "other-key"
    NO_TOKEN = "metadata-without-token"
    NO_LOCAL_DISK = "no-local-disk"


class SelftestInstanceRunner(InstanceRunner):
    """Gives each instance with a key a machine, one after another: they have one address."""

    def prepare(self) -> None:
        """The account is empty: the test publishes."""
        self.address = threading.Lock()
        shell.output(["ip", "address", "replace", f"{container.ADDRESS}/32", "dev", "lo"])
        threading.Thread(target=ec2_instances.relay, daemon=True).start()

    def run_instance(self, running: Running, public_key: str) -> None:
        """A machine; EC2 terminates the instance when it powers off."""
        name = running.raw["InstanceId"]
        image = self.ec2.describe_images(ImageIds=[running.raw["ImageId"]])["Images"][0]
        mode = image.get("BootMode", BIOS)
        faults = self._faults(mode)
        print(f"{name} ({mode}): {', '.join(faults) or 'no fault'}", flush=True)
        if Fault.SILENT in faults:
            return
        scratch = self.work / name
        scratch.mkdir()
        disk = self._disk(image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"], scratch)
        if Fault.NO_BOOT_CODE in faults:
            with disk.open("r+b") as sink:
                sink.write(bytes(_BOOT_CODE))
        user_data = self._user_data(name)
        if user_data and self._has_local_disk(running.raw, faults):
            user_data += _LOCAL_DISK
        is_uefi = (mode == UEFI) != (Fault.OTHER_FIRMWARE in faults)
        config = vm.VmConfig(
            disk=disk,
            scratch=scratch,
            private_key=self._key(scratch, public_key, is_ours=Fault.OTHER_KEY in faults),
            user=USER,
            firmware=vm.Firmware.UEFI if is_uefi else vm.Firmware.BIOS,
            accelerator=Accel.TCG,
            size_bytes=self._volume_bytes(running.raw),
            ssh_limit_s=600,
            instance_id=name,
            user_data=user_data,
        )
        with self.address, _metadata(is_open=Fault.NO_TOKEN in faults), vm.running(config) as box:
            while box.process.poll() is None and not running.over.is_set():
                time.sleep(0.1)
            box.process.kill()
        disk.unlink()
        self.ec2.terminate_instances(InstanceIds=[name])

    def _faults(self, mode: str) -> list[str]:
        file = Path(self.settings["root"]) / "faults"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [line.removeprefix(f"{mode} ") for line in lines if line.startswith(f"{mode} ")]

    def _disk(self, snapshot: str, folder: Path) -> Path:
        """The disk that EBS gives, block by block."""
        ebs, path = ec2_instances.client("ebs"), folder / "disk.raw"
        page: dict[str, Any] = {}
        with path.open("wb") as sink:
            while True:
                listed = ebs.list_snapshot_blocks(SnapshotId=snapshot, **page)
                sink.truncate(listed["VolumeSize"] << 30)
                for block in listed["Blocks"]:
                    data = ebs.get_snapshot_block(SnapshotId=snapshot, **block)["BlockData"]
                    sink.seek(block["BlockIndex"] * sparse_disk.BLOCK)
                    sink.write(data.read())
                if not listed.get("NextToken"):
                    return path
                page = {"NextToken": listed["NextToken"]}

    def _key(self, folder: Path, public_key: str, *, is_ours: bool) -> Path:
        """The key whose public half the machine gets, by which this program sees that it is there:
        that of the launch, or one of ours."""
        key = folder / "key"
        if is_ours:
            shell.output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
            return key
        material = public_key.split()[1]
        for file in Path(self.settings["root"]).rglob("launch_key.pub"):
            if material in file.read_text(encoding="utf-8"):
                shutil.copy(file.with_suffix(""), key)
        key.with_suffix(".pub").write_text(f"{public_key.strip()}\n", encoding="utf-8")
        return key

    def _volume_bytes(self, raw: dict[str, Any]) -> int:
        volume = raw["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
        size: int = self.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Size"]
        return size << 30

    def _user_data(self, instance: str) -> str | None:
        said = self.ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData")
        encoded = said["UserData"].get("Value")
        return base64.b64decode(encoded).decode() if encoded else None

    @staticmethod
    def _has_local_disk(raw: dict[str, Any], faults: list[str]) -> bool:
        return raw["InstanceType"] == LOCAL_DISK and Fault.NO_LOCAL_DISK not in faults


@contextlib.contextmanager
def _metadata(*, is_open: bool) -> Iterator[None]:
    """Let the machines that start in the block have a metadata service that needs no token."""
    argv = shell.python_argv

    def replaced(module: str, *args: str) -> list[str]:
        is_service = module == imds.__name__
        return argv("support.ec2.open_metadata" if is_service and is_open else module, *args)

    with mock.patch.object(shell, "python_argv", replaced):
        yield


if __name__ == "__main__":
    ec2_instances.main(SelftestInstanceRunner)
