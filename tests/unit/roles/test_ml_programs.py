"""The role frameworks' programs: ml-threads on made-up /proc and /sys of both kinds, pip on a
machine and in a container, and environments of one's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from jinja2 import Environment, StrictUndefined
from support.files import write

PROGRAMS = Path(__file__).resolve().parents[3] / "roles/frameworks/files"
OWN = "Packages of your own: ml env NAME && pip install PACKAGE. Slow, or no GPU: ml doctor\n"
HERE = len(os.sched_getaffinity(0))
POWERLESS = ("setpriv", "--bounding-set=-dac_override")
"""Root who may write no more than a file's mode says."""


def threads(root: Path, env: dict[str, str] | None = None) -> int:
    done = subprocess.run(
        [str(PROGRAMS / "ml-threads"), str(root)],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], **(env or {})},
    )
    return int(done.stdout)


OWN_GROUP = {"proc/self/cgroup": "0::/a.slice/b.service\n"}
QUOTA = "sys/fs/cgroup/a.slice/b.service/cpu.max"
OLDER = {
    "proc/self/cgroup": "4:cpu,cpuacct:/docker/1\n1:name=systemd:/docker/1\n",
    "sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us": "80000\n",
    "sys/fs/cgroup/cpu/docker/1/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({**OWN_GROUP, QUOTA: "50000 100000\n"}, 1),
        ({**OWN_GROUP, QUOTA: "110000 100000\n"}, min(2, HERE)),
        ({**OWN_GROUP, QUOTA: "9900000 100000\n"}, HERE),
        (
            {**OWN_GROUP, QUOTA: "max 100000\n", "sys/fs/cgroup/a.slice/cpu.max": "60000 100000\n"},
            1,
        ),
        ({**OWN_GROUP, QUOTA: "max 100000\n"}, HERE),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        (OLDER, 1),
    ],
    ids=["half", "more than one", "all", "above", "none", "container", "older"],
)
def test_the_quota_of_a_cgroup(tmp_path: Path, files: dict[str, str], wanted: int) -> None:
    assert threads(write(tmp_path, files)) == wanted


def test_without_any_limit_and_whatever_openmp_was_told(tmp_path: Path) -> None:
    assert threads(tmp_path, {"OMP_NUM_THREADS": "77"}) == HERE


