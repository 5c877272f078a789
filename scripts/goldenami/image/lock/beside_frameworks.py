"""Python packages beside the frameworks: asked of the indexes before pip resolves, and what of its
answer is theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from goldenami.core import yaml_lines
from goldenami.core.errors import BadInput, NoFit, Vanished
from goldenami.core.yaml_lines import YamlFile
from goldenami.image.lock import frameworks
from goldenami.image.lock.resolution import Resolution
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.definition import Definition
from goldenami.model.definitions.python_checks import KEY
from goldenami.model.locked.lockfile import Choice
from goldenami.model.locked.python_packages import PythonPackages
from goldenami.packages.pypi import Index, PyFile

OWN_ENVIRONMENT = "python"
"""Where the packages go in an image without frameworks."""
SHOWN = 5
"""Versions that a refusal names."""


@contextmanager
def demanded(root: Path, definition: Definition, index: Index) -> Iterator[None]:
    """Every package is on its index in a version that the definition allows, or BadInput with file
    and line; NoFit within has the line of the package that it is about."""
    if not definition.python_packages:
        yield
        return
    source = yaml_lines.load(definition_file.path_of(root, definition.image))
    wanted = [Requirement(line) for line in definition.python_packages]
    for number, one in enumerate(wanted):
        _demand(source, number, one, index)
    try:
        yield
    except NoFit as error:
        why = error.message.partition(": ")[2]
        named = [
            number
            for words in ("requested {0}", "{0.name}")
            for number, one in enumerate(wanted)
            if words.format(one) in why
        ]
        at = source.error((KEY, *named[:1]), error.message).message
        raise NoFit(at, hint=error.hint, tail=error.tail) from None


def _demand(source: YamlFile, number: int, wanted: Requirement, index: Index) -> None:
    project = canonicalize_name(wanted.name)
    private = index.private if index.private and index.private.has(project) else None
    where = "python_index" if private else "the package index"
    try:
        known = index.versions(project, prereleases=True)
    except Vanished:
        raise source.error(
            (KEY, number),
            f"{where} has no project `{wanted.name}`",
            hint="is it misspelt, or one of a private index that `packages` of "
            "`python_index` does not name?",
        ) from None
    except BadInput as error:
        raise source.error(("python_index", "login"), error.message, hint=error.hint) from None
    if not known:
        raise source.error(
            (KEY, number),
            f"{where} has no wheel of `{wanted.name}`, only source",
            hint="build a wheel and put it on an index of your own "
            "(`python_index`), or write a recipe (docs/adding.md)",
        )
    if not any(wanted.specifier.filter(known)):
        raise source.error((KEY, number), f"{where} has no `{wanted}`; {_nearest(wanted, known)}")


def _nearest(wanted: Requirement, known: Sequence[str]) -> str:
    final = [version for version in known if not Version(version).is_prerelease] or list(known)
    limits = [Version(one.version.removesuffix(".*")) for one in wanted.specifier]
    below = sum(Version(version) < limits[0] for version in final) if limits else len(final)
    first = max(0, min(below - SHOWN // 2, len(final) - SHOWN))
    return f"the nearest are {', '.join(final[first : first + SHOWN])}"


def of(resolution: Resolution, environment: str, files: Sequence[PyFile]) -> PythonPackages | None:
    """What the definition asks for, of all `files` of its environment."""
    definition = resolution.definition
    if not definition.python_packages:
        return None
    own = {one.wheel.sha256 for one in resolution.frameworks.frameworks}
    wheels = [file for file in files if file.sha256 not in own]
    asked = {
        str(canonicalize_name(Requirement(line).name)): line for line in definition.python_packages
    }
    resolution.choices.extend(_choices(asked, wheels, definition))
    return PythonPackages(
        environment=environment,
        asked=asked,
        wheels=wheels,
        index=definition.python_index,
        allow=frameworks.allowances(resolution.root, wheels),
    )


def _choices(
    asked: Mapping[str, str], wheels: Sequence[PyFile], definition: Definition
) -> Iterator[Choice]:
    versions, index = {file.project: file.version for file in wheels}, definition.python_index
    for project, line in asked.items():
        where = "python_index" if index and index.has(project) else "the package index"
        yield Choice(
            component=project,
            taken=versions[project],
            passed_over=[],
            why=f"what {where} has for `{line}` of python_packages",
        )


def variables(found: PythonPackages | None) -> list[dict[str, Any]]:
    """What the role gets, and so the image's tests: nothing, or the one environment."""
    if found is None:
        return []
    return [
        {
            "environment": found.environment,
            "projects": sorted(found.asked),
            "wheels": frameworks.told(found.wheels),
        }
    ]
