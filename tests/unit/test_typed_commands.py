"""What the program and the pages tell a person to type can be typed where a clone and `make` are
all that there is."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from goldenami import cli
from goldenami.commands import lead_to
from support.builds.tools import BIN, ROOT
from support.rules import typed_commands
from support.rules.typed_commands import IMAGE, Told


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are looked for where a person is."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(("source", "least"), [(typed_commands.of_pages, 220), (typed_commands.of_code, 120)])
def test_every_command_that_somebody_is_told_can_be_typed(
    source: Callable[[Path], Iterator[Told]], least: int,
) -> None:
    found = list(source(ROOT))
    assert len(found) >= least, f"{len(found)} commands were found"
    wrong = [f"{told.where}: {told.text}: {said}" for told in found
             if (said := typed_commands.problem(told, ROOT))]
    assert "\n".join(wrong) == ""


def test_no_help_names_the_program() -> None:
    """It is not rendered, and the program has another name where it is installed."""
    texts = [text for name in cli.MODULES for command in [cli.command(name)]
             for text in (command.help,
                          *(getattr(parameter, "help", "") for parameter in command.params))]
    assert len(texts) > 140
    assert [text for text in texts if "golden " in (text or "")] == []


@pytest.mark.parametrize(("text", "is_page", "said"), [
    ("scripts/golden status", True, ""), ("golden status", False, ""),
    ("golden status", True, "it is typed scripts/golden"),
    ("golden publsih IMAGE", False, "there is no command `publsih`"),
    ("golden publish", False, "Missing argument"), ("golden bake mine", False, "no image `mine`"),
    ("golden bake IMAGE --froce", False, "No such option: --froce"),
    ("make bkae", True, "No rule to make target"),
    ("make bake IMGAE=x", True, "there is no variable IMGAE"),
    ("make check IMAGE=mine", True, "no image `mine`"),
    ("golden-idle hold 4h a demo", True, ""), ("golden-idle hodl 4h", True, "invalid choice"),
    ("molecules test", True, "brings molecules"),
    ("AWS_REGION=us-east-1 scripts/golden sweep --dry", True, "No such option: --dry"),
])
def test_what_cannot_be_typed_is_seen(text: str, is_page: bool, said: str) -> None:
    found = typed_commands.problem(Told("a", text, is_page), ROOT)
    assert (said in found) if said else found == ""


def _installed(folder: Path) -> Path:
    """The program as pip makes it, of this checkout's code; returns its folder."""
    program = folder / "bin/golden"
    program.parent.mkdir()
    program.write_text(f"#!{BIN}/python\nimport sys\nsys.path.insert(0, {str(folder / 'site')!r})\n"
                       "from goldenami.cli import main\nsys.exit(main())\n", encoding="utf-8")
    program.chmod(0o755)
    (folder / "site").mkdir()
    (folder / "site/goldenami").symlink_to(ROOT / "scripts/goldenami")
    return program.parent


def _advised(typed: str, cwd: Path, **env: str) -> str:
    """The command that the hint names after `typed` has failed; typed where that was, it works."""
    ran = _typed(typed, cwd, env)
    hint = re.search(r"^golden: to do: `(.+?)`", ran.stderr, re.MULTILINE)
    assert ran.returncode == 2 and hint is not None, ran.stderr
    again = _typed(hint[1], cwd, env)
    assert (again.returncode, "Usage: " in again.stdout) == (0, True), again.stderr
    return hint[1]


def _typed(
    line: str, cwd: Path = ROOT, env: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", line], cwd=cwd, env={**os.environ, **env}, text=True,
                          capture_output=True)


def test_what_a_hint_says_works_wherever_the_command_was_typed(tmp_path: Path) -> None:
    path = f"{_installed(tmp_path)}:{os.environ['PATH']}"
    here, root = (shlex.quote(str(each)) for each in (ROOT / "scripts/golden", tmp_path / "a b"))
    shutil.copytree(ROOT / "packer", tmp_path / "a b/packer")
    assert _advised("scripts/golden bake --x", ROOT) == "scripts/golden bake --help"
    assert _advised("../scripts/golden bake --x", ROOT / "docs") == f"{here} bake --help"
    assert _advised("golden bake --x", ROOT, PATH=path) == "golden bake --help"
    assert _advised(f"{here} --root {root} bkae", tmp_path) == f"{here} --root {root} --help"


def test_the_next_command_is_typed_as_the_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    lead_to("publish", IMAGE)
    assert capsys.readouterr().err == f"next: scripts/golden publish {IMAGE}\n"
