"""Run a program of `local/programs/` in its own namespaces: it gets a plan, and returns a result or
an error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from goldenami.core import records, shell
from goldenami.core.errors import GoldenError, StageFailed, space
from goldenami.core.records import Record
from goldenami.core.terminal.meter import Counted
from goldenami.core.terminal.progress import Progress
from goldenami.local.sandbox import events, namespaces
from goldenami.model.builds.plans import ProgramPlan

PLAN_FILE, RESULT_FILE = "plan.json", "result.json"
P = TypeVar("P", bound=ProgramPlan)
R = TypeVar("R", bound=Record)


def argv(module: str, plan: ProgramPlan) -> list[str]:
    """Write `plan` into its work folder, and return the command that runs the program `module` with
    it."""
    records.write(plan.work / PLAN_FILE, plan)
    return shell.python_argv(module, str(plan.work / PLAN_FILE))


def call(
    module: str,
    plan: ProgramPlan,
    result: type[R],
    progress: Progress,
    *,
    look: Callable[[str], Counted | None] = lambda _: None,
) -> R:
    """Run the program `module` with `plan`, show its steps, and return its result. `look` says how
    far a step is.

    An expected failure arrives as an event (events.py) and is raised here. If the program
    ends otherwise, StageFailed has its last lines.
    """
    with (
        _failing(plan, progress, progress.relay) as on_line,
        progress.in_all(),
        progress.relaying(look),
    ):
        namespaces.run(argv(module, plan), log=plan.log, on_line=on_line)
    return records.read(plan.work / RESULT_FILE, result)


def beside(
    module: str,
    plan: ProgramPlan,
    result: type[R],
    progress: Progress,
    work: Callable[[], None],
) -> R:
    """Call `work` while the program `module` runs, and return the program's result. Its steps are
    shown as lines among others."""
    with (
        _failing(plan, progress, progress.relay_beside) as on_line,
        progress.in_all(),
        namespaces.running(argv(module, plan), log=plan.log, on_line=on_line),
    ):
        work()
    return records.read(plan.work / RESULT_FILE, result)


@contextmanager
def _failing(
    plan: ProgramPlan,
    progress: Progress,
    relay: Callable[[dict[str, Any]], None],
) -> Iterator[Callable[[str], None]]:
    """Yield the function that takes a program's lines of output, and raise the program's
    failure."""
    failures: list[dict[str, Any]] = []

    def on_line(line: str) -> None:
        if (event := events.read(line)) is None:
            return
        if event["kind"] == "error":
            failures.append(event)
        else:
            relay(event)

    try:
        yield on_line
    except shell.CommandFailed as error:
        if failures:
            raise events.failure(failures[0], plan.log) from None
        raise StageFailed(
            f"{progress.stage} of {progress.image} broke off: {error.message}",
            log=plan.log,
            tail=error.tail,
            hint="see the log",
        ) from None


def use_own_temporary_folder() -> None:
    """Put this program's temporary files where they go with the run, however that ends."""
    # Packer, Ansible and mmdebstrap leave temporary files behind if they are killed.
    folder = Path(namespaces.RUN) / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(folder)


def serve(plan: type[P], work: Callable[[P], Record]) -> int:
    """Run `work` with the plan that argv names, and write its result: the `main` of a program. An
    expected failure becomes an event and an exit status."""
    use_own_temporary_folder()
    loaded = records.read(Path(sys.argv[1]), plan)
    try:
        with space(loaded.work):
            records.write(loaded.work / RESULT_FILE, work(loaded))
    except GoldenError as error:
        return events.fail(error)
    return 0
