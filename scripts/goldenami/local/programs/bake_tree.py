"""The hermetic part of a bake, in namespaces of its own: `python -m
goldenami.local.programs.bake_tree PLAN`.

base tree -> for each step a container, Packer with Ansible, a layer -> sealed tree -> disk. There
is no route out.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from goldenami.core import records
from goldenami.local.code_coverage import coverage
from goldenami.local.disk import disk, immutable
from goldenami.local.programs import step_layers
from goldenami.local.programs.read_code import ReadAhead, reading_ahead
from goldenami.local.sandbox import events, program
from goldenami.local.tree import layers, owners, package_check, read_facts, sealed
from goldenami.model.builds.build_records import BLOCKS_FILE, Disk
from goldenami.model.builds.plans import BakePlan, BakeResult


def bake(plan: BakePlan) -> BakeResult:
    """Bake from the base tree to the disk."""
    return step_layers.on_layers(plan, lambda stack: _bake(plan, stack))


def _bake(plan: BakePlan, stack: layers.Stack) -> BakeResult:
    with reading_ahead(plan) as ahead:
        step_layers.build_layers(plan, stack, plan.steps[:-1], ahead.read)
        with _last_step(plan, stack) as tree:
            stack.check_whole()
            return _finish(plan, stack, tree, ahead)


@contextlib.contextmanager
def _last_step(plan: BakePlan, stack: layers.Stack) -> Iterator[Path]:
    """Yield the sealed tree. The last step is different in each lock, so no layer is kept of it."""
    scratch = plan.work / "layer"
    shutil.rmtree(scratch, ignore_errors=True)  # left by a first try on a damaged layer
    scratch.mkdir()
    with step_layers.tree_after(plan, plan.steps[-1], stack, scratch) as tree:
        stack.trees.append(scratch / "upper")
        yield tree


def _finish(plan: BakePlan, stack: layers.Stack, tree: Path, ahead: ReadAhead) -> BakeResult:
    work, log = plan.work, plan.log
    with events.step("seal check"):
        sealed.check_image(tree, plan.root, work / "out/vars.json")
        package_check.check(tree, plan.packages)
    with events.step("disk"):
        read_facts.write(tree, work / "out")
        facts = disk.write_disk(
            tree,
            work / "out/disk.raw",
            layout=_layout(plan, tree),
            log=log,
            ranks=layers.ranks(stack.trees),
        )
    with events.step("coverage"):  # after the disk: layers are still read ahead beside it
        ahead.wait()
        coverage.hold(tree, plan.coverage, work / "out", log)
    return BakeResult(
        disk=Disk(
            path="disk.raw",
            bytes_apparent=facts.size_bytes,
            bytes_allocated=facts.data_bytes,
            sha256=facts.sha256,
            note=facts.note,
            blocks_sha256=records.sha256_file(work / "out" / BLOCKS_FILE),
        ),
        sizes=owners.sizes(tree, facts.manifest),
        layers=stack.reused,
        manifest_sha256=records.sha256_file(facts.manifest),
    )


def _layout(plan: BakePlan, tree: Path) -> disk.DiskLayout:
    return disk.DiskLayout(
        image=plan.image,
        size_bytes=plan.disk_size_gib << 30,
        source_date_epoch=plan.source_date_epoch,
        immutable=(tree / immutable.LIST).is_file(),
    )


if __name__ == "__main__":
    sys.exit(program.serve(BakePlan, bake))
