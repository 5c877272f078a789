"""The rules that roles assert in their preflight, asked of a definition: a bake would come to them
minutes later.

A rule may use the variables of every role of the image, the facts of its own role, `golden_roles`,
the distribution in `ansible_facts`, and `golden_definition`, which a bake has not. A rule that
wants more (what is derived, the machine's other facts) is left to the bake.
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

_FILES = ("main", "preflight")
"""Task files that begin a role."""


def broken(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """What the roles refuse, each with its line in `source`."""
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
    # The lock puts a value in their place.
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
    rule, items = task.get("ansible.builtin.assert"), task.get("loop", [{}])
    if not isinstance(rule, dict) or not isinstance(items, list):
        return
    within = {**context, **(task.get("vars") or {})}
    for item in items:
        within["item"] = known(item, within) if isinstance(item, dict) else {}
        if within["item"] is None or _outcome(task.get("when", True), within) is not True:
            continue
        if _outcome(rule.get("that"), within) is False:
            default = f"wants `{rule['that']}`"
            message = " ".join(str(known(rule.get("fail_msg", default), within)).split())
            named = re.search(rf"\b{role}_\w+", message)
            name = within["item"].get("name") or (named[0] if named else "")
            yield _key(role, name), message.removeprefix(f"{name} ")


def _key(role: str, name: str) -> Key:
    """Where `name` stands in a definition: a variable of the role, or a key such as
    `watch.cuda.policy`."""
    if not name:
        return ("roles", role)
    return ("roles", role, name) if name.startswith(f"{role}_") else tuple(name.split("."))


def _outcome(conditions: Any, context: Mapping[str, Any]) -> bool | None:
    """None where one is unknown and none is false."""
    listed = conditions if isinstance(conditions, list) else [conditions]
    found = [known(f"{{{{ {condition} }}}}", context) for condition in listed]
    if False in found:
        return False
    return None if None in found else True
