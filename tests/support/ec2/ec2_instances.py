"""`python -m support.ec2.ec2_instances SETTINGS`: EC2 here, with instances to log in to, for the
EC2 builder's tests.

Runs in namespaces of its own (`sandbox.start`). The strict emulator is the account. An instance of
the publisher's AMI is a container with a tree like the publisher's; one of an AMI made of it is a
virtual machine that boots a disk written from the sealed tree. Each gets the key that its launch
named. Whoever wants to reach them enters the network namespace.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from goldenami.core import records, shell
from goldenami.local.disk import disk
from goldenami.local.disk.disk import DiskLayout
from goldenami.local.machine import container
from goldenami.local.machine.container import BootableContainer
from goldenami.local.sandbox import namespaces
from goldenami.local.tree import layers, rootfs
from goldenami.local.vm import vm
from goldenami.model.builds import sparse_disk
from goldenami.model.builds.build_records import Accel
from goldenami.model.builds.plans import BakePlan

from support.aws import publisher

PORT = 5000
URL = f"http://127.0.0.1:{PORT}"
OUR_KEY, RUNNERS_KEY = "AKIABUILDER000000000", "AKIAPLAYER0000000000"
"""Access keys of one account: whose calls are whose shows in the emulator's log."""
USER = "admin"
_CLOUD = """\
system_info:
  default_user:
    name: admin
    sudo: ALL=(ALL) NOPASSWD:ALL
    shell: /bin/bash
    lock_passwd: true
    groups: [adm, sudo]
"""
"""What Debian's images for EC2 say of their user (/etc/cloud/cloud.cfg.d/01_debian_cloud.cfg)."""


def client(service: str = "ec2", key: str = RUNNERS_KEY, region: str = "us-east-1") -> Any:
    return boto3.client(
        service,
        region_name=region,
        endpoint_url=URL,
        aws_access_key_id=key,
        aws_secret_access_key="none",
    )


def control(method: str, what: str, **fields: Any) -> Any:
    """The emulator's control API."""
    request = urllib.request.Request(
        f"{URL}/_emulator/{what}", json.dumps(fields).encode(), method=method
    )
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or b"null")


@dataclass
class Running:
    """One instance while it runs, and its end as EC2 asks for it."""

    raw: dict[str, Any]
    over: threading.Event = field(default_factory=threading.Event)


