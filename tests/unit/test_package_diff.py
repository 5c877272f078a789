"""Differences between package lists, in Debian's order of versions."""

from __future__ import annotations

import pytest
from goldenami.packages import package_diff
from goldenami.packages.package_diff import Direction
from support.builds import report_data as data


@pytest.mark.parametrize(("old", "new", "direction"), [
    ("1.0~rc1-1", "1.0-1", Direction.UP), ("1:0.9", "2.0", Direction.DOWN), ("0.9", "0.10", Direction.UP),
    ("1.0", data.HOSTILE, Direction.UNORDERED), ("1.0", "1.00", Direction.UNORDERED),
])
def test_direction(old: str, new: str, direction: Direction) -> None:
    diff = package_diff.compare({"x": data.package(old)}, {"x": data.package(new)})
    assert diff.changed[0].direction is direction


def test_what_came_went_and_is_the_same() -> None:
    same, other = data.package("1"), data.package("2")
    diff = package_diff.compare({"a": same, "b": other}, {"a": same, "c": other})
    assert [entry.name for entry in diff.added] == ["c"]
    assert [entry.name for entry in diff.removed] == ["b"]
    assert (diff.changed, diff.unchanged, diff.empty) == ((), 1, False)
    rebuilt = package_diff.compare({"a": same}, {"a": data.package("1", seed="x")})
    assert rebuilt.changed[0].direction is Direction.REBUILT
