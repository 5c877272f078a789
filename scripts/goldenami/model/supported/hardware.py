"""Reads packer/hardware.yml, with EC2's instance families and their requirements on an image."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from goldenami.core import yaml_lines
from goldenami.core.records import Lax, Record
from goldenami.core.yaml_lines import Key, YamlFile, nearest
from goldenami.model import program_files
from goldenami.model.supported import instruction_sets
from goldenami.model.supported.architectures import (
    ARCHITECTURES,
    BootMode,
    GccVersion,
    of_cpu,
)
from goldenami.model.supported.compatibility import DriverTable


class OpenModules(StrEnum):
    """Whether NVIDIA's open kernel modules run a GPU. If they are required, the proprietary ones do
    not."""

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

    name: str = ""
    maker: Lax[Maker]
    sold_as: str
    source: str

    @property
    def architecture(self) -> str:
        return of_cpu(self.name)


class GpuFigures(Record):
    """A GPU's highest figures: GB/s of its memory, TFLOPS of dense 16-bit matrix products, its PCIe
    link ("4x16": generation 4, 16 lanes), its NVLinks ("18x50": 18 of 50 GB/s in both directions),
    and the NVSwitches of a machine with 8 GPUs. None if the source does not say it or the GPU has
    none.
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
    NVIDIA's have one. `first_branch` is the first driver branch that runs it, if that is not the
    first one of its compute capability."""

    name: str = ""
    maker: Lax[Maker]
    sm: Annotated[str, Field(pattern=r"^\d{2,3}$")] | None = None
    open_modules: Lax[OpenModules] | None = None
    first_branch: Annotated[str, Field(pattern=r"^\d{3}$")] | None = None
    figures: GpuFigures | None = None
    source: str

    def is_called(self, nvml_name: str) -> bool:
        """Whether `nvml_name` may be NVML's name of this GPU, such as "NVIDIA A100-SXM4-40GB" or
        "Tesla T4"."""
        vendor, *words = re.split(r"[ -]", nvml_name.lower())
        return vendor in ("nvidia", "tesla") and {*words} >= {*self.name.lower().split()}


class Machines(Record):
    """The machines of a family: MiB of memory of each GPU, and sizes by "GPUs+local disks"."""

    memory_mib: int
    sizes: dict[Annotated[str, Field(pattern=r"^\d+\+\d+$")], list[str]]

    def counts(self) -> Iterator[tuple[str, int, int]]:
        """Yield each size with its numbers of GPUs and of local disks."""
        for key, sizes in self.sizes.items():
            gpus, _, disks = key.partition("+")
            yield from ((size, int(gpus), int(disks)) for size in sizes)


_Boot = list[Lax[BootMode]]


class Family(Record):
    """One instance family. packer/hardware.yml explains the keys. `counts` are the numbers of GPUs
    of its sizes, `machines` is its row in that section."""

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

    def gpus_of(self, size: str) -> list[int]:
        """Return the possible numbers of GPUs of a machine of that size; [] if there is no such
        size."""
        if self.machines is None:
            return [count for count in self.counts if count]
        return [gpus for name, gpus, _ in self.machines.counts() if name == size]

    def substance(self) -> dict[str, Any]:
        """Return the fields that shape an image, without notes and sources."""
        row = self.model_dump(mode="json", exclude={"note", "source", "cpu", "gpu", "machines"})
        return row | {
            "cpu": self.cpu.name,
            "gpu": self.gpu and self.gpu.name,
            "sm": self.sm,
            "open_modules": self.open_modules,
        }


class GpuType(Record):
    """Expectations of a GPU test on one instance type; tests/image reads it as JSON.

    There are `gpus` GPUs of `memory_mib` each, as EC2 describes them; the other fields are the
    GPU's figures. An unknown PCIe link has 0 lanes of generation 0, so that any link passes. If
    `nvswitch` is true, each GPU reaches the others' memory by `nvlinks` links, of `nvlink_gb_s`
    together in one direction; else there are none.
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


def gpu_type(families: Mapping[str, Family], described: Mapping[str, Any]) -> GpuType:
    """Return the expectations for a row of DescribeInstanceTypes, whose family has to have an
    NVIDIA GPU."""
    name: str = described["InstanceType"]
    gpu_row = described["GpuInfo"]["Gpus"][0]
    memory_mib = int(gpu_row["MemoryInfo"]["SizeInMiB"])
    return _gpu_type(name, families[name.partition(".")[0]], int(gpu_row["Count"]), memory_mib)


def _gpu_type(name: str, family: Family, gpus: int, memory_mib: int) -> GpuType:
    assert family.gpu is not None and family.gpu.figures is not None
    figures = family.gpu.figures
    generation, width = _pair(figures.pcie)
    switches, links, speed = 0, 0, 0
    # A machine with one GPU of such a family has no NVSwitch.
    is_switched = family.nvswitch and gpus > 1
    if is_switched:
        switches = figures.nvswitches
        links, speed = _pair(figures.nvlink)
    return GpuType(
        type=name,
        gpu=family.gpu.name,
        gpus=gpus,
        memory_mib=memory_mib,
        memory_gb_s=figures.memory_gb_s,
        matmul_tflops=figures.matmul_tflops,
        pcie_generation=generation,
        pcie_width=width,
        nvswitch=is_switched,
        nvswitches=switches,
        nvlinks=links,
        nvlink_gb_s=links * speed / 2,
    )


_HEALTH_FIELDS = {
    "gpu",
    "gpus",
    "memory_mib",
    "pcie_generation",
    "pcie_width",
    "nvswitches",
    "nvlinks",
}
"""Fields of GpuType that the role golden_health compares with a machine."""


