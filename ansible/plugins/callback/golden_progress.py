"""Progress lines as each role and task starts, with the seconds since the beginning.

The lines start with `golden-role NAME` and `golden-task`. They are made for a program: the bake
shows them as its progress. `golden-start FILE:LINE UNIT TASK` is a task that started a service.
`golden-failed JSON` is one that failed, or that passed although it found no network. The file that
the environment variable GOLDEN_TIMINGS names gets the seconds of each role as JSON,
{role: seconds, two decimals}, also if a task failed.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

STARTS = re.compile(r"\bsystemctl\s[^;&|]*?\b(?:re)?start\s+(?P<unit>[\w@.:-]+)")
"""A command that starts a service."""
UNREACHABLE = re.compile(
    r"^(?!sudo: ).*(?:network is unreachable|name or service not known|could(?: not|n't) resolve|"
    r"EAI_AGAIN|temporary failure (?:in name resolution|resolving)|unable to resolve host|"
    r"failed to connect to (?!the host via|localhost\b|127\.))",
    re.IGNORECASE | re.MULTILINE,
)
"""Messages of connect(2), the resolver (gai_strerror(3)), apt, curl, git, npm and wget if there is
no network; not of Ansible's own connection, nor of sudo on the machine's name."""
TEXTS = ("msg", "reason", "censored", "cmd", "rc", "url", "stderr", "module_stderr", "stdout")
KEPT = 2000
"""Characters of each of TEXTS that are printed: Packer 1.6 takes lines of 64 KiB at most."""
DOCUMENTATION = """
    name: golden_progress
    type: aggregate
    short_description: a line as each task starts, seconds of each role as JSON
    description:
      - Prints a line as each task starts and writes the seconds of each role to the file
        GOLDEN_TIMINGS.
    requirements:
      - enable in configuration
"""


class CallbackModule(CallbackBase):
    """Prints progress lines and counts seconds. The time until the next task's start is that of the
    earlier task's role."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "golden_progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._began = self._since = time.monotonic()
        self._role = ""
        self._seconds: dict[str, float] = {}

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task begins."""
        self._begin(task)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """A handler begins; its time is its role's."""
        self._begin(task)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task has failed, or its machine is gone."""
        rounds = [each for each in result._result.get("results", []) if each.get("failed")]
        if not ignore_errors:
            self._tell_failure(result._task, [*rounds, result._result][0])

    v2_runner_on_unreachable = v2_runner_on_failed

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task has succeeded, or a round of its loop."""
        self._tell_start(result)
        # `curl ADDRESS | sh` succeeds without a network, and installs nothing.
        stderr = result._result.get("stderr") or ""
        if UNREACHABLE.search(stderr) and not result._task.failed_when:
            self._tell_failure(result._task, result._result | {"msg": ""}, passed=True)

    v2_runner_item_on_ok = v2_runner_on_ok

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The run has ended: write the seconds of each role."""
        self._count()
        path = os.environ.get("GOLDEN_TIMINGS")
        if path:
            seconds = {role: round(value, 2) for role, value in self._seconds.items()}
            part = Path(f"{path}.part")
            part.write_text(json.dumps(seconds, indent=2, sort_keys=True), encoding="utf-8")
            part.replace(path)

    def _begin(self, task: Any) -> None:
        # Before the role changes: the seconds so far are the earlier role's.
        self._count()
        role = task._role.get_name() if task._role else "playbook"
        elapsed = self._since - self._began
        if role != self._role:
            self._display.display(f"golden-role {role} {elapsed:.1f} s")
        self._role = role
        self._display.display(
            f"golden-task {elapsed:.1f} s: {task.get_name().rpartition(' : ')[2]}"
        )

    def _tell_failure(self, task: Any, output: dict[str, Any], *, passed: bool = False) -> None:
        facts: dict[str, Any] = {}
        for name in filter(output.get, TEXTS):
            value = output[name]
            facts[name] = str(" ".join(value) if isinstance(value, list) else value)[-KEPT:]
        reached = UNREACHABLE.search("\n".join(facts.values())) is not None
        facts |= {"task": task.get_name(), "place": _place(task), "reached": reached}
        facts |= {"module": task.action.rpartition(".")[2], "passed": passed}
        self._display.display(f"golden-failed {json.dumps(facts)}")

    def _tell_start(self, result: Any) -> None:
        """Print a line if the task started a service, by a module or by systemctl in a command."""
        task, output = result._task, result._result
        command = output.get("cmd") or ""
        # `cmd` is a list of the module command, and a text of the module shell.
        start = STARTS.search(command if isinstance(command, str) else " ".join(command))
        is_service_module = task.action.rpartition(".")[2] in (
            "service",
            "systemd",
            "systemd_service",
        )
        unit = start["unit"] if start else output.get("name")
        if start or (
            is_service_module and output.get("changed") and output.get("state") == "started"
        ):
            self._display.display(
                f"golden-start {_place(task)} {unit} {task.get_name().rpartition(' : ')[2]}"
            )

    def _count(self) -> None:
        now = time.monotonic()
        if self._role:
            self._seconds[self._role] = self._seconds.get(self._role, 0.0) + now - self._since
        self._since = now


def _place(task: Any) -> str:
    """Return the file of a task, as a repository has it, and its line."""
    path = str(task.get_path())
    match = re.search(r"/((?:collections/.+/)?roles/[^/]+/\w+/.*|ansible/[^/]+)$", path)
    return match[1] if match else path
