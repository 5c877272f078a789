"""Commands that the program and the pages tell a person to type, and what is wrong with one:
nothing is run.

In the program's own text a command is `golden NAME`, which `core/command_name.py` shows as it is
typed. A page says `scripts/golden NAME`, for that works where nothing but a clone and `make` is.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import typer
from goldenami import cli
from goldenami.core.errors import GoldenError
from markdown_it import MarkdownIt

from support.rules import trees

IMAGE = "debian-13-ml-cpu"
"""Stands in for the name of an image."""
PLACEHOLDERS = {
    "IMAGE": IMAGE, "NAME": IMAGE, "[IMAGE]": IMAGE, "...": "", "<role>": "limits",
    "ROLE": "limits", "x": "limits",
    "STAGE": "bake"}
"""Words of a page or a hint that a reader replaces."""
FILLED = {"each['name']": "bake", "names": "--region us-east-1",
          "path": "golden bake"}
"""What an expression in an f-string stands for, by its text; any other is the name of an image."""
_OWN = re.compile(r"(?:[A-Z_]+=\S* )*(golden|make|scripts/golden)( |$)")
_MISSING = re.compile(r"missing (argument|option|command)", re.IGNORECASE)
_OF_A_PERSON = re.compile(r"file '[\w.]+' does not exist")
"""A disk or a list that a reader has."""


@dataclass(frozen=True)
class Told:
    """One command; `where` names the file. `is_named`: a sentence is about the command, which may
    lack arguments."""

    where: str
    text: str
    is_page: bool
    is_named: bool = False


def of_pages(root: Path) -> Iterator[Told]:
    """Every command line in a block of code, and every command between backticks, of all pages."""
    for path, text in trees.texts(root):
        if path.suffix != ".md" or path.name == "CHANGELOG.md":
            continue
        where = str(path.relative_to(root))
        for token in MarkdownIt().enable("table").parse(text):
            if token.type in ("code_block", "fence") and token.info in ("", "sh"):
                yield from (Told(where, command, True) for line in _lines(token.content)
                            for command in split(line) if _OWN.match(command))
            for child in token.children or []:
                if child.type == "code_inline" and _OWN.match(child.content):
                    yield Told(where, child.content, True, is_named=True)


def _lines(block: str) -> Iterator[str]:
    """The lines of a block that a person types: after a prompt where it has one, else all."""
    joined = block.replace("\\\n", " ")
    prompted = re.findall(r"^ *\$ (.*)$", joined, re.MULTILINE)
    if prompted:
        yield from prompted
        return
    yield from (line.strip() for line in joined.splitlines())


def split(line: str) -> Iterator[str]:
    """The commands of a line: of a list, of a pipe, and within `$(...)`; no comment, no file that
    one writes to."""
    line = re.sub(r"\s#.*", "", line)
    inner = re.compile(r"\$\(([^()]*)\)")
    while found := inner.search(line):
        yield from split(found[1])
        line = line.replace(found[0], "x")
    parts = re.sub(r"""('[^']*'|"[^"]*")|&&|\|\|?|;""", lambda found: found[1] or "\n", line)
    for part in parts.splitlines():
        command = re.sub(r"\s>\s*\S+", "", part).strip()
        if command:
            yield command


def of_code(root: Path) -> Iterator[Told]:
    """Every command between backticks in a string of the program, and what its commands lead to."""
    for path, tree in trees.python(root / "scripts"):
        where, skipped = str(path.relative_to(root)), _docstrings(tree)
        is_page = path.name == "reference.py"
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "lead_to"
            ):
                yield from (Told(where, f"golden {text}", False) for text in _led(node))
            if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in skipped:
                skipped |= {id(part) for part in ast.walk(node)}
                yield from (Told(where, command, is_page)
                            for command in re.findall(r"`([^`]+)`", _text(node))
                            if _OWN.match(command))


def _docstrings(tree: ast.Module) -> set[int]:
    """Strings that stand alone."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def _led(call: ast.Call) -> Iterator[str]:
    """What `lead_to(command, image)` says, in each case of a choice."""
    command, image = call.args
    cases = [command.body, command.orelse] if isinstance(command, ast.IfExp) else [command]
    return (f"{_text(case)} {_text(image)}" for case in cases)


def _text(node: ast.AST) -> str:
    """A string as a person sees it, with something for each expression in it."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values))
    if isinstance(node, ast.Constant):
        return str(node.value) if isinstance(node.value, str) else ""
    said = ast.unparse(node.value if isinstance(node, ast.FormattedValue) else node)
    member = re.fullmatch(r"\w+Action\.([A-Z]+)", said)
    return member[1].lower() if member else FILLED.get(said, IMAGE)


def problem(told: Told, root: Path) -> str:
    """What keeps a person from typing it, or nothing."""
    try:
        words = [PLACEHOLDERS.get(word, word) for word in shlex.split(told.text)]
    except ValueError as error:
        return f"no shell takes it: {error}"
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    name, *others = filter(None, words)
    own = "scripts/golden" if told.is_page else "golden"
    if name in {"golden", "scripts/golden"}:
        if name != own and others:
            return f"it is typed {own}"
        said = golden(others)
        return "" if told.is_named and _MISSING.search(said) else said
    return make(tuple(others), root) if name == "make" else ""


def golden(words: list[str]) -> str:
    """What the command line's grammar says of `words`; nothing where it takes them."""
    if not words or words[0] in {"--install-completion", "--help"}:
        return ""
    grammar = cli.parser()
    try:
        with redirect_stdout(StringIO()), grammar.make_context("golden", list(words)) as context:
            given = [*context._protected_args, *context.args]
            if not given:  # options of all commands, and dots for one
                return ""
            name, command, rest = grammar.resolve_command(context, given)
            assert command is not None
            command.make_context(name, list(rest), parent=context)
    except typer.Exit:
        return ""  # after --help
    except GoldenError as error:
        return error.message
    except typer.TyperException as error:
        said = str(error.format_message())
        return "" if _OF_A_PERSON.search(said) else said
    return ""


@functools.cache
def make(words: tuple[str, ...], root: Path) -> str:
    """What Make says of these targets and variables, and the grammar of what they would run."""
    given = [re.sub(r"=(NAME|IMAGE|\.\.\.|x)$", f"={IMAGE}", word) for word in words]
    known = {name: value for name, value in os.environ.items()
             if name not in {"IMAGE", "MAKEFLAGS", "CI"}}
    done = subprocess.run(["make", "--dry-run", "--no-print-directory", *given], cwd=root,
                          env=known, text=True,
                          check=False, capture_output=True)
    if done.returncode:
        return done.stderr.strip()
    runs = re.findall(r"^(scripts/golden .*?)(?: \|\|.*)?$", done.stdout.replace("\\\n", " "),
                      re.MULTILINE)
    return "; ".join(filter(None, (golden(shlex.split(run)[1:]) for run in runs)))
