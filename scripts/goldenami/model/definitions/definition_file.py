"""Definitions as files: read, checked, and rewritten where `watch` moves to another driver
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


def path_of(root: Path, image: str) -> Path:
    """The file of `image`, or BadInput with the nearest image there is."""
    folder = root / "packer/images"
    known, name = (
        sorted(found.stem for found in folder.glob("*.yml")),
        Path(image).name.removesuffix(".yml"),
    )
    if image in known:
        return folder / f"{image}.yml"
    if not image:
        raise BadInput("IMAGE is empty", hint=f"name one of {', '.join(known)}")
    what = (
        f"no image `{image}`"
        if name == image
        else f"IMAGE is a name and no file, but was `{image}`"
    )
    raise BadInput(f"{what}: {nearest(name, known)}", hint="images are the files of packer/images/")


def load(root: Path, path: Path, regions: Collection[str] | None = None) -> Definition:
    """Read and check a definition, or BadInput with file, line, key and the nearest valid one.
    `regions` as `definition_checks.check` takes them."""
    source = yaml_lines.load(path)
    _check_version(source)
    definition = yaml_lines.validate(source, Definition)
    if definition.image != path.stem:
        raise source.error(
            ("image",), f"is `{definition.image}` but the file is named `{path.stem}`"
        )
    definition_checks.check(root, source, definition, regions)
    return _located(root, definition)


def _check_version(source: YamlFile) -> None:
    """First of all: keys of another version would be called unknown."""
    wanted, here = source.data.get("goldenami", ""), goldenami.__version__
    try:
        fits = SpecifierSet(wanted).contains(here, prereleases=True)
    except (InvalidSpecifier, TypeError, AttributeError):
        raise source.error(("goldenami",), f'is {wanted!r}, no versions such as ">=1.2"') from None
    if not fits:
        raise source.error(
            ("goldenami",),
            f"wants {wanted}, and this is {here}",
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
"""Keys that say where an image goes, what runs of it, when it is made again, what is shown of it,
what may differ and by which version it is made: no part of them is in it."""


def without_publish(text: str) -> str:
    """The text without the sections of `APART`, and without the mark that editors of Windows write
    in front."""
    text = text.removeprefix("\ufeff")
    node = yaml.compose(text, Loader=yaml_lines.LOADER)
    assert isinstance(node, yaml.MappingNode)  # `load` has seen to that
    lines, starts = (
        text.splitlines(keepends=True),
        [(key.value, key.start_mark.line) for key, _ in node.value],
    )
    ends = [*(line for _, line in starts[1:]), len(lines)]
    # From below: line numbers stay true.
    for (name, start), end in reversed(list(zip(starts, ends, strict=True))):
        if name in APART:
            del lines[start:end]
    return "".join(lines)


def with_branch(path: Path, text: str, branch: str) -> str:
    """Another driver branch; every other character stays."""
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
