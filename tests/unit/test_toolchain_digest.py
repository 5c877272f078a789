"""What runs the roles is in the key of every layer: another version or another line of it, and layers are made anew."""

from __future__ import annotations

import ast
import shutil
from importlib import metadata
from pathlib import Path

import pytest
from goldenami.bake import toolchain_digest
from support.builds.tools import ROOT

AFTERWARDS = {"coverage", "disk", "events", "sealed", "sizes"}
"""What bake_inside uses for the sealed tree, of which no layer is kept, and to report."""


def digest(checkout: Path) -> str:
    """Of a checkout whose own code runs."""
    return toolchain_digest.digest(checkout, checkout / "scripts/goldenami")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("ansible", "packer", "scripts/goldenami/local"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "ansible.cfg", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [
    "ansible.cfg", "ansible/plugins/callback/golden_progress.py", "packer/golden.pkr.hcl",
    "scripts/goldenami/local/container.py", "scripts/goldenami/local/programs/bake.py",
])
def test_a_changed_line_makes_another_digest(checkout: Path, name: str) -> None:
    before = digest(checkout)
    assert before == toolchain_digest.digest(ROOT)
    with (checkout / name).open("a", encoding="utf-8") as file:
        file.write("# another\n")
    assert digest(checkout) != before


def test_what_comes_after_the_layers_does_not_count(checkout: Path) -> None:
    before = digest(checkout)
    for name in ("scripts/goldenami/local/disk/disk.py", "scripts/goldenami/local/vm/vm.py", "ansible/verify.yml"):
        with (checkout / name).open("a", encoding="utf-8") as file:
            file.write("# another\n")
    assert digest(checkout) == before


@pytest.mark.parametrize("library", toolchain_digest.LIBRARIES)
def test_another_version_makes_another_digest(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, installed = toolchain_digest.digest(ROOT), metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0" if name == library else installed(name))
    assert toolchain_digest.digest(ROOT) != before


def test_a_module_that_a_bake_uses_is_one_of_them_or_comes_after_the_layers() -> None:
    text = (ROOT / "scripts/goldenami/local/programs/bake.py").read_text(encoding="utf-8")
    used = {alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)
            and node.module == "goldenami.local" for alias in node.names}
    assert used - AFTERWARDS <= set(toolchain_digest.MODULES)
