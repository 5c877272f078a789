"""A root that nobody can write and that the kernel checks, and folders that keep what an instance
writes."""

from __future__ import annotations

import re
from typing import Any

import pytest

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
def facts(gather: Any) -> Any:
    return gather({
        "list": "grep -v ^# /etc/default/golden-persistent",
        "unit": "systemctl is-enabled golden-grow-persist.service",
        "place": "stat -c '%a %U' /persist",
    })


@pytest.fixture(scope="module")
def machine(gather: Any, needs_boot: None) -> Any:
    return gather({
        "root": "findmnt -n -o SOURCE,FSTYPE,OPTIONS /", "cmdline": "cat /proc/cmdline",
        "overlays": "findmnt -n -l -t overlay -o TARGET,OPTIONS",
        "usr": "touch /usr/golden-probe", "remount": "mount -o remount,rw /",
        "raw": "dd if=/dev/zero of=/dev/mapper/root bs=4096 count=1",
        "esp": "findmnt -n -o OPTIONS /boot/efi",
        "persist": "findmnt -n -b -o SIZE,AVAIL,FSTYPE /persist",
        "sizes": "lsblk -n -b -l -o TYPE,PARTLABEL,SIZE /dev/$(lsblk -n -o PKNAME $(findmnt -n -o SOURCE /persist))",
        "inodes": "df --output=ipcent /persist | tail -n 1", "swap": "cat /proc/swaps",
        "kept": "echo x > /etc/golden-probe && ls /persist/upper/etc/golden-probe && rm /etc/golden-probe",
        "renamed": "mv /etc/ssh/ssh_config.d /etc/ssh/probe.d && mv /etc/ssh/probe.d /etc/ssh/ssh_config.d",
        "venv": VENV,
        "devices": "findmnt -n -l -o TARGET,OPTIONS -T /home; mknod /home/golden-probe c 1 3; "
                                 "head -c 0 /home/golden-probe; rm /home/golden-probe",
        # Last: whatever was wrong with a block of what a boot reads has been seen by now.
        "status": "veritysetup status root",
    })


def test_folders_that_are_written_are_listed(facts: Any, lock: dict[str, Any]) -> None:
    kinds = dict(reversed(line.split()) for line in facts["list"].lines)
    overlays = [folder for folder, kind in kinds.items() if kind == "overlay"]
    assert overlays == ["/etc", "/home", "/opt", "/root", "/srv", "/var"]
    assert ("/var/lib/docker" in kinds) == ("container_runtime" in lock["golden_roles"])


def test_what_was_written_is_private_and_grows(facts: Any) -> None:
    assert facts["place"].text == "700 root"
    assert facts["unit"].text == "enabled"


def test_root_is_verity_s_and_read_only(machine: Any) -> None:
    source, kind, options = machine["root"].text.split()
    assert (source, kind) == ("/dev/mapper/root", "ext4")
    assert "ro" in options.split(",")


def test_kernel_holds_the_root_to_the_hash_of_its_command_line(machine: Any) -> None:
    status = dict(re.findall(r"^\s*(\w[\w ]*):\s+(.*)$", machine["status"].text, re.MULTILINE))
    assert (status["type"], status["status"], status["mode"]) == ("VERITY", "verified", "readonly")
    assert f"golden.hash={status['root hash']}" in machine["cmdline"].text.split()


@pytest.mark.parametrize("way", ["usr", "remount", "raw"])
def test_nobody_writes_the_root(machine: Any, way: str) -> None:
    assert machine[way].status != 0
    assert re.search("Read-only file system|write-protected|Operation not permitted",
                     machine[way].text)


def test_device_files_of_the_instance_are_none(machine: Any) -> None:
    assert "nodev" in machine["devices"].lines[0].split()[1].split(","), machine["devices"].text
    assert "Permission denied" in machine["devices"].text


def test_boot_partition_is_mounted_read_only(machine: Any) -> None:
    assert "ro" in machine["esp"].text.split(",")


def test_listed_folders_are_written_beside_the_root(facts: Any, machine: Any) -> None:
    mounted = {line.split()[0] for line in machine["overlays"].lines}
    assert {
        line.split()[1] for line in facts["list"].lines if line.startswith("overlay")
    } <= mounted
    assert (machine["kept"].status, machine["kept"].text) == (0, "/persist/upper/etc/golden-probe")
    assert (machine["renamed"].status, machine["renamed"].text) == (0, "")


def test_environments_are_made_below_opt_and_home(machine: Any) -> None:
    assert (machine["venv"].status, machine["venv"].lines) == (0, ["imported", "imported"])


def test_persistent_file_system_fills_the_disk_and_has_space(machine: Any) -> None:
    size, free, kind = machine["persist"].text.split()
    rows = [line.split() for line in machine["sizes"].lines]
    disk = int(next(row[-1] for row in rows if row[0] == "disk"))
    parts = {row[1]: int(row[2]) for row in rows if row[0] == "part"}
    # The partition tables take 2 MiB; ext4 keeps about 5 % for its tables and journal.
    assert sum(parts.values()) > disk - (3 << 20)
    assert kind == "ext4" and int(size) > 0.9 * parts["persist"]
    assert int(free) > 512 << 20, "less than 512 MiB free"
    assert int(machine["inodes"].text.strip().rstrip("%")) < 80
    assert len(machine["swap"].lines) == 1, "swap is on"