def machines(root: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return the expectations of the role golden_health for each instance type of the families."""
    families, expectations = load(root), dict[str, dict[str, Any]]()
    for name in names:
        family = families[name]
        if family.machines is None or family.gpu is None or family.gpu.figures is None:
            continue
        for size, gpus, disks in family.machines.counts():
            kind = _gpu_type(f"{name}.{size}", family, gpus, family.machines.memory_mib)
            expectations[kind.type] = {"disks": disks, **kind.model_dump(include=_HEALTH_FIELDS)}
    return expectations


class _Rows(Record):
    """The sections of packer/hardware.yml."""

    sources: dict[str, Any]
    cpus: dict[str, Cpu]
    gpus: dict[str, Gpu]
    figures: dict[str, GpuFigures]
    families: dict[str, dict[str, Any]]
    machines: dict[str, Machines]
    refused: dict[str, str]


def _rows(root: Path) -> tuple[YamlFile, _Rows]:
    source = program_files.table(root, "packer/hardware.yml", depth=2)
    return source, yaml_lines.validate(source, _Rows)


@cache
def load(root: Path) -> dict[str, Family]:
    """Return all known families by name. Raises BadInput with file, line and the nearest valid
    word."""
    source, rows = _rows(root)
    marches = list(chain.from_iterable(row.cpus for row in ARCHITECTURES.values()))
    for name in rows.cpus:
        _demand(source, ("cpus", name), name, marches, "what it can run is not known")
    for name in rows.machines:
        _demand(source, ("machines", name), name, rows.families, "unknown family")
    for name in rows.figures:
        _demand(source, ("figures", name), name, rows.gpus, "unknown GPU")
    families = {name: _family(source, rows, name) for name in rows.families}
    for section, table in (
        ("cpus", rows.cpus),
        ("gpus", rows.gpus),
        ("figures", rows.figures),
        ("families", families),
    ):
        for name, row in table.items():
            key = (section, name, "source")
            _demand(source, key, row.source, rows.sources, "unknown source")
    return families


def _family(source: YamlFile, rows: _Rows, name: str) -> Family:
    row, key = {**rows.families[name]}, ("families", name)
    if cpu := row.get("cpu"):
        _demand(source, (*key, "cpu"), cpu, rows.cpus, f"unknown cpu `{cpu}`")
        row["cpu"] = rows.cpus[cpu].model_copy(update={"name": cpu})
        row.setdefault("boot", list(ARCHITECTURES[of_cpu(cpu)].boot))
    if gpu := row.get("gpu"):
        _demand(source, (*key, "gpu"), gpu, rows.gpus, f"unknown gpu `{gpu}`")
        row["gpu"] = rows.gpus[gpu].model_copy(
            update={"name": gpu, "figures": rows.figures.get(gpu)}
        )
    row["machines"] = rows.machines.get(name)
    family = yaml_lines.validate(source, Family, row, at=key)
    if bool(family.gpu) != bool(family.counts):
        raise source.error(key, "`gpu` and `counts` go together")
    return family


def _demand(
    source: YamlFile, key: Key, word: str, known_words: Collection[str], problem: str
) -> None:
    if word not in known_words:
        raise source.error(key, f"{problem}; {nearest(str(word), known_words)}")


UNKNOWN = (
    "one that is newer needs a row in packer/hardware.yml, with its source: "
    "its facts are not guessed"
)
"""Advice about a family that has no row but may exist."""


@cache
def _refused(root: Path) -> dict[str, str]:
    return _rows(root)[1].refused


def refusal(root: Path, name: str) -> str:
    """Return why no image is made for a family, which need not have a row, or ""."""
    reasons = _refused(root)
    pattern = next((pattern for pattern in reasons if fnmatchcase(name, pattern)), None)
    return f"`{name}` {reasons[pattern]}" if pattern else ""


def branch_refusal(
    families: Mapping[str, Family], names: list[str], branch: str, drivers: DriverTable
) -> str:
    """Return why a driver branch does not run the GPU of one of the families, or ""."""
    for name in names:
        gpu = families[name].gpu
        if gpu and gpu.first_branch and int(branch) < int(gpu.first_branch):
            return (
                f"branch {branch} does not run the {gpu.name} of {name}: "
                f"{gpu.first_branch} is the first branch that does"
            )
    return drivers.branch_refusal(branch, _architectures(families, names))


def architectures(root: Path, names: list[str]) -> list[str]:
    """Return the `sm` numbers of the families' GPUs, each once, ascending."""
    return _architectures(load(root), names)


def _architectures(families: Mapping[str, Family], names: list[str]) -> list[str]:
    return sorted({sm for name in names if (sm := families[name].sm)}, key=int)


def without_gsp(root: Path, names: list[str]) -> list[str]:
    """Return the families for which EC2 advises proprietary modules without the GSP firmware."""
    families = load(root)
    return [name for name in names if families[name].gsp_off]


def by_modules(families: Mapping[str, Family], names: list[str]) -> tuple[list[str], list[str]]:
    """Return the families whose GPUs need the open kernel modules, and those whose GPUs need the
    proprietary ones."""
    need_open, need_proprietary = list[str](), list[str]()
    for name in names:
        match families[name].open_modules:
            case OpenModules.REQUIRED:
                need_open.append(name)
            case OpenModules.UNSUPPORTED:
                need_proprietary.append(name)
    return need_open, need_proprietary


def baseline(root: Path, names: list[str], gcc: GccVersion) -> instruction_sets.Baseline:
    """Return the baseline of the CPUs of all the families for `gcc`."""
    families = load(root)
    return instruction_sets.baseline([families[name].cpu.name for name in names], gcc)
