"""An image of what vendors have, from five sources on loopback: locked, baked without a network,
booted, and baked again to the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core import records
from goldenami.model.builds import lockfile
from goldenami.model.builds.build_records import Outcome, VerifyRecord
from support.builds import bakes, checkout
from support.debian import debrepo, docker_ce
from support.debian.vendors import LOGIN, VARIABLE, VendorServer

pytestmark = pytest.mark.long

IMAGE = "debian-13-vendors"
DEFINITION = f"""image: {IMAGE}
description: Debian 13 with what vendors have
base:
  distribution: debian
  release: trixie
kernel: cloud
disk_size_gib: 3
hardware: [c7i]
{{sources}}roles:
  os_updates:
  kernel:
  container_runtime:
    container_runtime_packages: [docker-ce, docker-ce-cli, containerd.io]
  customize:
    customize_packages: [company-tool]
  fabric:
    after: customize
  limits:
  network_tuning:
  provenance:
  seal:
"""
FABRIC = {
    "roles/fabric/tasks/main.yml": "- name: Run the vendor's installer\n"
                                   "  ansible.builtin.command: /opt/fabric-installer/install.sh\n",
    "roles/fabric/vars/main.yml": "__fabric_files: [/opt/fabric/lib/fabric.so]\n",
    "tests/image/fabric/test_fabric.py": "def test_installer_has_run(host):\n"
        "    assert host.file('/opt/fabric/lib/fabric.so').content_string == 'not really\\n'\n"
        "    assert host.check_output('/opt/probe/bin/probe') == '2.1'\n",
}


@pytest.fixture(scope="module")
def vendor(
    key: debrepo.Key, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VendorServer]:
    made = VendorServer(tmp_path_factory.mktemp("vendor"), key)
    made.take(docker_ce.build(tmp_path_factory.mktemp("docker")))
    yield made
    made.close()


@pytest.fixture(scope="module")
def root(vendor: VendorServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout with the image's build, which was booted and passed every check."""
    definition = DEFINITION.format(sources=vendor.repos() + vendor.downloads())
    files = {f"packer/images/{IMAGE}.yml": definition, **FABRIC}
    folder = tmp_path_factory.mktemp("company") / "root"
    with bakes.baked(folder, files, locked=vendor.close, **{VARIABLE: LOGIN}) as root:
        yield root


def test_every_source_is_in_the_booted_image(root: Path) -> None:
    lock = lockfile.read(lockfile.path_of(root, IMAGE))[0]
    assert {lock.packages[name].origin for name in docker_ce.NAMES} == {"agent"}
    assert "docker.io" not in lock.packages
    record = records.read(root / f"build/{IMAGE}/latest/verify.json", VerifyRecord)
    checks = {check.id: check.outcome for check in record.checks}
    for name in ("customize/packages_are_installed", "customize/files_by_address_are_there",
                 "container_runtime/docker_is_configured", "fabric/installer_has_run"):
        assert checks.get(name) is Outcome.CORRECT, f"{name}, of {sorted(checks)}"


def test_nothing_holds_the_login(root: Path) -> None:
    for folder in ("build", "packer"):
        for path in (path for path in (root / folder).rglob("*") if path.is_file()):
            if path.name != "disk.raw":
                assert LOGIN.partition(":")[2].encode() not in path.read_bytes(), path


def test_again_the_same_bytes(root: Path) -> None:
    status, said = bakes.finish(checkout.golden(root, "reproduce", IMAGE))
    assert status == 0, said
