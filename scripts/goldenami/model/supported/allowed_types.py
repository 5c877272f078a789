"""The instance types that EC2 launches an AMI on, as its list of allowed types says them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from fnmatch import fnmatchcase

from goldenami.core.records import Record


class TypeRule(StrEnum):
    """Which types a publish allows for an AMI."""

    ANY = "any"
    DECLARED = "declared"


class AllowedTypes(Record):
    """An AMI's two lists of types, with `*` for any text. A type has to match an entry of
    `supported`, if there is any, and none of `unsupported` (EC2 user guide, "AMI allowed instance
    types"). Both empty: any type."""

    supported: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()

    def allows(self, instance_type: str) -> bool:
        """Whether EC2 launches the AMI on this type."""
        if self.supported and not _matches(self.supported, instance_type):
            return False
        return not _matches(self.unsupported, instance_type)

    def __str__(self) -> str:
        if not self.supported:
            return "any"
        exceptions = f" but {', '.join(self.unsupported)}" if self.unsupported else ""
        return f"{', '.join(self.supported)}{exceptions}"


def _matches(patterns: Iterable[str], instance_type: str) -> bool:
    return any(fnmatchcase(instance_type, pattern) for pattern in patterns)


METAL = "*.metal*"
"""Sizes without a hypervisor. Nobody boots an image on one before it is `latest`: `verify` and the
test on a GPU run on virtual machines."""


def of_families(rule: TypeRule, names: Iterable[str]) -> AllowedTypes:
    """Return the types of the families that a lock names: their sizes but for bare metal."""
    if rule is TypeRule.ANY:
        return AllowedTypes()
    supported = tuple(f"{name}.*" for name in sorted(names))
    return AllowedTypes(supported=supported, unsupported=(METAL,))
