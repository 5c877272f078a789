"""Run a module of `local/` inside its own namespaces, showing its steps and raising its error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from goldenami.core import shell
from goldenami.core.errors import StageFailed
from goldenami.core.progress import Progress
from goldenami.local import events
from goldenami.local.sandbox import namespaces


def run(module: str, work: Path, log: Path, progress: Progress, *, network: bool = False) -> dict[str, Any]:
    """Run `python -m MODULE work/plan.json`; returns the content of work/result.json.

    The module reports by events (local/events.py). An expected failure arrives as one and is raised here with
    its message; anything else that ends the module is raised with its last lines.
    """
    failures: list[dict[str, Any]] = []

    def on_line(line: str) -> None:
        if (event := events.read(line)) is None:
            return
        if event["kind"] == "error":
            failures.append(event)
        else:
            progress.relay(event)

    try:
        namespaces.run(namespaces.python_argv(module, str(work / "plan.json")), log=log, on_line=on_line,
                    network=network)
    except shell.CommandFailed as error:
        if failures:
            raise events.failure(failures[0], log) from None
        raise StageFailed(f"{progress.stage} of {progress.image} broke off: {error.message}", log=log,
                          tail=error.tail, hint="see the log") from None
    found: dict[str, Any] = json.loads((work / "result.json").read_text(encoding="utf-8"))
    return found
