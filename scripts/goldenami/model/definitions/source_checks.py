"""What a definition says of sources beside the distribution's, before anything is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from os.path import normpath
from pathlib import Path

from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import Key, YamlFile
from goldenami.model.definitions import role_files
from goldenami.model.definitions.definition import Definition

_TAKEN = ("debian", "ubuntu", "built", "downloads")
"""Beginnings of names that stand for something else in locks."""
ROLE, VARIABLE = "customize", "customize_downloads"
"""Who brings files by address, and what the lock tells that role."""
ENGINE = "container_runtime"


def mistakes(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """Each with its line in `source`."""
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
    yield from _downloads(root, source, definition)
    images = [one.called or one.name for one in definition.containers]
    for index, name in enumerate(images):
        if name in images[:index]:
            yield source.error(("containers", index), f"`{name}` is given twice",
                               hint="give each a tag of its own, or another `called`")
    if images and ENGINE not in definition.roles:
        yield source.error(("containers",), f"need the role `{ENGINE}`, which has an engine",
                           hint=f"write `{ENGINE}:` under `roles`")


def _downloads(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    places = list[str]()
    for index, wanted in enumerate(definition.downloads):
        key: Key = ("downloads", index)
        if wanted.key is not None and (problem := _no_key(root, wanted.key)):
            yield source.error((*key, "key"), f"`{wanted.key}` {problem}")
        for name, place in (("path", wanted.path), ("unpack", wanted.unpack)):
            if place is None:
                continue
            if problem := _no_place(place) or ("is given twice" if place in places else ""):
                yield source.error((*key, name), f"`{place}` {problem}")
            places.append(place)
    if definition.downloads and ROLE not in definition.roles:
        yield source.error(("downloads",), f"need the role `{ROLE}`, which brings them",
                           hint=f"write `{ROLE}:` under `roles`")
    if VARIABLE in definition.variables(ROLE):
        yield source.error(("roles", ROLE, VARIABLE), "is made by `lock`",
                           hint="write `downloads:` beside `roles`")


def _no_place(path: str) -> str:
    if "*" in path or path != normpath(path) or ".." in path.split("/"):
        return "is no plain path"
    return role_files.misplaced(path)


def _no_key(root: Path, key: str) -> str:
    if "://" in key:
        return ""
    path = (root / key).resolve()
    if not path.is_relative_to(root.resolve()):
        return "leads out of this repository: put a copy into it"
    return "" if path.is_file() else "is no address, and no file of this repository"
