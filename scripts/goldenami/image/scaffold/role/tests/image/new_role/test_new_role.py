"""What the role says is in the image: asked in Molecule's container, of the disk, and of
instances."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.no_boot
def test_the_interval_is_the_definition_s(host: Any, lock: dict[str, Any]) -> None:
    """The program reads it there."""
    lines = host.file("/etc/new_role.conf").content_string.splitlines()
    assert f"interval_s = {lock['new_role_interval_s']}" in lines


@pytest.mark.no_boot
def test_its_packages_are_installed(host: Any, lock: dict[str, Any]) -> None:
    """Each of them, also where the list is empty."""
    lacking = [name for name in lock["new_role_packages"] if not host.package(name).is_installed]
    assert not lacking
