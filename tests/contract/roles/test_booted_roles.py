"""What only a boot shows of roles that no small image has: one is made here, with all of them, and
thrown away.

Docker and a folder for local disks on an immutable root, the rules of auditd, golden-idle that
turns its own machine off, and kernel modules of somebody's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from goldenami.core import records
from goldenami.model.builds.build_records import Outcome, VerifyRecord
from support.builds import bakes, guest, installed
from support.debian import debrepo, dkms_sources
from support.idle import booted as idle

pytestmark = pytest.mark.long

IMAGE = "debian-13-booted"
DEFINITION = f"""image: {IMAGE}
description: Debian 13 with what only a boot shows
base:
  distribution: debian
  release: trixie
kernel: cloud
disk_size_gib: 3
hardware: [c7i]
immutable: true
kernel_modules:
  - {{name: falco, package: falcosecurity-scap-dkms}}
  - {{name: agent, source: {{url: "URL", sha256: "SHA256"}}}}
roles:
  os_updates:
  container_runtime:
  instance_store:
    instance_store_container_engine: docker
  golden_health:
  golden_idle:
  kernel:
  hardening:
    hardening_audit_enabled: true
  limits:
  network_tuning:
  provenance:
  seal:
publish:
  regions: [us-east-1]
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The build of a new lock, which was booted and passed every check."""
    folder, tarball = tmp_path_factory.mktemp("booted"), dkms_sources.tarball(dkms_sources.files())
    served = folder / "served"
    served.mkdir()
    (served / "agent-1.2.tar.xz").write_bytes(tarball)
    mirror = debrepo.Mirror(served)
    text = DEFINITION.replace("URL", f"{mirror.uri}/agent-1.2.tar.xz").replace(
        "SHA256", dkms_sources.sha256(tarball)
    )
    files = {f"packer/images/{IMAGE}.yml": text}
    with bakes.baked(folder / "root", files, locked=mirror.close) as root:
        yield root / "build" / IMAGE / "latest"


@pytest.fixture
def folder(build: Path, tmp_path: Path) -> Path:
    """One with its disk, which no boot writes."""
    (tmp_path / "disk.raw").symlink_to(build.resolve() / "disk.raw")
    return tmp_path


def test_every_role_is_as_it_should_be(build: Path) -> None:
    """What a skipped test would hide: the checks that were asked are named."""
    checks = {
        check.id: check.outcome
        for check in records.read(build / "verify.json", VerifyRecord).checks
    }
    for name in (
        "hardening/audit_records_what_the_rules_say",
        "golden_idle/unit_is_well_and_within_its_memory",
        "golden_health/nothing_is_found_on_a_machine_without_faults",
        "container_runtime/container_has_the_limits_and_a_network",
        "instance_store/boot_mounted_the_disks_or_did_nothing",
        "immutable/root_is_verity_s_and_read_only",
        "kernel/out_of_tree_modules_are_those_of_the_lock",
        "kernel/the_kernel_takes_out_of_tree_modules",
    ):
        assert checks.get(name) is Outcome.CORRECT, (
            f"{name}: {checks.get(name)}, of {sorted(checks)}"
        )


def test_docker_keeps_its_images_on_an_immutable_root(build: Path, folder: Path) -> None:
    told = guest.facts("support.builds.installs", folder)
    installed.check(told, build.resolve() / "disk.raw", folder / "again.raw")
    before = told["before"]
    assert before["storage"].split() == ["overlay2", "ext4"], before["storage"]
    assert before["loaded"].endswith("Loaded image: localhost/golden-probe:latest"), before[
        "loaded"
    ]
    assert (before["ran"], told["after"]["ran"]) == ("mine", "again")
    assert int(told["audit"]) > 0, "auditd has no record of a new file of sudo's"


def test_golden_idle_protects_tells_and_turns_the_machine_off(folder: Path) -> None:
    told: dict[str, Any] = guest.facts("support.idle.booted", folder)
    assert told["settings"] == "action poweroff, window 15 minutes\n"
    assert "GPU 0 at 40 %" in told["busy"]["reason"] and told["busy"]["group"] == idle.GROUP, told[
        "busy"
    ]
    published = {
        each["MetricName"]: {pair["Name"]: pair["Value"] for pair in each["Dimensions"]}
        for each in told["metrics"]
    }
    assert {
        "nvidia_smi_utilization_gpu",
        "nvidia_smi_memory_used",
        "cpu_usage_active",
        "mem_used_percent",
        "disk_used_percent",
        "golden_idle",
    } <= published.keys()
    assert published["nvidia_smi_memory_used"]["name"] == "NVIDIA L4"
    assert {each["InstanceId"] for each in published.values() if "InstanceId" in each} == {
        told["instance"]
    }
    unit = told["unit"]
    assert (unit["NRestarts"], unit["NoNewPrivileges"], unit["ProtectSystem"]) == (
        "0",
        "yes",
        "strict",
    )
    assert int(unit["MemoryPeak"]) < 256 << 20
    assert told["notice"]["Subject"].endswith("is idle: poweroff")
    assert (told["ended"], "Power down" in told["console"]) == (0, True), told["console"]
