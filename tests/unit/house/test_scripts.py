"""What the shell scripts and the Makefile do when something is not as usual."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from goldenami import cli
from support import files
from support.builds import tools
from support.builds.tools import ROOT
from support.rules import surface_rules
from support.waiting import until


def test_a_tier_that_does_not_exist_is_refused() -> None:
    ran = subprocess.run([ROOT / "scripts/test", "al"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "there is no tier `al`" in ran.stderr


GATE = {
    "scripts/golden": "#!/bin/sh\necho fetched\n",
    "scripts/molecule": """#!/bin/sh
mkdir -p build/molecule; echo the reason >build/molecule/limits.log.why
eval "$MOLECULE"
""",
    ".venv/bin/python": """#!/bin/sh
case $* in *"not slow"*) echo quick;; *) echo slow; eval "$SLOW";; esac
""",
}
"""A checkout whose parts end at once, unless the environment says otherwise."""
LAST = "Molecule and slow tests"
PARTS = ["fetch", "fast tests", "make bake", LAST]


@pytest.mark.parametrize(
    ("molecule", "slow", "ended", "last", "code"),
    [
        ("true", "true", 4, LAST, 0),
        ("sleep 1; false", "true", 4, f"{LAST}: failed", 1),
        ("false", "sleep 1", 4, f"{LAST}: failed", 1),
        ("true", "sleep 1; false", 4, f"{LAST}: failed", 1),
        ("sleep 1", "false", 4, f"{LAST}: failed", 1),
        ("true", "sleep 60; echo not ended", 3, f"{LAST}: ended from outside", -signal.SIGTERM),
    ],
)
def test_the_parts_of_the_gate_come_one_after_another_and_each_says_how_it_ended(
    tmp_path: Path, molecule: str, slow: str, ended: int, last: str, code: int
) -> None:
    files.write_programs(tmp_path, GATE)
    files.write(tmp_path, {"Makefile": "bake:\n\t@echo baked\n", "roles/limits/README.md": ""})
    shutil.copy(ROOT / "scripts/test", tmp_path / "scripts/test")
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for step in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *step], cwd=tmp_path, check=True)
    env = {**os.environ, "MOLECULE": molecule, "SLOW": slow}
    argv = ["bash", "scripts/test", "all"]
    said = ""
    with subprocess.Popen(argv, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as gate:
        assert gate.stdout is not None
        for line in gate.stdout:
            said += line
            if (ended, line) == (3, "slow\n"):
                gate.terminate()
    assert gate.returncode == code, said
    assert "not ended" not in said
    assert ("the reason" in said) == (molecule.endswith("false")), "of Molecule's failure"
    # Each as it ends, and all once more at the end.
    assert re.findall(r"^ +\d+ s +\d+ CPU s  ([\w ]+)", said, re.M) == PARTS[:ended] * 2
    assert re.search(rf"^ +\d+ s( +\d+ CPU s)?  {last}\n +\d+ s  in all$", said, re.M)
    assert re.search(rf"  make bake; to come: {LAST} \(\d+ s\)$", said, re.M)


def test_a_fresh_clone_is_told_what_it_lacks(tmp_path: Path) -> None:
    """`make clean` is the one target that makes no environment."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/golden", tmp_path / "scripts/golden")
    ran = subprocess.run([tmp_path / "scripts/golden", "clean"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (8, "")
    assert ran.stderr == (
        "golden: error: this checkout has no Python environment (.venv)\n"
        "golden: to do: run `make setup`\n"
    )


def scenarios(root: Path, program: str, *names: str) -> Path:
    """scripts/molecule of a checkout with these scenarios, where molecule is `program`."""
    files.write_programs(root, {".venv/bin/molecule": program})
    files.write(root, {f"molecule/{name}/molecule.yml": "" for name in names})
    (root / "scripts").mkdir()
    return Path(shutil.copy(ROOT / "scripts/molecule", root / "scripts/molecule"))


BOTH = """#!/bin/sh
touch "ran-$3"
case $3 in first) other=second;; second) other=first;; *) exit 0;; esac
until [ -e "ran-$other" ]; do sleep 0.05; done
echo "this is $3"; [ "$3" = first ]
"""


def test_scenarios_run_two_at_once_and_one_that_fails_is_told(tmp_path: Path) -> None:
    """Each waits for the other to have begun, but for the last."""
    (tmp_path / "roles/limits").mkdir(parents=True)
    program = scenarios(tmp_path, BOTH, "first", "second", "third", "limits")
    run = functools.partial(subprocess.run, capture_output=True, text=True)
    misspelt = run([program, "frist"])
    assert (misspelt.returncode, misspelt.stderr) == (
        2,
        "molecule: error: there is no role frist; known: first limits second third\n",
    )
    ran = run([program, "first", "second", "third"])
    assert ran.returncode == 1
    assert re.search(r"^molecule first +passed in \d+ s$", ran.stdout, re.M)
    assert re.search(r"^molecule second +FAILED after \d+ s; log: ", ran.stdout, re.M)
    assert ran.stdout.endswith("\nbuild/molecule/second.log:\n  | this is second\n")
    assert (tmp_path / "ran-third").exists() and not (tmp_path / "ran-limits").exists()
    ran = run([program])
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "1 passed")
    assert (tmp_path / "ran-limits").exists()


FIRST_TIME = """#!/bin/sh
echo converge.yml
[ ! -e tried ] || exit 0
touch tried
echo "$SAID"
exit 1
"""


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("A worker was found in a dead state", 0),
        ("fatal: [mol-limits]: UNREACHABLE!", 0),
        ("fatal: [mol-limits]: FAILED!", 1),
    ],
)
def test_a_scenario_that_says_nothing_of_its_role_is_tried_once_more(
    tmp_path: Path, said: str, code: int
) -> None:
    program = scenarios(tmp_path, FIRST_TIME, "limits")
    env = {**os.environ, "SAID": said}
    ran = subprocess.run([program, "limits"], capture_output=True, text=True, env=env)
    assert ran.returncode == code, ran.stdout


