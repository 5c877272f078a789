"""The instance types that EC2 launches an AMI on, as its list of allowed types says them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase

from goldenami.core import records
from goldenami.core.records import Record
from goldenami.model.supported import gpu_classes
from goldenami.model.supported.hardware import Family


class TypeRule(StrEnum):
    """Which types a publish allows for an AMI, and so which a test on GPUs has to cover."""

    ANY = "any"
    DECLARED = "declared"
    PROVED = "proved"


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

    def with_type(self, instance_type: str) -> AllowedTypes:
        """Return the lists with one more type that is supported."""
        if self.allows(instance_type):
            return self
        supported = tuple(sorted({*self.supported, instance_type}))
        return self.model_copy(update={"supported": supported})

    @property
    def digest(self) -> str:
        """A short digest of both lists, which fits in a tag."""
        return records.sha256_text(str(self))[:16]

    def __str__(self) -> str:
        if not self.supported:
            return "any"
        exceptions = f" but {', '.join(self.unsupported)}" if self.unsupported else ""
        return f"{', '.join(self.supported)}{exceptions}"


def _matches(patterns: Iterable[str], instance_type: str) -> bool:
    return any(fnmatchcase(instance_type, pattern) for pattern in patterns)


WIDER = (
    "`publish: instance_types: declared` allows all sizes of `hardware:`, and `gpu-test` then "
    "takes a machine of each class; `any` allows any type"
)
"""How a definition allows more types."""
MOST_ENTRIES = 100
"""Most entries of each list ("InstanceTypeSpecificationRequest", EC2 API reference)."""
METAL = "*.metal*"
"""Sizes without a hypervisor. Nobody boots an image on one before it is `latest`: `verify` and the
test on a GPU run on virtual machines."""


def tested_classes(
    rule: TypeRule, families: Mapping[str, Family], names: Iterable[str]
) -> list[str]:
    """Return the classes of GPU machines of which a test has to cover one machine each: all that
    the families `names` have, or, if only what is proved is allowed, the cheapest of each compute
    capability."""
    classes = list(gpu_classes.declared(families, names))
    if rule is TypeRule.PROVED:
        return gpu_classes.first_of_each_architecture(classes)
    return classes


def untested(families: Mapping[str, Family], names: Iterable[str]) -> dict[str, list[str]]:
    """Return the types, by class, that are declared and not allowed where only what is proved
    is."""
    names = list(names)
    types = gpu_classes.declared(families, names)
    covered = tested_classes(TypeRule.PROVED, families, names)
    return {name: rows for name, rows in types.items() if name not in covered}


def of_families(
    rule: TypeRule, families: Mapping[str, Family], names: Iterable[str]
) -> AllowedTypes:
    """Return the types of the families `names` that the rule allows: their sizes but for bare
    metal. If only what is proved is allowed, sizes with NVIDIA GPUs are named one by one, so that
    EC2 refuses those that AWS adds later."""
    if rule is TypeRule.ANY:
        return AllowedTypes()
    names = sorted(name for name in names if name in families)
    supported = {f"{name}.*" for name in names}
    if rule is TypeRule.PROVED:
        supported = {f"{name}.*" for name in names if not families[name].sm}
        types = gpu_classes.declared(families, names)
        for name in tested_classes(rule, families, names):
            supported |= {*types[name]}
    return AllowedTypes(supported=tuple(sorted(supported)), unsupported=(METAL,))
