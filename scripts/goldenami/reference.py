"""Generates docs/reference.md from the code, for `scripts/reference`."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from goldenami import cli
from goldenami.core.environment import OF_OTHERS, PIPELINE_SETTINGS, VARIABLES
from goldenami.core.errors import ExitCode
from goldenami.model.definitions import definition_keys
from goldenami.model.roles import role_specs
from goldenami.model.roles.role_order import ROLE_ORDER

PAGE = "docs/reference.md"
HEAD = """\
# Reference

Which commands, options, keys, roles' variables, environment variables and exit codes are there?

This page is made from the code by `scripts/reference`. Do not edit it.

* [Make targets](#make-targets)
* [Commands](#commands)
* [Keys of a definition](#keys-of-a-definition)
* [Variables of roles](#variables-of-roles)
* [Environment variables](#environment-variables)
* [Exit codes](#exit-codes)
"""
_TARGET = re.compile(
    r"^(?P<name>[a-z][a-z%-]*):.*?## (?P<help>.+)\n(?P<recipe>(?:\t.*\n)*)", re.MULTILINE
)
_ASSIGNED = re.compile(r"^([A-Z]+) *\??= *(.*)$", re.MULTILINE)
_LONGEST_DEFAULT = 60
"""Characters of a default that a table still shows."""
_OWN = frozenset({"GOLDEN", "MAKEFILE_LIST"})
"""The Makefile's own variables, which no caller sets."""


def page(root: Path) -> str:
    """Return the whole page for the checkout `root`."""
    parts = [
        HEAD,
        "## Make targets\n",
        *_make((root / "Makefile").read_text(encoding="utf-8")),
        "## Commands\n",
        "`scripts/golden status` runs the command `status`. "
        "An installed goldenami has the program `golden`.\n",
        *_table(("option of all", "meaning"), _options(cli.parser(), "golden")),
    ]
    for area, names in cli.AREAS.items():
        parts.append(f"### {area}\n")
        for name in names:
            parts += _command(name)
    parts += _definition()
    parts += _roles(root)
    parts.append("## Environment variables\n")
    groups = VARIABLES | {
        "Of other programs": OF_OTHERS,
        "Settings of the pipelines": PIPELINE_SETTINGS,
    }
    for group, variables in groups.items():
        parts += [
            f"### {group}\n",
            *_table(
                ("variable", "meaning"),
                ((f"`{name}`", meaning) for name, meaning in variables.items()),
            ),
        ]
    parts += [
        "## Exit codes\n",
        *_table(("code", "meaning"), ((str(int(code)), code.meaning) for code in ExitCode)),
    ]
    return "\n".join(parts)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [
        [cell.replace("|", "\\|") for cell in row] for row in (heads, ["---"] * len(heads), *rows)
    ]
    return [*("| " + " | ".join(row) + " |" for row in lines), ""]


def _definition() -> list[str]:
    parts = ["## Keys of a definition\n", "A file of `packer/images/`. Other keys are refused.\n"]
    for path, keys in definition_keys.sections():
        parts += [
            f"### Section {path}\n" if path else "### The top level\n",
            *_table(
                ("key", "values", "default", "meaning"),
                ((f"`{key.name}`", *key[1:]) for key in keys),
            ),
        ]
    return parts


def _roles(root: Path) -> list[str]:
    """Return a table of each role's variables, from its argument_specs."""
    parts = [
        "## Variables of roles\n",
        "They stand below the role's name in `roles:` of a definition. The lock sets what is "
        "`derived`.\n",
    ]
    for role in sorted(ROLE_ORDER):
        if options := role_specs.role_spec(root, role).options:
            rows = (
                (f"`{name}`", _values(option), _default(option), option["description"].rstrip("."))
                for name, option in options.items()
            )
            parts += [
                f"### Role {role}\n",
                *_table(("variable", "values", "default", "meaning"), rows),
            ]
    return parts


def _values(option: dict[str, Any]) -> str:
    if choices := option.get("choices"):
        return ", ".join(f"`{choice}`" for choice in choices)
    return f"list of {option['elements']}" if "elements" in option else str(option["type"])


def _default(option: dict[str, Any]) -> str:
    if "default" not in option:
        return "derived"
    text = json.dumps(option["default"])
    return f"`{text}`" if len(text) <= _LONGEST_DEFAULT else "see `defaults/main.yml`"


def _command(name: str) -> list[str]:
    command = cli.command(name)
    text = textwrap.fill(" ".join((command.help or "").split()), 120, break_on_hyphens=False)
    return [
        f"#### {name}\n",
        f"{text}\n",
        *_table(("argument or option", "meaning"), _options(command, name)),
    ]


def _options(command: TyperCommand | TyperGroup, name: str) -> list[tuple[str, str]]:
    context = typer.Context(command, info_name=name)
    records = [
        record
        for parameter in command.get_params(context)
        if (record := parameter.get_help_record(context))
    ]
    return [(f"`{key}`", " ".join(meaning.split())) for key, meaning in records if key != "--help"]


def _make(text: str) -> list[str]:
    """Return the table of the Makefile's documented targets, with the variables that their recipes
    read."""
    assigned = dict(_ASSIGNED.findall(text))

    def variables(recipe: str) -> set[str]:
        read_variables: set[str] = set()
        for name in re.findall(r"\$\(([A-Z_]+)\)", recipe):
            # A variable that is made of others stands for those.
            read_variables |= (
                variables(assigned[name]) if "$(" in assigned.get(name, "") else {name}
            )
        return read_variables - _OWN

    rows = [
        (
            f"`make {target['name']}`",
            target["help"],
            " ".join(f"`{variable}`" for variable in sorted(variables(target["recipe"]))),
        )
        for target in _TARGET.finditer(text)
    ]
    return _table(("target", "does", "variables"), rows)


def main() -> int:
    """Write the page of the checkout that this module is in."""
    root = Path(__file__).resolve().parents[2]
    (root / PAGE).write_text(page(root), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