class InstanceRunner:
    """Gives each running instance a machine, and takes it away when EC2 says that it stopped."""

    user = USER
    """The machine's default user."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings, self.work = settings, Path(settings["work"])
        self.ec2 = client()
        self.running: dict[str, Running] = {}
        self.base, self.sealed, self.disk = "", Path(), Path()
        self.stack = contextlib.ExitStack()

    @functools.cached_property
    def plan(self) -> BakePlan:
        return records.read(self.work / "bake-plan.json", BakePlan)

    def run(self) -> None:
        control(
            "PATCH",
            "settings",
            accounts=publisher.ACCOUNTS,
            pending_s=0,
            instance_address=container.ADDRESS,
            allowed={OUR_KEY: self.settings["allowed"]},
        )
        self.prepare()
        (self.work / "ready").touch()
        while True:
            seen = {
                raw["InstanceId"]: raw
                for reservation in self.ec2.describe_instances()["Reservations"]
                for raw in reservation["Instances"]
            }
            for name, raw in seen.items():
                if name not in self.running and raw["State"]["Name"] == "running":
                    self.running[name] = Running(raw)
                    threading.Thread(target=self._run_instance, args=(self.running[name],)).start()
                if name in self.running and raw["State"]["Name"] != "running":
                    self.running[name].over.set()
            time.sleep(0.2)

    def prepare(self) -> None:
        """What the account holds before anything is launched."""
        self.base = publisher.offer(URL)
        self._left_behind()

    def _left_behind(self) -> None:
        """What a bake of this build that was killed has left."""
        ebs = client("ebs")
        snapshot = ebs.start_snapshot(VolumeSize=2)["SnapshotId"]
        ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)
        self.ec2.register_image(
            Name=f"{self.plan.image}-{self.plan.build_id}-builder",
            Architecture="x86_64",
            RootDeviceName="/dev/xvda",
            VirtualizationType="hvm",
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
        )

    def _run_instance(self, running: Running) -> None:
        if "KeyName" not in running.raw:  # nobody logs in
            return
        try:
            key = self.ec2.describe_key_pairs(
                KeyNames=[running.raw["KeyName"]], IncludePublicKey=True
            )
            public = key["KeyPairs"][0]["PublicKey"]
            self.run_instance(running, public)
        except Exception:
            traceback.print_exc()

    def run_instance(self, running: Running, public_key: str) -> None:
        """Be the machine until it powers off or EC2 stops it."""
        if running.raw["ImageId"] == self.base:
            self._builder(running, public_key)
        else:
            self._launched(running, public_key)

    def _builder(self, running: Running, public_key: str) -> None:
        """A container like the publisher's image; when it powers off, EC2 calls the instance
        stopped."""
        log, scratch = self.work / "builder.log", self.work / "builder"
        lowers = self.stack.enter_context(layers.Stack(self.plan.layers))
        rootfs.base(lowers, self.plan)
        scratch.mkdir()
        self.sealed = self.stack.enter_context(container.overlay(lowers.lowers, scratch))
        self.like_the_publishers(self.sealed, public_key)
        (self.work / "no-repository").mkdir()
        name, repo = f"instance-{self.plan.build_id}", self.work / "no-repository"
        with BootableContainer(name, self.sealed, self.work, repo, log).running() as box:
            while box.process.poll() is None and not running.over.is_set():
                time.sleep(0.1)
        if not running.over.is_set():
            self._write_volume(running.raw["InstanceId"])
            self.ec2.stop_instances(InstanceIds=[running.raw["InstanceId"]])

    def _write_volume(self, instance: str) -> None:
        """The tree as a disk, on the volume of the instance: what Packer's snapshot is made of."""
        layout = DiskLayout(
            self.plan.image, self.plan.disk_size_gib << 30, self.plan.source_date_epoch
        )
        facts = disk.write_disk(
            self.sealed, self.work / "sealed/disk.raw", log=self.work / "disk.log", layout=layout
        )
        self.disk = facts.disk
        with facts.disk.open("rb") as source:
            for index in sparse_disk.data_blocks(source.fileno()):
                data = base64.b64encode(sparse_disk.read_block(source.fileno(), index)).decode()
                control(
                    "POST",
                    "write",
                    instance=instance,
                    region="us-east-1",
                    offset=index * sparse_disk.BLOCK,
                    data=data,
                )

    def like_the_publishers(self, root: Path, public_key: str) -> None:
        """The default user with the launch's key, as cloud-init has made him; sudo."""
        sudo = next(self.plan.tree.repository.glob("sudo_*.deb"))
        shell.output(["dpkg", f"--root={root}", "-i", str(sudo)])
        shell.output(
            [
                "chroot",
                str(root),
                "useradd",
                "--create-home",
                "--shell",
                "/bin/bash",
                "--comment",
                "Debian",
                "--groups",
                "adm,sudo",
                self.user,
            ]
        )
        home = root / "home" / self.user
        (home / ".ssh").mkdir(mode=0o700)
        (home / ".ssh/authorized_keys").write_text(f"{public_key.strip()}\n", encoding="utf-8")
        shell.output(
            [
                "chroot",
                str(root),
                "chown",
                "-R",
                f"{self.user}:{self.user}",
                f"/home/{self.user}/.ssh",
            ]
        )
        (root / "etc/sudoers.d/90-cloud-init-users").write_text(
            f"{self.user} ALL=(ALL) NOPASSWD:ALL\n", encoding="utf-8"
        )
        (root / "etc/cloud/cloud.cfg.d").mkdir(parents=True)
        (root / "etc/cloud/cloud.cfg.d/01_debian_cloud.cfg").write_text(_CLOUD, encoding="utf-8")

    def _launched(self, running: Running, public_key: str) -> None:
        """A machine that boots the sealed tree, and gets the launch's key from the metadata
        service."""
        scratch = self.work / "launched"
        scratch.mkdir()
        key = next(Path(self.settings["root"]).glob("build/*/.work-verify-*/launch_key"))
        shutil.copy(key, scratch / "key")
        (scratch / "key.pub").write_text(f"{public_key.strip()}\n", encoding="utf-8")
        config = vm.VmConfig(
            disk=self.disk,
            scratch=scratch,
            private_key=scratch / "key",
            user=USER,
            firmware=vm.Firmware.UEFI,
            accelerator=Accel.TCG,
            size_bytes=self.disk.stat().st_size + (1 << 30),
            ssh_limit_s=400,
            instance_id=running.raw["InstanceId"],
        )
        shell.output(["ip", "address", "replace", f"{container.ADDRESS}/32", "dev", "lo"])
        threading.Thread(target=relay, daemon=True).start()
        with vm.running(config):
            running.over.wait()


def relay() -> None:
    """The instance's port 22 is the machine's that QEMU forwards."""
    server = socket.create_server((container.ADDRESS, 22))
    while True:
        near, _ = server.accept()
        try:
            far = socket.create_connection(("127.0.0.1", vm.SSH_PORT))
        except OSError:
            near.close()
            continue
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def main(runner: type[InstanceRunner] = InstanceRunner) -> None:
    """Serve, and run what is launched."""
    namespaces.prepare()
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    emulator = subprocess.Popen(
        [sys.executable, "-m", "ec2_emulator", "--port", str(PORT)], stdout=subprocess.DEVNULL
    )
    while emulator.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", PORT)):
            break
        time.sleep(0.1)
    runner(settings).run()


if __name__ == "__main__":
    main()
