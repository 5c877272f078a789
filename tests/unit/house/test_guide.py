"""docs/guide.md: the pages, headings and commands that it names exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from goldenami import cli
from support.builds.tools import ROOT

GUIDE = ROOT / "docs/guide.md"
LEAST_ROWS = 60


def rows(text: str) -> list[str]:
    """What serves each wish: the second cells of the table, without its head and groups."""
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [cell[1] for cell in cells[2:] if not cell[0].startswith("**")]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def problems(text: str, said: str) -> Iterator[str]:
    """What the rows of `text` name that does not exist. What is no command has to be in `said`, the
    text of the other pages."""
    for row in rows(text):
        for target in re.findall(r"\]\(([^)]+)\)", row):
            name, _, anchor = target.partition("#")
            page = GUIDE.parent / name if name else GUIDE
            if not page.is_file() or (anchor and anchor not in anchors(page)):
                yield f"no page or heading {target}"
        for code in re.findall(r"`([^`]+)`", row):
            name, *words = code.split()
            if name not in cli.MODULES:
                if code not in said:
                    yield f"no page says {code}"
                continue
            options = {
                option for parameter in cli.command(name).params for option in parameter.opts
            }
            unknown = {word for word in words if word.startswith("--")} - options
            yield from (f"{name} has no option {word}" for word in unknown)
        if not re.search(r"[`\]]", row):
            yield f"names no page and no command: {row}"


def other_pages() -> str:
    pages = [page for page in GUIDE.parent.rglob("*.md") if page != GUIDE]
    assert len(pages) > 30
    return "\n".join(page.read_text("utf-8") for page in pages)


def test_what_the_guide_s_page_names_exists() -> None:
    text = GUIDE.read_text("utf-8")
    assert list(problems(text, other_pages())) == []
    assert len(rows(text)) >= LEAST_ROWS
    assert len(text.split()) <= 900


def test_what_does_not_exist_is_named() -> None:
    served = [
        "[a](no.md)",
        "[a](idle.md#no-such)",
        "`no_such_word`",
        "`costs --no-such`",
        "nothing",
    ]
    table = "\n".join(
        ["| what | served |", "| --- | --- |", *(f"| x | {each} |" for each in served)]
    )
    assert list(problems(table, "")) == [
        "no page or heading no.md",
        "no page or heading idle.md#no-such",
        "no page says no_such_word",
        "costs has no option --no-such",
        "names no page and no command: nothing",
    ]
