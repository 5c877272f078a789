"""The command on packer/hardware.yml: what is known of instance families, and whether EC2 agrees."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from goldenami.aws.instances import instance_types
from goldenami.aws.session import Account, check_regions, translated
from goldenami.commands.checkout import Checkout
from goldenami.core.errors import BadInput, Unreachable
from goldenami.core.yaml_lines import nearest
from goldenami.fleet.costs import hardware_check
from goldenami.model.supported import hardware
from goldenami.model.supported.hardware import Family

_ROW = "{:<9} {:<15} {:<20} {:<6} {:<12} {}"


class RegionsCommand(TyperCommand):
    """A command whose --region takes all words up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Typer does, with --region before each of its words."""
        words, within = list[str](), False
        for word in args:
            if word.startswith("-"):
                within = word == "--region"
            elif within and words[-1] != "--region":
                words.append("--region")
            words.append(word)
        return super().parse_args(ctx, words)


COMMAND_CLASS = RegionsCommand


def cmd_hardware(
    checkout: Checkout,
    family: Annotated[list[str] | None, typer.Argument(help="instance families; none: all")] = None, *,
    check: Annotated[bool, typer.Option("--check", help="compare the rows with EC2's own description")] = False,
    region: Annotated[list[str], typer.Option(
        "--region", metavar="REGION...", help="regions to ask (default: AWS_REGION)", default_factory=list,
        show_default=False)],
) -> int:
    """List the instance families that images can be declared for; with --check compare them with EC2."""
    known, named = checkout.families, family or []
    for name in named:
        if name not in known:
            refused = hardware.refusal(name)
            raise BadInput(refused or f"unknown family `{name}`: {nearest(name, known)}", hint=hardware.UNKNOWN)
    families = {name: known[name] for name in named or known}
    if check:
        _check(families, region or _environment(), named)
    else:
        print(_ROW.format("family", "cpu", "accelerator", "sm", "modules", "boot").rstrip())
        print("\n".join(_row(name, family) for name, family in families.items()))
        print("".join(f"{refused}\n" for name in families if (refused := hardware.refusal(name))), end="")
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
    comparison = hardware_check.compare(families, types.values())
    print(f"{len(comparison.compared)} families ({len(types)} instance types) compared with EC2 in "
          + ", ".join(regions))
    if comparison.unreachable:
        print(f"unreachable: not offered there: {', '.join(comparison.unreachable)}")
    if comparison.differences:
        raise BadInput(f"packer/hardware.yml differs from EC2 in {len(comparison.differences)} facts",
                       tail="\n".join(str(difference) for difference in comparison.differences),
                       hint="correct the rows, then `make lock` for the images of these families")
    if lacking := [name for name in comparison.unreachable if name in named or not comparison.compared]:
        raise Unreachable(f"not compared, EC2 offers none in {', '.join(regions)}: {', '.join(lacking)}",
                          hint="ask another region with --region")
