"""Caps of what a person has to look through: commands, options, environment variables.

A new one names in its commit what it replaces, or who types it and when.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from goldenami import cli
from goldenami.core import environment

from support.rules import trees

CAPS = {"commands": 30, "commands of pipelines": 2, "options": 92, "variables": 20,
        "settings of pipelines": 8}
COMMAND_MODULES = 15
SHARED = frozenset({"__init__", "checkout"})
"""Modules of commands/ without a command: what all of them have in common."""


def counted() -> dict[str, int]:
    """How many there are of each.

    Options are those of commands, and those before a command's name but Typer's own.
    """
    grammars = [cli.parser(), *(cli.command(name) for name in cli.MODULES)]
    parameters = [each for grammar in grammars for each in grammar.params]
    options = [each for each in parameters if each.param_type_name == "option"
               and each.name not in ("install_completion", "show_completion")]
    called = len(cli.AREAS[cli.CALLED])
    return {"commands": len(cli.MODULES) - called, "commands of pipelines": called,
            "options": len(options),
            "variables": sum(len(group) for group in environment.VARIABLES.values()),
            "settings of pipelines": len(environment.PIPELINE_SETTINGS)}


def too_many(counts: Mapping[str, int]) -> list[str]:
    """What is beyond its cap."""
    return [f"{counts[name]} {name}, at most {most}" for name, most in CAPS.items()
            if counts[name] > most]


def command_modules(root: Path, modules: Mapping[str, str]) -> list[str]:
    """Each module of commands/ is named as one of its commands; there are few of them.

    `modules` is cli.MODULES.
    """
    files = trees.glob(root, "scripts/goldenami/commands/*.py")
    names = {path.stem for path in files} - {"__init__"}
    problems = list[str]()
    for name in sorted(names - SHARED):
        command = name.replace("_", "-")
        if modules.get(command) != name:
            problems.append(f"{name}.py has no command `{command}`")
    if len(names) > COMMAND_MODULES:
        problems.append(f"commands/ has {len(names)} modules, at most {COMMAND_MODULES}")
    return problems
