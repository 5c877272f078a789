"""What a role needs installed, by its vars/main.yml and vars/<Distribution>_<major>.yml: one list
for the lock, which resolves it, and the role, which installs it. Names stand there as data; what
picks from them is a Jinja expression over the role's own variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
    """As with Ansible, a variable is rendered when an expression asks for it."""

    def resolve_or_missing(self, key: str) -> Any:
        value = super().resolve_or_missing(key)
        try:
            return value if value is missing else rendered(value, self.parent)
        except jinja2.exceptions.UndefinedError as error:
            # An expression asks for the names of a branch that it does not take, too.
            return StrictUndefined(hint=error.message)


_JINJA = NativeEnvironment(undefined=StrictUndefined)
_JINJA.context_class = _Context
# Ansible's own tests.
_JINJA.tests |= {
    "match": lambda value, pattern: bool(re.match(pattern, value)),
    "search": lambda value, pattern: bool(re.search(pattern, value)),
}


def variables(root: Path, role: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The role's defaults, overridden by what the definition and the lock give."""
    return {**role_spec(root, role).defaults, **given}


def facts(
    root: Path,
    role: str,
    platform: Platform,
    given: Mapping[str, Any],
    *,
    only: str = "",
) -> dict[str, Any]:
    """What vars/main.yml and the platform's file say, rendered over the role's variables; with
    `only` that fact alone, since others may want what is not derived yet."""
    path = program_files.role(root, role) / "vars" / platform.vars_file
    # A role without platform files is the same everywhere.
    if not path.is_file() and list(path.parent.glob("*_*.yml")):
        raise BadInput(
            f"role {role} does not know {platform.distribution} {platform.major}",
            hint=f"write roles/{role}/vars/{path.name}, or take the role out of the definition",
        )
    data = {**table(path.with_name("main.yml")), **table(path)}
    context = {**variables(root, role, given), **data}
    names = [name for name in data if only in ("", name)]
    return {name: _render(path, name, data[name], context) for name in names}


def packages(root: Path, role: str, platform: Platform, given: Mapping[str, Any]) -> list[str]:
    """The packages that `role` installs; BadInput where their list is none, or nobody would read
    it."""
    name, folder = f"__{role}_packages", program_files.role(root, role)
    found = {**variables(root, role, given), **facts(root, role, platform, given, only=name)}
    for path in () if name in found else sorted((folder / "vars").glob("*.y*ml")):
        if name in table(path) and not re.search(r"_\d+$", path.stem):
            raise BadInput(
                f"{path}: {name}: the lock does not read this file",
                hint=f"write it into main.yml or {platform.vars_file} beside it",
            )
    listed = found.get(name) or []
    if not isinstance(listed, list):
        raise BadInput(
            f"{folder}: {name} is {listed!r}, no list", hint=f"write `{name}: [NAME, NAME]`"
        )
    return [str(each) for each in listed]


def rendered(value: Any, context: Mapping[str, Any]) -> Any:
    """Raises what Jinja raises, for an undefined name, too."""
    if isinstance(value, list):
        return [rendered(item, context) for item in value]
    if isinstance(value, dict):
        return {key: rendered(item, context) for key, item in value.items()}
    if not isinstance(value, str) or ("{{" not in value and "{%" not in value):
        return value
    found = _compiled(value).render(**context)
    for item in found if isinstance(found, list) else [found]:
        str(item)  # raises for an undefined name, which native rendering leaves in a list
    return found


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
