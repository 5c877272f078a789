"""The roles are an Ansible collection that ansible-galaxy builds, of nothing but them."""

from __future__ import annotations

import shutil
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml
from support.builds.tools import ROOT, complaints
from support.rules import trees

GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What git tracks, and what a checkout has beside that."""
    for path in trees.files(ROOT):
        copy = tmp_path / "checkout" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy, follow_symlinks=False)
    for name in ("build/image/disk.raw", ".venv/bin/python", ".mypy_cache/x"):
        (tmp_path / "checkout" / name).parent.mkdir(parents=True)
        (tmp_path / "checkout" / name).write_text("x", encoding="utf-8")
    return tmp_path / "checkout"


def _build(checkout: Path) -> str:
    return complaints("ansible-galaxy", "collection", "build", "--output-path",
                      str(checkout.parent), cwd=checkout)


def test_the_collection_has_every_role_and_nothing_else(checkout: Path) -> None:
    assert _build(checkout) == ""
    with tarfile.open(
        checkout.parent / f"goldenami-ml_images-{GALAXY['version']}.tar.gz"
    ) as archive:
        names = archive.getnames()
    assert {name.split("/")[0] for name in names} == {
        "MANIFEST.json", "FILES.json", "CHANGELOG.md", "LICENSE", "README.md", "meta", "roles"}
    roles = trees.scanned(19, ROOT, "roles/*/")
    assert {f"roles/{path.name}/tasks/main.yml" for path in roles} <= set(names)


def test_a_foreign_playbook_finds_the_roles_of_the_installed_file(
    checkout: Path, tmp_path: Path
) -> None:
    assert _build(checkout) == ""
    file = checkout.parent / f"goldenami-ml_images-{GALAXY['version']}.tar.gz"
    company = tmp_path / "company"
    company.mkdir()
    assert complaints("ansible-galaxy", "collection", "install", "--offline", "-p", "collections",
                      str(file), cwd=company) == ""
    for role, known in (("limits", True), ("limit", False)):
        (company / "site.yml").write_text(
            f"- hosts: localhost\n  roles: [goldenami.ml_images.{role}]\n", encoding="utf-8")
        said = complaints("ansible-playbook", "--syntax-check", "site.yml", cwd=company,
                          env={"ANSIBLE_COLLECTIONS_PATH": str(company / "collections")})
        assert (said == "") is known, said


def test_the_collection_has_the_version_of_the_program() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert GALAXY["version"] == project["version"]
