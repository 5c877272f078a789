"""The roles are an Ansible collection that ansible-galaxy builds, of nothing but them."""

from __future__ import annotations

import shutil
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml
from support import trees
from support.builds.tools import ROOT, complaints

GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, of a checkout with what git tracks, and what a checkout has beside that."""
    folder = tmp_path_factory.mktemp("collection")
    checkout = folder / "checkout"
    for path in trees.files(ROOT):
        copy = checkout / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy, follow_symlinks=False)
    for name in ("build/image/disk.raw", ".venv/bin/python", ".mypy_cache/x"):
        (checkout / name).parent.mkdir(parents=True)
        (checkout / name).write_text("x", encoding="utf-8")
    assert (
        complaints(
            "ansible-galaxy", "collection", "build", "--output-path", str(folder), cwd=checkout
        )
        == ""
    )
    return folder / f"goldenami-ml_images-{GALAXY['version']}.tar.gz"


def test_the_collection_has_every_role_and_nothing_else(built: Path) -> None:
    with tarfile.open(built) as archive:
        names = archive.getnames()
    assert {name.split("/")[0] for name in names} == {
        "MANIFEST.json",
        "FILES.json",
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "meta",
        "roles",
    }
    roles = trees.scanned(19, ROOT, "roles/*/")
    assert {f"roles/{path.name}/tasks/main.yml" for path in roles} <= set(names)


def test_the_collection_has_the_version_of_the_program() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert GALAXY["version"] == project["version"]
