"""What EC2 says of a family's instance types, beside what packer/hardware.yml says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from goldenami.model.supported.architectures import ARCHITECTURES, BootMode
from goldenami.model.supported.hardware import Family

_DEBIAN_NAMES = {row.ec2: name for name, row in ARCHITECTURES.items()}
"""By EC2's; its i386 and Mac names concern no family here."""


def differences(name: str, family: Family, sizes: Sequence[dict[str, Any]]) -> list[str]:
    """Each fact of the row that EC2's entries of DescribeInstanceTypes contradict."""
    return [
        f"{name}: {fact}: hardware.yml has {_text(stated)}, EC2 has {_text(found)}"
        for fact, stated, found in _facts(family, sizes)
        if _text(stated) != _text(found)
    ]


def _facts(family: Family, sizes: Sequence[dict[str, Any]]) -> Iterator[tuple[str, Any, Any]]:
    """Name, stated and found value of everything that EC2 tells about a family."""
    gpus = [gpu for size in sizes for gpu in size.get("GpuInfo", {}).get("Gpus", [])]
    virtual = [size for size in sizes if not size.get("BareMetal")] or sizes
    yield (
        "architecture",
        family.cpu.architecture,
        {
            _DEBIAN_NAMES[name]
            for size in sizes
            for name in size["ProcessorInfo"]["SupportedArchitectures"]
            if name in _DEBIAN_NAMES
        },
    )
    yield (
        "CPU's maker",
        family.cpu.maker.value,
        {maker for size in sizes if (maker := size["ProcessorInfo"].get("Manufacturer"))},
    )
    yield (
        "GPU",
        f"{family.gpu.maker.value} {family.gpu.name}" if family.gpu else (),
        {f"{gpu['Manufacturer']} {gpu['Name']}" for gpu in gpus},
    )
    yield "GPUs of a size", family.counts, {gpu["Count"] for gpu in gpus}
    if family.machines:
        yield (
            "GPUs and local disks of sizes",
            [f"{size} {gpus}+{disks}" for size, gpus, disks in family.machines.counts()],
            set(_sizes(sizes)),
        )
    yield "accelerator", family.chip or (), set(_chips(sizes))
    yield (
        "boot modes",
        [mode.value for mode in family.boot],
        {
            mode.value
            for mode in BootMode
            if all(mode.value in size.get("SupportedBootModes", []) for size in virtual)
        },
    )
    yield "EFA", family.efa, any(size["NetworkInfo"].get("EfaSupported") for size in sizes)
    yield (
        "NVMe volumes",
        family.nvme,
        all(size["EbsInfo"].get("NvmeSupport") == "required" for size in sizes),
    )


def _sizes(sizes: Sequence[dict[str, Any]]) -> Iterator[str]:
    """`12xlarge 4+1` of each size: GPUs and local disks."""
    for size in sizes:
        counts = [
            sum(each["Count"] for each in size.get(info, {}).get(kind, []))
            for info, kind in (("GpuInfo", "Gpus"), ("InstanceStorageInfo", "Disks"))
        ]
        yield f"{size['InstanceType'].partition('.')[2]} {counts[0]}+{counts[1]}"


def _chips(sizes: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Accelerators that are no GPUs: EC2 lists Inferentia and Trainium under different keys."""
    for size in sizes:
        for info, devices in (
            ("InferenceAcceleratorInfo", "Accelerators"),
            ("NeuronInfo", "NeuronDevices"),
        ):
            yield from (device["Name"] for device in size.get(info, {}).get(devices, []))


def _text(value: Any) -> str:
    """A value or several of them in one order, so that equal facts are equal text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return ", ".join(sorted(str(part) for part in value)) or "none"
