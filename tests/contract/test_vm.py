"""A small Debian becomes a disk and boots as if on EC2: BIOS and UEFI at once, from one disk."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.local.disk import disk
from goldenami.local.sandbox import namespaces
from goldenami.local.vm import vm
from goldenami.model.builds.build_records import Accel
from goldenami.model.supported import instruction_sets
from goldenami.packages import mirrors
from support.builds.tools import need

pytestmark = [pytest.mark.slow, pytest.mark.long]  # verify boots the real images the same way
SIZE = 2 << 30
GROWN = 5 << 30
PACKAGES = (
    "linux-image-cloud-amd64", "systemd-sysv", "dbus", "libpam-systemd", "udev", "ifupdown", "iproute2", "sudo",
    "isc-dhcp-client", "openssh-server", "cloud-init", "cloud-guest-utils", "fdisk", "e2fsprogs", "netbase",
)
BOOT = """
import json, sys
from pathlib import Path
from goldenami.core.errors import GoldenError
from goldenami.local import ssh
from goldenami.local.sandbox import namespaces
from goldenami.local.vm import cpu, vm
from goldenami.model import instruction_sets
from goldenami.model.builds.build_records import Accel
namespaces.prepare()
disk, scratch, key, firmware, size = sys.argv[1:]
try:
    with vm.running(vm.VmConfig(
        disk=Path(disk), scratch=Path(scratch), private_key=Path(key), user="debian",
        firmware=vm.Firmware(firmware), accelerator=Accel.TCG, size_bytes=int(size), ssh_limit_s=600,
        cpu=cpu.emulated(instruction_sets.features("x86-64-v3"), instruction_sets.KNOWN_X86).argument,
    )) as machine:
        facts = {
            "seconds": machine.seconds_to_ssh,
            "root_bytes": int(machine.ssh("df --output=size -B1 / | tail -1")),
            "uefi": machine.ssh("test -d /sys/firmware/efi && echo yes || echo no").strip(),
            "source": machine.ssh("cloud-id").strip(),
            "cpu": sorted(cpu.shown(machine.ssh("grep -m1 ^flags /proc/cpuinfo").split(),
                                    instruction_sets.KNOWN_X86)),
            "vendor": machine.ssh("cat /sys/class/dmi/id/sys_vendor").strip(),
            "root": machine.ssh("findmnt -no SOURCE,FSTYPE,OPTIONS /").split(),
            "esp": machine.ssh("findmnt -no FSTYPE /boot/efi").strip(),
            "look": ssh.look(machine.ssh_config, "[ -e .asked ] || { touch .asked; kill -TERM $$; }; echo here",
                             say=print, log=Path(scratch, "look.log")).strip(),
            "clean": vm.power_off(machine),
        }
except GoldenError as error:
    facts = {"error": error.message, "tail": error.tail}
Path(scratch, "facts.json").write_text(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mmdebstrap makes of the machine's own mirror, with the one setting that its cloud-init wants."""
    need("mmdebstrap", "qemu-system-x86_64", "mke2fs", "grub-mkimage", "mkfs.vfat", "mcopy", "setpriv", "unshare")
    folder = tmp_path_factory.mktemp("debian")
    root = folder / "root"
    shell.stream([
        "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}",
        "--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=force-unsafe-io", "bookworm", str(root),
        f"deb {mirrors.locate(['debian'])['debian']} bookworm main",
    ], log=folder / "mmdebstrap.log")
    (root / "etc/default/locale").write_text("LANG=C.UTF-8\n", encoding="utf-8")
    for path in root.rglob("*"):
        for name in os.listxattr(path, follow_symlinks=False):
            if name.startswith("system.posix_acl"):  # what systemd-tmpfiles sets on /var/log/journal, and will again
                os.removexattr(path, name)
    return root


@pytest.fixture(scope="module")
def layout(tree: Path) -> disk.DiskLayout:
    # Not earlier than the packages' own times: that would make each .pyc stale, and the first boot compile them.
    newest = int((tree / "var/lib/dpkg/status").stat().st_mtime)
    return disk.DiskLayout(image="vm-test", size_bytes=SIZE, source_date_epoch=newest)


@pytest.fixture(scope="module")
def written(tree: Path, layout: disk.DiskLayout) -> disk.DiskFacts:
    return disk.write_disk(tree, tree.parent / "disk.raw", layout=layout, log=tree.parent / "disk.log")


@pytest.fixture(scope="module")
def key(tree: Path) -> Path:
    path = tree.parent / "launch_key"
    shell.output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)])
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def test_two_writes_are_equal(tree: Path, written: disk.DiskFacts, layout: disk.DiskLayout) -> None:
    if not written.reproducible:
        pytest.skip(written.note)
    (tree.parent / "second").mkdir()
    again = disk.write_disk(tree, tree.parent / "second/disk.raw", layout=layout, log=tree.parent / "disk.log")
    assert sha256(again.disk) == sha256(written.disk)
    again.disk.unlink()


