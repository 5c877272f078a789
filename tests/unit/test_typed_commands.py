"""What the program and the pages tell a person to type can be typed where a clone and `make` are
all that there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from goldenami import cli
from goldenami.commands import lead_to
from support.builds.tools import ROOT
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
    ("AWS_REGION=us-east-1 scripts/golden sweep --dry", True, "No such option: --dry"),
])
def test_what_cannot_be_typed_is_seen(text: str, is_page: bool, said: str) -> None:
    found = typed_commands.problem(Told("a", text, is_page), ROOT)
    assert (said in found) if said else found == ""


def test_the_next_command_is_typed_as_the_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    lead_to("publish", IMAGE)
    assert capsys.readouterr().err == f"next: scripts/golden publish {IMAGE}\n"
