"""Rules of prose: short sentences, short pages, links that lead somewhere. A page is parsed, not
searched."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from support.rules import trees

SENTENCE_WORDS, PAGE_LINES = 30, 150
LINES = {"README.md": 130, "ARCHITECTURE.md": 200}
GENERATED = "docs/reference.md"
_EXEMPT = frozenset({"CHANGELOG.md", GENERATED})
"""A list of what changed, and what is made from the code."""
_PARSER = MarkdownIt().enable("table")
_END = re.compile(r"""(?<=[.!?])["')]*\s+(?=["'(]*[A-Z0-9`])""")


def _pages(root: Path) -> Iterator[tuple[Path, str]]:
    return trees.texts(root, ".md")


def _blocks(text: str) -> Iterator[tuple[int, Token]]:
    """Paragraphs, items, cells and headings, with the line that each begins at."""
    line = 0
    for token in _PARSER.parse(text):
        line = token.map[0] + 1 if token.map else line
        if token.type == "inline":
            yield line, token


def _words(token: Token) -> str:
    """What a reader reads: code counts as one word, an address as none."""
    shown = {"code_inline": "`x`", "softbreak": " "}
    return "".join(shown.get(child.type, child.content) for child in token.children or []
                   if child.type != "image")


def sentences(root: Path) -> list[str]:
    """No sentence has more than 30 words."""
    return [f"{path.relative_to(root)}:{line}: {count} words, at most {SENTENCE_WORDS}: {sentence[:70]}"
            for path, text in _pages(root) if str(path.relative_to(root)) not in _EXEMPT
            for line, token in _blocks(text) for sentence in _END.split(_words(token))
            if (count := len(re.findall(r"\S*\w\S*", sentence))) > SENTENCE_WORDS]


def page_sizes(root: Path) -> list[str]:
    """README of at most 130 lines, ARCHITECTURE 200, a page of docs/ 150."""
    limits = {
        str(path.relative_to(root)): PAGE_LINES for path in trees.glob(root, "docs/*.md")
    } | LINES
    limits.pop(GENERATED, None)
    return [f"{name}: {lines} lines, at most {limit}" for name, limit in sorted(limits.items())
            if (lines := len(trees.read(root / name).splitlines())) > limit]


def _anchors(text: str) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    found: set[str] = set()
    tokens = _PARSER.parse(text)
    for before, token in itertools.pairwise(tokens):
        if before.type != "heading_open":
            continue
        title = "".join(child.content for child in token.children or [])
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        number = next(n for n in range(1000) if (f"{slug}-{n}" if n else slug) not in found)
        found.add(f"{slug}-{number}" if number else slug)
    return found


def links(root: Path) -> list[str]:
    """Relative links and pictures of Markdown files lead to files, and to headings that are
    there."""
    problems = []
    for path, text in _pages(root):
        for line, token in _blocks(text):
            targets = [str(child.attrGet("href") or child.attrGet("src"))
                       for child in token.children or []
                       if child.type in ("link_open", "image")]
            for target in targets:
                name, _, anchor = target.partition("#")
                where = path.parent / name if name else path
                if "://" in target or target.startswith("mailto:"):
                    continue
                if not where.exists() or (anchor and anchor not in _anchors(trees.read(where))):
                    problems.append(f"{path.relative_to(root)}:{line}: broken link {target}")
    return problems
