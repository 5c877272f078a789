"""Whether roles of a definition fit the checkout. A variable is checked against the role's own
argument_specs, because Ansible itself accepts an unknown extra variable silently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import GenericAlias
from typing import Any, Literal

from pydantic import BaseModel, create_model

from goldenami.core import yaml_lines
from goldenami.core.errors import BadInput
from goldenami.core.records import Record
from goldenami.core.yaml_lines import YamlFile, nearest
from goldenami.model.definitions.definition import ADDED, NEWEST, REQUIRED_ROLES, Definition
from goldenami.model.roles import role_facts, role_files, role_order
from goldenami.model.roles.role_specs import RoleSpec, role_spec
from goldenami.model.supported import compatibility, hardware


def mistakes(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """Each with file, line and key."""
    known_roles = role_order.known(root)
    for role in definition.roles:
        if role not in known_roles:
            continue  # role_order reports it
        variables = definition.variables(role)
        if role in ADDED:
            yield source.error(
                ("roles", role), "is no role to list", hint=f"write `{role}:` beside `roles`"
            )
            continue
        yield from _check_variables(source, role_spec(root, role), variables)
        yield from role_facts.mistakes(root, source, role, variables)
        for path in role_files.brought(root, role, variables):
            if problem := role_files.misplaced(path):
                yield source.error(("roles", role), f"brings {path}, which {problem}")
    for role in REQUIRED_ROLES:
        if role not in definition.roles:
            yield source.error(
                ("roles",), f"`{role}` is missing; every image needs {', '.join(REQUIRED_ROLES)}"
            )


def _check_variables(
    source: YamlFile, spec: RoleSpec, variables: Mapping[str, Any]
) -> Iterator[BadInput]:
    role, typed = spec.name, dict[str, Any]()
    for name, value in variables.items():
        key = ("roles", role, name)
        if name not in spec.options:
            suggestion = "the role's defaults/main.yml and meta/argument_specs.yml name none"
            if spec.settable:
                suggestion = nearest(name, spec.settable)
            yield source.error(key, f"unknown role variable; {suggestion}")
        elif name not in spec.settable:
            yield source.error(key, "is derived by `lock` and cannot be set")
        elif not name.startswith(f"{role}_"):
            yield source.error(
                key,
                f"does not reach the role: its variables begin with `{role}_`",
                hint=f"rename it in roles/{role}",
            )
        elif value is not None or spec.defaults[name] is not None:
            typed[name] = value
    yield from _mistyped(source, role, spec.options, typed)


def branch(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """A branch of the driver that does not fit the GPUs."""
    if "nvidia_driver" not in definition.roles:
        return
    branch = {**role_spec(root, "nvidia_driver").defaults, **definition.variables("nvidia_driver")}[
        "nvidia_driver_branch"
    ]
    if branch == NEWEST:
        return
    if not str(branch).isdecimal():
        yield source.error(
            ("roles", "nvidia_driver", "nvidia_driver_branch"),
            f"`{branch}` is no branch such as `535`",
        )
        return
    refusal = hardware.branch_refusal(
        hardware.load(root), definition.hardware, str(branch), compatibility.load(root)
    )
    if refusal:
        yield source.error(("roles", "nvidia_driver", "nvidia_driver_branch"), refusal)


_TYPES = {"str": str, "path": str, "int": int, "bool": bool, "float": float, "dict": dict}
"""Types of argument_specs. For a type that is not here, any value is accepted."""


def _mistyped(
    source: YamlFile, role: str, options: dict[str, Any], values: dict[str, Any]
) -> Iterator[BadInput]:
    types = _model({name: (_type_of(options[name]), ...) for name in values})
    try:
        yaml_lines.validate(source, types, values, at=("roles", role))
    except BadInput as error:
        yield error


def _type_of(option: dict[str, Any]) -> Any:
    """Return the type of an option of argument_specs for pydantic."""
    kind = option.get("type", "str")
    if kind == "list":
        inner = {**option, "type": option.get("elements", "raw"), "elements": "raw"}
        return GenericAlias(list, _type_of(inner))
    if kind == "dict" and "options" in option:
        fields = dict[str, Any]()
        for name, inner in option["options"].items():
            default = ... if inner.get("required") else None
            fields[name] = (_type_of(inner), default)
        return _model(fields)
    return Literal[*option["choices"]] if option.get("choices") else _TYPES.get(kind, Any)


def _model(fields: dict[str, Any]) -> type[BaseModel]:
    return create_model("Options", __config__=Record.model_config, **fields)
