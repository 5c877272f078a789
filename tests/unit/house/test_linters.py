"""Linters are tests: the checkout satisfies each, and each is seen to complain about something
bad."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from goldenami.core.cache_paths import CachePaths
from support import trees
from support.builds.tools import ROOT, complaints, complaints_kept

YAMLLINT = ("--strict", "--format", "parsable", "--config-file", str(ROOT / ".yamllint"))
ANSIBLE_LINT = ("-q", "--nocolor", "--format=pep8", "--config-file", str(ROOT / ".ansible-lint"))
LEAST_SCRIPTS = 20
RUFF = ("check", "--no-cache", "--output-format=concise")


def _scripts() -> list[tuple[str, Path]]:
    """Shell scripts by their first line: (`bash` or `sh`, path)."""
    found = []
    for path in trees.files(ROOT):
        with path.open("rb") as source:
            match = re.match(rb"#!(?:/usr/bin/env |/usr/bin/|/bin/)(bash|sh)\n", source.readline())
        if match and path.suffix != ".j2":
            found.append((match[1].decode(), path))
    assert len(found) >= LEAST_SCRIPTS
    return found


def test_ruff() -> None:
    assert complaints("ruff", *RUFF, ".") == ""


def test_one_formatter_lays_out_all_python() -> None:
    assert complaints("ruff", "format", "--no-cache", "--check", ".") == ""


def test_mypy() -> None:
    """With a cache that all checkouts of this machine share: mypy looks at the contents of files,
    not at their age. Two that wrote it at once leave parts of both: it is made anew, then."""
    cache = CachePaths.default().folder / "mypy"
    if complaints("mypy", "--cache-dir", str(cache)):
        shutil.rmtree(cache, ignore_errors=True)
    assert complaints("mypy", "--cache-dir", str(cache)) == ""


def test_imports() -> None:
    assert complaints("lint-imports", "--no-cache", env={"PYTHONPATH": str(ROOT / "scripts")}) == ""


def test_yamllint() -> None:
    assert complaints("yamllint", *YAMLLINT, ".") == ""


def test_ansible_lint() -> None:
    """It takes 44 s of a processor, and looks neither at Python nor at prose nor at locks."""
    inputs = [
        path
        for path in trees.files(ROOT)
        if path.suffix not in (".py", ".md") and "packer/locks/" not in str(path)
    ]
    assert len(inputs) > 300
    assert complaints_kept("ansible-lint", *ANSIBLE_LINT, inputs=inputs) == ""


def test_shellcheck() -> None:
    assert (
        complaints(
            "shellcheck",
            "--severity=warning",
            "--format=gcc",
            *(str(path) for _, path in _scripts()),
        )
        == ""
    )


# --- each linter has been seen to complain ---


def _write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_ruff_complains(tmp_path: Path) -> None:
    """Of a bare import, and of who starts a process, asks for a pid or reads the clock."""
    bad = _write(
        tmp_path / "bad.py",
        '"""Bad."""\n\nimport os\nimport subprocess\nimport time\n'
        "subprocess.run([str(os.getpid()), str(time.time())])\n"
        "import json\n",
    )
    said = complaints("ruff", *RUFF, "--config", str(ROOT / "pyproject.toml"), bad)
    assert "F401" in said
    assert said.count("TID251") == 3
    assert "would be reformatted" in complaints(
        "ruff", "format", "--check", _write(tmp_path / "bad.py", "x = ( 1 )\n")
    )


def test_imports_complain(tmp_path: Path) -> None:
    """Each contract, by one line that breaks it; and a module that no contract names."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(
        ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__")
    )
    for module, line in (
        ("goldenami/core/errors.py", "from goldenami.model.supported import hardware"),
        ("goldenami/aws/tags.py", "from goldenami.local.machine import ssh"),
        ("goldenami/image/bake/bake.py", "import botocore.config"),
        ("goldenami/release/publish/publish.py", "from ec2_emulator import server"),
        ("ec2_emulator/server.py", "from goldenami.model.locked import lockfile"),
        ("goldenami/release/retire/status.py", "from goldenami_fleet.costs import costs"),
        ("goldenami_fleet/drift/fleet.py", "from goldenami.commands import checkout"),
        ("goldenami/odd.py", ""),
        ("goldenami/watch/sources/packages.py", "from goldenami.watch import watch_records"),
        ("goldenami_fleet/costs/costs.py", "from goldenami_fleet.digest import weeks"),
        ("goldenami/release/gpu_test/capacity.py", "from goldenami.release.publish import promote"),
        ("goldenami/image/builders/builder.py", "from goldenami.image.verify import hardening"),
        ("goldenami/image/lock/compilation/driver_fit.py", "from goldenami.image.lock import cuda"),
        ("goldenami/aws/images.py", "from goldenami.aws.inventory import topology"),
        ("goldenami/local/reader/ext4.py", "from goldenami.local.disk import grub"),
        (
            "goldenami/model/supported/hardware.py",
            "from goldenami.model.definitions import role_rules",
        ),
        ("goldenami/core/units.py", "from goldenami.core.terminal import meter"),
    ):
        with (tmp_path / "scripts" / module).open("a", encoding="utf-8") as source:
            source.write(f"\n\ndef broken() -> None:\n    {line or 'pass'}\n")
    said = complaints(
        "lint-imports", "--no-cache", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "scripts")}
    )
    words = " ".join(said.split())  # it cuts lines after 80 columns
    for part in (
        "goldenami.core is not allowed to import goldenami.model",
        "goldenami.aws is not allowed to import goldenami.local",
        "goldenami.odd",
        "goldenami.image is not allowed to import botocore",
        "goldenami is not allowed to import ec2_emulator",
        "ec2_emulator is not allowed to import goldenami.model",
        "goldenami is not allowed to import goldenami_fleet",
        "goldenami_fleet.drift is not allowed to import goldenami.commands",
        "goldenami.watch.sources is not allowed to import goldenami.watch.watch_records",
        "goldenami_fleet.costs is not allowed to import goldenami_fleet.digest",
        "goldenami.release.gpu_test is not allowed to import goldenami.release.publish",
        "goldenami.image.builders is not allowed to import goldenami.image.verify",
        "goldenami.image.lock.compilation is not allowed to import goldenami.image.lock.cuda",
        "goldenami.aws.images is not allowed to import goldenami.aws.inventory",
        "goldenami.local.reader is not allowed to import goldenami.local.disk",
        "goldenami.model.supported is not allowed to import goldenami.model.definitions",
        "goldenami.core.units is not allowed to import goldenami.core.terminal",
    ):
        assert part in words, said


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a: yes\n", "truthy"),
        ("a: 1\na: 2\n", "key-duplicates"),
        ("a: 0644\n", "octal-values"),
        ("a:\n   - b\n  - c\n", "syntax"),
        (f"a: {'b ' * 60}c\n", "line-length"),
    ],
)
def test_yamllint_complains(tmp_path: Path, text: str, rule: str) -> None:
    assert f"({rule})" in complaints("yamllint", *YAMLLINT, _write(tmp_path / "bad.yml", text))


def test_ansible_lint_complains(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    bad = _write(
        tmp_path / "tasks/bad.yml",
        "---\n- shell: uname\n- name: Make\n  file: {path: /x, state: touch, mode: 644}\n",
    )
    said = complaints(
        "ansible-lint", *ANSIBLE_LINT, "--project-dir", str(tmp_path), bad, cwd=tmp_path
    )
    for rule in ("no-changed-when", "fqcn[action-core]", "name[missing]", "risky-octal"):
        assert rule in said, said


def test_shellcheck_complains(tmp_path: Path) -> None:
    bad = _write(tmp_path / "bad", "#!/bin/sh\ncd /nowhere\nrm -r x\n")
    assert "SC2164" in complaints("shellcheck", "--severity=warning", "--format=gcc", bad)
