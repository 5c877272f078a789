"""Checks, without network, of a definition's sources beside the distribution's."""

from __future__ import annotations

from collections.abc import Iterator
from os.path import normpath
from pathlib import Path

from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import Key, YamlFile
from goldenami.model.definitions.definition import Definition
from goldenami.model.roles import role_files

_TAKEN = ("debian", "ubuntu", "built", "downloads")
"""Beginnings of archives' names that mean something else in locks."""
ROLE, VARIABLE = "customize", "customize_downloads"
"""The role that installs downloads, and its variable with them, which the lock sets."""
ENGINE = "container_runtime"


def mistakes(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """Yield the mistakes, each with its line in `source`."""
    for index, repo in enumerate(definition.extra_repos):
        key: Key = ("extra_repos", index)
        if repo.name.startswith(_TAKEN):
            yield source.error(
                (*key, "name"),
                f"`{repo.name}` would be taken for goldenami's own",
                hint="begin it with another word",
            )
        if problem := _no_key(root, repo.key):
            yield source.error((*key, "key"), f"`{repo.key}` {problem}")
    names = [repo.name for repo in definition.extra_repos]
    yield from source.repeated(("extra_repos",), names, "name")
    yield from _downloads(root, source, definition)
    images = [container.called or container.name for container in definition.containers]
    yield from source.repeated(
        ("containers",), images, hint="give each a tag of its own, or another `called`"
    )
    if images and ENGINE not in definition.roles:
        yield source.error(
            ("containers",),
            f"need the role `{ENGINE}`, which has an engine",
            hint=f"write `{ENGINE}:` under `roles`",
        )


def _downloads(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    places = list[str]()
    for index, download in enumerate(definition.downloads):
        key: Key = ("downloads", index)
        if download.key is not None and (problem := _no_key(root, download.key)):
            yield source.error((*key, "key"), f"`{download.key}` {problem}")
        for name, place in (("path", download.path), ("unpack", download.unpack)):
            if place is None:
                continue
            if problem := _no_place(place) or ("is given twice" if place in places else ""):
                yield source.error((*key, name), f"`{place}` {problem}")
            places.append(place)
    if definition.downloads and ROLE not in definition.roles:
        yield source.error(
            ("downloads",),
            f"need the role `{ROLE}`, which brings them",
            hint=f"write `{ROLE}:` under `roles`",
        )
    if VARIABLE in definition.variables(ROLE):
        yield source.error(
            ("roles", ROLE, VARIABLE), "is made by `lock`", hint="write `downloads:` beside `roles`"
        )


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
