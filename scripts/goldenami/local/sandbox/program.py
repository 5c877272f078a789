"""Run a program of `local/programs/` inside its own namespaces: a plan goes in, a result or an error comes out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from goldenami.core import records, shell
from goldenami.core.errors import GoldenError, StageFailed, space
from goldenami.core.progress import Progress
from goldenami.core.records import Record
from goldenami.local import events
from goldenami.local.sandbox import namespaces
from goldenami.model.plans import Plan

PLAN_FILE, RESULT_FILE = "plan.json", "result.json"
P = TypeVar("P", bound=Plan)
R = TypeVar("R", bound=Record)


def argv(name: str, plan: Plan) -> list[str]:
    """Write `plan` into its work folder; returns the command that runs the program `name` with it."""
    records.write(plan.work / PLAN_FILE, plan)
    return namespaces.python_argv(f"goldenami.local.programs.{name}", str(plan.work / PLAN_FILE))


def call(name: str, plan: Plan, result: type[R], progress: Progress, *, network: bool = False) -> R:
    """Run the program `name` with `plan`, showing its steps; returns its result.

    The program reports by events (local/events.py). An expected failure arrives as one and is raised here with
    its message; anything else that ends the program is raised with its last lines.
    """
    _stream(argv(name, plan), plan.log, progress, network=network)
    return records.read(plan.work / RESULT_FILE, result)


def serve(plan: type[P], work: Callable[[P], Record]) -> int:
    """The `main` of a program: run `work` with the plan that it was called with, and write what it returns.

    An expected failure becomes an event and an exit status.
    """
    read = records.read(Path(sys.argv[1]), plan)
    try:
        with space(read.work):
            records.write(read.work / RESULT_FILE, work(read))
    except GoldenError as error:
        return events.fail(error)
    return 0


def run(module: str, work: Path, log: Path, progress: Progress, *, network: bool = False) -> dict[str, Any]:
    """Run `python -m MODULE work/plan.json`; returns the content of work/result.json."""
    _stream(namespaces.python_argv(module, str(work / PLAN_FILE)), log, progress, network=network)
    found: dict[str, Any] = json.loads((work / RESULT_FILE).read_text(encoding="utf-8"))
    return found


def _stream(command: list[str], log: Path, progress: Progress, *, network: bool) -> None:
    failures: list[dict[str, Any]] = []

    def on_line(line: str) -> None:
        if (event := events.read(line)) is None:
            return
        if event["kind"] == "error":
            failures.append(event)
        else:
            progress.relay(event)

    try:
        namespaces.run(command, log=log, on_line=on_line, network=network)
    except shell.CommandFailed as error:
        if failures:
            raise events.failure(failures[0], log) from None
        raise StageFailed(f"{progress.stage} of {progress.image} broke off: {error.message}", log=log,
                          tail=error.tail, hint="see the log") from None
