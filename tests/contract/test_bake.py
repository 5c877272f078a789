"""Bakes of the CPU image that fail, are killed or meet each other. The GPU image's full run is in test_image.py."""

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
from goldenami.local.disk.disk import NOT_REPRODUCIBLE
from goldenami.model import definition, lockfile
from goldenami.model.build_records import BakeRecord
from support.builds import checkout, tools
from support.builds.tools import need_reproducible_disks
from support.debian import debrepo

pytestmark = pytest.mark.slow
IMAGE = "debian-12-ml-cpu"
LIMIT_S = 900
LAST = "+".join(definition.STEPS[-1])
"""The step that makes the image what it is; each run does it anew."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the checkout with a lock of its own, made from today's mirror."""
    copy = checkout.copy(tmp_path_factory.mktemp("checkout"))
    made = checkout.golden(copy, "lock", IMAGE)
    output, _ = made.communicate(timeout=LIMIT_S)
    assert made.returncode == 0, output
    yield copy
    assert settle(copy) == []
    shutil.rmtree(copy, ignore_errors=True)


def build_of_lock(root: Path) -> Path:
    """Where the lock's build is, or would be."""
    return root / "build" / IMAGE / lockfile.read(lockfile.path_of(root, IMAGE))[1][:lockfile.ID_LENGTH]


@pytest.fixture(scope="module")
def baked(root: Path) -> Path:
    """The folder of a whole build that nobody has verified yet."""
    status, output = finish(checkout.golden(root, "bake", IMAGE, "--no-verify"))
    assert status == 0, output
    return build_of_lock(root)


@pytest.fixture
def copied(baked: Path) -> Iterator[Path]:
    """The same folder, with a copy of its disk."""
    disk, whole = baked / "disk.raw", baked / "whole.raw"
    disk.rename(whole)
    subprocess.run(["cp", "--sparse=always", whole, disk], check=True)
    yield baked
    whole.replace(disk)


def overwrite(disk: Path, at: int, content: bytes) -> None:
    """Write over a part of the disk."""
    with disk.open("r+b") as image:
        image.seek(at)
        image.write(content)


@pytest.fixture
def damaged(copied: Path) -> Path:
    """The folder with zeros behind the partition table and the loaders: where the root file system begins."""
    overwrite(copied / "disk.raw", 130 << 20, b"\0" * (8 << 20))
    return copied


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=LIMIT_S)
    return process.returncode, output


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)


def until(process: subprocess.Popen[str], step: str) -> str:
    """Read messages until `step` begins; returns what was read."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if re.search(rf"\d:\d\d  {re.escape(step)}", line):
            return seen
    process.communicate()  # else its open pipe fails a later test, too
    raise AssertionError(f"the bake ended before `{step}`:\n{seen}")


def settle(root: Path) -> list[str]:
    """What is left once the kernel has had a moment; work folders are the next run's to sweep."""
    for _ in range(50):
        left = [line for line in checkout.leftovers(root) if not line.startswith("work folder")]
        if not left:
            return []
        time.sleep(0.1)
    return left


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


@pytest.mark.parametrize("step", [LAST, "role seal", "seal check", "disk"])
def test_kill_9_leaves_nothing(root: Path, step: str) -> None:
    previous_build(root)
    process = checkout.golden(root, "bake", IMAGE, "--no-verify", "--force")
    until(process, step)
    kill(process)
    assert settle(root) == []
    assert_previous_build(root)


def test_kill_9_while_the_base_tree_is_made(root: Path, tmp_path: Path) -> None:
    previous_build(root)
    cache = checkout.cache(tmp_path)
    process = checkout.golden(root, "bake", IMAGE, "--no-verify", "--force", GOLDEN_CACHE=str(cache))
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
    assert [path.name.rpartition("-")[2] for path in work] == [str(second.pid)]
    assert status == 130, output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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


def test_the_same_image_twice_at_once_is_refused(root: Path) -> None:
    first = checkout.golden(root, "bake", IMAGE, "--no-verify", "--force")
    until(first, LAST)
    status, output = finish(checkout.golden(root, "bake", IMAGE, "--no-verify"))
    os.killpg(first.pid, signal.SIGTERM)
    finish(first)
    assert status == 7, output
    assert f"{IMAGE} is being built by process {first.pid}" in output


