"""Commands that make containers of a lock: the container image, and Molecule's instances."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from goldenami.commands import ImageName, Wait
from goldenami.commands.builds import bake_setup
from goldenami.commands.checkout import Checkout
from goldenami.core import records
from goldenami.core.units import size
from goldenami.image.bake import container_image, molecule
from goldenami.image.lock import lint
from goldenami.image.provenance import provenance
from goldenami.image.report import report
from goldenami.local.host import workspace


def cmd_container(checkout: Checkout, image: ImageName, *, wait: Wait = False) -> int:
    """Make a container image of the lock: frameworks, CUDA and tools, without kernel and driver."""
    definition = checkout.definition(image)
    inputs = bake_setup.inputs(checkout, "container", lint.committed(checkout.root, definition))
    build, progress = inputs.build, inputs.progress
    key = provenance.demanded(checkout.root, definition, checkout.account(definition))
    with workspace.image_lock(checkout.root, image, wait=wait):
        record = container_image.run(inputs, build, key)
    for layer in record.layers:
        progress.say(f"{layer.name:<10} {size(layer.bytes)}  sha256:{layer.digest[:12]}")
    progress.say(f"image: {build.layout}, {size(record.bytes)}, sha256:{record.digest}")
    if build.is_baked:
        report.tell(build, progress)
    return 0


class ContainerAction(StrEnum):
    """What is done with a container."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, kw_only=True)
class ContainerOptions:
    """The arguments and options of `golden molecule-container`."""

    action: ContainerAction
    name: str
    image: Annotated[
        str, typer.Option("--image", metavar="IMAGE", help="whose packages it has")
    ] = "debian-13-ml-cpu"
    role: Annotated[
        str,
        typer.Option(
            "--role", metavar="ROLE", help="start from the layers that a bake has below this role"
        ),
    ] = ""
    tools: Annotated[
        bool, typer.Option("--tools", help="have what compiles the driver among the packages")
    ] = False


def cmd_molecule_container(checkout: Checkout, options: ContainerOptions) -> int:
    """Start or stop the throw-away container of a Molecule scenario."""
    if options.action is ContainerAction.UP:
        locked = lint.committed(checkout.root, checkout.definition(options.image))
        inputs = bake_setup.inputs(checkout, "molecule", locked)
        instance = molecule.up(inputs, options.name, role=options.role, tools=options.tools)
        print(records.canonical(instance.model_dump(mode="json")))
    else:
        molecule.down(options.name, checkout.store)
    return 0
