"""Print as JSON what /opt/ml holds and how its frameworks work.

argv: the role's variable `frameworks_installed`, the frameworks' smoke tests, the role's variable
`frameworks_python_packages`, names of FACTS. Runs as root. Programs are tried as `nobody`; what
they print, or how they died, is left to the tests to judge.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

INSTALLED = json.loads(sys.argv[1])
SMOKE = json.loads(sys.argv[2])
BESIDE = json.loads(sys.argv[3])
HOME = Path("/opt/ml")
ENVIRONMENTS = sorted({one["environment"] for one in [*INSTALLED, *BESIDE]})
MODULES = ", ".join(framework["module"] for framework in INSTALLED) or "sys"
NOBODY = ("runuser", "-u", "nobody", "--")
COMPILE = (
    "g++ -fsyntax-only -x c++ "
    "-I$(python -c 'import sysconfig; print(sysconfig.get_paths()[\"include\"])') -"
)
OWN = """export HOME=$(mktemp -d) && cd $HOME && /opt/ml/bin/ml env own &&
envs/own/bin/python -m pip --version &&
envs/own/bin/pip check &&
! envs/own/bin/pip freeze | grep -iE '^(awscli|cloud-init|python-apt)' &&
envs/own/bin/python -c 'import {}'; status=$?; rm -r "$HOME"; exit $status"""
"""What the login's message and pip say to whoever wants packages of their own."""


IMPORT = """import importlib, importlib.metadata, re, sys
found = importlib.metadata.packages_distributions().items()
plain = lambda name: re.sub(r"[-_.]+", "-", name).lower()
names = [name for name, owners in found if sys.argv[1] in map(plain, owners)]
for name in [one for one in names if plain(one) == sys.argv[1]] or names:
    importlib.import_module(name)"""
"""Imports what a project is imported as: the module of its name, or else all of its modules."""


def run(*argv: str, stdin: str = "") -> dict[str, object]:
    """Status and output of a command."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    return {"rc": done.returncode, "out": done.stdout.strip(), "err": done.stderr.strip()[-2000:]}


def distributions(environment: str) -> dict[str, str]:
    """Python distributions of an environment, by their normalised names."""
    found = {}
    for path in (HOME / environment).glob("lib/python3*/site-packages/*.dist-info/METADATA"):
        fields = dict(
            line.split(": ", 1)
            for line in path.read_text().split("\n\n")[0].splitlines()
            if ": " in line
        )
        found[re.sub(r"[-_.]+", "-", fields["Name"]).lower()] = fields["Version"]
    return found


def closed() -> list[str]:
    """Paths that somebody else than root owns or may write, or that not everybody may read."""
    wrong = []
    for folder, folders, names in os.walk(HOME):
        for path in [Path(folder, name) for name in folders + names]:
            status = path.lstat()
            if path.is_symlink():
                continue
            wanted = 0o555 if path.is_dir() else 0o444
            if (
                status.st_uid
                or status.st_gid
                or status.st_mode & 0o022
                or status.st_mode & wanted != wanted
            ):
                wrong.append(f"{path} {status.st_mode:o} {status.st_uid}:{status.st_gid}")
    return wrong


def flags() -> list[str]:
    """What the CPU has, in the kernel's words."""
    found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].split() if found else []


def login(command: str) -> dict[str, object]:
    """What a user without rights sees who types this after a login."""
    return run(*NOBODY, "bash", "-lc", command)


def entered() -> dict[str, object]:
    """How each command of the login's message ends, or the import that it promises."""
    told = Path("/etc/motd.d/60-golden-frameworks").read_text().splitlines()
    commands = [line for line in told if line.startswith("    ml ")] or [
        f'python3 -c "import {MODULES}"'
    ]
    return {command: login(command) for command in commands}


UNIT = """\
{0}/bin/ml-run {1} sh -c 'echo $OMP_NUM_THREADS'
{0}/{1}/bin/python3 -I -B -c 'import os; print(os.environ["OMP_NUM_THREADS"])'
"""

FACTS: dict[str, Callable[[], object]] = {
    "flags": flags,
    "distributions": lambda: {name: distributions(name) for name in ENVIRONMENTS},
    "check": lambda: {
        name: run("python3", "-B", "-m", "pip", "--python", f"{HOME}/{name}/bin/python", "check")
        for name in ENVIRONMENTS
    },
    "smoke": lambda: {
        framework["name"]: run(
            *NOBODY,
            f"{HOME}/bin/ml-run",
            framework["environment"],
            "python",
            "-I",
            "-B",
            "-",
            stdin=SMOKE[framework["name"]],
        )
        for framework in INSTALLED
    },
    "imported": lambda: {
        project: run(
            *NOBODY,
            f"{HOME}/bin/ml-run",
            one["environment"],
            "python",
            "-I",
            "-B",
            "-c",
            IMPORT,
            project,
        )
        for one in BESIDE
        for project in one["projects"]
    },
    "compiled": lambda: {
        name: run(
            *NOBODY, f"{HOME}/bin/ml-run", name, "sh", "-c", COMPILE, stdin="#include <Python.h>\n"
        )
        for name in ENVIRONMENTS
    },
    "gpu": lambda: any(Path("/dev").glob("nvidia[0-9]*")),
    "entered": entered,
    "record": lambda: json.loads((HOME / "FRAMEWORKS.json").read_text()),
    "closed": closed,
    "login": lambda: login("echo $OMP_NUM_THREADS; command -v ml-run"),
    "pips": lambda: {
        f"{pip} {words}": login(f"{pip} {words}")
        for pip in ("pip", "pip3", "python3 -m pip")
        for words in ("list --format=freeze", "install golden-no-such", "uninstall --yes torch")
    },
    "own": lambda: login(OWN.format(MODULES)),
    "doctor": lambda: login("ml doctor"),
    "cpus": lambda: len(os.sched_getaffinity(0)),
    "unit": lambda: run(
        "systemd-run",
        "--quiet",
        "--pipe",
        "--wait",
        "--collect",
        "--property=CPUQuota=100%",
        "sh",
        "-c",
        UNIT.format(HOME, ENVIRONMENTS[0]),
    ),
}
print(json.dumps({name: FACTS[name]() for name in sys.argv[4:]}))
