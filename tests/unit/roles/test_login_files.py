"""What roles tell a login: what a program says that is not there, and where downloads go."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from jinja2 import Environment, StrictUndefined
from support.builds.tools import ROOT
from support.files import write

TOOLS = ROOT / "roles/tools/files/etc/profile.d/golden-tools.sh"
STORE = ROOT / "roles/instance_store/templates/etc/profile.d/golden-instance-store.sh.j2"
NVCC = ROOT / "roles/cuda/files/no-nvcc"
RUN = ROOT / "roles/frameworks/files/ml-run"


@pytest.mark.parametrize("name", ["handle", "handler"])
def test_a_program_that_is_not_there_says_where_programs_come_from(name: str) -> None:
    """Bash calls the one, zsh the other."""
    call = "golden-no-such" if name == "handle" else f"command_not_found_{name} golden-no-such"
    done = subprocess.run(
        ["bash", "--norc", "-c", f". {TOOLS}; {call}"], capture_output=True, text=True
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (127, 1)
    assert done.stderr.startswith("golden-no-such: command not found: its package comes by ")
    assert "`customize_packages`" in done.stderr and "`ml env NAME && pip install" in done.stderr


def test_what_looks_for_nvcc_is_told_that_there_is_none() -> None:
    done = subprocess.run(["sh", NVCC, "-V"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (127, "", 1)
    assert "`cuda_variant: toolkit`" in done.stderr


def downloads(
    folder: Path,
    before: str,
    environ: Mapping[str, str],
    *,
    run: bool = False,
) -> list[str]:
    """HF_HOME and HF_TOKEN_PATH of a login, or of ml-run, on a machine whose local disks are
    mounted at `folder`/disk where `before` has done it."""
    disk = folder / "disk"
    disk.mkdir()
    text = (
        Environment(undefined=StrictUndefined)
        .from_string(STORE.read_text(encoding="utf-8"))
        .render(ansible_managed="managed", instance_store_mount_point=str(disk))
    )
    program = RUN.read_text(encoding="utf-8").replace("/etc/profile.d", str(folder))
    write(
        folder,
        {
            "golden-instance-store.sh": text,
            "ml/pyvenv.cfg": "",
            "ml-run": program.replace("/opt/ml/", f"{folder}/"),
        },
    )
    say = 'echo "${HF_HOME-}"; echo "${HF_TOKEN_PATH-}"'
    last = (
        f"sh {folder}/ml-run ml sh -c '{say}'"
        if run
        else (f"set -eu; . {folder}/golden-instance-store.sh; {say}")
    )
    mounted = f"mount -t tmpfs -o mode=1777 none {disk}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{before.format(mount=mounted)}; {last}"],
        capture_output=True,
        text=True,
        check=True,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/srv/ann",
            "OMP_NUM_THREADS": "1",
            "USER": "ann",
            **environ,
        },
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("run", [False, True])
def test_models_are_kept_on_local_disks_and_tokens_at_home(tmp_path: Path, run: bool) -> None:
    assert downloads(tmp_path, "{mount}", {}, run=run) == [
        f"{tmp_path}/disk/ann/huggingface",
        "/srv/ann/.cache/huggingface/token",
    ]


@pytest.mark.parametrize(
    ("before", "environ", "wanted"),
    [
        (":", {}, ["", ""]),
        ("{mount}", {"HF_HOME": "/mine"}, ["/mine", ""]),
        ("{mount}; mkdir disk/ann; chown 99 disk/ann", {}, ["", ""]),
        ("{mount},ro", {}, ["", ""]),
    ],
    ids=["no local disks", "a choice of one's own", "another's folder", "disks that take nothing"],
)
def test_else_they_are_kept_where_they_were(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    environ: dict[str, str],
    wanted: list[str],
) -> None:
    """A folder that somebody else has made is not trusted: who can write models can run code."""
    monkeypatch.chdir(tmp_path)
    assert (
        downloads(
            tmp_path,
            before.replace("{mount},ro", "{mount}; mount -o remount,ro $PWD/disk"),
            environ,
        )
        == wanted
    )
