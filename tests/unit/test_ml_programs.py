"""ml-threads: the CPUs of a cgroup, on made-up /proc and /sys of both kinds; ml-run: how it refuses."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).resolve().parents[2] / "roles/frameworks/files"
HERE = len(os.sched_getaffinity(0))


def threads(root: Path, env: dict[str, str] | None = None) -> int:
    done = subprocess.run([str(PROGRAMS / "ml-threads"), str(root)], capture_output=True, text=True, check=True,
                          env={"PATH": os.environ["PATH"], **(env or {})})
    return int(done.stdout)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(("quota", "wanted"), [
    ("max 100000", HERE), ("100000 100000", 1), ("50000 100000", 1), ("110000 100000", min(2, HERE)),
    ("9900000 100000", HERE),
])
def test_the_quota_of_a_cgroup(tmp_path: Path, quota: str, wanted: int) -> None:
    assert threads(write(tmp_path, {"proc/self/cgroup": "0::/a.slice/b.service\n",
                                    "sys/fs/cgroup/a.slice/b.service/cpu.max": f"{quota}\n"})) == wanted


def test_the_quota_of_a_cgroup_above(tmp_path: Path) -> None:
    assert threads(write(tmp_path, {"proc/self/cgroup": "0::/a.slice/b.service\n",
                                    "sys/fs/cgroup/a.slice/b.service/cpu.max": "max 100000\n",
                                    "sys/fs/cgroup/a.slice/cpu.max": "60000 100000\n"})) == 1


def test_the_quota_of_a_container_that_sees_only_itself(tmp_path: Path) -> None:
    assert threads(write(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"})) == 1


def test_the_quota_of_an_older_hierarchy(tmp_path: Path) -> None:
    folder = "sys/fs/cgroup/cpu/docker/1"
    assert threads(write(tmp_path, {
        "proc/self/cgroup": "4:cpu,cpuacct:/docker/1\n1:name=systemd:/docker/1\n",
        f"{folder}/cpu.cfs_quota_us": "80000\n", f"{folder}/cpu.cfs_period_us": "100000\n"})) == 1


def test_without_any_limit_and_whatever_openmp_was_told(tmp_path: Path) -> None:
    assert threads(tmp_path, {"OMP_NUM_THREADS": "77"}) == HERE


def test_a_cpu_set_counts(tmp_path: Path) -> None:
    """The set that this process was given, not the machine's CPUs."""
    one = str(min(os.sched_getaffinity(0)))
    done = subprocess.run(["taskset", "--cpu-list", one, str(PROGRAMS / "ml-threads"), str(tmp_path)],
                          capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_ml_run_names_what_it_needs() -> None:
    done = subprocess.run([str(PROGRAMS / "ml-run"), "nosuch", "true"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ml-run ENVIRONMENT COMMAND")
