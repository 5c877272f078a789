"""packer/hardware.yml: EC2 instance families and what an image must contain to run on them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from goldenami.core import yaml_lines
from goldenami.core.records import Record
from goldenami.core.yaml_lines import YamlFile, nearest
from goldenami.model import program_files
from goldenami.model.supported import instruction_sets
from goldenami.model.supported.architectures import (
    ARCHITECTURES,
    BootMode,
    GccVersion,
    of_cpu,
)


class OpenModules(StrEnum):
    """Whether NVIDIA's open kernel modules run a GPU; where they are required, the proprietary ones
    do not."""

    UNSUPPORTED = "unsupported"
    POSSIBLE = "possible"
    REQUIRED = "required"


class Maker(StrEnum):
    """EC2's names of manufacturers of processors and GPUs."""

    AMD = "AMD"
    AWS = "AWS"
    INTEL = "Intel"
    NVIDIA = "NVIDIA"


class Cpu(Record):
    """A micro-architecture: `name` is its -march (Arm: -mcpu) in GCC and LLVM."""

    name: str
    maker: Annotated[Maker, Field(strict=False)]
    sold_as: str
    source: str

    @property
    def architecture(self) -> str:
        return of_cpu(self.name)


class GpuFigures(Record):
    """What a GPU reaches at most: GB/s of its memory, TFLOPS of dense 16-bit matrix products, its
    PCIe link ("4x16": generation 4, 16 lanes), its NVLinks ("18x50": 18 of 50 GB/s in both
    directions), and the NVSwitches of a machine with 8. None where the source does not say, or the
    GPU has none.
    """

    memory_gb_s: float
    matmul_tflops: float | None = None
    pcie: Annotated[str, Field(pattern=r"^[3-6]x(8|16)$")] | None = None
    nvlink: Annotated[str, Field(pattern=r"^\d{1,2}x\d{2,3}$")] | None = None
    nvswitches: int = 0
    source: str


def _pair(text: str | None) -> tuple[int, int]:
    first, _, second = (text or "0x0").partition("x")
    return int(first), int(second)


class Gpu(Record):
    """A GPU by EC2's name. `sm` is the CUDA compute capability without its dot ("86"); only
    NVIDIA's have one."""

    name: str
    maker: Annotated[Maker, Field(strict=False)]
    sm: Annotated[str, Field(pattern=r"^\d{2,3}$")] | None = None
    open_modules: Annotated[OpenModules, Field(strict=False)] | None = None
    figures: GpuFigures | None = None
    source: str


class Machines(Record):
    """What one machine of each size of a family has: MiB of each GPU, and the sizes by
    "GPUs+local disks"."""

    memory_mib: int
    sizes: dict[Annotated[str, Field(pattern=r"^\d+\+\d+$")], list[str]]

    def counts(self) -> Iterator[tuple[str, int, int]]:
        """Each size with its GPUs and its local disks."""
        for what, sizes in self.sizes.items():
            gpus, _, disks = what.partition("+")
            yield from ((size, int(gpus), int(disks)) for size in sizes)


_Boot = list[Annotated[BootMode, Field(strict=False)]]


class Family(Record):
    """One instance family; the keys are explained in packer/hardware.yml. `counts` are GPUs of its
    sizes, `machines` its row of that section."""

    cpu: Cpu
    gpu: Gpu | None = None
    counts: list[int] = Field(default_factory=list)
    machines: Machines | None = None
    chip: str | None = None
    boot: _Boot
    efa: bool = False
    nvme: bool = True
    nvswitch: bool = False
    gsp_off: bool = False
    note: str = ""
    source: str

    @property
    def sm(self) -> str | None:
        return self.gpu.sm if self.gpu else None

    @property
    def open_modules(self) -> OpenModules | None:
        return self.gpu.open_modules if self.gpu else None

    def substance(self) -> dict[str, Any]:
        row = self.model_dump(mode="json", exclude={"note", "source", "cpu", "gpu", "machines"})
        return row | {"cpu": self.cpu.name, "gpu": self.gpu and self.gpu.name, "sm": self.sm,
                      "open_modules": self.open_modules}


class GpuType(Record):
    """What a GPU test expects of one instance type; tests/image reads it as JSON.

    `gpus` of `memory_mib` each, as EC2 describes them; the rest are the GPU's figures. An unknown
    PCIe link has 0 lanes of generation 0: no link is below it. `nvswitch`: it connects the GPUs, so
    each reaches the others' memory, by `nvlinks` of `nvlink_gb_s` in one direction together.
    """

    type: str
    gpu: str
    gpus: int
    memory_mib: int
    memory_gb_s: float
    matmul_tflops: float | None
    pcie_generation: int
    pcie_width: int
    nvswitch: bool
    nvswitches: int
    nvlinks: int
    nvlink_gb_s: float


def gpu_type(known: Mapping[str, Family], described: Mapping[str, Any]) -> GpuType:
    """Of a row of DescribeInstanceTypes of a family with an NVIDIA GPU."""
    name: str = described["InstanceType"]
    family, row = known[name.partition(".")[0]], described["GpuInfo"]["Gpus"][0]
    assert family.gpu is not None and family.gpu.figures is not None
    figures, count = family.gpu.figures, int(row["Count"])
    (generation, width), (links, speed) = _pair(figures.pcie), _pair(figures.nvlink)
    return GpuType(
        type=name, gpu=family.gpu.name, gpus=count, memory_mib=int(row["MemoryInfo"]["SizeInMiB"]),
        memory_gb_s=figures.memory_gb_s, matmul_tflops=figures.matmul_tflops,
        pcie_generation=generation, pcie_width=width, nvswitch=family.nvswitch and count > 1,
        nvswitches=figures.nvswitches, nvlinks=links, nvlink_gb_s=links * speed / 2)


