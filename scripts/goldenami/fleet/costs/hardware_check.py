"""Whether packer/hardware.yml agrees with what EC2 says of the families' instance types. Pure: no
I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from goldenami.core.records import Record
from goldenami.model.supported.architectures import ARCHITECTURES, BootMode
from goldenami.model.supported.hardware import Family

InstanceType = Mapping[str, Any]
"""One entry of DescribeInstanceTypes."""

_DEBIAN_NAMES = {row.ec2: name for name, row in ARCHITECTURES.items()}
"""By EC2's; its i386 and Mac names concern no family here."""


class Difference(Record):
    """One fact that hardware.yml states and EC2 contradicts."""

    family: str
    fact: str
    stated: str
    found: str

    def __str__(self) -> str:
        return f"{self.family}: {self.fact}: hardware.yml has {self.stated}, EC2 has {self.found}"


class Comparison(Record):
    """The families that EC2 knows, what differs in them, and the families that it said nothing
    about."""

    compared: list[str]
    differences: list[Difference]
    unreachable: list[str]


def compare(families: Mapping[str, Family], types: Iterable[InstanceType]) -> Comparison:
    """Compare each family with its instance types; a family without any could not be looked at."""
    sizes: dict[str, list[InstanceType]] = {name: [] for name in families}
    for entry in types:
        sizes.get(str(entry["InstanceType"]).partition(".")[0], []).append(entry)
    differences = [
        Difference(family=name, fact=fact, stated=_text(stated), found=_text(found))
        for name, entries in sizes.items() if entries
        for fact, stated, found in _facts(families[name], entries) if _text(stated) != _text(found)]
    return Comparison(compared=[name for name, entries in sizes.items() if entries],
                      differences=differences,
                      unreachable=[name for name, entries in sizes.items() if not entries])


def _facts(family: Family, sizes: list[InstanceType]) -> Iterator[tuple[str, Any, Any]]:
    """Name, stated and found value of everything that EC2 tells about a family."""
    gpus = [gpu for size in sizes for gpu in size.get("GpuInfo", {}).get("Gpus", [])]
    virtual = [size for size in sizes if not size.get("BareMetal")] or sizes
    yield "architecture", family.cpu.architecture, {
        _DEBIAN_NAMES[name] for size in sizes
        for name in size["ProcessorInfo"]["SupportedArchitectures"]
        if name in _DEBIAN_NAMES}
    yield "CPU's maker", family.cpu.maker.value, {
        maker for size in sizes if (maker := size["ProcessorInfo"].get("Manufacturer"))}
    yield "GPU", f"{family.gpu.maker.value} {family.gpu.name}" if family.gpu else (), {
        f"{gpu['Manufacturer']} {gpu['Name']}" for gpu in gpus}
    yield "GPUs of a size", family.counts, {gpu["Count"] for gpu in gpus}
    if family.machines:
        yield "GPUs and local disks of sizes", [
            f"{size} {gpus}+{disks}" for size, gpus, disks in family.machines.counts()
        ], set(_sizes(sizes))
    yield "accelerator", family.chip or (), set(_chips(sizes))
    yield "boot modes", [mode.value for mode in family.boot], {
        mode.value for mode in BootMode
        if all(mode.value in size.get("SupportedBootModes", []) for size in virtual)}
    yield "EFA", family.efa, any(size["NetworkInfo"].get("EfaSupported") for size in sizes)
    yield "NVMe volumes", family.nvme, all(size["EbsInfo"].get("NvmeSupport") == "required"
                                           for size in sizes)


def _sizes(sizes: list[InstanceType]) -> Iterator[str]:
    """`12xlarge 4+1` of each size: GPUs and local disks."""
    for size in sizes:
        counts = [sum(each["Count"] for each in size.get(info, {}).get(kind, []))
                  for info, kind in (("GpuInfo", "Gpus"), ("InstanceStorageInfo", "Disks"))]
        yield f"{size['InstanceType'].partition('.')[2]} {counts[0]}+{counts[1]}"


def _chips(sizes: list[InstanceType]) -> Iterator[str]:
    """Names of accelerators that are no GPUs: EC2 lists Inferentia and Trainium under different
    keys."""
    for size in sizes:
        for info, devices in (("InferenceAcceleratorInfo", "Accelerators"),
                              ("NeuronInfo", "NeuronDevices")):
            yield from (device["Name"] for device in size.get(info, {}).get(devices, []))


def _text(value: Any) -> str:
    """A value or several of them in one order, so that equal facts are equal text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return ", ".join(sorted(str(part) for part in value)) or "none"
