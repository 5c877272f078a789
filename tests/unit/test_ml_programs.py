"""ml-threads: the CPUs of a cgroup, on made-up /proc and /sys of both kinds; ml-run: how it refuses."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from jinja2 import Environment, StrictUndefined

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


def login_file(name: str, *environments: str) -> str:
    """A file of /etc that the role writes for frameworks, one in each of `environments`."""
    template = PROGRAMS.parent / f"templates/etc/{name}.j2"
    installed = [{"name": f"f{number}", "module": f"m{number}", "environment": environment}
                 for number, environment in enumerate(environments)]
    # As Ansible has it: a block's own line leaves no empty one.
    return Environment(trim_blocks=True, undefined=StrictUndefined).from_string(
        template.read_text(encoding="utf-8")).render(
            frameworks_installed=installed, __frameworks_home="/opt/ml", ansible_managed="managed")


@pytest.mark.parametrize(("environments", "path", "told"), [
    (["ml", "ml"], "/opt/ml/ml/bin:/opt/ml/bin:/bin", "python3 has f0, f1 (from /opt/ml/ml).\n"),
    (["numpy"], "/opt/ml/numpy/bin:/opt/ml/bin:/bin", "python3 has f0 (from /opt/ml/numpy).\n"),
    (["a", "b"], "/opt/ml/bin:/bin", "Each framework has an environment of its own. To use one:\n"
     '    ml a && python3 -c "import m0"\n    ml b && python3 -c "import m1"\n'),
])
def test_a_login_has_the_only_environment_or_is_told_of_each(environments: list[str], path: str, told: str) -> None:
    script = login_file("profile.d/golden-frameworks.sh", *environments) + '\necho "$PATH"; type -t ml'
    done = subprocess.run(["/bin/bash", "--norc", "-c", script], capture_output=True, text=True, check=False,
                          env={"PATH": "/bin", "OMP_NUM_THREADS": "1"})
    assert done.stdout.split() == [path, *(["function"] if len(set(environments)) > 1 else [])], done.stderr
    assert login_file("motd.d/60-golden-frameworks", *environments) == told
