"""Which files a role brings into an image: those that its tasks copy, and those of its list
`__<role>_files`.

What a bake finds in a sealed tree and no package owns has to be one of them. In a name `*` stays
within a folder, `**` crosses folders.
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
"""Modules of Ansible that write a file, and which of their arguments is its path."""
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
"""What an expression over facts of the machine, or over nothing, ends in."""


def brought(root: Path, role: str, given: Mapping[str, Any]) -> list[str]:
    """Without what only the machine knows the path of."""
    folder = program_files.role(root, role)
    platforms = [path for path in sorted((folder / "vars").glob("*.y*ml")) if path.stem != "main"]
    main, own, found = table(folder / "vars/main.yml"), tasks(folder), list[str]()
    for platform in [{}, *map(table, platforms)]:
        context = {**variables(root, role, given), **main, **platform}
        listed = context.get(f"__{role}_files") or []
        paths = known(listed, context)
        if not isinstance(paths, list):
            raise BadInput(
                f"{folder}/vars: __{role}_files is {listed!r}, no list",
                hint="write `[/PATH, '/PATH/*']`",
            )
        found += map(str, paths)
        for task in own:
            found += _written(folder, task, context)
    return sorted(set(found))


def of_image(root: Path, given: Mapping[str, Any]) -> list[str]:
    """`given` is what the image's roles get, as the bake wrote it."""
    return [path for role in given["golden_roles"] for path in brought(root, role, given)]


def misplaced(path: str) -> str:
    """Why a role may not bring `path`; "" where it may."""
    if re.match(r"/(root|home)/", path):
        return "lies in a home, which holds what skel has: bring it below /etc or /opt"
    return (
        ""
        if re.match(r"/[^*/]+/[^*/]", path)
        else "names no place: begin with two names, as in /opt/agent/*"
    )


def known(value: Any, context: Mapping[str, Any]) -> Any:
    """`value` rendered; None where it wants what only the machine knows."""
    try:
        return rendered(value, context)
    except _UNKNOWN:
        return None


def _written(folder: Path, task: Mapping[str, Any], context: Mapping[str, Any]) -> Iterator[str]:
    for module, given in task.items():
        if (key := _WRITERS.get(module.rpartition(".")[2])) is None:
            continue
        # `copy: src=a dest=/b` is the short form.
        arguments = dict(_WORDS.findall(given)) if isinstance(given, str) else given or {}
        context = {**context, **(task.get("vars") or {})}
        items = task.get("loop", task.get("with_items", [""]))
        items = known(items, context) if isinstance(items, str) else items
        name = (task.get("loop_control") or {}).get("loop_var", "item")
        for item in items if isinstance(items, list) else []:
            within = {**context, name: item}
            target, source = (known(arguments.get(each), within) for each in (key, "src"))
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
