"""Podman with images and containers of its own, which go with it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from support.builds.tools import find

ENGINE = """\
[engine]
runtime = "runc"
[containers]
netns = "host"
default_ulimits = []
"""
"""Of Podman: crun refuses a machine that has both kinds of cgroups; no bridge, and no limit that
this machine may not set."""
STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{0}/graph"\nrunroot = "{0}/run"\n'


class Podman:
    """What it keeps lies in `folder`."""

    def __init__(self, folder: Path) -> None:
        find("podman")
        self.folder = folder
        (folder / "storage.conf").write_text(STORAGE.format(folder), encoding="utf-8")
        (folder / "containers.conf").write_text(ENGINE, encoding="utf-8")
        self.env = {
            **os.environ,
            "CONTAINERS_CONF_OVERRIDE": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        }

    def ended(self, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [find("podman"), *argv],
            env=self.env,
            input=stdin,
            text=True,
            capture_output=True,
            check=False,
        )

    def podman(self, *argv: str, stdin: str = "") -> str:
        done = self.ended(*argv, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def close(self) -> None:
        self.ended("rm", "--all", "--force")
        self.ended("rmi", "--all", "--force")