def test_what_setup_adds_to_apt_is_in_its_page() -> None:
    """With the command that takes it away."""
    page = (ROOT / "docs/installing.md").read_text(encoding="utf-8")
    written = re.findall(
        r"^ +>(/etc/\S+)$", (ROOT / "scripts/setup").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(written) == 2
    (removal,) = re.findall(r"^    sudo rm (.+)$", page, re.MULTILINE)
    assert removal.split() == written


SEEN = {
    "dpkg-query": 'case " $ABSENT " in *" ${*: -1} "*) exit 1;; esac\nprintf installed\n',
    "apt-get": 'echo "$DEBIAN_FRONTEND $*" >>"$LOG"\n',
    "id": 'echo "$UID_SEEN"\n',
    "packer": "echo Packer v1.6.6\n",
    "apt-cache": '[ "$2" != libarchive13 ] || echo "  Candidate: 3.6"\n',
}
"""What scripts/setup sees of a machine that has all but the packages in ABSENT, and knows one of
them to apt."""


PYTHON = """#!/bin/sh
case "$*" in
  '-m pip --version') [ -z "$NO_PIP" ] ;;
  -c*) ;;
  *)
    printf '%s\n' "$*" >>installed
    while [ -e hold ]; do sleep 0.02; done
    [ -z "$BROKEN" ]
    ;;
esac
"""
"""The environment's Python: it has Ansible, and can install everything unless BROKEN or NO_PIP."""


def _setup(folder: Path, purpose: str, **seen: str) -> subprocess.CompletedProcess[str]:
    """scripts/setup for `purpose`, by root on a machine that has all packages, unless told
    otherwise."""
    process = _start(folder, purpose, **seen)
    said = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, *said)