def machines(root: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """What a machine of each type of the families has: what the role golden_health expects."""
    known, found = load(root), dict[str, dict[str, Any]]()
    for name in names:
        family = known[name]
        if family.machines is None or family.gpu is None or family.gpu.figures is None:
            continue
        figures = family.gpu.figures
        generation, width = _pair(figures.pcie)
        for size, gpus, disks in family.machines.counts():
            switched = family.nvswitch and gpus > 1
            found[f"{name}.{size}"] = {
                "gpu": family.gpu.name, "gpus": gpus, "disks": disks,
                "memory_mib": family.machines.memory_mib,
                "pcie_width": width, "pcie_generation": generation,
                "nvswitches": figures.nvswitches if switched else 0,
                "nvlinks": _pair(figures.nvlink)[0] if switched else 0}
    return found


R = TypeVar("R", bound=Record)
MACHINES = "machines"
SECTIONS = ("sources", "cpus", "gpus", "figures", "families", MACHINES)


@cache
def load(root: Path) -> dict[str, Family]:
    """All known families by name, or BadInput with file, line and the nearest valid word."""
    source = program_files.table(root, "packer/hardware.yml", depth=2)
    for name in source.data:
        if name not in SECTIONS:
            raise source.error((name,), f"unknown section; {nearest(str(name), SECTIONS)}")
    for name in SECTIONS:
        if not isinstance(section := source.data.get(name), dict):
            raise source.error((name,), "is required and missing" if name not in source.data else
                               f"expected a mapping, got {section!r}")
    cpus = {name: _row(source, ("cpus", name), Cpu, {"name": name}) for name in source.data["cpus"]}
    for name in cpus:
        known = [march for row in ARCHITECTURES.values() for march in row.cpus]
        if name not in known:
            raise source.error(("cpus", name),
                               f"what it can run is not known; {nearest(name, known)}")
    figures = {name: _row(source, ("figures", name), GpuFigures, {})
               for name in source.data["figures"]}
    gpus = {name: _row(source, ("gpus", name), Gpu, {"name": name, "figures": figures.get(name)})
            for name in source.data["gpus"]}
    for name in source.data[MACHINES].keys() - source.data["families"].keys():
        raise source.error((MACHINES, name),
                           f"unknown family; {nearest(str(name), source.data['families'])}")
    for name in figures.keys() - gpus.keys():
        raise source.error(("figures", name), f"unknown GPU; {nearest(name, gpus)}")
    return {name: _family(source, name, cpus, gpus) for name in source.data["families"]}


def _family(source: YamlFile, name: str, cpus: dict[str, Cpu], gpus: dict[str, Gpu]) -> Family:
    row, key = source.data["families"][name], ("families", name)
    linked: dict[str, Any] = {}
    for part, known in (("cpu", cpus), ("gpu", gpus)):
        wanted = row.get(part) if isinstance(row, dict) else None
        if wanted is not None and wanted not in known:
            raise source.error((*key, part),
                               f"unknown {part} `{wanted}`; {nearest(str(wanted), known)}")
        if wanted is not None:
            linked[part] = known[wanted]
    if machines := source.data[MACHINES].get(name):
        linked[MACHINES] = yaml_lines.validate(source, Machines, machines, at=(MACHINES, name))
    if "cpu" in linked and "boot" not in row:
        linked["boot"] = list(ARCHITECTURES[linked["cpu"].architecture].boot)
    family = _row(source, key, Family, linked)
    if bool(family.gpu) != bool(family.counts):
        raise source.error(key, "`gpu` and `counts` go together")
    return family


def _row(source: YamlFile, key: tuple[str, str], kind: type[R], linked: dict[str, Any]) -> R:
    row = source.data[key[0]][key[1]]
    if not isinstance(row, dict):
        raise source.error(key, f"expected a mapping, got {row!r}")
    found = yaml_lines.validate(source, kind, row | linked, at=key)
    if row["source"] not in source.data["sources"]:
        raise source.error((*key, "source"),
                           f"unknown source; {nearest(row['source'], source.data['sources'])}")
    return found


UNKNOWN = "one that is newer needs a row in packer/hardware.yml, with its source: its facts are not guessed"
"""What to do about a family that may well exist."""


def refusal(name: str) -> str:
    """Why no image serves a family; "" of others."""
    # Fabric Manager User Guide 2.3, 1.3.2: the fourth generation of NVSwitches is managed in-band.
    return (
        f"`{name}` joins its GPUs by NVSwitches without PCI functions: CUDA starts there only with "
        "NVLSM and the module ib_umad, which no image has yet"
        if re.match(r"p6(e|-|$)", name)
        else ""
    )


def architectures(root: Path, names: list[str]) -> list[str]:
    """The `sm` numbers of the families, once each, ascending."""
    known = load(root)
    return sorted({sm for name in names if (sm := known[name].sm)}, key=int)


def without_gsp(root: Path, names: list[str]) -> list[str]:
    """The families for which EC2 advises proprietary modules without the GSP firmware."""
    known = load(root)
    return [name for name in names if known[name].gsp_off]


def by_modules(known: Mapping[str, Family], names: list[str]) -> tuple[list[str], list[str]]:
    """The families whose GPU only the open kernel modules run, and those whose GPU they do not."""
    required = [name for name in names if known[name].open_modules is OpenModules.REQUIRED]
    return required, [name for name in names if known[name].open_modules is OpenModules.UNSUPPORTED]


def baseline(
    root: Path, names: list[str], gcc: GccVersion
) -> instruction_sets.Baseline:
    """What the CPUs of all the families can run, as `gcc` would be asked for it."""
    known = load(root)
    return instruction_sets.baseline([known[name].cpu.name for name in names], gcc)
