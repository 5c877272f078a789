"""Packages that a role installs, from its vars/main.yml and vars/<Distribution>_<major>.yml. The
lock resolves the same list that the role installs. The lists are data, and Jinja expressions over
the role's own variables choose from them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.exceptions
import jinja2.runtime
from jinja2 import StrictUndefined
from jinja2.nativetypes import NativeEnvironment
from jinja2.utils import missing

from goldenami.core.errors import BadInput
from goldenami.model import program_files
from goldenami.model.roles.role_specs import role_spec, table
from goldenami.model.supported.platforms import Platform


class _Context(jinja2.runtime.Context):
    """Renders a variable when an expression uses it, as Ansible does."""

    def resolve_or_missing(self, key: str) -> Any:
        value = super().resolve_or_missing(key)
        try:
            return value if value is missing else rendered(value, self.parent)
        except jinja2.exceptions.UndefinedError as error:
            # Jinja resolves names also in the branch of a condition that is not taken. Only using
            # the value may raise.
            return StrictUndefined(hint=error.message)


_JINJA = NativeEnvironment(undefined=StrictUndefined)
_JINJA.context_class = _Context
# Tests of Ansible that Jinja does not have.
_JINJA.tests |= {
    "match": lambda value, pattern: bool(re.match(pattern, value)),
    "search": lambda value, pattern: bool(re.search(pattern, value)),
}


def variables(root: Path, role: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the role's defaults with `overrides`, the variables of definition and lock."""
    return {**role_spec(root, role).defaults, **overrides}


def facts(
    root: Path,
    role: str,
    platform: Platform,
    overrides: Mapping[str, Any],
    *,
    only: str = "",
) -> dict[str, Any]:
    """Return the facts of vars/main.yml and of the platform's file, rendered with the role's
    variables. With `only`, renders that one alone, since others may need variables that are not
    derived yet. Raises BadInput if the role does not support the platform."""
    path = program_files.role(root, role) / "vars" / platform.vars_file
    # A role without any platform files is the same on all platforms.
    if not path.is_file() and list(path.parent.glob("*_*.yml")):
        raise BadInput(
            f"role {role} does not know {platform.distribution} {platform.major}",
            hint=f"write roles/{role}/vars/{path.name}, or take the role out of the definition",
        )
    data = {**table(path.with_name("main.yml")), **table(path)}
    context = {**variables(root, role, overrides), **data}
    names = [name for name in data if only in ("", name)]
    return {name: _render(path, name, data[name], context) for name in names}


def packages(
    root: Path,
    role: str,
    platform: Platform,
    overrides: Mapping[str, Any],
    declared: Sequence[str] = (),
) -> list[str]:
    """Return the packages that `role` installs, and those that the definition declares for it.
    Raises BadInput if their list is no list, or is in a file that the lock does not read and none
    are declared."""
    name, folder = f"__{role}_packages", program_files.role(root, role)
    all_facts = {
        **variables(root, role, overrides),
        **facts(root, role, platform, overrides, only=name),
    }
    for path in () if declared or name in all_facts else sorted((folder / "vars").glob("*.y*ml")):
        if name in table(path) and not re.search(r"_\d+$", path.stem):
            raise BadInput(
                f"{path}: {name}: the lock does not read this file",
                hint=f"write it into main.yml or {platform.vars_file} beside it, or `packages` "
                f"below `{role}` in the definition",
            )
    packages_list = all_facts.get(name) or []
    if not isinstance(packages_list, list):
        raise BadInput(
            f"{folder}: {name} is {packages_list!r}, no list", hint=f"write `{name}: [NAME, NAME]`"
        )
    return [str(package) for package in packages_list] + list(declared)


def rendered(value: Any, context: Mapping[str, Any]) -> Any:
    """Return `value` with all templates in it rendered. Raises Jinja's errors, also for an
    undefined name."""
    if isinstance(value, list):
        return [rendered(item, context) for item in value]
    if isinstance(value, dict):
        return {key: rendered(item, context) for key, item in value.items()}
    if not isinstance(value, str) or ("{{" not in value and "{%" not in value):
        return value
    result = _compiled(value).render(**context)
    for item in result if isinstance(result, list) else [result]:
        str(item)  # raises for an undefined name, which native rendering leaves in a list
    return result


def _render(path: Path, name: str, value: Any, context: Mapping[str, Any]) -> Any:
    try:
        return rendered(value, context)
    except (jinja2.exceptions.TemplateError, TypeError) as error:
        raise BadInput(f"{path}: {name}: {error}") from None
    except RecursionError:
        raise BadInput(f"{path}: {name}: expressions use each other in a circle") from None


@cache
def _compiled(text: str) -> jinja2.Template:
    return _JINJA.from_string(text)
