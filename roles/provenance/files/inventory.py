"""Print as JSON the image's packages, kernels, Python distributions and upgradable packages."""

import importlib.metadata
import json
import re
import subprocess
from pathlib import Path

PYTHON_FOLDERS = (
    "usr/lib/python3/dist-packages",
    "usr/local/lib/python3*/dist-packages",
    "opt/*/lib/python3*/site-packages",
    "opt/ml/*/lib/python3*/site-packages",
)
"""Folders of Python distributions: the system's, those of pip as root, and virtual environments
below /opt."""


def packages() -> dict[str, str]:
    """Return the installed packages and their versions."""
    argv = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n"]
    lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    installed = {}
    for line in lines:
        status, name, version = line.split(" ")
        if status == "installed":
            installed[name] = version
    return installed


def kernels() -> list[str]:
    """Return the releases of the kernels in /boot."""
    return sorted(path.name.partition("-")[2] for path in Path("/boot").glob("vmlinuz-*"))


def distributions() -> dict[str, str]:
    """Return Python distributions and their versions, by their normalised names (PEP 503)."""
    folders = list[str]()
    for pattern in PYTHON_FOLDERS:
        folders += map(str, Path("/").glob(pattern))
    installed = importlib.metadata.distributions(path=folders)
    return {
        re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower(): distribution.version
        for distribution in installed
    }


def upgradable() -> list[str]:
    """Return packages for which the configured sources have a newer version, including held
    ones."""
    argv = [
        "apt-get",
        "--simulate",
        "--quiet",
        "--ignore-hold",
        "--no-install-recommends",
        "dist-upgrade",
    ]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return re.findall(r"^Inst (\S+)", text, re.MULTILINE)


if __name__ == "__main__":
    print(
        json.dumps(
            {
                "packages": packages(),
                "kernels": kernels(),
                "distributions": distributions(),
                "upgradable": upgradable(),
            }
        )
    )
