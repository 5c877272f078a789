"""The contract of roles/, as functions from a tree and a role's name to the list of its violations.

`tests/unit/test_roles_contract.py` holds each role to them, and feeds each a role that breaks it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

_KEYWORDS = frozenset({
    "name", "when", "loop", "loop_control", "register", "changed_when", "failed_when", "notify",
    "vars", "environment",
    "become", "become_user", "check_mode", "delegate_to", "run_once", "until", "retries", "delay",
    "no_log", "args",
    "block", "rescue", "always", "ignore_errors", "listen", "tags", "any_errors_fatal", "async",
    "poll", "diff",
})
Task = dict[str, Any]


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None


def _tasks(path: Path) -> Iterator[Task]:
    """Every task of a file, those of its blocks included."""
    def walk(tasks: list[Task]) -> Iterator[Task]:
        for task in tasks:
            yield task
            for part in ("block", "rescue", "always"):
                yield from walk(task.get(part) or [])
    yield from walk(_yaml(path) or [])


def _task_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("tasks/**/*.yml"), *folder.glob("handlers/**/*.yml")])


def _action(task: Task) -> str:
    """The task's module, `""` for a block."""
    return next((key for key in task if key not in _KEYWORDS and not key.startswith("with_")), "")


def _label(root: Path, path: Path, task: Task) -> str:
    return f"{path.relative_to(root)}: {task.get('name') or _action(task) or 'a task'}"


def _options(folder: Path) -> dict[str, dict[str, Any]]:
    specs = _yaml(folder / "meta/argument_specs.yml") or {}
    return specs.get("argument_specs", {}).get("main", {}).get("options") or {}


def contents(root: Path, role: str) -> list[str]:
    """Every task file is included."""
    folder = root / "roles" / role / "tasks"
    named = [str(task[_action(task)]) for path in folder.glob("*.yml") for task in _tasks(path)
             if _action(task).rpartition(".")[2] in ("import_tasks", "include_tasks")]
    return [f"roles/{role}/tasks/{path.name} is never included"
            for path in sorted(folder.glob("*.yml"))
            if path.name not in (*named, "main.yml")]


def specification(root: Path, role: str) -> list[str]:
    """defaults and argument_specs agree: same names, same values; what is required, or
    derived by the lock, has no default."""
    folder = root / "roles" / role
    options, defaults = _options(folder), _yaml(folder / "defaults/main.yml") or {}
    alien = sorted(defaults.keys() - options.keys())
    problems = [f"{role}: {name} is in defaults but not in argument_specs" for name in alien]
    for name, option in options.items():
        if option.get("required"):
            problems += (
                [f"{role}: {name} is required and has a default"] if name in defaults else []
            )
        elif name not in defaults and "default" in option:
            problems.append(f"{role}: {name} has a default in argument_specs, not in defaults")
        elif name in defaults and option.get("default", ()) != defaults[name]:
            stated = repr(option.get("default"))
            problems.append(f"{role}: {name} is {defaults[name]!r} in defaults, {stated} in "
                            "argument_specs")
        problems += [f"{role}: {name} has no {key}" for key in ("type", "description")
                     if key not in option]
    return problems


def readme(root: Path, role: str) -> list[str]:
    """README's table has the same variables; one pair of backticks holds the default, `derived` has
    none."""
    folder = root / "roles" / role
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    rows = dict(re.findall(r"^\| `([a-z_0-9]+)` \| (.*?) \|", text, re.MULTILINE))
    options = _options(folder)
    problems = [f"{role}: {name} is not in README's table"
                for name in sorted(options.keys() - rows.keys())]
    alien = sorted(rows.keys() - options.keys())
    problems += [f"{role}: README's table has {name}, which is no variable" for name in alien]
    for name in sorted(options.keys() & rows.keys()):
        derived, stated = "default" not in options[name], rows[name]
        literal = re.fullmatch(r"`([^`]*)`", stated)
        if derived != (stated == "derived"):
            problems.append(f"{role}: README says `{stated}` of {name}, which has "
                            f"{'no' if derived else 'a'} default")
        elif literal and yaml.safe_load(literal[1]) != options[name].get("default"):
            problems.append(f"{role}: README says {literal[1]} of {name}, not "
                            f"{options[name].get('default')!r}")
    return problems


def company(root: Path, role: str) -> list[str]:
    """A role has a Molecule scenario and tests of the image."""
    wanted = (f"molecule/{role}/molecule.yml", f"tests/image/{role}/test_{role}.py")
    return [f"{name} is missing" for name in wanted if not (root / name).is_file()]


def indexes(root: Path, role: str) -> list[str]:
    """What installs the role's packages reads the indexes first: a fresh machine has none."""
    found = [(path, task, task.get("ansible.builtin.apt"))
             for path in _task_files(root / "roles" / role)
             for task in _tasks(path)]
    return [f"{_label(root, path, task)}: installs packages without cache_valid_time"
            for path, task, apt in found
            if apt and apt.get("state") != "absent" and f"__{role}_packages" in str(apt.get("name"))
            and "cache_valid_time" not in apt]


RULES: tuple[Callable[[Path, str], list[str]], ...] = (
    contents, specification, readme, company, indexes,
)


def order(root: Path, roles: tuple[str, ...]) -> list[str]:
    """Every one of `roles`, the order of a bake, has its folder; `seal` is the last."""
    problems = [f"role {name} has no folder" for name in roles
                if not (root / "roles" / name).is_dir()]
    return problems + (["seal is not the last role"] if roles[-1:] != ("seal",) else [])
