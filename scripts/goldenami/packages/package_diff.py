"""What differs between the packages of two locks, in Debian's order of versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from debian.debian_support import version_compare

Packages = Mapping[str, Mapping[str, Any]]


class Direction(StrEnum):
    """How a package that both builds have has moved."""

    UP = "newer"
    DOWN = "older"
    REBUILT = "same version, other bytes"
    UNORDERED = "not comparable"


@dataclass(frozen=True)
class Change:
    """One package in both builds whose version or content differs."""

    name: str
    before: str
    after: str
    direction: Direction


@dataclass(frozen=True)
class Presence:
    """One package that only one of the builds has."""

    name: str
    version: str


@dataclass(frozen=True)
class PackageDiff:
    """Everything that differs, each part sorted by name.

    `unchanged` is a count; `installed_bytes` is how much more the newer set takes by dpkg's
    account.
    """

    changed: tuple[Change, ...]
    added: tuple[Presence, ...]
    removed: tuple[Presence, ...]
    unchanged: int
    installed_bytes: int

    @property
    def empty(self) -> bool:
        return not (self.changed or self.added or self.removed)


def compare(before: Packages, after: Packages) -> PackageDiff:
    """The difference between `packages` of two locks."""
    common = sorted(before.keys() & after.keys())
    changed = tuple(change for name in common
                    if (change := _change(name, before[name], after[name])))
    return PackageDiff(
        changed=changed, added=_only(after, before), removed=_only(before, after),
        unchanged=len(common) - len(changed),
        installed_bytes=_installed(after) - _installed(before),
    )


def _only(these: Packages, without: Packages) -> tuple[Presence, ...]:
    return tuple(Presence(name, str(these[name]["version"]))
                 for name in sorted(these.keys() - without.keys()))


def _installed(packages: Packages) -> int:
    return sum(int(entry.get("installed_size", 0)) for entry in packages.values())


def _change(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Change | None:
    old, new = str(before["version"]), str(after["version"])
    if old == new:
        same = before.get("sha256") == after.get("sha256")
        return None if same else Change(name, old, new, Direction.REBUILT)
    return Change(name, old, new, _direction(old, new))


def _direction(old: str, new: str) -> Direction:
    try:
        order = version_compare(new, old)
    except ValueError:
        # a version that Debian's policy would refuse is still worth showing
        return Direction.UNORDERED
    return Direction.UP if order > 0 else Direction.DOWN if order < 0 else Direction.UNORDERED
