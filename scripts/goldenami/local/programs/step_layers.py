"""Make the layers of a plan's steps: for each step a container, Packer with Ansible, a layer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from goldenami.core import shell
from goldenami.core.errors import StageFailed
from goldenami.local.machine import container, failed_task, packer
from goldenami.local.machine.container import BootableContainer, Container
from goldenami.local.sandbox import events
from goldenami.local.tree import layers, rootfs
from goldenami.model.builds.plans import BakePlan, BakeStep

R = TypeVar("R")


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
                with tree_after(plan, step, stack, folder):
                    pass
                # `make` keeps what is in `root` as the layer.
                (folder / "upper").rename(folder / "root")
                container.forget_overlay(folder)
        on_layer(stack.trees[-1])


@contextlib.contextmanager
def tree_after(
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
    starts = list[failed_task.Start]()

    def on_line(line: str) -> None:
        if role := packer.role_of(line):
            say(f"role {role}")
        if start := failed_task.start_of(line):
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


def _hold_to_boot(tree: Path, starts: Sequence[failed_task.Start]) -> None:
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
