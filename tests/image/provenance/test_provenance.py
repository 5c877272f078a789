"""The image says what it is, to everybody, and what it says is so."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

RECORD = "/etc/golden-image.json"


@pytest.fixture(scope="module")
def record(user: Any) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(user.file(RECORD).content_string)
    return read


def test_record_is_the_lock_s(record: dict[str, Any], lock: dict[str, Any]) -> None:
    assert record == lock["provenance_record"]
    assert record["build_id"] == lock["golden_build_id"] and record["image"] == lock["golden_image"]


def test_everybody_may_read_it_and_only_root_write(host: Any) -> None:
    file = host.file(RECORD)
    assert (file.mode, file.user, file.group) == (0o644, "root", "root")


def test_login_shows_image_and_build(host: Any, record: dict[str, Any]) -> None:
    told = host.file("/etc/motd.d/golden-image").content_string
    assert record["image"] in told and record["build_id"] in told
    pam = host.check_output("grep -h pam_motd /etc/pam.d/sshd /etc/pam.d/login").splitlines()
    assert any("motd=" not in line for line in pam if "noupdate" in line), (
        "no pam_motd reads motd.d"
    )


def test_record_names_the_only_kernel(host: Any, record: dict[str, Any]) -> None:
    assert host.check_output("ls /boot/vmlinuz-*") == f"/boot/vmlinuz-{record['kernel']}"


def test_record_names_the_running_kernel(
    host: Any, record: dict[str, Any], needs_boot: None
) -> None:
    assert host.sysctl("kernel.osrelease") == record["kernel"]


def test_driver_and_cuda_are_those_installed(host: Any, record: dict[str, Any]) -> None:
    lines = host.check_output("dpkg-query -W -f %s", r"${Package} ${Version}\n").splitlines()
    installed = dict(line.split(" ", 1) for line in lines)
    wheels = host.run("ls -d /opt/ml/*/lib/python3*/site-packages/nvidia_cuda_runtime*.dist-info")
    for fact, names in (
        ("driver", r"libcuda1|libnvidia-tesla-\d+-cuda1|libnvidia-compute.*"),
        ("cuda", r"nvidia-cuda-toolkit|libcudart.*"),
    ):
        found = {name: version for name, version in installed.items() if re.fullmatch(names, name)}
        wanted = record[fact]
        of_wheels = dict(
            re.findall(r"/(nvidia_cuda_runtime\w*)-([\d.]+)\.dist-info", wheels.stdout)
        )
        # Beside wheels of the record's CUDA, the distribution's nvcc may be of another release.
        if (
            fact == "cuda"
            and wanted
            and (not found or any(version.startswith(wanted) for version in of_wheels.values()))
        ):
            found = of_wheels
        wrong = {
            name: version
            for name, version in found.items()
            if not wanted or not version.startswith(wanted)
        }
        assert not wrong, f"the record says {fact} {wanted}, the image has {wrong}"
        assert found or not wanted, f"the record says {fact} {wanted}, the image has none"
