"""Commands on the CPU image of a checkout whose archives are synthetic, as a user types them."""

from __future__ import annotations

import io
import signal
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from goldenami import cli
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock

IMAGE = "debian-13-ml-cpu"
SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


def golden(root: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the checkout `root` in this process: a start of Python and its imports cost
    a second."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in env.items():
            patch.setenv(name, value)
        code = cli.main(["--root", str(root), *args])
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return subprocess.CompletedProcess(args, code, out.getvalue(), err.getvalue())


def lock_path(root: Path) -> Path:
    return lockfile.path_of(root, IMAGE)


def edit(root: Path, old: str, new: str) -> None:
    path = root / f"packer/images/{IMAGE}.yml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def locked(root: Path) -> Lock:
    done = golden(root, "lock", IMAGE)
    assert done.returncode == 0, done.stderr
    return lockfile.read(lock_path(root))[0]


def refused(root: Path, command: str = "lock") -> tuple[int, str]:
    """The exit code of a command, and the line that names the definition."""
    done = golden(root, command, IMAGE)
    assert "Traceback" not in done.stderr
    name = f"{IMAGE}.yml:"
    told = [line.partition(name)[2] for line in done.stderr.splitlines() if name in line]
    assert len(told) == 1, done.stderr
    return done.returncode, told[0]
