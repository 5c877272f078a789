"""Files that a role brings into an image: those that its tasks write, and those of its list
`__<role>_files`.

A file in a sealed tree that no package owns has to be one of them. In a pattern `*` stays within a
folder, `**` crosses folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2.exceptions

from goldenami.core.errors import BadInput
from goldenami.model import program_files
from goldenami.model.roles.role_packages import rendered, variables
from goldenami.model.roles.role_specs import table, tasks

_WRITERS = {
    "copy": "dest",
    "template": "dest",
    "assemble": "dest",
    "ini_file": "path",
    "lineinfile": "path",
    "blockinfile": "path",
}
"""Ansible modules that write a file, with the argument that has its path."""
_WORDS = re.compile(r"(\w+)=(\"[^\"]*\"|'[^']*'|\S+)")
_UNKNOWN = (
    jinja2.exceptions.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""Exceptions of an expression that uses the machine's facts or undefined names."""


def brought(root: Path, role: str, overrides: Mapping[str, Any]) -> list[str]:
    """Return the sorted paths and patterns of a role's files, on all its platforms. Paths that only
    the machine knows are left out. Raises BadInput if `__<role>_files` is no list."""
    folder = program_files.role(root, role)
    platforms = [path for path in sorted((folder / "vars").glob("*.y*ml")) if path.stem != "main"]
    base = {**variables(root, role, overrides), **table(folder / "vars/main.yml")}
    role_tasks, patterns = tasks(folder), list[str]()
    for platform in [{}, *map(table, platforms)]:
        context = {**base, **platform}
        own_patterns = context.get(f"__{role}_files") or []
        paths = known(own_patterns, context)
        if not isinstance(paths, list):
            raise BadInput(
                f"{folder}/vars: __{role}_files is {own_patterns!r}, no list",
                hint="write `[/PATH, '/PATH/*']`",
            )
        patterns += map(str, paths)
        for task in role_tasks:
            patterns += _written(folder, task, context)
    return sorted(set(patterns))


def of_image(root: Path, image_variables: Mapping[str, Any]) -> list[str]:
    """Return the files of all roles of an image. `image_variables` has the roles' variables, as the
    bake wrote them."""
    paths = list[str]()
    for role in image_variables["golden_roles"]:
        paths += brought(root, role, image_variables)
    return paths


def misplaced(path: str) -> str:
    """Return why a role may not bring `path`, or "" if it may."""
    if re.match(r"/(root|home)/", path):
        return "lies in a home, which holds what skel has: bring it below /etc or /opt"
    if not re.match(r"/[^*/]+/[^*/]", path):
        return "names no place: begin with two names, as in /opt/agent/*"
    return ""


def known(value: Any, context: Mapping[str, Any]) -> Any:
    """Return `value` rendered, or None if it needs facts that only the machine knows."""
    try:
        return rendered(value, context)
    except _UNKNOWN:
        return None


def _written(folder: Path, task: Mapping[str, Any], context: Mapping[str, Any]) -> Iterator[str]:
    for module, value in task.items():
        if (key := _WRITERS.get(module.rpartition(".")[2])) is None:
            continue
        # `copy: src=a dest=/b` is the short form.
        arguments = dict(_WORDS.findall(value)) if isinstance(value, str) else value or {}
        context = {**context, **(task.get("vars") or {})}
        items = task.get("loop", task.get("with_items", [""]))
        if isinstance(items, str):
            items = known(items, context)
        name = (task.get("loop_control") or {}).get("loop_var", "item")
        if not isinstance(items, list):
            continue
        for item in items:
            loop_context = {**context, name: item}
            # A path that cannot be rendered here is known to the machine only, and left out.
            target = known(arguments.get(key), loop_context)
            source = known(arguments.get("src"), loop_context)
            if str(target).strip("'\"").startswith("/"):
                yield from _copied(folder, target.strip("'\""), str(source or "").strip("'\""))


def _copied(folder: Path, target: str, source: str) -> Iterator[str]:
    yield target.rstrip("/")
    if source and not source.startswith("/"):
        name = "" if source.endswith("/") else PurePosixPath(source).name.removesuffix(".j2")
        below = PurePosixPath(target, name)
        yield str(below)
        if (folder / "files" / source).is_dir():
            yield f"{below}/**"
