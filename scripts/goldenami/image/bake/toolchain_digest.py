"""What runs a step of a bake beside its roles: its versions and bytes are part of the key of every
layer."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from goldenami.core import records
from goldenami.model import program_files

PACKAGE = Path(__file__).resolve().parents[2]
"""The code that runs."""
LIBRARIES = ("ansible-core", "jinja2", "mitogen")
"""What interprets the roles."""
FILES = ("ansible.cfg", "ansible/plugins/**/*.py", "packer/*.pkr.hcl")
"""How Packer and Ansible are called."""
MODULES = (
    "machine/container",
    "machine/packer",
    "programs/bake_tree",
    "sandbox/namespaces",
    "tree/layers",
    "tree/rootfs",
)
"""Of `local/`: what makes the tree that the roles meet, and what is kept of it."""


def digest(root: Path, package: Path = PACKAGE) -> str:
    """SHA-256 over all of it: the files of the checkout `root`, the modules of the `package` that
    runs."""
    home = program_files.home(root)
    paths = {
        str(path.relative_to(home)): path
        for pattern in FILES
        for path in sorted(home.glob(pattern))
    }
    paths |= {
        f"scripts/goldenami/local/{name}.py": package / f"local/{name}.py" for name in MODULES
    }
    return records.sha256_text(
        records.canonical(
            {
                "files": {name: records.sha256_file(path) for name, path in paths.items()},
                "libraries": {name: _version(name) for name in LIBRARIES},
            }
        )
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
