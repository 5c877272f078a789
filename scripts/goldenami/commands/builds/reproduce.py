"""The command that proves that a lock gives the same disk twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from goldenami.commands import ImageName
from goldenami.commands.builds import bake_setup
from goldenami.commands.checkout import Checkout
from goldenami.image.bake import bake, reproduce
from goldenami.image.builders.local import LocalBuilder
from goldenami.image.lock import lint
from goldenami.local.host import workspace
from goldenami.model.builds.build_records import BakeRecord


def cmd_reproduce(checkout: Checkout, image: ImageName) -> int:
    """Bake the lock twice from nothing and compare the disks byte for byte."""
    locked = lint.committed(checkout.root, checkout.definition(image))
    builder = LocalBuilder(checkout.root)
    builder.check_host()
    inputs = bake_setup.inputs(checkout, "reproduce", locked)

    def bake_once(work: Path, layers: Path) -> BakeRecord:
        return bake.bake(replace(inputs, own_layers=layers), builder, work)

    with (
        workspace.image_lock(checkout.root, image),
        workspace.scratch_in(checkout.builds(image).path, "reproduce") as folder,
    ):
        print(reproduce.run(bake_once, folder))
    return 0
