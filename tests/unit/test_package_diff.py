"""Differences between package lists, in Debian's order of versions."""

from __future__ import annotations

import pytest
from goldenami.packages import package_diff
from goldenami.packages.package_diff import Direction
from support.builds import report_data as data


def test_difference_follows_debian_order() -> None:
    diff = package_diff.compare(data.previous_lock()["packages"], data.lock()["packages"])
    moved = {change.name: change.direction for change in diff.changed}
    assert moved == {
        "libcuda1": Direction.UP, "nvidia-driver-libs": Direction.UP, "openssl": Direction.UP, "tzdata": Direction.DOWN,
        "libxml2": Direction.REBUILT,
    }
    assert [entry.name for entry in diff.added] == ["cloud-init", "libexample7"]
    assert [entry.name for entry in diff.removed] == ["nvidia-kernel-dkms"]
    assert (diff.unchanged, diff.empty) == (393, False)


@pytest.mark.parametrize(("old", "new", "direction"), [
    ("1.0~rc1-1", "1.0-1", Direction.UP), ("1:0.9", "2.0", Direction.DOWN), ("0.9", "0.10", Direction.UP),
    ("1.0", data.HOSTILE, Direction.UNORDERED), ("1.0", "1.00", Direction.UNORDERED),
])
def test_direction(old: str, new: str, direction: Direction) -> None:
    diff = package_diff.compare({"x": data.package(old)}, {"x": data.package(new)})
    assert diff.changed[0].direction is direction


def test_same_packages_are_no_difference() -> None:
    packages = data.lock()["packages"]
    assert package_diff.compare(packages, packages) == package_diff.PackageDiff((), (), (), 400, 0)
