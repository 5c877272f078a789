"""Run a container on the plan's layers until killed: `python -m
goldenami.local.programs.run_container PLAN`."""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path

from goldenami.core import records
from goldenami.local.machine import container
from goldenami.local.machine.container import BootableContainer
from goldenami.local.programs import step_layers
from goldenami.local.tree import layers
from goldenami.model.builds.plans import BakePlan

UP_FILE = "up"
"""File in the work folder that says that the container is up."""


def main() -> None:
    """Boot the container, mark the folder as ready, sleep for ever."""
    plan = records.read(Path(sys.argv[1]), BakePlan)
    work = plan.work
    scratch = work / "layer"
    scratch.mkdir()
    with layers.Stack(plan.layers) as stack, contextlib.ExitStack() as mounts:
        step_layers.build_layers(plan, stack, plan.steps)
        tree = mounts.enter_context(container.overlay(stack.lowers, scratch))
        container.use_repository(tree)
        bootable = BootableContainer(
            "golden-molecule", tree, work, plan.tree.repository, work / "console.log"
        )
        with bootable.running() as machine:
            machine.ssh("apt-get", "update", "-q")
            (work / UP_FILE).touch()
            signal.pause()


if __name__ == "__main__":
    main()
