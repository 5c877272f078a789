"""`python -m goldenami.local.programs.run_container PLAN`: a container on the plan's base tree, until killed."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from pathlib import Path

from goldenami.local import container
from goldenami.local.tree import layers, rootfs


def main() -> None:
    """Boot the container, mark the folder as ready, sleep for ever."""
    plan = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    work, log = Path(plan["work"]), Path(plan["log"])
    scratch = work / "layer"
    scratch.mkdir()
    with layers.Stack(Path(plan["layers"])) as stack, contextlib.ExitStack() as kept:
        rootfs.base(stack, plan, log)
        root = kept.enter_context(container.overlay(stack.lowers, scratch))
        container.use_repository(root)
        repo, console = Path(plan["repo"]), work / "console.log"
        with container.running(root, work, name="golden-box", repo=repo, console=console) as box:
            box.ssh("apt-get", "update", "-q")
            (work / "inside").touch()
            signal.pause()


if __name__ == "__main__":
    main()
