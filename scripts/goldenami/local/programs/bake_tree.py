"""The hermetic part of a bake, in namespaces of its own: `python -m
goldenami.local.programs.bake_tree PLAN`.

base tree -> for each step a container, Packer with Ansible, a layer -> sealed tree -> disk. There
is no route out.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from goldenami.core import records, shell
from goldenami.core.errors import StageFailed
from goldenami.local.code_coverage import coverage
from goldenami.local.disk import disk, immutable
from goldenami.local.machine import container, packer
from goldenami.local.machine.container import BootableContainer, Container
from goldenami.local.programs.read_code import ReadAhead, reading_ahead
from goldenami.local.sandbox import events, program
from goldenami.local.tree import layers, owners, read_facts, rootfs, sealed
from goldenami.model import program_files
from goldenami.model.builds.build_records import BLOCKS_FILE, Disk
from goldenami.model.builds.part_facts import PARTS_FILE
from goldenami.model.builds.plans import BakePlan, BakeResult, BakeStep
from goldenami.model.roles import role_files

R = TypeVar("R")


def bake(plan: BakePlan) -> BakeResult:
    """Bake from the base tree to the disk."""
    return on_layers(plan, lambda stack: _bake(plan, stack))


def on_layers(plan: BakePlan, make: Callable[[layers.Stack], R]) -> R:
    """Return what `make` makes on a stack of layers. If a layer turns out to be damaged, make it
    anew on the layers that are left."""
    while True:
        try:
            with layers.Stack(plan.layers, say=say) as stack:
                result = make(stack)
                break
        except layers.DamagedLayer as error:
            say(f"{error.message}: baking again without it")
    for name in layers.evict(plan.layers, plan.layers_limit_bytes):
        say(f"layer {name} removed: not used for longest")
    return result


def say(text: str) -> None:
    """Show a text to whoever runs the bake."""
    events.emit("say", text=text)


def _bake(plan: BakePlan, stack: layers.Stack) -> BakeResult:
    with reading_ahead(plan) as ahead:
        build_layers(plan, stack, plan.steps[:-1], ahead.read)
        with _last_step(plan, stack) as tree:
            stack.check_whole()
            return _finish(plan, stack, tree, ahead)


def build_layers(
    plan: BakePlan,
    stack: layers.Stack,
    steps: Sequence[BakeStep],
    on_layer: Callable[[Path], None] = lambda _: None,
) -> None:
    """Stack the base tree and the layers of the first `steps`; those in the cache are taken from
    there. `on_layer` gets the tree of each layer as soon as it is there."""
    with events.step("base"):
        rootfs.base(stack, plan)
    cached = next(
        (number for number, step in enumerate(steps) if not stack.take(step.key)), len(steps)
    )
    if stack.reused:
        say(f"starts from layer {stack.reused[-1]}")
    for tree in stack.trees:
        on_layer(tree)
    for step in steps[cached:]:
        with stack.make(step.key, step.name) as folder:
            if folder is not None:
                with _tree_after(plan, step, stack, folder):
                    pass
                # `make` keeps what is in `root` as the layer.
                (folder / "upper").rename(folder / "root")
                container.forget_overlay(folder)
        on_layer(stack.trees[-1])


@contextlib.contextmanager
def _last_step(plan: BakePlan, stack: layers.Stack) -> Iterator[Path]:
    """Yield the sealed tree. The last step is different in each lock, so no layer is kept of it."""
    scratch = plan.work / "layer"
    shutil.rmtree(scratch, ignore_errors=True)  # left by a first try on a damaged layer
    scratch.mkdir()
    with _tree_after(plan, plan.steps[-1], stack, scratch) as tree:
        stack.trees.append(scratch / "upper")
        yield tree


@contextlib.contextmanager
def _tree_after(
    plan: BakePlan, step: BakeStep, stack: layers.Stack, scratch: Path
) -> Iterator[Path]:
    """Yield the tree that `step` makes of the layers below it, on an overlay in `scratch`. If a
    process of Ansible dies, the step starts over, once, from the layers."""
    with container.overlay(stack.lowers, scratch) as tree:
        try:
            _run_step(plan, step, tree)
        except packer.AnsibleDied as error:
            say(f"{error.message}: step {step.name} starts over")
        else:
            yield tree
            return
    container.forget_overlay(scratch)
    with container.overlay(stack.lowers, scratch) as tree:
        _run_step(plan, step, tree)
        yield tree


def _finish(plan: BakePlan, stack: layers.Stack, tree: Path, ahead: ReadAhead) -> BakeResult:
    work, log = plan.work, plan.log
    with events.step("seal check"):
        variables = json.loads((work / "out/vars.json").read_text(encoding="utf-8"))
        sealed.check(
            tree,
            program_files.role(plan.root, "seal") / "files/seal.py",
            role_files.of_image(plan.root, variables),
        )
        _compare_packages(plan, tree)
    with events.step("disk"):
        records.write(work / "out" / PARTS_FILE, read_facts.gather(tree))
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


def _run_step(plan: BakePlan, step: BakeStep, tree: Path) -> None:
    """Run the roles of one step in a container on `tree`, which sees no package of a later step."""
    container.use_repository(tree, step.view)
    scratch = plan.work / step.view
    scratch.mkdir(exist_ok=True)
    bootable = BootableContainer(
        name=f"golden-{plan.build_id}",
        tree=tree,
        scratch=scratch,
        repo=plan.tree.repository,
        console=plan.log.with_name(f"{plan.log.stem}-console.log"),
    )
    with events.step(step.name), bootable.running(bootable.at_rest()) as machine:
        if step.installs:
            machine.ssh("apt-get", "update", "-q", "-o", "APT::Update::Error-Mode=any")
        if step.replaces:
            machine.ssh(
                "DEBIAN_FRONTEND=noninteractive",
                "apt-get",
                "install",
                "--yes",
                "-q",
                "--only-upgrade",
                "--no-install-recommends",
                *step.replaces,
            )
        _packer(plan, step, machine)


def _packer(plan: BakePlan, step: BakeStep, machine: Container) -> None:
    starts = list[packer.Start]()

    def on_line(line: str) -> None:
        if role := packer.role_of(line):
            say(f"role {role}")
        if start := packer.start_of(line):
            starts.append(start)

    build = packer.PackerBuild(plan.root, plan.work, step.view, plan.log)
    build.run(
        "null.local",
        {
            "lock": plan.lock,
            "vars": step.variables,
            "ssh_host": container.ADDRESS,
            "ssh_key": machine.ssh_key,
        },
        env={"HOME": str(plan.work)},
        on_line=on_line,
    )
    _hold_to_boot(machine.tree, starts)


def _hold_to_boot(tree: Path, starts: Sequence[packer.Start]) -> None:
    """Raise StageFailed if a task started a service that no boot of the image would start."""
    for start in starts:
        state = shell.output(["systemctl", f"--root={tree}", "is-enabled", start.unit], check=False)
        if state.strip() in ("disabled", "masked"):
            raise StageFailed(
                f"{start.place}: task [{start.task}] starts {start.unit}, which is "
                f"{state.strip()}: a bake starts no service, and no boot would start this one",
                hint="write `enabled: true` for what has to run on instances; what has to happen "
                "in the bake needs a command that ends",
            )


def _compare_packages(plan: BakePlan, tree: Path) -> None:
    """Raise StageFailed if the packages of the sealed tree are not exactly the lock's."""
    text = shell.output(
        [
            "dpkg-query",
            f"--admindir={tree}/var/lib/dpkg",
            "-W",
            "-f",
            "${db:Status-Abbrev}\t${Package}\t${Version}\n",
        ]
    )
    installed = {
        name: version
        for status, name, version in (line.split("\t") for line in text.splitlines())
        # Installed, also if held (dpkg-query(1), db:Status-Abbrev).
        if status.startswith(("ii", "hi"))
    }
    # The second letter is the state: installed, not installed, or only configuration files left.
    broken = sorted(line for line in text.splitlines() if line[1:2] not in ("i", "n", "c"))
    alien = sorted(
        f"{name} {version}"
        for name, version in installed.items()
        if plan.packages.get(name) != version
    )
    if alien or broken:
        raise StageFailed(
            "the tree holds packages that the lock does not name: "
            f"{', '.join((broken + alien)[:8])}",
            hint="a role installed or upgraded something outside the locked repository",
        )


if __name__ == "__main__":
    sys.exit(program.serve(BakePlan, bake))
