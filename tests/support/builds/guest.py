"""A machine of a disk, booted and asked in namespaces of its own: a test runs a scenario and looks
at its facts.

A scenario is a module with a `main`: it runs with a folder that has `disk.raw` and `key`, and ends
with `tell`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from goldenami.core import shell
from goldenami.local.sandbox import namespaces
from goldenami.local.vm import vm

from support.builds import boot_config
from support.builds.tools import ROOT

BOOT_LIMIT_S = 900
"""Emulated boots share the cores with whatever else runs."""


def facts(scenario: str, folder: Path) -> dict[str, Any]:
    """Run the scenario, `python -m SCENARIO FOLDER`; what it told."""
    if not (folder / "key").exists():
        shell.output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")])
    log, path = (
        folder / "scenario.log",
        os.pathsep.join(
            str(ROOT / name)
            for name in ("scripts", "tests", "roles/golden_idle/files", "roles/golden_health/files")
        ),
    )
    with log.open("wb") as sink:
        done = subprocess.run(
            namespaces.unshare_argv([sys.executable, "-m", scenario, str(folder)]),
            stdout=sink,
            stderr=subprocess.STDOUT,
            check=False,
            env=shell.environment({**shell.python_env(), "PYTHONPATH": path}),
        )
    assert done.returncode == 0, "\n".join(
        log.read_text(encoding="utf-8", errors="replace").splitlines()[-60:]
    )
    told: dict[str, Any] = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return told


def prepare() -> Path:
    namespaces.prepare()
    return Path(sys.argv[1])


def tell(folder: Path, **told: Any) -> None:
    (folder / "facts.json").write_text(json.dumps(told), encoding="utf-8")


@contextlib.contextmanager
def booted(folder: Path, **changes: Any) -> Iterator[vm.Machine]:
    """The machine of `folder`/disk.raw; `changes` replace settings of `VmConfig`."""
    with vm.running(boot_config.config(folder, ssh_limit_s=BOOT_LIMIT_S, **changes)) as machine:
        yield machine


def put(machine: vm.Machine, source: Path, target: str) -> None:
    """Copy what is in a folder to the machine, as root's."""
    with subprocess.Popen(
        ["tar", "-C", str(source), "--exclude=__pycache__", "-c", "."], stdout=subprocess.PIPE
    ) as packed:
        subprocess.run(
            [
                "ssh",
                "-F",
                str(machine.ssh_config),
                "golden",
                f"sudo mkdir -p {target} && sudo tar -x --no-same-owner -C {target}",
            ],
            stdin=packed.stdout,
            check=True,
        )


def turn_off(machine: vm.Machine, folder: Path, disk: str) -> bool:
    """Power off, and keep what is on the machine's disk then as `folder`/`disk`; whether it went
    down by itself."""
    clean = vm.power_off(machine)
    shell.output(
        ["qemu-img", "convert", "-O", "raw", str(folder / "vm/root.qcow2"), str(folder / disk)]
    )
    return clean
