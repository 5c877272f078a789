"""Which versions of this machine's programs a record names."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.local import host_tools
from support.builds.tools import need


def test_the_versions_are_those_that_dpkg_has_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    need("dpkg-query")
    dpkg = shell.output(["dpkg-query", "-W", "-f", "${Version}", "dpkg"])
    monkeypatch.setattr(host_tools, "PACKAGES", ("dpkg", "no-such-package"))
    assert host_tools.versions() == {"dpkg": dpkg}


def test_every_program_that_writes_the_disk_is_asked_for() -> None:
    need("sfdisk", "mke2fs", "mkfs.vfat", "mcopy", "grub-mkimage", "mmdebstrap", "systemd-nspawn")
    assert {"e2fsprogs", "fdisk", "dosfstools", "mtools", "grub-common", "grub-pc-bin",
            "grub-efi-amd64-bin",
            "mmdebstrap", "systemd-container"} <= host_tools.versions().keys()


def test_the_distribution_is_that_of_os_release() -> None:
    facts = dict(line.partition("=")[::2]
                 for line in Path("/etc/os-release").read_text("utf-8").splitlines())
    facts = {name: value.strip('"') for name, value in facts.items()}
    assert host_tools.distribution() == f"{facts['ID']}-{facts['VERSION_ID']}"
