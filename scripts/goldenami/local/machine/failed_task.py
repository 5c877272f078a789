"""Tells which task of a bake failed, where it stands, and what the definition has to declare for
what it wanted of the network. Reads the lines of the callback plugin golden_progress."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from goldenami.core.errors import StageFailed

_FAILED = re.compile(r"golden-failed (\{.*\})\s*$")
_START = re.compile(r"golden-start (?P<place>\S+) (?P<unit>\S+) (?P<task>.+)$")
_ERROR, _ORIGIN = re.compile(r"\[ERROR\]: (.+)$"), re.compile(r"Origin: (\S+):\d+$")
"""Ansible's lines on a file that it cannot run, and its place with line and column."""
_ADDRESS = re.compile(
    r"(?:https?|ftp|git|ssh)://[^\s\"'\\]+|(?:(?<=host: )|(?<=connect to )|"
    r"(?<=resolve ')|(?<=address \u2018))[\w-]+(?:\.[\w-]+)+"
)
"""An address, or the host that curl, apt or wget names."""
_TELLING = re.compile(r"(?::stderr: )?((?:npm )?(?:\w*error|fatal|E)\b.*)", re.IGNORECASE)
"""The line in which a program says why it failed."""
_LACKS = (
    r"No package matching|Unable to locate package|has no installation candidate|"
    r"No matching distribution found|externally-managed-environment|"
    r"required executable|does not start: No such file|: (?:command )?not found"
)
_LOG = "correct that; the log has all that was said"
_DECLARED = (
    (r"^pip3?\b|\bpip3? install", "the project in `python_packages:`"),
    (r"^\w*(?:docker|podman)\w*\b|\b(?:docker|podman) pull ", "the image in `containers:`"),
    (r"^(?:apt_\w+|deb822_repository)\b|/dists/", "the repository in `extra_repos:`"),
    (r"^(?:git|npm)\b|\b(?:git|npm) ", "a tarball of it, with its SHA-256, in `downloads:`"),
    (_LACKS, "the package in `packages:` of the role"),
    ("", "the address, with the file's SHA-256, in `downloads:`"),
)
"""How a definition brings what a task lacked: patterns of its module, command and messages, in the
order in which they are tried."""


@dataclass(frozen=True)
class Start:
    """A task that started a service. `place` is the task's file and line."""

    place: str
    unit: str
    task: str


def start_of(line: str) -> Start | None:
    """Return the start of a service that a line of output announces, or None."""
    match = _START.search(line)
    return Start(**match.groupdict()) if match else None


def of(lines: Sequence[str]) -> StageFailed:
    """Return the error that ended a run of Packer: the last task's, since earlier ones were
    rescued, else that of a file, or Packer's own."""
    if tasks := _tasks(lines):
        return _failure(tasks[-1], list(filter(None, map(start_of, lines))))
    error = f"packer failed: {next((each for each in lines[::-1] if 'rror' in each), '').strip()}"
    for number, match in enumerate(map(_ERROR.search, lines)):
        if match:
            places = [place[1] for place in map(_ORIGIN.search, lines[number:]) if place]
            error = ": ".join([*places[:1], match[1]])
            break
    return StageFailed(error, hint=_LOG)


def check_passed(lines: Sequence[str]) -> None:
    """Raise StageFailed if a task of a run found no network and passed."""
    for task in _tasks(lines):
        if task["passed"]:
            raise _failure(task, [])


def _tasks(lines: Sequence[str]) -> list[dict[str, str]]:
    return [json.loads(match[1]) for match in map(_FAILED.search, lines) if match]


def _failure(task: dict[str, str], starts: list[Start]) -> StageFailed:
    said, of_role = _said(task), re.search(r"roles/([^/]+)/", task["place"])
    wanted = "\n".join([f"{task['module']} {task.get('cmd')}", task.get("stderr", ""), said])
    why, verdict, hint = "", "failed", _LOG
    if of_role:
        hint = f"correct the role, or run it alone: make molecule ROLE={of_role[1]}"
    if task["reached"] or task["module"] == "pip" or re.search(_LACKS, wanted):
        what = next(what for pattern, what in _DECLARED if re.search(pattern, wanted))
        hint = f"name {what} in the definition, and make a new lock"
    if task["reached"]:
        address = _ADDRESS.search(f"{task.get('url')} {wanted}")
        named = f"{address[0]}: " if address and address[0] not in said else ""
        why = f" ({named}a bake has no network, only the lock's files)"
    elif near := [start for start in starts if of_role and of_role[0] in start.place]:
        why = f" (a bake starts no service, nor {near[-1].unit} for {near[-1].place})"
    if task["passed"]:
        verdict, hint = "passed without a network", f"{hint}; or let it say `failed_when: false`"
    where = f"{task['place']}: task [{task['task']}]"
    return StageFailed(f"{where} {verdict}: {said}{why}", hint=hint)


def _said(task: dict[str, str]) -> str:
    """Return a task's message, or what its program said last."""
    if "censored" in task:
        return "`no_log` hides what it said"
    text = task.get("msg") or task.get("reason", "")
    if text == "Error executing command.":
        return f"`{task['cmd']}` does not start: {os.strerror(int(task['rc']))}"
    of_program = text in ("", "non-zero return code")
    if of_program:
        text = next(filter(None, map(task.get, ("stderr", "module_stderr", "stdout"))), "")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        program = task.get("cmd", task["module"])
        return f"`{program}` said nothing, and ended with {task.get('rc', 1)}"
    if of_program or task["module"] == "pip":
        telling = [match[1] for match in map(_TELLING.match, lines) if match]
        lines = [*telling, lines[-1]][:1]
    return " ".join(lines)[:500]
