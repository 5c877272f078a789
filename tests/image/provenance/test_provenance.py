"""The image says what it is, to everybody, and what it says is so."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest


@pytest.fixture(scope="module")
def facts(gather: Any) -> Any:
    return gather({
        "record": "cat /etc/golden-image.json", "mode": "stat -c '%a %U %G' /etc/golden-image.json",
        "motd": "cat /etc/motd.d/golden-image",
        "pam": "grep -h pam_motd /etc/pam.d/sshd /etc/pam.d/login",
        "kernels": "ls /boot/vmlinuz-*", "running": "uname -r",
        "wheels": "ls -d /opt/ml/*/lib/python3*/site-packages/nvidia_cuda_runtime*.dist-info",
        "packages": "dpkg-query -W -f '${Package} ${Version}\\n'",
    }, root=False)


@pytest.fixture(scope="module")
def record(facts: Any) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(facts["record"].text)
    return read


def test_record_is_the_lock_s(record: dict[str, Any], lock: dict[str, Any]) -> None:
    assert record == lock["provenance_record"]
    assert record["build_id"] == lock["golden_build_id"] and record["image"] == lock["golden_image"]


def test_everybody_may_read_it_and_only_root_write(facts: Any) -> None:
    assert facts["mode"].text == "644 root root"


def test_login_shows_image_and_build(facts: Any, record: dict[str, Any]) -> None:
    assert record["image"] in facts["motd"].text and record["build_id"] in facts["motd"].text
    assert any("motd=" not in line for line in facts["pam"].lines
               if "noupdate" in line), "no pam_motd reads motd.d"


def test_record_names_the_only_kernel(facts: Any, record: dict[str, Any]) -> None:
    assert facts["kernels"].lines == [f"/boot/vmlinuz-{record['kernel']}"]


def test_record_names_the_running_kernel(
    facts: Any, record: dict[str, Any], needs_boot: None
) -> None:
    assert facts["running"].text == record["kernel"]


def test_driver_and_cuda_are_those_installed(facts: Any, record: dict[str, Any]) -> None:
    installed = dict(line.split(" ", 1) for line in facts["packages"].lines)
    for fact, names in (("driver", r"libcuda1|libnvidia-tesla-\d+-cuda1|libnvidia-compute.*"),
                        ("cuda", r"nvidia-cuda-toolkit|libcudart.*")):
        found = {name: version for name, version in installed.items() if re.fullmatch(names, name)}
        wanted = record[fact]
        if fact == "cuda" and wanted and not found:
            found = dict(re.findall(r"/(nvidia_cuda_runtime\w*)-([\d.]+)\.dist-info",
                                    facts["wheels"].text))
        wrong = {name: version for name, version in found.items() if not wanted
                 or not version.startswith(wanted)}
        assert not wrong, f"the record says {fact} {wanted}, the image has {wrong}"
        assert found or not wanted, f"the record says {fact} {wanted}, the image has none"
