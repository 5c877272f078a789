"""ml-threads: the CPUs of a cgroup, on made-up /proc and /sys of both kinds; ml-run: how it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from jinja2 import Environment, StrictUndefined

PROGRAMS = Path(__file__).resolve().parents[2] / "roles/frameworks/files"
OWN = "Packages of your own: python3 -m venv --system-site-packages ~/env && ~/env/bin/pip install NAME\n"
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
    """A file that the role writes for frameworks, one in each of `environments`."""
    template = PROGRAMS.parent / f"templates/{name}.j2"
    installed = [{"name": f"f{number}", "module": f"m{number}", "environment": environment}
                 for number, environment in enumerate(environments)]
    # As Ansible has it: a block's own line leaves no empty one.
    return Environment(trim_blocks=True, undefined=StrictUndefined).from_string(
        template.read_text(encoding="utf-8")).render(
            frameworks_installed=installed, __frameworks_home="/opt/ml", __frameworks_python="3.13",
            ansible_managed="managed")


@pytest.mark.parametrize(("environments", "path", "told"), [
    (["ml", "ml"], "/opt/ml/ml/bin:/opt/ml/bin:/bin", f"python3 has f0, f1 (from /opt/ml/ml).\n{OWN}"),
    (["numpy"], "/opt/ml/numpy/bin:/opt/ml/bin:/bin", f"python3 has f0 (from /opt/ml/numpy).\n{OWN}"),
    (["a", "b"], "/opt/ml/bin:/bin", "Each framework has an environment of its own. To use one:\n"
     '    ml a && python3 -c "import m0"\n    ml b && python3 -c "import m1"\n'),
])
def test_a_login_has_the_only_environment_or_is_told_of_each(environments: list[str], path: str, told: str) -> None:
    script = login_file("etc/profile.d/golden-frameworks.sh", *environments) + '\necho "$PATH"; type -t ml'
    done = subprocess.run(["/bin/bash", "--norc", "-c", script], capture_output=True, text=True, check=False,
                          env={"PATH": "/bin", "OMP_NUM_THREADS": "1"})
    assert done.stdout.split() == [path, *(["function"] if len(set(environments)) > 1 else [])], done.stderr
    assert login_file("etc/motd.d/60-golden-frameworks", *environments) == told


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of environments with a real one in it, without a pip of its own, and the role's pip."""
    home = tmp_path_factory.mktemp("opt") / "ml"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home / "ml")], check=True)
    text = login_file("opt/ml/bin/pip", "ml").replace("/opt/ml", str(home)).replace("/usr/bin/python3", sys.executable)
    module = (PROGRAMS / "pip.py").read_text(encoding="utf-8").replace("/opt/ml", str(home))
    packages = next(home.glob("ml/lib/python3*/site-packages"))
    write(home, {"bin/pip": text, f"{packages.relative_to(home)}/pip.py": module})
    (home / "bin/pip").chmod(0o755)
    return home


def typed(image: Path, *argv: str, active: str = "ml") -> subprocess.CompletedProcess[str]:
    environment = {"VIRTUAL_ENV": str(image / active)} if active else {}
    return subprocess.run([str(image / argv[0]), *argv[1:]], capture_output=True, text=True, check=False,
                          env={"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", **environment})


PIPS = [("bin/pip",), ("ml/bin/python3", "-m", "pip")]


@pytest.mark.parametrize("pip", PIPS, ids=["pip", "python3 -m pip"])
@pytest.mark.parametrize("words", [("install", "x"), ("-q", "uninstall", "-y", "x"), ("install", "--upgrade", "torch")])
def test_pip_keeps_the_image_s_environment_and_says_what_works(
    image: Path, pip: tuple[str, ...], words: tuple[str, ...],
) -> None:
    done = typed(image, *pip, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (f"pip: {image}/ml stays as it was tested; packages of your own go into an environment that "
                           "sees it: python3 -m venv --system-site-packages ~/env && ~/env/bin/pip install NAME\n")


@pytest.mark.parametrize("pip", PIPS, ids=["pip", "python3 -m pip"])
def test_pip_answers_questions_of_the_environment(image: Path, pip: tuple[str, ...]) -> None:
    done = typed(image, *pip, "list", "--format=freeze")
    assert (done.returncode, done.stdout) == (0, ""), "the environment has no package, whatever this Python has"
    assert "No matching distribution found for x" in typed(image, *pip, "install", "--target", "t", "x").stderr


def test_pip_serves_an_environment_of_one_s_own(image: Path) -> None:
    """As of `uv venv`, which has no pip."""
    own = image.parent / "own"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(own)], check=True)
    assert "No matching distribution found for x" in typed(image, "bin/pip", "install", "x", active=str(own)).stderr


def test_where_no_environment_is_active_pip_is_the_system_s(image: Path) -> None:
    assert typed(image, "bin/pip", "--version", active="").returncode == 0


def test_only_environments_of_people_see_the_image_s(tmp_path: Path) -> None:
    """The .pth is read by the system's Python, too, which must not see them."""
    text = login_file("usr/local/lib/python/dist-packages/golden-frameworks.pth", "ml")
    code = text + "\nprint('/opt/ml/ml/lib/python3.13/site-packages' in sys.path)"
    assert len(text.splitlines()) == 1 and text.startswith("import "), "site runs such lines alone"
    python = os.path.realpath(sys.executable)
    subprocess.run([python, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    seen = [subprocess.run([each, "-c", code], capture_output=True, text=True, check=True).stdout
            for each in (python, str(tmp_path / "env/bin/python"))]
    assert seen == ["False\n", "True\n"]
