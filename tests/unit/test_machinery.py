"""What runs the roles is in the key of every layer: another version or another line of it, and layers are made anew."""

from __future__ import annotations

import ast
import shutil
from importlib import metadata
from pathlib import Path

import pytest
from goldenami import machinery

AFTERWARDS = {"coverage", "disk", "events", "sealed", "sizes"}
"""What bake_inside uses for the sealed tree, of which no layer is kept, and to report."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("ansible", "packer", "scripts/goldenami/local"):
        shutil.copytree(machinery.ROOT / name, tmp_path / name)
    shutil.copy(machinery.ROOT / "ansible.cfg", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [
    "ansible.cfg", "ansible/plugins/callback/golden_progress.py", "packer/golden.pkr.hcl",
    "scripts/goldenami/local/container.py", "scripts/goldenami/local/bake_inside.py",
])
def test_a_changed_line_makes_another_digest(checkout: Path, name: str) -> None:
    before = machinery.digest(checkout)
    assert before == machinery.digest()
    with (checkout / name).open("a", encoding="utf-8") as file:
        file.write("# another\n")
    assert machinery.digest(checkout) != before


def test_what_comes_after_the_layers_does_not_count(checkout: Path) -> None:
    before = machinery.digest(checkout)
    for name in ("scripts/goldenami/local/disk.py", "scripts/goldenami/local/vm.py", "ansible/verify.yml"):
        with (checkout / name).open("a", encoding="utf-8") as file:
            file.write("# another\n")
    assert machinery.digest(checkout) == before


@pytest.mark.parametrize("library", machinery.LIBRARIES)
def test_another_version_makes_another_digest(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, installed = machinery.digest(), metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0" if name == library else installed(name))
    assert machinery.digest() != before


def test_a_module_that_a_bake_uses_is_one_of_them_or_comes_after_the_layers() -> None:
    text = (machinery.ROOT / "scripts/goldenami/local/bake_inside.py").read_text(encoding="utf-8")
    used = {alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)
            and node.module == "goldenami.local" for alias in node.names}
    assert used - AFTERWARDS <= set(machinery.MODULES)
