"""What did not run here names what shows it: a step of `golden selftest`, or a command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from goldenami.aws.contract import CONTRACT
from goldenami_fleet.selftest.plan import STEPS
from support import trees
from support.builds.tools import ROOT
from support.files import write
from support.rules import prose_rules

PAGE = ROOT / "docs/operate/selftest.md"
RULED = {row.step for row in CONTRACT.values()}
"""The steps that show a rule."""
UNORDERED = {"preflight", "by chance"}
"""What the contract has beside steps: what a dry run reads, and what nobody can order."""
LEAST_PAGES, LEAST_SENTENCES = 55, 17


def named(text: str) -> set[str]:
    """The steps and commands that a text names, without those that run on the emulator."""
    code = re.findall(r"`([^`]+)`", text)
    command = re.compile(r"(scripts/golden|make(?! (demo|emulator|test))) ")
    return {each for each in code if each in STEPS or command.match(each)}


def problems(root: Path) -> list[str]:
    return [f"{place}: {said}" for place, said in prose_rules.unshown(root) if not named(said)]


def test_what_was_not_shown_names_what_shows_it() -> None:
    trees.SEEN.clear()
    assert "\n".join(problems(ROOT)) == ""
    assert len(list(prose_rules.unshown(ROOT))) >= LEAST_SENTENCES
    assert len(trees.SEEN) >= LEAST_PAGES


def test_every_step_shows_a_rule_or_what_a_sentence_says() -> None:
    told = {name for _, said in prose_rules.unshown(ROOT) for name in named(said)}
    assert len(STEPS) >= 13 and len(RULED - UNORDERED) >= 9
    assert STEPS.keys() - RULED - told == set()
    assert RULED - STEPS.keys() == UNORDERED


def test_the_page_has_the_steps_of_the_plan() -> None:
    text = PAGE.read_text("utf-8")
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    shown = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert sorted(shown) == sorted(STEPS)
    assert all(f"`{name}`" in text for name in UNORDERED)


@pytest.mark.parametrize(
    "said",
    [
        "Nothing here ever ran on AWS.",
        "No real GPU has run these `checks`.",
        "| all | emulated: `make demo` | `make test` |",
        "It has a rule. Its own files\nare not shown. `boot` is a step.",
    ],
)
def test_a_sentence_without_a_step_is_seen(tmp_path: Path, said: str) -> None:
    head = "| a | b | c |\n| --- | --- | --- |\n" if said.startswith("|") else ""
    write(tmp_path, {"docs/a.md": f"# A\n\n{head}{said}\n"})
    assert len(problems(tmp_path)) == 1
