"""Packer's templates are formatted and valid for every committed lock; a template that is not is
refused."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from goldenami.core import records, shell
from goldenami.image.bake import bake_plan
from goldenami.local.machine import packer
from goldenami.model.locked import lockfile
from goldenami.model.supported import base_images
from goldenami.model.supported.platforms import PLATFORMS
from support import trees
from support.builds.tools import ROOT, complaints, find

LOCKS = sorted(
    path.name.removesuffix(".lock.json")
    for path in trees.scanned(5, ROOT, "packer/locks/*.lock.json")
)
HOST = {"CHECKPOINT_DISABLE": "1"}
"""Packer would ask its vendor for a newer version."""


@pytest.fixture(scope="module")
def ssh_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = tmp_path_factory.mktemp("key") / "key"
    shell.output([find("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
    return key


def _variables(image: str, folder: Path, key: Path) -> list[str]:
    """Packer's arguments for a lock, as `bake` gives them."""
    path = lockfile.path_of(ROOT, image)
    lock, digest = lockfile.read(path)
    records.write_text(
        folder / "vars.json", records.canonical(bake_plan.role_variables(ROOT, lock, digest))
    )
    return [
        "-var",
        f"lock={path}",
        "-var",
        f"vars={folder / 'vars.json'}",
        "-var",
        f"ssh_key={key}",
        "-var",
        "ssh_host=127.0.0.1",
        "-var",
        f"repo={folder}",
    ]


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """The templates as this machine's Packer knows them."""
    find("packer")
    (tmp_path / "work").mkdir()
    return packer.templates(ROOT, tmp_path / "work")


def _validate(templates: Path, variables: list[str]) -> str:
    return complaints("packer", "validate", *variables, str(templates), env=HOST)


def test_formatted() -> None:
    assert complaints("packer", "fmt", "-check", "-diff", "packer", env=HOST) == ""


@pytest.mark.parametrize("image", LOCKS)
def test_valid_for(image: str, known: Path, tmp_path: Path, ssh_key: Path) -> None:
    assert _validate(known, _variables(image, tmp_path, ssh_key)) == ""


def test_a_newer_packer_gets_the_folder_itself_with_its_plugins_and_imdsv2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _program(tmp_path, monkeypatch, "Packer v1.11.2")
    folder = packer.templates(ROOT, tmp_path)
    assert folder == ROOT / "packer"
    assert "required_plugins {" in (folder / "versions.pkr.hcl").read_text(encoding="utf-8")
    assert 'http_tokens                 = "required"' in (folder / "golden.pkr.hcl").read_text(
        encoding="utf-8"
    )


def test_an_older_packer_gets_what_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path, monkeypatch, "Packer v1.6.6")
    for _ in range(2):  # once a step
        folder = packer.templates(ROOT, tmp_path)
    for release in PLATFORMS:
        assert base_images.of_release(ROOT, release).gib == 8
    for path in trees.scanned(4, ROOT, "packer/*.pkr.hcl"):
        whole, left = (found.read_text(encoding="utf-8") for found in (path, folder / path.name))
        gone = {"versions": 10, "golden": 5}.get(path.name.removesuffix(".pkr.hcl"), 0)
        assert len(whole.splitlines()) - len(left.splitlines()) == gone, path
        assert left.count("{") == left.count("}")
        assert not any(name in left for name in ("required_plugins", "http_tokens"))


NOTICE = """\
Your version of Packer is out of date! The latest version
is 1.11.2. You can update by downloading from www.packer.io/downloads.html"""


def _program(folder: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """A packer that says so, and keeps what it was told of Checkpoint."""
    path = folder / "packer"
    path.write_text(
        f'#!/bin/sh\nprintf %s "$CHECKPOINT_DISABLE" >{folder}/checkpoint\ncat '
        f"<<'EOF'\n{said}\nEOF\n",
        encoding="utf-8",
    )
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(
    "said", ["Packer v1.6.6", f"Packer v1.6.6\n\n{NOTICE}", f"{NOTICE}\n\nPacker v1.6.6"]
)
def test_the_version_is_found_beside_a_notice_and_the_vendor_is_not_asked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
) -> None:
    _program(tmp_path, monkeypatch, said)
    assert packer.version() == "1.6.6"
    assert (tmp_path / "checkpoint").read_text(encoding="utf-8") == "1"


# --- what is wrong is refused ---


@pytest.fixture
def templates(known: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "packer"
    folder.mkdir()
    for path in known.glob("*.pkr.hcl"):
        shutil.copy(path, folder)
    return folder


def test_unformatted_is_seen(templates: Path) -> None:
    with (templates / "locals.pkr.hcl").open("a", encoding="utf-8") as sink:
        sink.write('locals {\n a = "b"\n}\n')
    assert complaints("packer", "fmt", "-check", str(templates), env=HOST)


def test_invalid_is_refused(templates: Path, tmp_path: Path, ssh_key: Path) -> None:
    text = (templates / "golden.pkr.hcl").read_text(encoding="utf-8")
    misspelt = text.replace("var.ssh_host", "var.ssh_hots")
    assert misspelt != text
    (templates / "golden.pkr.hcl").write_text(misspelt, encoding="utf-8")
    assert "ssh_hots" in _validate(templates, _variables(LOCKS[0], tmp_path, ssh_key))


def test_what_a_shell_tells_ansible_and_packer_is_not_for_a_bake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (
        "ANSIBLE_RUN_TAGS",
        "PKR_VAR_disk",
        "PACKER_LOG_PATH",
        "MOLECULE_FILE",
        "PACKER_PLUGIN_PATH",
    ):
        monkeypatch.setenv(name, "x")
    packer.forget_settings()
    assert sorted(name for name, value in os.environ.items() if value == "x") == [
        "PACKER_PLUGIN_PATH"
    ]


def test_packer_finds_the_ansible_of_this_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pip install` and a path are enough: nobody activates an environment for `golden`."""
    (tmp_path / "packer").write_text(
        '#!/bin/sh\n[ "$1" = build ] || { echo Packer v1.11.2; exit; }\n'
        "command -v ansible-playbook\n",
        encoding="utf-8",
    )
    (tmp_path / "packer").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    said: list[str] = []
    build = packer.PackerBuild(ROOT, tmp_path, "a", tmp_path / "log")
    build.run("null.local", {}, env={}, on_line=said.append)
    assert said == [str(Path(sys.executable).parent / "ansible-playbook")]