def bake_with_task(root: Path, task: str, role: str = "os_updates") -> tuple[int, str]:
    """Bake with one task more in a role's preflight; the role and its lock are put back.

    The lock takes the changed role as its input: `lock` would, too, and read the mirror again.
    """
    tasks, lock = root / f"roles/{role}/tasks/preflight.yml", lockfile.path_of(root, IMAGE)
    before = {path: path.read_text(encoding="utf-8") for path in (tasks, lock, lock.with_name(f"{lock.name}.sha256"))}
    try:
        tasks.write_text(f"{before[tasks]}\n{task}", encoding="utf-8")
        inputs = lockfile.digests(root, definition.load(root, definition.path_of(root, IMAGE)))
        lockfile.write(lock, lockfile.read(lock)[0].model_copy(update={"inputs": inputs}))
        return finish(checkout.golden(root, "bake", IMAGE, "--no-verify", "--force"))
    finally:
        for path, text in before.items():
            path.write_text(text, encoding="utf-8")


def test_a_task_that_fails_is_named(root: Path) -> None:
    previous_build(root)
    status, output = bake_with_task(
        root, "- name: Break\n  ansible.builtin.fail:\n    msg: the disk is made of cheese\n")
    assert status == 5, output
    assert "task [os_updates : Break] failed: the disk is made of cheese" in output
    assert "log:" in output
    assert_previous_build(root)


def test_a_task_that_never_ends_is_stopped_and_named(root: Path) -> None:
    settings = root / "ansible.cfg"
    before = settings.read_text(encoding="utf-8")
    settings.write_text(before.replace("task_timeout = 3600\n", "task_timeout = 20\n"), encoding="utf-8")
    try:
        status, output = bake_with_task(root, "- name: Hang\n  ansible.builtin.command: sleep infinity\n")
    finally:
        settings.write_text(before, encoding="utf-8")
    assert status == 5, output
    assert "task [os_updates : Hang] failed: Task failed: Timed out after 20 second(s)" in output
    assert settle(root) == []


def test_a_step_starts_over_where_a_process_of_ansible_was_killed(root: Path, tmp_path: Path) -> None:
    """The lookup runs in the process that runs the task, which it kills: once, and then each time."""
    task = "- name: Die\n  ansible.builtin.command:\n    cmd: \"{{{{ lookup('pipe', '{}') or 'true' }}}}\"\n"
    once = tmp_path / "once"
    status, output = bake_with_task(root, task.format(f"test -e {once} || {{ touch {once}; kill -9 $PPID; }}"))
    assert status == 0, output
    assert "the process that ran task [Die] died: step os_updates starts over" in output

    status, output = bake_with_task(root, task.format("kill -9 $PPID"))
    assert status == 5, output
    assert "error: ansible: the process that ran task [Die] died" in output
    assert settle(root) == []


def test_code_for_a_newer_cpu_ends_the_bake_before_a_disk_is_written(root: Path, tmp_path: Path) -> None:
    """AVX-512 FP16: Sapphire Rapids (c7i) has it, Zen 4 (c7a) has not, and the image is for both."""
    previous_build(root)
    source, library = tmp_path / "newer.c", tmp_path / "newer.so"
    source.write_text('void half(void) { __asm__("vaddph %zmm0, %zmm1, %zmm2"); }\n', encoding="utf-8")
    shell.output([tools.find("gcc"), "-shared", "-fPIC", "-o", str(library), str(source)])
    status, output = bake_with_task(
        root, f"- name: Bring code\n  ansible.builtin.copy:\n    src: {library}\n    dest: /opt/ml/newer.so\n"
        "    mode: '0755'\n", role="limits")
    assert status == 5, output
    assert "error: 1 functions or files cannot run on every declared machine: opt/ml/newer.so: half: " \
        "1 instruction needs avx512fp16" in output
    assert re.search(r"\d:\d\d  coverage", output)
    assert not re.search(r"\d:\d\d  disk", output)
    assert not list(root.glob("build/*/.work-*"))
    assert_previous_build(root)


def test_a_role_that_reaches_for_the_network_fails(root: Path) -> None:
    status, output = bake_with_task(
        root, "- name: Reach out\n  ansible.builtin.get_url:\n    url: http://192.0.2.1/x\n    dest: /root/x\n"
        "    mode: '0600'\n    timeout: 5\n")
    assert status == 5, output
    assert "os_updates : Reach out" in output
    assert "http://192.0.2.1/x: a bake has no network" in output


def test_a_full_disk_is_refused_before_anything_is_done(root: Path) -> None:
    small = root / "small"
    small.mkdir()
    parts = " ".join(str(root / name) for name in ("packer", "roles", "ansible", "scripts", ".venv", "ansible.cfg"))
    script = (f"mount -t tmpfs -o size=300m tmpfs {small} && cp -a {parts} {small}/ && "
              f"{small}/scripts/golden bake {IMAGE} --no-verify")
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False,
                          timeout=LIMIT_S)
    small.rmdir()
    assert done.returncode == 8, done.stderr
    assert "no space: the bake needs" in done.stderr


