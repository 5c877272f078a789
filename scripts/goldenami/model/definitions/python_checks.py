"""Checks of a definition's Python packages that need no package index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import YamlFile
from goldenami.model.definitions.definition import Definition
from goldenami.model.roles import recipes
from goldenami.model.roles.role_specs import role_spec

KEY = "python_packages"
ROLE = "frameworks"
LOOPBACK = ("http://127.0.0.1:", "http://localhost:")


def mistakes(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """Yield the mistakes, each with its line in `source`."""
    yield from _index(source, definition)
    requirements, seen = definition.python_packages, dict[str, int]()
    frameworks = _frameworks(root, definition)
    for number, line in enumerate(requirements):
        project, problem = _project(line)
        if project in frameworks:
            problem = (
                f"`{project}` is the framework {frameworks[project]} of this image: its "
                "recipe says the version"
            )
        if project in seen:
            problem = f"`{project}` stands there twice, first as `{requirements[seen[project]]}`"
        if problem:
            yield source.error((KEY, number), problem)
        elif project:
            seen[project] = number
    if requirements and ROLE not in definition.roles:
        yield source.error(
            (KEY,),
            f"needs the role `{ROLE}`, which installs them",
            hint=f"write `{ROLE}:` below `roles`",
        )
    elif requirements and definition.frameworks and not _shared(root, definition):
        yield source.error(
            (KEY,),
            "has no place: each framework has an environment of its own",
            hint="set frameworks_shared_environment of the role, such as `ml`",
        )


def _project(line: str) -> tuple[str, str]:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return "", f"`{line}` is no requirement such as `einops` or `transformers==4.57.0`"
    if requirement.url:
        return "", (
            f"`{requirement.name}` is asked for by an address, and a lock takes what an index "
            "lists: put the wheel on an index (`python_index`)"
        )
    if requirement.marker:
        return (
            "",
            f"`{requirement.name}` has a condition, and an image has one Python: take it away",
        )
    return canonicalize_name(requirement.name), ""


def _index(source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    index = definition.python_index
    if index is None:
        return
    if not definition.python_packages:
        yield source.error(("python_index",), "gives nothing: there are no `python_packages`")
    if index.login and index.url.startswith("http:") and not index.url.startswith(LOOPBACK):
        yield source.error(
            ("python_index", "url"), "would carry the login in clear text", hint="take https"
        )


def _frameworks(root: Path, definition: Definition) -> dict[str, str]:
    """Return the image's frameworks by their projects on the index."""
    frameworks = dict[str, str]()
    for name in set(definition.frameworks) & set(recipes.known(root)):
        recipe = recipes.load(root, name)
        wheels = [*([recipe.wheel] if recipe.wheel else []), *recipe.cuda_wheels]
        projects = {recipe.distribution, *(wheel.distribution for wheel in wheels)}
        frameworks.update({canonicalize_name(project): name for project in projects})
    return frameworks


def _shared(root: Path, definition: Definition) -> str:
    name = "frameworks_shared_environment"
    default = role_spec(root, ROLE).defaults[name]
    return str(definition.variables(ROLE).get(name, default) or "")
