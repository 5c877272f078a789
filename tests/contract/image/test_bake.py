"""Bakes of the CPU image that fail, are killed or meet each other; test_bake_boot.py has what
becomes of their disks, test_image.py the GPU image's full run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core import records, shell
from goldenami.core.process import ProcessId
from goldenami.model.locked import lockfile
from support.builds import checkout, tools
from support.builds.bakes import (
    IMAGE,
    LAST,
    LIMIT_S,
    again,
    build_of_lock,
    changed,
    finish,
    kill,
    locked,
    settle,
    until,
)

pytestmark = pytest.mark.slow
LONG = pytest.mark.long


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    copy = locked(tmp_path_factory.mktemp("checkout") / "root")
    yield copy
    assert settle(copy) == []
    shutil.rmtree(copy, ignore_errors=True)


def previous_build(root: Path) -> Path:
    """A stand-in for the last good build: a failure must not touch it."""
    folder = root / "build" / IMAGE / "0123456789ab"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "disk.raw").write_text("good", encoding="utf-8")
    latest = root / "build" / IMAGE / "latest"
    if not latest.is_symlink():
        latest.symlink_to(folder.name)
    return folder


def assert_previous_build(root: Path) -> None:
    assert (root / "build" / IMAGE / "latest").readlink() == Path("0123456789ab")
    assert (root / "build" / IMAGE / "latest/disk.raw").read_text(encoding="utf-8") == "good"


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(LAST, marks=LONG),
        "role seal",
        pytest.param("seal check", marks=LONG),
        pytest.param("disk", marks=LONG),
    ],
)
def test_kill_9_leaves_nothing(root: Path, step: str, tmp_path: Path) -> None:
    """What a kill meets differs twice: a container with Packer and Ansible, and the program that
    writes the disk."""
    previous_build(root)
    process = checkout.golden(root, "bake", IMAGE, "--no-verify", "--force", TMPDIR=str(tmp_path))
    until(process, step)
    kill(process)
    assert settle(root) == []
    assert list(tmp_path.iterdir()) == [], "temporary files"
    assert_previous_build(root)


@LONG
def test_kill_9_while_the_base_tree_is_made(root: Path, tmp_path: Path) -> None:
    previous_build(root)
    cache = checkout.cache(tmp_path)
    process = checkout.golden(
        root, "bake", IMAGE, "--no-verify", "--force", GOLDEN_CACHE=str(cache)
    )
    until(process, "base")
    time.sleep(4)  # mmdebstrap is unpacking by now
    kill(process)
    assert settle(root) == []
    assert not list(cache.glob("layers/*/root")), "half a tree has the name of a whole one"
    assert_previous_build(root)


def test_the_next_run_sweeps_what_a_kill_left(root: Path) -> None:
    process = checkout.golden(root, "bake", IMAGE, "--no-verify", "--force")
    until(process, LAST)
    kill(process)
    assert list(root.glob("build/*/.work-*"))
    second = checkout.golden(root, "bake", IMAGE, "--no-verify", "--force")
    until(second, "repository")
    work = list(root.glob("build/*/.work-*"))
    os.killpg(second.pid, signal.SIGTERM)
    status, output = finish(second)
    assert [owner.pid for path in work if (owner := ProcessId.parse(path.name))] == [second.pid]
    assert status == 130, output


@pytest.mark.parametrize("number", [signal.SIGINT])
def test_a_signal_ends_the_bake_cleanly(root: Path, number: signal.Signals) -> None:
    previous_build(root)
    process = checkout.golden(root, "bake", IMAGE, "--no-verify", "--force")
    until(process, "role limits")
    os.killpg(process.pid, number)
    status, output = finish(process)
    assert status == 130, output
    assert "interrupted" in output
    assert settle(root) == []
    assert not list(root.glob("build/*/.work-*"))
    assert_previous_build(root)


def bake_with_task(root: Path, task: str, role: str = "os_updates", **more: str) -> tuple[int, str]:
    """Bake with one task more, the first of a role, or of `more` roles, too; the roles and their
    lock are put back."""
    tasks = {
        root / f"roles/{name}/tasks/main.yml": text for name, text in {role: task, **more}.items()
    }
    lock = lockfile.path_of(root, IMAGE)
    before = {
        path: path.read_text(encoding="utf-8")
        for path in (*tasks, lock, lock.with_name(f"{lock.name}.sha256"))
    }
    try:
        for path, text in tasks.items():
            changed(root, path, f"{text}\n{before[path].removeprefix('---')}")
        return finish(checkout.golden(root, "bake", IMAGE, "--no-verify", "--force"))
    finally:
        for path, text in before.items():
            path.write_text(text, encoding="utf-8")


UNITS = """\
- name: Write units
  ansible.builtin.copy:
    dest: /etc/systemd/system/{{ item }}.service
    content: |
      [Service]
      ExecStart=sh -c 'touch /var/lib/started; sleep infinity'
      [Install]
      WantedBy=multi-user.target
    mode: "0644"
  loop: [agent, lost]
