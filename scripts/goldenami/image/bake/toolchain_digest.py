"""The versions and bytes of what runs a bake's steps beside their roles: they are part of the key
of every layer."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from goldenami.core import records
from goldenami.model import program_files

PACKAGE = Path(__file__).resolve().parents[2]
"""The package that runs."""
LIBRARIES = ("ansible-core", "jinja2", "mitogen")
"""Libraries that interpret the roles."""
FILES = ("ansible.cfg", "ansible/plugins/**/*.py", "packer/*.pkr.hcl")
"""Files that say how Packer and Ansible are called."""
MODULES = (
    "machine/container",
    "machine/packer",
    "programs/step_layers",
    "sandbox/namespaces",
    "tree/layers",
    "tree/rootfs",
)
"""Modules of `local/` that make the tree which roles change, and keep its layers."""


def digest(root: Path, package: Path = PACKAGE) -> str:
    """SHA-256 over the files of the checkout `root`, the modules of the running `package`, and the
    libraries' versions."""
    home = program_files.home(root)
    files = dict[str, str]()
    for pattern in FILES:
        for path in home.glob(pattern):
            files[str(path.relative_to(home))] = records.sha256_file(path)
    for name in MODULES:
        module = package / f"local/{name}.py"
        files[f"scripts/goldenami/local/{name}.py"] = records.sha256_file(module)
    libraries = {name: _version(name) for name in LIBRARIES}
    return records.sha256_text(records.canonical({"files": files, "libraries": libraries}))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
