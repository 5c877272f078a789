"""Make the container image of a lock, in namespaces of its own: `python -m
goldenami.local.programs.make_container PLAN`.

layers as of a bake -> without what only a machine needs -> sealed tree -> an image in OCI's layout.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from goldenami.local.machine import container
from goldenami.local.programs import container_tree, step_layers
from goldenami.local.sandbox import events, program
from goldenami.local.tree import image_layers, layers, read_facts
from goldenami.local.tree import tree as trees
from goldenami.local.tree.oci_layout import OciLayout
from goldenami.model.builds.container_records import ContainerLayer
from goldenami.model.builds.plans import ContainerPlan, ContainerResult


def make(plan: ContainerPlan) -> ContainerResult:
    """Make the image of a plan, and return its digest, layers and parts."""
    return step_layers.on_layers(plan, lambda stack: _make(plan, stack))


def _make(plan: ContainerPlan, stack: layers.Stack) -> ContainerResult:
    step_layers.build_layers(plan, stack, plan.steps)
    scratch = plan.work / "layer"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    with container.overlay(stack.lowers, scratch) as tree:
        container_tree.seal(plan, tree)
        stack.check_whole()
        digest, image_layers = _write(plan, tree, [*stack.trees, scratch / "upper"])
        return ContainerResult(
            digest=digest, layers=image_layers, parts=read_facts.gather(tree).parts
        )


def _write(plan: ContainerPlan, tree: Path, stack: list[Path]) -> tuple[str, list[ContainerLayer]]:
    """Write the image of `tree`, and return the manifest's SHA-256 and the layers."""
    layout, tar, written = OciLayout(plan.layout, plan.build_id), plan.work / "layer.tar", []
    with events.step("image"):
        layout.begin()
        entries = image_layers.dated(trees.scan(tree), tree, plan.source_date_epoch)
        for name, layer_entries in image_layers.split(entries, stack, plan.groups).items():
            with tar.open("wb") as sink:
                trees.stream_tar(tree, layer_entries, sink, epoch=plan.source_date_epoch)
            digest, size = layout.add(tar, name, plan.created)
            unpacked = sum(entry.size for entry in layer_entries)
            written.append(ContainerLayer(name=name, digest=digest, bytes=size, unpacked=unpacked))
        tar.unlink()
        layout.configure(
            architecture=plan.tree.architecture,
            environment=plan.environment,
            entrypoint=plan.entrypoint,
            labels=plan.labels,
            created=plan.created,
        )
    return layout.digest, written


if __name__ == "__main__":
    sys.exit(program.serve(ContainerPlan, make))
