"""The command on regions: where instances run for how much."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from goldenami.aws.session import check_regions, translated
from goldenami.commands import AsJson, OptionalImage, Regions, print_record, raise_failed
from goldenami.commands.checkout import Checkout
from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import nearest
from goldenami.model.supported import hardware
from goldenami.model.supported.hardware import Family

from goldenami_fleet.costs import family_regions, measured_need
from goldenami_fleet.costs.family_regions import Workload

_PLAIN = re.compile("[mcr][0-9][aig]")
"""Families of the classes m, c and r, of each maker of processors, without more than that."""
_FLEXIBLE = (
    "m (4 GiB a vCPU) is the most flexible without a GPU; c (2) and r (8) suit a need that stays; "
    "a family that ends in g is Arm"
)
_ROW = "{:<9} {:<15} {:<20} {:<6} {:<12} {}"


@dataclass(frozen=True, kw_only=True)
class RegionsOptions:
    """The arguments and options of `golden regions`."""

    image: OptionalImage = None
    as_json: AsJson = False
    region: Regions = field(default_factory=list)
    family: Annotated[
        list[str],
        typer.Option(
            "--family",
            metavar="NAME",
            help="an instance family, for instance g5 (may be given again)",
            default_factory=list,
            show_default=False,
        ),
    ] = field(default_factory=list)
    gpu_hours: Annotated[
        float | None,
        typer.Option(
            "--gpu-hours",
            metavar="N",
            min=0.01,
            max=1e7,
            help="hours of one GPU a month, to be priced",
        ),
    ] = None
    cores: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=10_000, help="vCPUs that work without a GPU needs"),
    ] = None
    memory: Annotated[
        float | None,
        typer.Option(metavar="GIB", min=0.1, max=1e5, help="memory that it needs"),
    ] = None
    measured: Annotated[
        bool, typer.Option("--measured", help="take both from the metrics of the last 14 days")
    ] = False
    gb: Annotated[
        float | None,
        typer.Option(metavar="N", min=0.01, max=1e9, help="GB of data to move there, to be priced"),
    ] = None


@translated()
def cmd_regions(checkout: Checkout, options: RegionsOptions) -> int:
    """Show where families, of IMAGE or by name, exist, what they cost, where a workload costs
    least; without either, which families an image can be declared for."""
    check_regions(options.region)
    image, family = options.image, options.family
    if image and not family:
        family = list(checkout.definition(image).hardware)
    cores, memory, advice = options.cores, options.memory, list[str]()
    if options.measured:
        regions = checkout.images_by_region(image, options.region)
        (vcpus, gib), advice = measured_need.read(checkout.account(), regions, image)
        cores, memory = cores or vcpus, memory or gib
    needs = cores or memory
    if needs and not family:
        family = [name for name in checkout.families if _PLAIN.fullmatch(name)]
    if not family:
        return _print_families(checkout.root, checkout.families)
    account = checkout.account(*(checkout.definitions(image) if image else ()))
    record, failed = family_regions.read_regions(
        account,
        family,
        options.region,
        Workload(options.gpu_hours, options.gb, cores, memory),
    )
    if needs:
        advice.append(_FLEXIBLE)
    print_record(record, [*family_regions.lines(record), *advice], options.as_json)
    raise_failed(failed, "not every region could be read")
    if not any(record.regions.values()):
        if needs:
            raise BadInput(
                "no type without a GPU has as many cores and as much memory", hint="ask for less"
            )
        raise BadInput(
            f"no region has a family `{family[0]}`: {nearest(family[0], checkout.families)}",
            hint="a family is what stands before the dot of an instance type",
        )
    if record.advice and not record.advice.rows:
        raise BadInput(
            f"no type of {', '.join(family)} has a whole GPU",
            hint="--gpu-hours is for families with GPUs",
        )
    return 0


def _print_families(root: Path, families: Mapping[str, Family]) -> int:
    print(_ROW.format("family", "cpu", "accelerator", "sm", "modules", "boot").rstrip())
    print("\n".join(_row(name, family) for name, family in families.items()))
    for name in families:
        if refused := hardware.refusal(root, name):
            print(refused)
    return 0


def _row(name: str, family: Family) -> str:
    accelerator, sm, modules = family.chip or "-", "-", "-"
    if family.gpu:
        accelerator = family.gpu.name
    if family.sm:
        sm = f"sm_{family.sm}"
    if family.open_modules:
        modules = f"open {family.open_modules.value}"
    return _ROW.format(
        name,
        family.cpu.name,
        accelerator,
        sm,
        modules,
        " ".join(mode.value for mode in family.boot),
    )