def _start(folder: Path, purpose: str, **seen: str) -> subprocess.Popen[str]:
    env = {
        **os.environ,
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "LOG": str(folder / "apt"),
        "ABSENT": "",
        "UID_SEEN": "0",
        "BROKEN": "",
        "NO_PIP": "",
        "TMPDIR": str(folder),
        **seen,
    }
    return subprocess.Popen(
        [folder / "scripts/setup", *purpose.split()],
        cwd=folder,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A checkout with an environment in which nothing is installed yet."""
    for folder in ("scripts", "bin", ".venv/bin", "requirements"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "scripts/setup", tmp_path / "scripts/setup")
    for name in ("run", "emulator", "test"):
        (tmp_path / f"requirements/{name}.txt").write_text(f"{name}\n", encoding="utf-8")
    (tmp_path / ".venv/bin/python").write_text(PYTHON, encoding="utf-8")
    for name, text in SEEN.items():
        (tmp_path / f"bin/{name}").write_text(f"#!/bin/bash\n{text}", encoding="utf-8")
    for path in [tmp_path / ".venv/bin/python", *(tmp_path / "bin").iterdir()]:
        path.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("absent", "uid", "code", "asked"),
    [
        ("libarchive13t64", 1000, 0, []),
        ("libarchive13", 1000, 0, []),
        ("libarchive13t64", 0, 0, []),
        ("libarchive13t64 libarchive13", 1000, 8, []),
        ("git", 1000, 8, []),
        ("libarchive13t64 libarchive13", 0, 0, ["update", "libarchive13"]),
    ],
)
def test_setup_takes_a_package_under_the_name_that_the_release_has(
    machine: Path,
    absent: str,
    uid: int,
    code: int,
    asked: list[str],
) -> None:
    (machine / ".venv/.requirements").write_text("run\n", encoding="utf-8")
    ran = _setup(machine, "bake", ABSENT=absent, UID_SEEN=str(uid))
    assert ran.returncode == code, ran.stderr
    calls = (
        (machine / "apt").read_text(encoding="utf-8").splitlines()
        if (machine / "apt").exists()
        else []
    )
    assert ["update" if " update " in call else call.split()[-1] for call in calls] == asked
    for call in calls[1:]:  # it waits for dpkg's lock, and asks nothing
        assert call.startswith("noninteractive install -y ")
        assert " DPkg::Lock::Timeout=" in call
    assert ("packages are missing" in ran.stderr) == (code == 8)


def _installed(machine: Path) -> list[str]:
    return [
        line.split()[-1]
        for line in (machine / "installed").read_text(encoding="utf-8").splitlines()
        if "--require-hashes" in line
    ]


def test_setup_installs_what_its_purpose_needs_and_only_what_is_not_there(machine: Path) -> None:
    for purpose in ("bake", "bake", "test", "bake", "emulator", "test"):
        assert _setup(machine, purpose).returncode == 0, purpose
    assert _installed(machine) == ["requirements/run.txt", "requirements/test.txt"]
    (machine / "requirements/run.txt").write_text("newer\n", encoding="utf-8")
    (machine / "requirements/test.txt").write_text("newer, too\n", encoding="utf-8")
    for purpose in ("bake", "test"):
        assert _setup(machine, purpose).returncode == 0, purpose
    assert _installed(machine)[2:] == ["requirements/run.txt", "requirements/test.txt"]


def test_setup_of_a_wheel_makes_the_environment_of_another_folder(machine: Path) -> None:
    other = machine / "company"
    other.mkdir()
    (machine / ".venv").rename(other / ".venv")
    for purpose in ("bake", "bake", "molecule"):
        assert _setup(machine, f"{purpose} {other}").returncode == 0, purpose
    assert _installed(other) == [
        f"{machine}/requirements/run.txt",
        f"{machine}/requirements/test.txt",
    ]
    assert not (machine / ".venv").exists()


def test_an_installation_that_failed_is_not_taken_for_one(machine: Path) -> None:
    assert _setup(machine, "bake").returncode == 0
    (machine / "requirements/run.txt").write_text("newer\n", encoding="utf-8")
    ran = _setup(machine, "bake", BROKEN="1")
    assert (ran.returncode, "pip install -r requirements/run.txt failed" in ran.stderr) == (8, True)
    # What half of may be there.
    (machine / "requirements/run.txt").write_text("run\n", encoding="utf-8")
    assert _setup(machine, "bake").returncode == 0
    assert len(_installed(machine)) == 3


def test_an_environment_that_a_kill_left_half_is_made_anew(machine: Path) -> None:
    """What it then installs is none here: the lists of requirements are stand-ins."""
    ran = _setup(machine, "bake", NO_PIP="1")
    assert (ran.returncode, (machine / ".venv/pyvenv.cfg").exists()) == (8, True), ran.stderr


@pytest.mark.parametrize("end", [signal.SIGCONT, signal.SIGKILL])
def test_two_at_once_take_turns(machine: Path, end: signal.Signals) -> None:
    """Also where the first is killed: what it has started goes on with .venv."""
    hold = machine / "hold"
    hold.touch()
    both = [_start(machine, "bake")]
    until("an installation", (machine / "installed").exists)
    both.append(_start(machine, "bake"))
    assert both[1].stderr is not None
    assert both[1].stderr.readline() == (
        f"  setup waits for process {both[0].pid}, which is setting this checkout up\n"
    )
    both[0].send_signal(end)
    assert both[1].poll() is None
    hold.unlink()
    ended = [process.communicate() and process.returncode for process in both]
    expected = ([-signal.SIGKILL, 0], 2) if end is signal.SIGKILL else ([0, 0], 1)
    assert (ended, len(_installed(machine))) == expected
    assert list(machine.glob("golden-setup.*")) == []


def test_a_purpose_that_does_not_exist_is_refused(machine: Path) -> None:
    ran = _setup(machine, "tset")
    assert (ran.returncode, "there is no purpose `tset`" in ran.stderr) == (2, True)


def waiting() -> list[str]:
    """Subcommands with --wait that are Make targets, too."""
    targets = surface_rules.targets((ROOT / "Makefile").read_text(encoding="utf-8"))
    return [
        name
        for name in cli.MODULES
        if name in targets and any("--wait" in option.opts for option in cli.command(name).params)
    ]


@pytest.mark.parametrize("target", waiting())
def test_a_target_hands_wait_on(target: str) -> None:
    ran = subprocess.run(
        [tools.find("make"), "--dry-run", target, "WAIT=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"scripts/golden {target} " in ran.stdout and " --wait" in ran.stdout
