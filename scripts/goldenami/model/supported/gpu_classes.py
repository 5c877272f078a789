"""Classes of machines with GPUs. A test on one machine of a class stands for all others of it: the
same compute capability, and alike in how many GPUs there are and how they are joined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

from goldenami.model.supported.hardware import Family


class Layout(StrEnum):
    """The GPUs of a machine, from what is launched most cheaply to what is dearest."""

    ONE = "one"
    SEVERAL = "several"
    NVSWITCH = "nvswitch"


WORDS = {Layout.ONE: "one GPU", Layout.SEVERAL: "several GPUs", Layout.NVSWITCH: "NVSwitches"}
_ORDER = list(Layout)


def class_of(family: Family, gpus: int) -> str:
    """Return the class of the family's machines with that many GPUs, such as "90-nvswitch". AMIs
    carry it in a tag."""
    layout = Layout.SEVERAL if gpus > 1 else Layout.ONE
    # A machine with one GPU of such a family has no NVSwitch.
    if family.nvswitch and gpus > 1:
        layout = Layout.NVSWITCH
    return f"{family.sm}-{layout}"


def words(gpu_class: str) -> str:
    """Return a class in words: "90-nvswitch" is "sm_90, NVSwitches"."""
    sm, _, layout = gpu_class.partition("-")
    if not layout:  # a tag of an earlier version, which names an architecture alone
        return f"sm_{sm}"
    return f"sm_{sm}, {WORDS[Layout(layout)]}"


def declared(families: Mapping[str, Family], names: Iterable[str]) -> dict[str, list[str]]:
    """Return the types of each class that the families `names` have, by class: the lowest compute
    capability first, then the cheapest layout. Bare metal is left out. A family whose sizes
    packer/hardware.yml does not list stands as `NAME.*` in each of its classes."""
    types = dict[str, list[str]]()
    for name in dict.fromkeys(names):
        for gpu_class, instance_type in _types(name, families[name]):
            rows = types.setdefault(gpu_class, [])
            if instance_type not in rows:
                rows.append(instance_type)
    return {gpu_class: types[gpu_class] for gpu_class in sorted(types, key=_rank)}


def _types(name: str, family: Family) -> Iterator[tuple[str, str]]:
    if not family.sm:
        return
    if family.machines is None:
        # A family with fractions of a GPU alone has to be tested, too, and no machine is offered.
        counts = [gpus for gpus in family.counts if gpus] or [1]
        yield from ((class_of(family, gpus), f"{name}.*") for gpus in counts)
        return
    for size, gpus, _ in family.machines.counts():
        if not size.startswith("metal"):
            yield class_of(family, gpus), f"{name}.{size}"


def _rank(gpu_class: str) -> tuple[int, int]:
    sm, _, layout = gpu_class.partition("-")
    return int(sm), _ORDER.index(Layout(layout))


def first_of_each_architecture(classes: Iterable[str]) -> list[str]:
    """Return the first of the classes of each compute capability."""
    first = dict[str, str]()
    for gpu_class in classes:
        first.setdefault(gpu_class.partition("-")[0], gpu_class)
    return list(first.values())
