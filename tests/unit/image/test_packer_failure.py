"""What a failed bake says: the task, its message, and which address a task wanted that has no
network."""

from __future__ import annotations

import json
from typing import Any

import pytest
from goldenami.local.machine import packer

HINT = "a bake has no network, only the lock's packages)"


def cause(**result: Any) -> str:
    """The message for a task that failed with `result`, in Packer's copy of Ansible's output."""
    lines = [
        "    null.local: TASK [cuda : Earlier] ****",
        "    null.local: ok: [default]",
        "    null.local: TASK [cuda : Fetch the samples] ****",
        "    null.local: fatal: [default]: FAILED! => "
        f"{json.dumps({'changed': False, **result}, ensure_ascii=False)}",
        "    null.local: PLAY RECAP ****",
        "==> null.local: Deleting ...",
    ]
    return packer._cause(lines)


def command(*argv: str, stderr: str) -> dict[str, Any]:
    return {
        "cmd": list(argv),
        "msg": "non-zero return code",
        "rc": 6,
        "stderr": stderr,
        "stderr_lines": [stderr],
        "stdout": "",
    }


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (
            {
                "msg": "Request failed: <urlopen error [Errno 101] Network is unreachable>",
                "url": "http://192.0.2.1/x",
            },
            f"Network is unreachable> (http://192.0.2.1/x: {HINT}",
        ),
        (
            {
                "msg": "Request failed: <urlopen error [Errno -3] "
                "Temporary failure in name resolution>",
                "url": "https://example.org/a.tar?b=1",
            },
            f"Temporary failure in name resolution> (https://example.org/a.tar?b=1: {HINT}",
        ),
        (
            command(
                "curl",
                "-fO",
                "https://example.org/x.run",
                stderr="curl: (6) Could not resolve host: example.org",
            ),
            f"non-zero return code (https://example.org/x.run: {HINT}",
        ),
        (
            command(
                "curl",
                "192.0.2.1",
                stderr="curl: (7) Failed to connect to 192.0.2.1 port 80 after 0 ms: Couldn't",
            ),
            f"non-zero return code (192.0.2.1: {HINT}",
        ),
        (
            command(
                "sh",
                "get.sh",
                stderr="wget: unable to resolve host address \u2018example.org\u2019",
            ),
            f"non-zero return code (example.org: {HINT}",
        ),
        (
            {
                "msg": "fatal: unable to access 'https://example.org/r.git/': "
                "Could not resolve host: example.org"
            },
            f"Could not resolve host: example.org ({HINT}",
        ),
        (
            {"msg": "apt", "stderr": "Could not resolve 'archive.example.org'"},
            f"apt (archive.example.org: {HINT}",
        ),
        (
            {"msg": "could not look up the name", "stderr": "gai: Name or service not known"},
            f"could not look up the name ({HINT}",
        ),
    ],
)
def test_a_task_that_wants_the_network_names_the_address(
    result: dict[str, Any], expected: str
) -> None:
    said = cause(**result)
    assert said.startswith("task [cuda : Fetch the samples] failed: ")
    assert said.endswith(expected)


@pytest.mark.parametrize(
    "result",
    [
        {"msg": "the disk is made of cheese", "url": "https://example.org/x"},
        command(
            "curl",
            "http://localhost:80/",
            stderr="curl: (7) Failed to connect to localhost port 80 after 0 ms",
        ),
        command("make", stderr="see https://example.org/docs: Connection refused"),
    ],
)
def test_a_task_that_fails_otherwise_is_not_blamed_on_the_network(result: dict[str, Any]) -> None:
    assert cause(**result) == f"task [cuda : Fetch the samples] failed: {result['msg']}"


def test_a_task_that_wants_a_service_names_who_started_it() -> None:
    start = "    null.local: golden-start roles/{}/tasks/main.yml:7 agent.service Start it"
    lines = [
        start.format("cuda"),
        "    null.local: TASK [cuda : Ask it] ****",
        '    null.local: fatal: [default]: FAILED! => {"msg": "no answer"}',
    ]
    said = "task [cuda : Ask it] failed: no answer"
    assert packer._cause(lines) == (
        f"{said} (a bake starts no service, nor agent.service for roles/cuda/tasks/main.yml:7)"
    )
    assert packer._cause([start.format("tools"), *lines[1:]]) == said


def test_a_failure_without_a_task_shows_the_last_error() -> None:
    assert packer._cause(["building", "Error: no such builder", "done"]) == (
        "packer failed: Error: no such builder"
    )
