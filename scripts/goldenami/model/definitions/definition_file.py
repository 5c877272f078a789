"""Reads and checks files of definitions, and rewrites one if `watch` moves to another driver
branch."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import yaml
from packaging.specifiers import InvalidSpecifier, SpecifierSet

import goldenami
from goldenami.core import yaml_lines
from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import YamlFile, nearest
from goldenami.model.definitions import definition_checks
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


def load(root: Path, path: Path, regions: Collection[str] | None = None) -> Definition:
    """Read and check a definition. Raises BadInput with file, line, key and the nearest valid one.
    `regions` are those of `definition_checks.check`."""
    source = yaml_lines.load(path)
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


APART = ("publish", "cluster", "residency", "watch", "security", "drift", "goldenami")
"""Keys that do not shape the image, so that changing them leaves its lock fresh."""


def without_publish(text: str) -> str:
    """Return a definition's text without the sections of `APART`."""
    # Editors on Windows write a byte order mark in front.
    text = text.removeprefix("\ufeff")
    node = yaml.compose(text, Loader=yaml_lines.LOADER)
    assert isinstance(node, yaml.MappingNode)  # `load` has refused anything else
    lines, starts = (
        text.splitlines(keepends=True),
        [(key.value, key.start_mark.line) for key, _ in node.value],
    )
    ends = [*(line for _, line in starts[1:]), len(lines)]
    # From the end, so that the line numbers of earlier sections stay right.
    for (name, start), end in reversed(list(zip(starts, ends, strict=True))):
        if name in APART:
            del lines[start:end]
    return "".join(lines)


def with_branch(path: Path, text: str, branch: str) -> str:
    """Return a definition's text with another driver branch. Every other character stays."""
    key = ("roles", "nvidia_driver", "nvidia_driver_branch")
    source = yaml_lines.load(path)
    if key not in source.lines:
        raise source.error(
            key[:2],
            "states no nvidia_driver_branch that could be moved",
            hint="write the branch, also where it is the default",
        )
    lines = text.splitlines(keepends=True)
    number = source.lines[key] - 1
    changed = re.sub(
        r"(nvidia_driver_branch:\s*)[\"']?\d+[\"']?", rf'\g<1>"{branch}"', lines[number], count=1
    )
    return "".join([*lines[:number], changed, *lines[number + 1 :]])