def test_two_bakes_at_once_do_not_disturb_each_other(root: Path, tmp_path: Path) -> None:
    other = checkout.copy(tmp_path / "other")
    assert finish(checkout.golden(other, "lock", IMAGE))[0] == 0
    bakes = [checkout.golden(folder, "bake", IMAGE, "--no-verify", "--force") for folder in (root, other)]
    ends = [finish(process) for process in bakes]
    assert [status for status, _ in ends] == [0, 0], ends
    manifests = [records.sha256_file(build_of_lock(folder) / "manifest.json") for folder in (root, other)]
    assert manifests[0] == manifests[1]
    assert settle(other) == []


def test_two_bakes_agree_elsewhere_on_another_day_and_with_nothing_to_reach(root: Path) -> None:
    """After `fetch` the network is cut: a namespace without a link, so that not even this machine's services answer."""
    need_reproducible_disks()
    assert finish(checkout.golden(root, "fetch", IMAGE))[0] == 0
    program = str(root / "scripts/golden")
    script = f'ip -o link && ip -o route && exec "{program}" reproduce {IMAGE}'
    done = subprocess.run(["unshare", "--net", "sh", "-c", script], cwd=root, capture_output=True, text=True,
                          check=False, timeout=2 * LIMIT_S)
    assert done.returncode == 0, done.stderr
    link, said = done.stdout.splitlines()
    assert link.startswith("1: lo: <LOOPBACK> "), "something is reachable"
    assert said.startswith("reproduced: both disks have SHA-256 ")
    assert said.endswith("the second was baked as on the machine `elsewhere`, 400 days later")
    assert settle(root) == []


def test_a_bake_does_not_need_the_mirror_to_have_what_the_lock_names(root: Path, tmp_path: Path) -> None:
    """A mirror that has lost every file, which it would be asked for if the store lacked one."""
    empty = debrepo.Mirror(tmp_path)
    lost = {f"GOLDEN_MIRROR_{name}": empty.uri for name in ("DEBIAN", "DEBIAN_SECURITY", "PYPI")}
    status, output = finish(checkout.golden(root, "bake", IMAGE, "--no-verify", "--force", **lost))
    assert (status, empty.requests) == (0, []), output
    status, output = finish(checkout.golden(root, "fetch", IMAGE, GOLDEN_CACHE=str(tmp_path / "cache"), **lost))
    empty.close()
    assert (status, "is no longer at" in output) == (4, True), output


def test_a_host_whose_mke2fs_reads_no_tar_says_that_the_disk_is_not_reproducible(root: Path, tmp_path: Path) -> None:
    """As on Debian 12 and Ubuntu: in the output and in the record."""
    program = tmp_path / "mke2fs"
    real = shell.require("mke2fs", "e2fsprogs")
    program.write_text(f'#!/bin/sh\ncase "$*" in *"-d - "*) exit 1;; esac\nexec {real} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    status, output = finish(checkout.golden(root, "bake", IMAGE, "--no-verify", "--force",
                                            PATH=f"{tmp_path}:{os.environ['PATH']}"))
    assert (status, f"not reproducible: {NOT_REPRODUCIBLE}" in output) == (0, True), output
    newest = max(root.glob(f"build/{IMAGE}/*/bake.json"), key=lambda path: path.stat().st_mtime)
    record = records.read(newest, BakeRecord)
    assert record.disk.note == NOT_REPRODUCIBLE
    assert record.host.tools["e2fsprogs"]


@pytest.mark.usefixtures("baked")
@pytest.mark.parametrize("step", ["boot bios", "checks"])
def test_kill_9_while_the_disk_boots(root: Path, step: str) -> None:
    """The second boot runs beside the checks."""
    process = checkout.golden(root, "verify", IMAGE)
    until(process, step)
    time.sleep(5)
    kill(process)
    assert settle(root) == []


def test_a_boot_that_never_reaches_ssh_shows_the_console(root: Path, damaged: Path) -> None:
    status, output = finish(checkout.golden(root, "verify", IMAGE, GOLDEN_BOOT_LIMIT_S="60"))
    assert status == 5, output
    assert "serial console" in output
    assert re.search(r"^  \| .*", output, re.M), "no line of the console"
    assert not (damaged / "verify.json").exists()


def test_a_disk_that_boots_under_bios_only(root: Path, copied: Path) -> None:
    """Its loader for UEFI is erased, as FAT does it: by a mark in its entry's first byte."""
    with (copied / "disk.raw").open("rb") as image:
        entry = image.read(130 << 20).index(b"BOOTX64 EFI")
    overwrite(copied / "disk.raw", entry, b"\xe5")
    status, output = finish(checkout.golden(root, "verify", IMAGE))
    assert (status, "uefi: the boot ended in: Shell>" in output) == (5, True), output
    assert not (copied / "verify.json").exists()
    assert settle(root) == []
