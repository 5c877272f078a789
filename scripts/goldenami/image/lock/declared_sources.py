"""Checks that the sources of a definition beside the distribution's are what it states. Each error
names the definition's line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goldenami.core import yaml_lines
from goldenami.core.errors import BadInput, NoFit, Replaced, Vanished
from goldenami.core.terminal.progress import Progress
from goldenami.core.yaml_lines import Key, YamlFile
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.definition import Definition
from goldenami.packages import registries
from goldenami.packages.apt import AptRoot
from goldenami.packages.http_documents import NotThere
from goldenami.packages.mirrors import NoLogin, Refused
from goldenami.packages.registries import LockedContainer
from goldenami.packages.signing_keys import OtherKey
from goldenami.packages.store import Store

_NOWHERE = re.compile(r"Unable to locate package (\S+)|Package '?(\S+?)'? has no installation cand")


@contextmanager
def by_line(root: Path, definition: Definition, apt: AptRoot) -> Iterator[None]:
    """Raise errors within the block about a login or a key of `extra_repos` as BadInput with its
    line."""
    try:
        yield
    except (NoLogin, OtherKey, Refused) as error:
        source, names = apt.named(error.message), [repo.name for repo in definition.extra_repos]
        if source is None or source.archive not in names:
            raise
        key = "fingerprint" if isinstance(error, OtherKey) else "login"
        raise _lines(root, definition).error(
            ("extra_repos", names.index(source.archive), key), error.message, hint=error.hint
        ) from None


def containers(
    root: Path, definition: Definition, store: Store, progress: Progress
) -> list[LockedContainer]:
    """The container images of `definition`, with all their blobs in the store. Raises BadInput with
    file and line if one is not as stated."""
    if not definition.containers:
        return []
    source = _lines(root, definition)
    locked_containers = list[LockedContainer]()
    with progress.step(
        "containers", ", ".join(declared.name for declared in definition.containers)
    ):
        for index, declared in enumerate(definition.containers):
            with _said_of(source, index):
                locked_containers.append(
                    registries.resolve(declared, definition.base.architecture, store)
                )
    with progress.in_all():  # each blob is hashed
        sizes = dict[str, int]()
        for container in locked_containers:
            sizes |= container.blobs
        lacking = sum(size for sha256, size in sizes.items() if not store.has(sha256, size))
    if lacking:
        with progress.download("layers", f"{lacking / 1e6:.0f} MB", lacking) as on_bytes:
            for index, container in enumerate(locked_containers):
                with _said_of(source, index):
                    registries.fetch([container], store, on_bytes)
    return locked_containers


@contextmanager
def _said_of(source: YamlFile, index: int) -> Iterator[None]:
    """Raise errors within the block as BadInput with the line of container number `index`."""
    try:
        yield
    except (BadInput, NotThere, Refused, Replaced, Vanished) as error:
        raise source.error(("containers", index), error.message, hint=error.hint) from None


def told_of(locked_containers: list[LockedContainer]) -> list[dict[str, Any]]:
    """The value of the role's variable `containers_images`."""
    rows = list[dict[str, Any]]()
    for container in locked_containers:
        name = f"{container.called}:latest" if container.called else container.name
        layers = [layer.sha256 for layer in container.layers]
        rows.append(
            {
                "name": name,
                "manifest": container.manifest.sha256,
                "config": container.config.sha256,
                "layers": layers,
            }
        )
    return rows


def with_line(root: Path, definition: Definition, apt: AptRoot, error: NoFit) -> NoFit:
    """`error`, with the definition's line if it is about a package that no archive has."""
    source = _lines(root, definition)
    match = _NOWHERE.search(error.message)
    if match is None:
        return error
    name = match[1] or match[2]
    for key in source.lines:
        if key[0] == "roles" and _value(source, key) == name:
            archives = ", ".join(apt_source.archive for apt_source in apt.sources)
            mistake = source.error(
                key, f"no archive has the package `{name}`: looked in {archives}"
            )
            return NoFit(
                mistake.message, hint="correct its name, or add its repository to `extra_repos`"
            )
    return error


def _lines(root: Path, definition: Definition) -> YamlFile:
    return yaml_lines.load(definition_file.path_of(root, definition.image))


def _value(source: YamlFile, key: Key) -> Any:
    value: Any = source.data
    for part in key:
        value = value[part]
    return value
