"""Differences between package lists."""

from __future__ import annotations

from goldenami.packages import package_diff
from support.builds import report_data as data


def test_what_moved_came_went_and_is_the_same() -> None:
    same, other = data.package("1"), data.package("2")
    diff = package_diff.compare(
        {"a": same, "b": other, "d": same, "e": same},
        {"a": same, "c": other, "d": data.package("1", seed="x"), "e": data.package("1.1~rc1")},
    )
    assert [(move.name, move.before, move.after) for move in diff.moves] == [
        ("b", "2", ""),
        ("c", "", "2"),
        ("d", "1", "1"),
        ("e", "1", "1.1~rc1"),
    ]
    assert (diff.unchanged, diff.installed_bytes) == (1, 0)