def test_file_system_is_clean(written: disk.DiskFacts) -> None:
    shell.output([shell.require("e2fsck", "e2fsprogs"), "-fn", f"{written.disk}?offset={disk.ROOT_OFFSET}"])


def test_both_firmwares_at_once(tree: Path, written: disk.DiskFacts, key: Path) -> None:
    before = sha256(written.disk)
    scratch = {firmware: tree.parent / firmware.value for firmware in vm.Firmware}
    boots = [
        shell.start(
            namespaces.unshare_argv([
                sys.executable, "-c", BOOT, str(written.disk), str(folder), str(key), firmware.value, str(GROWN),
            ]), log=tree.parent / f"{firmware.value}.log", env=shell.python_env(),
        )
        for firmware, folder in scratch.items()
    ]
    for boot in boots:
        boot.wait()
    for firmware, folder in scratch.items():
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        assert "error" not in facts, f"{firmware}: {facts['error']}\n{facts['tail']}"
        assert facts["root_bytes"] > 0.9 * (GROWN - disk.ROOT_OFFSET)
        assert facts["uefi"] == {"bios": "no", "uefi": "yes"}[firmware.value]
        assert (facts["source"], facts["vendor"], facts["esp"]) == ("aws", "Amazon EC2", "vfat")
        assert facts["root"][0].startswith("/dev/nvme0n1p3")
        assert "errors=remount-ro" in facts["root"][2]
        assert facts["cpu"] == sorted(instruction_sets.features("x86-64-v3"))  # and none that QEMU has beyond them
        assert facts["look"] == "here", "asked once more"
        assert "the SSH session ended before" in (folder / "look.log").read_text(encoding="utf-8")
        assert facts["clean"]
        requests = [json.loads(line) for line in (folder / "imds.log").read_text(encoding="utf-8").splitlines()]
        assert {(row["method"], row["token"]) for row in requests if row["status"] == 200} == {
            ("PUT", "none"), ("GET", "valid")}
        left = {path.name for path in folder.iterdir()}
        assert left == {
            "facts.json", "serial.log", "imds.log", "imds.json", "imds-service.log", "qemu.log", "ssh_config",
            "ssh.log", "look.log"}
    assert sha256(written.disk) == before


def test_kernel_is_heard(tree: Path, written: disk.DiskFacts) -> None:
    assert vm.speaks(written.disk, tree.parent / "probe", Accel.TCG, limit_s=120)


def test_kvm_probe_agrees_with_a_boot(tree: Path, written: disk.DiskFacts) -> None:
    """Where the probe says yes, the machine has to prove it; where it says no, that took no longer than its limit."""
    if not vm.kvm_works(written.disk, tree.parent / "kvm"):
        pytest.skip("this host's KVM does not run the kernel, or there is none")
    assert "Linux version" in (tree.parent / "kvm/probe.log").read_text(encoding="utf-8", errors="replace")