- name: Start one for every boot
  ansible.builtin.service: {name: agent, state: started, enabled: true}
"""
START = """\
- name: Look whether it ran in this container or the one before
  ansible.builtin.command: test ! -e /var/lib/started
- name: Start one by hand
  ansible.builtin.command: systemctl start lost.service
"""


def test_a_bake_starts_no_service_and_names_the_task_that_wants_one(root: Path) -> None:
    """The layer with the unit is kept, and the next one's container boots on it."""
    status, output = bake_with_task(root, UNITS, role="kernel", limits=START)
    assert status == 5, output
    assert "role limits" in output
    assert (
        "error: roles/limits/tasks/main.yml:3: task [Start one by hand] starts lost.service, which "
        "is disabled: a bake starts no service" in output
    )


@LONG
def test_a_task_that_never_ends_is_stopped_and_named(root: Path) -> None:
    settings = root / "ansible.cfg"
    before = settings.read_text(encoding="utf-8")
    settings.write_text(
        before.replace("task_timeout = 3600\n", "task_timeout = 20\n"), encoding="utf-8"
    )
    try:
        status, output = bake_with_task(
            root, "- name: Hang\n  ansible.builtin.command: sleep infinity\n"
        )
    finally:
        settings.write_text(before, encoding="utf-8")
    assert status == 5, output
    assert "task [os_updates : Hang] failed: Task failed: Timed out after 20 second(s)" in output
    assert settle(root) == []


@LONG
def test_a_step_starts_over_where_a_process_of_ansible_was_killed(
    root: Path, tmp_path: Path
) -> None:
    """The lookup runs in the process that runs the task, which it kills: once, and then each time.
    In the last step, whose layers below are there already."""
    task = (
        "- name: Die\n  ansible.builtin.command:\n"
        "    cmd: \"{{{{ lookup('pipe', '{}') or 'true' }}}}\"\n"
    )
    once = tmp_path / "once"
    dies_once = task.format(f"test -e {once} || {{ touch {once}; kill -9 $PPID; }}")
    status, output = bake_with_task(root, dies_once, role="limits")
    assert status == 0, output
    assert f"the process that ran task [Die] died: step {LAST} starts over" in output

    status, output = bake_with_task(root, task.format("kill -9 $PPID"), role="limits")
    assert status == 5, output
    assert "error: ansible: the process that ran task [Die] died" in output
    assert settle(root) == []


@LONG
def test_code_for_a_newer_cpu_ends_the_bake(root: Path, tmp_path: Path) -> None:
    """AVX-512 FP16: Sapphire Rapids (c7i) has it, Zen 4 (c7a) has not, and the image is for
    both."""
    previous_build(root)
    disks = set(root.glob("build/*/*/disk.raw"))
    source, library = tmp_path / "newer.c", tmp_path / "newer.so"
    source.write_text(
        'void half(void) { __asm__("vaddph %zmm0, %zmm1, %zmm2"); }\n', encoding="utf-8"
    )
    shell.output([tools.find("gcc"), "-shared", "-fPIC", "-o", str(library), str(source)])
    status, output = bake_with_task(
        root,
        f"- name: Bring code\n  ansible.builtin.copy:\n    src: {library}\n    dest: "
        "/opt/ml/bin/newer.so\n"
        "    mode: '0755'\n",
        role="limits",
    )
    assert status == 5, output
    assert (
        "error: 1 functions or files cannot run on every declared machine: opt/ml/bin/newer.so: "
        "half: "
        "1 instruction needs avx512fp16" in output
    )
    assert re.search(r"\d:\d\d  coverage", output)
    assert set(root.glob("build/*/*/disk.raw")) == disks, "the disk went with the rest"
    assert not list(root.glob("build/*/.work-*"))
    assert_previous_build(root)


def test_a_full_disk_is_refused_before_anything_is_done(root: Path) -> None:
    small = root / "small"
    small.mkdir()
    parts = " ".join(
        str(root / name)
        for name in ("packer", "roles", "ansible", "scripts", ".venv", "ansible.cfg")
    )
    script = (
        f"mount -t tmpfs -o size=300m tmpfs {small} && cp -a {parts} {small}/ && "
        f"{small}/scripts/golden bake {IMAGE} --no-verify"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    small.rmdir()
    assert done.returncode == 8, done.stderr
    assert "no space: the bake needs" in done.stderr


@LONG
def test_two_bakes_at_once_do_not_disturb_each_other(root: Path, tmp_path: Path) -> None:
    other = again(root, tmp_path / "other")
    bakes = [
        checkout.golden(folder, "bake", IMAGE, "--no-verify", "--force") for folder in (root, other)
    ]
    ends = [finish(process) for process in bakes]
    assert [status for status, _ in ends] == [0, 0], ends
    manifests = [
        records.sha256_file(build_of_lock(folder) / "manifest.json") for folder in (root, other)
    ]
    assert manifests[0] == manifests[1]
    assert settle(other) == []
