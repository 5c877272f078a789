"""The command on packer/hardware.yml: what is known of instance families, and whether EC2 agrees."""

from __future__ import annotations

import argparse
import os

from goldenami.aws import instance_types
from goldenami.aws.session import Account, check_regions, translated
from goldenami.commands import ROOT, Add
from goldenami.core.errors import BadInput, Unreachable
from goldenami.core.yaml_lines import nearest
from goldenami.lifecycle import hardware_check
from goldenami.model import hardware
from goldenami.model.hardware import Family

_ROW = "{:<9} {:<15} {:<20} {:<6} {:<12} {}"


def cmd_hardware(args: argparse.Namespace) -> int:
    """List the instance families that images can be declared for; with --check compare them with EC2."""
    known = hardware.load(ROOT)
    for name in args.family:
        if name not in known:
            raise BadInput(f"unknown family `{name}`: {nearest(name, known)}", hint="see packer/hardware.yml")
    families = {name: known[name] for name in args.family or known}
    if args.check:
        _check(families, args.region or _environment(), args.family)
    else:
        print(_ROW.format("family", "cpu", "accelerator", "sm", "modules", "boot").rstrip())
        print("\n".join(_row(name, family) for name, family in families.items()))
    return 0


def _row(name: str, family: Family) -> str:
    accelerator = family.gpu.name if family.gpu else family.chip or "-"
    sm = f"sm_{family.sm}" if family.sm else "-"
    modules = f"open {family.open_modules.value}" if family.open_modules else "-"
    return _ROW.format(name, family.cpu.name, accelerator, sm, modules, " ".join(mode.value for mode in family.boot))


def _environment() -> list[str]:
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not region:
        raise BadInput("no region to ask", hint="give one or more with --region, or set AWS_REGION")
    return [region]


def _check(families: dict[str, Family], regions: list[str], named: list[str]) -> None:
    """Print what the regions together say; BadInput where hardware.yml says otherwise, Unreachable where a family that
    was `named`, or every one, is offered in none of them."""
    check_regions(regions)
    account = Account()
    types = {}
    for region in regions:
        with translated(region):
            types.update({entry["InstanceType"]: entry
                          for entry in instance_types.describe(account.ec2(region), families)})
    found = hardware_check.compare(families, types.values())
    print(f"{len(found.compared)} families ({len(types)} instance types) compared with EC2 in {', '.join(regions)}")
    if found.unreachable:
        print(f"unreachable: not offered there: {', '.join(found.unreachable)}")
    if found.differences:
        raise BadInput(f"packer/hardware.yml differs from EC2 in {len(found.differences)} facts",
                       tail="\n".join(str(difference) for difference in found.differences),
                       hint="correct the rows, then `make lock` for the images of these families")
    if lacking := [name for name in found.unreachable if name in named or not found.compared]:
        raise Unreachable(f"not compared, EC2 offers none in {', '.join(regions)}: {', '.join(lacking)}",
                          hint="ask another region with --region")


def register(add: Add) -> None:
    """Add the command to the command line."""
    command = add("hardware", cmd_hardware)
    command.add_argument("family", nargs="*", help="instance families; none: all")
    command.add_argument("--check", action="store_true", help="compare the rows with EC2's own description")
    command.add_argument("--region", nargs="+", default=[], help="regions to ask; default: AWS_REGION")