def test_a_cpu_set_counts(tmp_path: Path) -> None:
    """The set that this process was given, not the machine's CPUs."""
    one = str(min(os.sched_getaffinity(0)))
    done = subprocess.run(
        ["taskset", "--cpu-list", one, str(PROGRAMS / "ml-threads"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"


def login_file(name: str, *environments: str, packages: str = "") -> str:
    """A file that the role writes for frameworks, one in each of `environments`, and for einops in
    `packages`."""
    template = PROGRAMS.parent / f"templates/{name}.j2"
    installed = [
        {"name": f"f{number}", "module": f"m{number}", "environment": environment}
        for number, environment in enumerate(environments)
    ]
    beside = [{"environment": packages, "projects": ["einops"]}] if packages else []
    # As Ansible has it: a block's own line leaves no empty one.
    return (
        Environment(trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)
        .from_string(template.read_text(encoding="utf-8"))
        .render(
            frameworks_installed=installed,
            frameworks_python_packages=beside,
            __frameworks_environments=sorted({*environments, *filter(None, [packages])}),
            __frameworks_home="/opt/ml",
            __frameworks_python="3.13",
            ansible_managed="managed",
        )
    )


@pytest.mark.parametrize(
    ("environments", "path", "told"),
    [
        (
            ["ml", "ml"],
            "/opt/ml/ml/bin:/opt/ml/bin:/bin",
            f"python3 has f0, f1 (from /opt/ml/ml).\n{OWN}",
        ),
        (
            ["numpy"],
            "/opt/ml/numpy/bin:/opt/ml/bin:/bin",
            f"python3 has f0 (from /opt/ml/numpy).\n{OWN}",
        ),
        (
            ["a", "b"],
            "/opt/ml/bin:/bin",
            "Each framework has an environment of its own. To use one:\n"
            f'    ml a && python3 -c "import m0"\n    ml b && python3 -c "import m1"\n{OWN}',
        ),
    ],
)
def test_a_login_has_the_only_environment_or_is_told_of_each(
    environments: list[str], path: str, told: str
) -> None:
    script = (
        login_file("etc/profile.d/golden-frameworks.sh", *environments)
        + '\necho "$PATH"; type -t ml'
    )
    done = subprocess.run(
        ["/bin/bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/bin", "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.split() == [path, "function"], done.stderr
    assert login_file("etc/motd.d/60-golden-frameworks", *environments) == told


@pytest.mark.parametrize(
    ("environments", "packages", "told"),
    [
        (["ml"], "ml", "python3 has f0, einops (from /opt/ml/ml)."),
        ([], "python", "python3 has einops (from /opt/ml/python)."),
    ],
)
def test_a_login_is_told_of_packages_beside_the_frameworks(
    environments: list[str],
    packages: str,
    told: str,
) -> None:
    text = login_file("etc/motd.d/60-golden-frameworks", *environments, packages=packages)
    assert text == f"{told}\n{OWN}"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of environments with a real one in it, without a pip of its own, and the role's
    pip."""
    home = tmp_path_factory.mktemp("opt") / "ml"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home / "ml")], check=True)
    text = (
        login_file("opt/ml/bin/pip", "ml")
        .replace("/opt/ml", str(home))
        .replace("/usr/bin/python3", sys.executable)
        .replace("/run/systemd/system", str(home.parent / "systemd"))
    )
    module = (PROGRAMS / "pip.py").read_text(encoding="utf-8").replace("/opt/ml", str(home))
    start = (
        (PROGRAMS / "golden_threads.py").read_text(encoding="utf-8").replace("/opt/ml", str(home))
    )
    packages = next(home.glob("ml/lib/python3*/site-packages"))
    write(packages, {"pip.py": module, "golden_threads.py": start})
    shutil.copy(PROGRAMS / "golden-threads.pth", packages)
    write(home, {"bin/pip": text})
    (home / "bin/pip").chmod(0o755)
    shutil.copy(PROGRAMS / "ml-threads", home / "bin")
    (home.parent / "systemd").mkdir()
    return home


def typed(
    image: Path, *words: str, active: str, by: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    environment = {"VIRTUAL_ENV": str(image / active)} if active else {}
    return subprocess.run(
        [*by, image / "bin/pip", *words],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", **environment},
    )


def test_pip_serves_an_environment_of_one_s_own_and_else_the_system(image: Path) -> None:
    """The first as `uv venv` makes it, without pip; that of a login is asked in the image."""
    own = image.parent / "own"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(own)], check=True)
    assert "stays as it was tested" in typed(image, "install", "x", active="ml").stderr
    said = typed(image, "install", "x", active=str(own)).stderr
    assert "No matching distribution found for x" in said
    assert typed(image, "--version", active="").returncode == 0


def test_pip_of_a_container_changes_the_environment_for_root(image: Path) -> None:
    """There runs no systemd; whoever may not write is told what does."""
    machine = image.parent / "systemd"
    machine.rmdir()
    try:
        said = typed(image, "install", "x", active="ml")
        assert "No matching distribution found for x" in said.stderr
        (image / "ml").chmod(0o555)
        done = typed(image, "install", "x", active="ml", by=POWERLESS)
    finally:
        (image / "ml").chmod(0o755)
        machine.mkdir()
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert f"{image}/ml stays as it was tested, but for a container's root" in done.stderr


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, [str(HERE)] * 2),
        ({"TF_NUM_INTRAOP_THREADS": "3"}, [str(HERE), "3"]),
        ({"OMP_NUM_THREADS": "7"}, ["7", "None"]),
    ],
)
def test_python_has_its_threads_without_a_login(
    image: Path, environ: dict[str, str], wanted: list[str]
) -> None:
    """As `command:` of Kubernetes starts it, in place of the entrypoint."""
    code = "import os; print(*map(os.environ.get, ('OMP_NUM_THREADS', 'TF_NUM_INTRAOP_THREADS')))"
    done = subprocess.run(
        [image / "ml/bin/python3", "-I", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environ,
    )
    assert (done.stdout.split(), done.stderr) == (wanted, "")


def made(
    home: Path,
    name: str,
    active: str = "",
    before: str = ":",
) -> subprocess.CompletedProcess[str]:
    """`ml env NAME` of somebody whose home is beside the image's environments; `before`: what root
    does first, in namespaces of its own."""
    text = (PROGRAMS / "ml").read_text(encoding="utf-8").replace("/opt/ml", str(home))
    write(home, {"bin/ml": text.replace("/usr/bin/python3", sys.executable)})
    return subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            f'{before} && exec sh $0 env "$1"',
            home / "bin/ml",
            name,
        ],
        capture_output=True,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home.parent / "home"),
            **({"VIRTUAL_ENV": str(home / active)} if active else {}),
        },
    )


@pytest.mark.parametrize("active", ["ml", ""])
def test_an_environment_of_one_s_own_sees_the_image_s_alone_and_has_a_pip(
    image: Path,
    active: str,
) -> None:
    """The active one, or the only one. Made again, it stays; one that a kill left half is made
    anew. The system's packages are not seen."""
    packages = next(image.glob("ml/lib/python3*/site-packages"))
    write(packages, {"seen_by_all.py": ""})
    own = image.parent / f"home/envs/mine{active}"
    write(own, {"pyvenv.cfg": "half", "bin/python": "half"})
    for _ in range(2):
        done = made(image, f"mine{active}", active)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (
            0,
            f"ml: {own} is ready; outside of a login shell: . {own}/bin/activate",
        )
        subprocess.run([own / "bin/python", "-c", "import seen_by_all"], check=True)
    assert "makes" not in done.stderr and (own / "bin/pip").is_file()
    code = "import json, sys; print(json.dumps([path for path in sys.path if 'packages' in path]))"
    seen = subprocess.run([own / "bin/python", "-c", code], capture_output=True, text=True)
    assert json.loads(seen.stdout) == [
        str(next(own.glob("lib/python3*/site-packages"))),
        str(packages),
    ]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("size=16k", "No space left on device"),
        ("size=300k", "No space left on device"),
        ("size=4m", "No space left on device"),
        ("ro", "Read-only file system"),
    ],
)
def test_a_home_without_room_is_one_line(image: Path, options: str, why: str) -> None:
    """Full at once, after a few files, and in the midst of pip."""
    home = image.parent / "home"
    home.mkdir(exist_ok=True)
    done = made(image, "full", before=f"mount -t tmpfs -o {options} none $HOME")
    _, line = done.stderr.splitlines()
    assert (done.returncode, line.startswith(f"ml: {home}/envs/full cannot be made: ")) == (1, True)
    assert why in line and line.endswith("`df -h ~ /tmp` shows what is free"), line


@pytest.mark.parametrize("name", ["", "../x", "-x", "a b", "."])
def test_an_environment_has_a_name_that_a_folder_may_have(image: Path, name: str) -> None:
    done = made(image, name)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert f"`{name}` is no name" in done.stderr
