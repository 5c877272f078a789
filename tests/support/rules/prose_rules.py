"""Rules of prose: short sentences, links that lead somewhere, what was not shown. A page is parsed,
not searched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from support import trees

SENTENCE_WORDS = 30
_EXEMPT = frozenset({"CHANGELOG.md", trees.GENERATED})
"""A list of what changed, and what is made from the code."""
_PARSER = MarkdownIt().enable("table")
_UNSHOWN = re.compile(
    r"\b(emulated|linted|untested|unproved|ever ran|never r[au]n|nobody has|nothing yet|"
    r"nothing here ran|boots no instance|only against|not( yet)? (shown|seen|tried)|"
    r"no (real|hosted) \w+( has)? r[au]n)\b",
    re.IGNORECASE,
)
_END = re.compile(r"""(?<=[.!?])["')]*\s+(?=["'(]*[A-Z0-9`])""")


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
    return "".join(
        shown.get(child.type, child.content)
        for child in token.children or []
        if child.type != "image"
    )


def sentences(root: Path) -> list[str]:
    """No sentence has more than 30 words."""
    return [
        f"{path.relative_to(root)}:{line}: {count} words, at most {SENTENCE_WORDS}: {sentence[:70]}"
        for path, text in trees.texts(root, ".md")
        if str(path.relative_to(root)) not in _EXEMPT
        for line, token in _blocks(text)
        for sentence in _END.split(_words(token))
        if (count := len(re.findall(r"\S*\w\S*", sentence))) > SENTENCE_WORDS
    ]


def links(root: Path) -> list[str]:
    """Relative links and pictures of Markdown files lead to files."""
    problems = []
    for path, text in trees.texts(root, ".md"):
        for line, token in _blocks(text):
            targets = [
                str(child.attrGet("href") or child.attrGet("src"))
                for child in token.children or []
                if child.type in ("link_open", "image")
            ]
            for target in targets:
                is_elsewhere = "://" in target or target.startswith(("mailto:", "#"))
                if not is_elsewhere and not (path.parent / target.partition("#")[0]).exists():
                    problems.append(f"{path.relative_to(root)}:{line}: broken link {target}")
    return problems


def unshown(root: Path) -> Iterator[tuple[str, str]]:
    """Each sentence, and each row of a table, that says that something was not shown: its place,
    and its text."""
    for path, text in trees.texts(root, ".md"):
        name = str(path.relative_to(root))
        for line, said in _said(text):
            if name not in _EXEMPT and _UNSHOWN.search(said):
                yield f"{name}:{line}", said


def _said(text: str) -> Iterator[tuple[int, str]]:
    """Sentences and rows, with the line that their block begins at."""
    line, row = 0, None
    for token in _PARSER.parse(text):
        line = token.map[0] + 1 if token.map else line
        if token.type == "tr_open":
            row = list[str]()
        elif token.type == "tr_close" and row:
            yield line, " | ".join(row)
            row = None
        elif token.type == "inline" and row is not None:
            row.append(token.content)
        elif token.type == "inline":
            for sentence in _END.split(token.content.replace("\n", " ")):
                yield line, sentence
