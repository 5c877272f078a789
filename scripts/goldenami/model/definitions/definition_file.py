"""Reads and checks files of definitions, and rewrites one if `watch` moves to another driver
branch."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

import goldenami
from goldenami.core import yaml_lines
from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import YamlFile, nearest
from goldenami.model.definitions import definition_checks, inheritance
from goldenami.model.definitions.definition import Definition
from goldenami.model.roles import role_order


def path_of(root: Path, image: str) -> Path:
    """Return the file of `image`. Raises BadInput with the nearest existing image."""
    folder = root / "packer/images"
    images, name = (
        sorted(file.stem for file in folder.glob("*.yml")),
        Path(image).name.removesuffix(".yml"),
    )
    if image in images:
        return folder / f"{image}.yml"
    if not image:
        raise BadInput("IMAGE is empty", hint=f"name one of {', '.join(images)}")
    problem = (
        f"no image `{image}`"
        if name == image
        else f"IMAGE is a name and no file, but was `{image}`"
    )
    raise BadInput(
        f"{problem}: {nearest(name, images)}", hint="images are the files of packer/images/"
    )


def source_of(root: Path, image: str) -> YamlFile:
    """Return the data of a definition, with the file and line of each key."""
    return inheritance.load(path_of(root, image))


def load(root: Path, path: Path, regions: Collection[str] | None = None) -> Definition:
    """Read and check a definition. Raises BadInput with file, line, key and the nearest valid one.
    `regions` are those of `definition_checks.check`."""
    source = inheritance.load(path)
    # Before all else: keys of another version would be reported as unknown.
    _check_version(source)
    definition = yaml_lines.validate(source, Definition)
    if definition.image != path.stem:
        raise source.error(
            ("image",), f"is `{definition.image}` but the file is named `{path.stem}`"
        )
    if definition.image in role_order.known(root):
        raise source.error(("image",), "is a role's name, too, and one folder of checks has it")
    definition_checks.check(root, source, definition, regions)
    return _located(root, definition)


def _check_version(source: YamlFile) -> None:
    """Raise BadInput if the definition is for other versions of goldenami."""
    specifier, version = source.data.get("goldenami", ""), goldenami.__version__
    try:
        fits = SpecifierSet(specifier).contains(version, prereleases=True)
    except (InvalidSpecifier, TypeError, AttributeError):
        raise source.error(
            ("goldenami",), f'is {specifier!r}, no versions such as ">=1.2"'
        ) from None
    if not fits:
        raise source.error(
            ("goldenami",),
            f"wants {specifier}, and this is {version}",
            hint="change goldenami's version, in requirements.txt, or this line",
        )


def _located(root: Path, definition: Definition) -> Definition:
    publish = definition.publish
    if publish is None or publish.launch_template.user_data_file is None:
        return definition
    template = publish.launch_template
    located = template.model_copy(
        update={"user_data_file": str(root / str(template.user_data_file))}
    )
    return definition.model_copy(
        update={"publish": publish.model_copy(update={"launch_template": located})}
    )


BRANCH = ("roles", "nvidia_driver", "nvidia_driver_branch")
"""Key of the driver's branch, which `watch` may move."""
APART = ("publish", "cluster", "residency", "watch", "security", "drift", "goldenami")
"""Keys that do not shape the image, so that changing them leaves its lock fresh."""


def with_branch(source: YamlFile, branch: str) -> str:
    """Return the text of the file that states the driver branch, with another one. Every other
    character stays."""
    if BRANCH not in source.lines:
        raise source.error(
            BRANCH[:2],
            "states no nvidia_driver_branch that could be moved",
            hint="write the branch, also where it is the default",
        )
    lines = source.file_of(BRANCH).read_text(encoding="utf-8").splitlines(keepends=True)
    number = source.lines[BRANCH] - 1
    changed = re.sub(
        r"(nvidia_driver_branch:\s*)[\"']?\d+[\"']?", rf'\g<1>"{branch}"', lines[number], count=1
    )
    return "".join([*lines[:number], changed, *lines[number + 1 :]])
