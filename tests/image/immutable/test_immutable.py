"""A root that nobody can write and that the kernel checks, and folders that keep what an instance
writes."""

from __future__ import annotations

import re
from typing import Any

import pytest

WAYS = {
    "usr": "touch /usr/golden-probe",
    "remount": "mount -o remount,rw /",
    "raw": "dd if=/dev/zero of=/dev/mapper/root bs=4096 count=1",
}
VENV = """
set -e
for folder in /opt /home; do
  python3 -m venv --without-pip $folder/golden-probe
  site=$(echo $folder/golden-probe/lib/python3.*/site-packages)
  echo 'print("imported")' > $site/probe_module.py
  $folder/golden-probe/bin/python -m probe_module
  rm -r $folder/golden-probe
done
"""


@pytest.fixture(scope="module")
def kinds(settings: Any) -> dict[str, str]:
    """Folder that is written -> how it is kept."""
    return dict(reversed(line.split()) for line in settings("/etc/default/golden-persistent"))


def test_folders_that_are_written_are_listed(kinds: dict[str, str], lock: dict[str, Any]) -> None:
    overlays = [folder for folder, kind in kinds.items() if kind == "overlay"]
    assert overlays == ["/etc", "/home", "/opt", "/root", "/srv", "/var"]
    assert ("/var/lib/docker" in kinds) == ("container_runtime" in lock["golden_roles"])


def test_what_was_written_is_private_and_grows(host: Any) -> None:
    place = host.file("/persist")
    assert (place.mode, place.user) == (0o700, "root")
    assert host.service("golden-grow-persist.service").is_enabled


def test_root_is_verity_s_and_read_only(host: Any, needs_boot: None) -> None:
    root = host.mount_point("/")
    assert (root.device, root.filesystem) == ("/dev/mapper/root", "ext4")
    assert "ro" in root.options


@pytest.mark.parametrize("way", WAYS)
def test_nobody_writes_the_root(host: Any, needs_boot: None, way: str) -> None:
    tried = host.run(WAYS[way])
    assert tried.failed
    assert re.search("Read-only file system|write-protected|Operation not permitted", tried.stderr)


def test_device_files_of_the_instance_are_none(host: Any, needs_boot: None) -> None:
    options = host.check_output("findmnt -n -o OPTIONS -T /home").split(",")
    assert "nodev" in options
    read = host.run(
        "mknod /home/golden-probe c 1 3; head -c 0 /home/golden-probe;"
        " status=$?; rm /home/golden-probe; exit $status"
    )
    assert read.failed and "Permission denied" in read.stderr


def test_boot_partition_is_mounted_read_only(host: Any, needs_boot: None) -> None:
    # A slow machine may have its partition later than systemd waits, and boots on without it.
    started = host.run("systemctl start boot-efi.mount")
    assert started.succeeded, started.stderr
    assert "ro" in host.mount_point("/boot/efi").options


def test_listed_folders_are_written_beside_the_root(
    host: Any, kinds: dict[str, str], needs_boot: None
) -> None:
    mounted = {
        each.path for each in host.mount_point.get_mountpoints() if each.filesystem == "overlay"
    }
    assert {folder for folder, kind in kinds.items() if kind == "overlay"} <= mounted
    kept = host.run(
        "echo x > /etc/golden-probe && ls /persist/upper/etc/golden-probe && rm /etc/golden-probe"
    )
    assert kept.succeeded, kept.stderr
    moved = host.run(
        "mv /etc/ssh/ssh_config.d /etc/ssh/probe.d && mv /etc/ssh/probe.d /etc/ssh/ssh_config.d"
    )
    assert (moved.rc, moved.stderr) == (0, "")


def test_environments_are_made_below_opt_and_home(host: Any, needs_boot: None) -> None:
    assert host.check_output(VENV).splitlines() == ["imported", "imported"]


def test_persistent_file_system_fills_the_disk_and_has_space(host: Any, needs_boot: None) -> None:
    size, free, kind = host.check_output("findmnt -n -b -o SIZE,AVAIL,FSTYPE /persist").split()
    listed = host.check_output(
        "lsblk -n -b -l -o TYPE,PARTLABEL,SIZE "
        "/dev/$(lsblk -n -o PKNAME $(findmnt -n -o SOURCE /persist))"
    )
    rows = [line.split() for line in listed.splitlines()]
    disk = int(next(row[-1] for row in rows if row[0] == "disk"))
    parts = {row[1]: int(row[2]) for row in rows if row[0] == "part"}
    # The partition tables take 2 MiB; ext4 keeps about 5 % for its tables and journal.
    assert sum(parts.values()) > disk - (3 << 20)
    assert kind == "ext4" and int(size) > 0.9 * parts["persist"]
    assert int(free) > 512 << 20, "less than 512 MiB free"
    assert int(host.check_output("df --output=ipcent /persist").split()[-1].rstrip("%")) < 80
    assert host.file("/proc/swaps").content_string.count("\n") == 1, "swap is on"


def test_kernel_holds_the_root_to_the_hash_of_its_command_line(host: Any, needs_boot: None) -> None:
    """Last: whatever was wrong with a block of what a boot reads has been seen by now."""
    said = host.check_output("veritysetup status root")
    status = dict(re.findall(r"^\s*(\w[\w ]*):\s+(.*)$", said, re.MULTILINE))
    assert (status["type"], status["status"], status["mode"]) == ("VERITY", "verified", "readonly")
    words = host.file("/proc/cmdline").content_string.split()
    assert f"golden.hash={status['root hash']}" in words
