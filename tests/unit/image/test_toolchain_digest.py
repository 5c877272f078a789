"""What runs the roles is in the key of every layer: another version or another line of it, and
layers are made anew."""

from __future__ import annotations

import ast
import shutil
from importlib import metadata
from pathlib import Path

import pytest
from goldenami.image.bake import toolchain_digest
from support.builds.tools import ROOT

LOCAL = ROOT / "scripts/goldenami/local"
AFTERWARDS = {
    "code_coverage/coverage",
    "disk/disk",
    "disk/immutable",
    "tree/owners",
    "tree/package_check",
    "tree/read_facts",
    "tree/sealed",
}
"""What the program uses for the sealed tree, of which no layer is kept."""
BESIDE = {
    "machine/failed_task",
    "machine/ssh",
    "programs/read_code",
    "sandbox/events",
    "sandbox/program",
}
"""What starts it, reaches the container, reads what is there and reports."""


def digest(checkout: Path) -> str:
    return toolchain_digest.digest(checkout, checkout / "scripts/goldenami")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("ansible", "packer", "scripts/goldenami/local"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "ansible.cfg", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "ansible.cfg",
        "ansible/plugins/callback/golden_progress.py",
        "packer/golden.pkr.hcl",
        "scripts/goldenami/local/machine/container.py",
        "scripts/goldenami/local/programs/step_layers.py",
    ],
)
def test_a_changed_line_makes_another_digest(checkout: Path, name: str) -> None:
    before = digest(checkout)
    assert before == toolchain_digest.digest(ROOT)
    with (checkout / name).open("a", encoding="utf-8") as file:
        file.write("# another\n")
    assert digest(checkout) != before


def test_what_comes_after_the_layers_does_not_count(checkout: Path) -> None:
    before = digest(checkout)
    for name in (
        "scripts/goldenami/local/disk/disk.py",
        "scripts/goldenami/local/vm/vm.py",
        "ansible/verify.yml",
    ):
        with (checkout / name).open("a", encoding="utf-8") as file:
            file.write("# another\n")
    assert digest(checkout) == before


@pytest.mark.parametrize("library", toolchain_digest.LIBRARIES)
def test_another_version_makes_another_digest(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, installed = toolchain_digest.digest(ROOT), metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "0" if name == library else installed(name)
    )
    assert toolchain_digest.digest(ROOT) != before


def test_a_module_that_a_bake_uses_is_one_of_them_or_comes_after_the_layers() -> None:
    used = imported("programs/bake_tree")
    assert len(used) >= 11
    for name in toolchain_digest.MODULES:
        used |= imported(name)
    assert used - AFTERWARDS - BESIDE <= set(toolchain_digest.MODULES)
    assert used >= AFTERWARDS | BESIDE


def imported(name: str) -> set[str]:
    """The modules of local/ that one of its modules imports."""
    found = set()
    for node in ast.walk(ast.parse((LOCAL / f"{name}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("goldenami.local"):
            module = LOCAL.joinpath(*str(node.module).split(".")[2:])
            names = [module / alias.name for alias in node.names] if module.is_dir() else [module]
            found |= {str(path.relative_to(LOCAL)) for path in names}
    return found
