"""What a definition says of sources beside the distribution's: names, keys and places, before
anything is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import Key, YamlFile
from goldenami.model.definitions.definition import Definition

_TAKEN = ("debian", "ubuntu", "built", "downloads")
"""Beginnings of names that stand for something else in locks."""


def mistakes(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """What is wrong with `extra_repos` of `definition`, read from `source`."""
    names = [repo.name for repo in definition.extra_repos]
    for index, repo in enumerate(definition.extra_repos):
        key: Key = ("extra_repos", index)
        if repo.name.startswith(_TAKEN):
            yield source.error((*key, "name"), f"`{repo.name}` would be taken for goldenami's own",
                               hint="begin it with another word")
        if repo.name in names[:index]:
            yield source.error((*key, "name"), f"`{repo.name}` is given twice")
        if problem := _no_key(root, repo.key):
            yield source.error((*key, "key"), f"`{repo.key}` {problem}")


def _no_key(root: Path, key: str) -> str:
    """Why `key` is no address and no file of the checkout; "" where it is one."""
    if "://" in key:
        return ""
    path = (root / key).resolve()
    if not path.is_relative_to(root.resolve()):
        return "leads out of this repository: put a copy into it"
    return "" if path.is_file() else "is no address, and no file of this repository"
