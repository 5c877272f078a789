"""Read the code of a layer while a bake goes on: `python -m goldenami.local.programs.read_code
PLAN`.

The results are kept by content, so the coverage check of the sealed tree finds most files known.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from goldenami.core import records, shell
from goldenami.local.code_coverage import coverage
from goldenami.local.sandbox import program
from goldenami.model.builds.plans import BakePlan, CodePlan

NICENESS = 10
"""The steps of the bake go first."""


@dataclass
class ReadAhead:
    """Processes that read layers of the bake of `plan`."""

    plan: BakePlan
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def read(self, layer: Path) -> None:
        """Begin to read a layer, unless it has no code in the folders of the check."""
        request = self.plan.coverage
        if request.known is None or not any(
            (layer / folder).is_dir() for folder in request.folders
        ):
            return
        work = self.plan.work / f"code-{len(self._processes)}"
        work.mkdir(exist_ok=True)
        log = self.plan.log.with_name(f"{self.plan.log.stem}-code.log")
        plan = CodePlan(work=work, log=log, tree=layer, coverage=request)
        argv = program.argv("goldenami.local.programs.read_code", plan)
        self._processes.append(shell.start(argv, log=log, env=shell.python_env()))

    def wait(self) -> None:
        """Wait until all is read: otherwise the check would read the same files a second time."""
        for process in self._processes:
            process.wait()

    def stop(self) -> None:
        for process in self._processes:
            shell.stop(process, grace_s=0)


@contextlib.contextmanager
def reading_ahead(plan: BakePlan) -> Iterator[ReadAhead]:
    """Yield a ReadAhead whose processes end with the block."""
    ahead = ReadAhead(plan)
    try:
        yield ahead
    finally:
        ahead.stop()


def main() -> None:
    """Read the tree of the plan."""
    os.nice(NICENESS)
    plan = records.read(Path(sys.argv[1]), CodePlan)
    coverage.scan(plan.tree, plan.coverage)


if __name__ == "__main__":
    main()
