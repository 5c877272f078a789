"""Python packages beside the frameworks: checked against the indexes before pip resolves, and taken
out of pip's answer afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from goldenami.core.errors import NoFit, Vanished
from goldenami.core.yaml_lines import YamlFile
from goldenami.image.lock import frameworks
from goldenami.image.lock.resolution import Resolution
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.definition import Definition
from goldenami.model.definitions.python_checks import KEY
from goldenami.model.locked.lockfile import Choice
from goldenami.model.locked.python_packages import PythonPackages
from goldenami.packages.mirrors import NoLogin, Refused
from goldenami.packages.pypi import Index, PyFile

OWN_ENVIRONMENT = "python"
"""The environment of these packages in an image without frameworks."""
SHOWN = 5
"""Versions that an error names."""


@contextmanager
def demanded(root: Path, definition: Definition, index: Index) -> Iterator[None]:
    """Check that each package is on its index in an allowed version, then run the block. Raises
    BadInput with file and line; a NoFit from the block gets the line of the package that it is
    about."""
    if not definition.python_packages:
        yield
        return
    source = definition_file.source_of(root, definition.image)
    requirements = [Requirement(line) for line in definition.python_packages]
    for number, requirement in enumerate(requirements):
        _demand(source, number, requirement, index)
    try:
        yield
    except NoFit as error:
        why = error.message.partition(": ")[2]
        # pip says either `requested NAME...` or the name alone; the first is the surer one.
        matches = list[int]()
        for words in ("requested {0}", "{0.name}"):
            for number, requirement in enumerate(requirements):
                if words.format(requirement) in why:
                    matches.append(number)
        at = source.error((KEY, *matches[:1]), error.message).message
        raise NoFit(at, hint=error.hint, tail=error.tail) from None


def _demand(source: YamlFile, number: int, requirement: Requirement, index: Index) -> None:
    project = canonicalize_name(requirement.name)
    is_private = index.private is not None and index.private.has(project)
    index_name = "python_index" if is_private else "the package index"
    try:
        versions = index.versions(project, prereleases=True)
    except Vanished:
        raise source.error(
            (KEY, number),
            f"{index_name} has no project `{requirement.name}`",
            hint="is it misspelt, or one of a private index that `packages` of "
            "`python_index` does not name?",
        ) from None
    except (NoLogin, Refused) as error:
        if not is_private:
            raise
        raise source.error(("python_index", "login"), error.message, hint=error.hint) from None
    if not versions:
        raise source.error(
            (KEY, number),
            f"{index_name} has no wheel of `{requirement.name}`, only source",
            hint="build a wheel and put it on an index of your own "
            "(`python_index`), or write a recipe (docs/adding.md)",
        )
    if not any(requirement.specifier.filter(versions)):
        raise source.error(
            (KEY, number), f"{index_name} has no `{requirement}`; {_nearest(requirement, versions)}"
        )


def _nearest(requirement: Requirement, versions: Sequence[str]) -> str:
    # Prereleases are shown only if there is nothing else.
    final = [version for version in versions if not Version(version).is_prerelease]
    final = final or list(versions)
    limits = [Version(specifier.version.removesuffix(".*")) for specifier in requirement.specifier]
    below = len(final)
    if limits:
        below = sum(Version(version) < limits[0] for version in final)
    first = max(0, min(below - SHOWN // 2, len(final) - SHOWN))
    return f"the nearest are {', '.join(final[first : first + SHOWN])}"


def requested_packages(
    resolution: Resolution, environment: str, files: Sequence[PyFile]
) -> PythonPackages | None:
    """The packages that the definition asks for, with their part of `files`; None if it asks for
    none."""
    definition = resolution.definition
    if not definition.python_packages:
        return None
    framework_wheels = {framework.wheel.sha256 for framework in resolution.frameworks.frameworks}
    wheels = [file for file in files if file.sha256 not in framework_wheels]
    lines_by_project = {
        str(canonicalize_name(Requirement(line).name)): line for line in definition.python_packages
    }
    resolution.choices.extend(_choices(lines_by_project, wheels, definition))
    return PythonPackages(
        environment=environment,
        asked=lines_by_project,
        wheels=wheels,
        index=definition.python_index,
        allow=frameworks.allowances(resolution.root, wheels),
    )


def _choices(
    lines_by_project: Mapping[str, str], wheels: Sequence[PyFile], definition: Definition
) -> Iterator[Choice]:
    versions, index = {file.project: file.version for file in wheels}, definition.python_index
    for project, line in lines_by_project.items():
        index_name = "python_index" if index and index.has(project) else "the package index"
        yield Choice(
            component=project,
            taken=versions[project],
            passed_over=[],
            why=f"what {index_name} has for `{line}` of python_packages",
        )


def variables(packages: PythonPackages | None) -> list[dict[str, Any]]:
    """The value of the role's variable, which the image's tests read too: [], or the one
    environment."""
    if packages is None:
        return []
    return [
        {
            "environment": packages.environment,
            "projects": sorted(packages.asked),
            "wheels": frameworks.told(packages.wheels),
        }
    ]
