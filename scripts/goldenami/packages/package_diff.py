"""Compares the packages of two locks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from goldenami.core.records import Record

Packages = Mapping[str, Mapping[str, Any]]


class PackageMove(Record):
    """A package that differs. `before` is "" for a new package, `after` is "" for a removed one. If
    both versions are equal, the file's bytes differ."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class PackageDiff:
    """Packages that differ, by name, and the number of `unchanged` ones. `installed_bytes` is how
    much more the newer set takes on disk, as the packages state it."""

    moves: list[PackageMove]
    unchanged: int
    installed_bytes: int


def compare(before: Packages, after: Packages) -> PackageDiff:
    """Return the difference between `packages` of two locks."""
    names = sorted(before.keys() | after.keys())
    moves = [
        PackageMove(name=name, before=_version(before, name), after=_version(after, name))
        for name in names
        if _file(before, name) != _file(after, name)
    ]
    return PackageDiff(moves, len(names) - len(moves), _installed(after) - _installed(before))


def _version(packages: Packages, name: str) -> str:
    return str(packages[name]["version"]) if name in packages else ""


def _file(packages: Packages, name: str) -> tuple[str, str]:
    return _version(packages, name), packages.get(name, {}).get("sha256", "")


def _installed(packages: Packages) -> int:
    return sum(int(entry.get("installed_size", 0)) for entry in packages.values())
