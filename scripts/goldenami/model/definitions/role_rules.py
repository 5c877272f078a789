"""Evaluates the assertions of roles' preflights for a definition, since a bake would reach them
only minutes later.

A rule may use the variables of all roles of the image, the facts of its own role, `golden_roles`,
the distribution in `ansible_facts`, and `golden_definition`, which a bake does not have. A rule
that needs more (derived variables, other facts of the machine) is left to the bake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import Key, YamlFile
from goldenami.model import program_files
from goldenami.model.definitions.definition import ANY, NEWEST, Definition
from goldenami.model.roles import role_packages
from goldenami.model.roles.role_files import known
from goldenami.model.roles.role_specs import table, tasks
from goldenami.model.supported import hardware
from goldenami.model.supported.platforms import PLATFORMS, Platform

_FILES = ("main", "preflight*")
"""Task files at the beginning of a role, which have its assertions."""


def broken(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """Yield an error for each assertion of a role that fails, with its line in `source`."""
    platform = PLATFORMS[definition.base.release]
    image = _image(root, definition, platform)
    for role in definition.role_names:
        folder = program_files.role(root, role)
        facts = {**table(folder / "vars/main.yml"), **table(folder / "vars" / platform.vars_file)}
        context = {**image, **facts}
        for name in _FILES:
            for task in tasks(folder, name):
                for key, message in _refused(role, task, context):
                    yield source.error(key, message)


def _image(root: Path, definition: Definition, platform: Platform) -> dict[str, Any]:
    variables, families = dict[str, Any](), hardware.load(root)
    for role in definition.role_names:
        variables |= role_packages.variables(root, role, definition.variables(role))
    # For `any` and `newest` the lock chooses a value, so they are left undefined here.
    decided = {name: value for name, value in variables.items() if value not in (ANY, NEWEST)}
    declared = [
        {"name": name, "efa": families[name].efa, "nvswitch": families[name].nvswitch}
        for name in definition.hardware
    ]
    return {
        **decided,
        "golden_roles": definition.role_names,
        "golden_definition": {**definition.model_dump(mode="json"), "hardware": declared},
        "ansible_facts": {
            "distribution": platform.distribution,
            "distribution_major_version": str(platform.major),
        },
    }


def _refused(
    role: str, task: Mapping[str, Any], context: Mapping[str, Any]
) -> Iterator[tuple[Key, str]]:
    assertion, loop_items = task.get("ansible.builtin.assert"), task.get("loop", [{}])
    if not isinstance(assertion, dict) or not isinstance(loop_items, list):
        return
    loop_context = {**context, **(task.get("vars") or {})}
    for item in loop_items:
        loop_context["item"] = known(item, loop_context) if isinstance(item, dict) else {}
        if (
            loop_context["item"] is None
            or _outcome(task.get("when", True), loop_context) is not True
        ):
            continue
        if _outcome(assertion.get("that"), loop_context) is False:
            default = f"wants `{assertion['that']}`"
            message = " ".join(str(known(assertion.get("fail_msg", default), loop_context)).split())
            variable = re.search(rf"\b{role}_\w+", message)
            name = loop_context["item"].get("name") or ""
            if not name and variable:
                name = variable[0]
            yield _key(role, name), message.removeprefix(f"{name} ")


def _key(role: str, name: str) -> Key:
    """Return the key of `name` in a definition. It is a variable of the role, or a dotted key such
    as `watch.cuda.policy`."""
    if not name:
        return ("roles", role)
    if name.startswith(f"{role}_"):
        return ("roles", role, name)
    return tuple(name.split("."))


def _outcome(conditions: Any, context: Mapping[str, Any]) -> bool | None:
    """Return whether all conditions hold, or None if none is false but one cannot be decided."""
    expressions = conditions if isinstance(conditions, list) else [conditions]
    results = [known(f"{{{{ {condition} }}}}", context) for condition in expressions]
    if False in results:
        return False
    if None in results:
        return None
    return True
