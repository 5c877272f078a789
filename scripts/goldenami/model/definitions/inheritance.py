"""Reads a definition together with the ones that it extends, and shows where each value is from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from goldenami.core import yaml_lines
from goldenami.core.yaml_lines import YamlFile, dotted, nearest

MOST_FILES = 3
"""An image, the one that it extends, and the one that this extends."""
_EXTENDS = ("extends",)


def load(path: Path) -> YamlFile:
    """Return the definition in `path` with all that it inherits; each key keeps its file and line.
    Raises BadInput with file and line for a missing image, a circle, or too many files."""
    images = {file.stem for file in path.parent.glob("*.yml")}
    chain = [yaml_lines.load(path)]
    while parent := chain[-1].data.get("extends"):
        name = str(parent)
        names = [*(source.path.stem for source in chain), name]
        if name in names[:-1]:
            raise chain[-1].error(_EXTENDS, f"leads in a circle: {' -> '.join(names)}")
        if name not in images:
            raise chain[-1].error(_EXTENDS, f"no image `{name}`; {nearest(name, images)}")
        if len(names) > MOST_FILES:
            raise chain[0].error(
                _EXTENDS, f"leads through more than {MOST_FILES} files: {' -> '.join(names)}"
            )
        chain.append(yaml_lines.load(path.with_name(f"{name}.yml")))
    if "image" not in chain[0].data and chain[1:]:
        raise chain[0].error(("image",), "is required and missing")  # the one key of each its own
    source = chain.pop()
    while chain:
        source = source.under(chain.pop())
    return source


def explained(source: YamlFile) -> Iterator[str]:
    """Yield each value of a definition as `FILE:LINE: KEY: VALUE`."""
    for key, value in yaml_lines.leaves(source.data):
        place = f"packer/images/{source.file_of(key).name}:{source.line_of(key)}"
        yield f"{place}: {dotted(key)}: {json.dumps(value, default=str, ensure_ascii=False)}"
