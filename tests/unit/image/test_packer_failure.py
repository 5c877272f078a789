"""What a failed bake says: the task with its file and line, its message, and what to declare for
what it wanted of the network.

Ansible runs for it once, without a network. Each machine of its inventory is this one, and runs a
file of tasks of its own.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from goldenami.core.errors import StageFailed
from goldenami.local.machine import failed_task, packer
from support.builds.tools import ROOT, find
from support.files import write, write_programs

NO_NETWORK = "a bake has no network, only the lock's files)"
DOWNLOADS = "name the address, with the file's SHA-256, in `downloads:` in the definition"
PACKAGES = "name the package in `packages:` of the role in the definition"
PYTHON = "name the project in `python_packages:` in the definition"
TARBALL = "name a tarball of it, with its SHA-256, in `downloads:` in the definition"
ALONE = "correct the role, or run it alone: make molecule ROLE=agent"
TASKS = {
    "get_url": (
        "get_url: {url: 'https://example.com/probe.tar.gz', dest: /nowhere, mode: '0644'}",
        f"name resolution> (https://example.com/probe.tar.gz: {NO_NETWORK}",
        DOWNLOADS,
    ),
    "loop": (
        "get_url: {url: 'https://example.com/{{ item }}', dest: /nowhere, mode: '0644'}\n"
        "  loop: [probe, other]",
        f"(https://example.com/probe: {NO_NETWORK}",
        DOWNLOADS,
    ),
    "uri": ("uri: {url: 'http://192.0.2.1/x'}", f"(http://192.0.2.1/x: {NO_NETWORK}", DOWNLOADS),
    "unarchive": (
        "unarchive: {src: 'https://example.com/probe.tar.gz', dest: /tmp, remote_src: true}",
        "failed: Failure downloading https://example.com/probe.tar.gz, Request failed",
        DOWNLOADS,
    ),
    "deb": (
        "apt: {deb: 'https://example.com/probe.deb'}",
        "failed: Failure downloading https://example.com/probe.deb, Request failed",
        DOWNLOADS,
    ),
    "shell": (
        "shell: set -o pipefail; curl -fsSL https://example.com/install | sh\n"
        "  args: {executable: /bin/bash}",
        "failed: curl: (6) Could not resolve host: example.com "
        f"(https://example.com/install: {NO_NETWORK}",
        DOWNLOADS,
    ),
    "pipe": (
        "shell: curl -fsSL https://example.com/install | sh",
        "passed without a network: curl: (6) Could not resolve host: example.com",
        f"{DOWNLOADS}, and make a new lock; or let it say `failed_when: false`",
    ),
    "address": (
        "command: curl 192.0.2.1",
        "failed: curl: (7) Failed to connect to 192.0.2.1 port 80",
        DOWNLOADS,
    ),
    "localhost": ("command: curl http://localhost:9/", "curl: (7) Failed to connect to", ALONE),
    "git": (
        "git: {repo: 'https://example.com/r.git', dest: '{{ folder }}/git', version: main}",
        "failed: fatal: unable to access 'https://example.com/r.git/': Could not resolve host",
        TARBALL,
    ),
    "npm": (
        "command: npm install --global left-pad\n  environment: {PATH: /nowhere}",
        "failed: `npm install --global left-pad` does not start: No such file or directory",
        TARBALL,
    ),
    "docker": (
        "shell: |-\n"
        "    docker() { echo 'dial tcp: connect: network is unreachable' >&2; exit 1; }\n"
        "    docker pull docker.io/library/redis:7",
        f"failed: dial tcp: connect: network is unreachable ({NO_NETWORK}",
        "name the image in `containers:` in the definition",
    ),
    "pip": (
        "pip: {name: einops, virtualenv: '{{ folder }}/venv', "
        "virtualenv_command: /usr/bin/python3 -m venv}",
        "failed: ERROR: Could not find a version that satisfies the requirement einops",
        PYTHON,
    ),
    "pip_command": (
        "command: /usr/bin/python3 -m pip install --target {{ folder }}/pip einops",
        "failed: ERROR: Could not find a version that satisfies the requirement einops",
        PYTHON,
    ),
    "apt": (
        "apt: {name: [no-such-package]}",
        "failed: No package matching 'no-such-package' is available",
        PACKAGES,
    ),
    "apt_get": (
        "command: apt-get install --yes no-such-package",
        "failed: E: Unable to locate package no-such-package",
        PACKAGES,
    ),
    "program": ("shell: no-such-program --now", "no-such-program: not found", PACKAGES),
    "command": ("shell: 'echo out; echo it is broken >&2; exit 3'", "failed: it is broken", ALONE),
    "silent": ("shell: exit 3", "failed: `exit 3` said nothing, and ended with 3", ALONE),
    "empty": ("fail: {msg: ''}", "failed: `fail` said nothing, and ended with 1", ALONE),
    "secret": (
        "shell: 'echo hunter2 >&2; exit 3'\n  no_log: true",
        "failed: `no_log` hides what it said",
        ALONE,
    ),
    "undefined": ("debug: {msg: '{{ nope }}'}", "'nope' is undefined", ALONE),
    "service": (
        "shell: 'exit 3 # systemctl start agent'",
        "said nothing, and ended with 3",
        ALONE,
    ),
    "waits": (
        "shell: ': systemctl start agent.service'\n- name: Ask it\n"
        "  ansible.builtin.fail: {msg: no answer}",
        "tasks/waits.yml:3: task [agent : Ask it] failed: no answer (a bake starts no service, nor "
        "agent.service for roles/agent/tasks/waits.yml:1)",
        ALONE,
    ),
    "rescued": (
        "block: [{ansible.builtin.fail: {msg: first}}]\n"
        "  rescue: [{name: Say, ansible.builtin.fail: {msg: second}}]",
        "task [agent : Say] failed: second",
        ALONE,
    ),
    "ignored": (
        "command: curl https://example.com/\n  failed_when: false",
        "",
        "",
    ),
    "sudo": (
        "shell: 'echo \"sudo: unable to resolve host x: Name or service not known\" >&2'",
        "",
        "",
    ),
    "unknown": (
        "no_such_module: {}",
        "roles/agent/tasks/unknown.yml:1: couldn't resolve module/action "
        "'ansible.builtin.no_such_module'",
        "correct that; the log has all that was said",
    ),
    "absent": (
        "include_role: {name: no_such_role}",
        "the role 'no_such_role' was not found",
        ALONE,
    ),
}
"""By machine: a task, what is said of it, and what to do."""


def _ran(folder: Path, names: list[str]) -> dict[str, list[str]]:
    """Ansible's lines on the tasks of each machine."""
    for name in names:
        task = TASKS[name][0]
        spaced = "" if task.startswith("block") else "ansible.builtin."
        write(folder, {f"roles/agent/tasks/{name}.yml": f"- name: Try it\n  {spaced}{task}\n"})
    main = "- ansible.builtin.include_tasks: '{{ inventory_hostname }}.yml'\n"
    play = "- hosts: all\n  gather_facts: false\n  roles: [agent]\n"
    hosts = "".join(f"{name} ansible_connection=local folder={folder}\n" for name in names)
    write(folder, {"roles/agent/tasks/main.yml": main, "play.yml": play, "hosts": hosts})
    settings = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_ROLES_PATH": str(folder / "roles"),
        "ANSIBLE_FORKS": "4",
        "ANSIBLE_STRATEGY": "host_pinned",
        "ANSIBLE_NOCOLOR": "1",
        "PIP_RETRIES": "0",
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
    }
    argv = ["unshare", "--net", find("ansible-playbook"), "-i", "hosts", "play.yml"]
    done = subprocess.run(
        argv,
        cwd=folder,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = [f"    null.local: {line}" for line in done.stdout.splitlines()]
    if len(names) == 1:
        return {names[0]: lines}
    return {name: [line for line in lines if f"tasks/{name}.yml:" in line] for name in names}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    alone = ["unknown"]  # no task: Ansible ends
    lines = _ran(tmp_path_factory.mktemp("tasks"), [name for name in TASKS if name not in alone])
    return lines | _ran(tmp_path_factory.mktemp("file"), alone)


@pytest.mark.parametrize("name", [name for name in TASKS if TASKS[name][1]])
def test_a_failed_task_says_where_it_stands_and_what_to_declare(
    name: str, said: dict[str, list[str]]
) -> None:
    failure = failed_task.of(said[name])
    assert f"roles/agent/tasks/{name}.yml:" in failure.message
    assert TASKS[name][1] in failure.message and failure.hint.startswith(TASKS[name][2])
    assert "hunter2" not in "".join(said[name])


def test_a_task_that_may_fail_is_not_blamed(said: dict[str, list[str]]) -> None:
    assert (said["ignored"], said["sudo"]) == ([], [])


@pytest.mark.parametrize(("name", "status"), [("get_url", 1), ("pipe", 0)])
def test_a_build_ends_with_what_the_task_said(
    name: str,
    status: int,
    said: dict[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "\n".join([*said[name], "PLAY RECAP"])
    program = f"#!/bin/sh\n[ $1 = build ] || exec echo Packer v1.11.2\ncat text\nexit {status}\n"
    write_programs(tmp_path, {"packer": program.replace("cat text", f"cat {tmp_path}/text")})
    write(tmp_path, {"text": text})
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    build = packer.PackerBuild(ROOT, tmp_path, "a", tmp_path / "log")
    with pytest.raises(StageFailed) as caught:
        build.run("null.local", {}, env={}, on_line=lambda line: None)
    assert f"tasks/{name}.yml:1: task [agent : Try it]" in caught.value.message
    assert caught.value.hint.startswith(DOWNLOADS)
    assert "golden-failed" not in caught.value.tail


def test_a_failure_without_a_task_shows_the_last_error() -> None:
    failure = failed_task.of(["building", "Error: no such builder", "done"])
    assert failure.message == "packer failed: Error: no such builder"
