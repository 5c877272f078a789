"""What a definition states of sources beside the distribution's, held to what they are: whatever is
wrong is said with the definition's line."""

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
from goldenami.packages import mirrors, registries, signing_keys
from goldenami.packages.apt import AptRoot
from goldenami.packages.http_documents import NotThere, Refused
from goldenami.packages.registries import LockedContainer
from goldenami.packages.signing_keys import OtherKey
from goldenami.packages.store import Store

_NOWHERE = re.compile(r"Unable to locate package (\S+)|Package '?(\S+?)'? has no installation cand")


def demand(root: Path, definition: Definition, apt: AptRoot) -> None:
    """BadInput where a login of `extra_repos` is missing, or a key is not the stated one."""
    sources = {source.archive: source for source in apt.sources}
    for index, repo in enumerate(definition.extra_repos):
        at = ("extra_repos", index)
        try:
            mirrors.login(repo.name, repo.login)
            signing_keys.keyring(sources[repo.name], apt.uris[repo.name], apt.folder)
        except (BadInput, Refused) as error:
            raise _lines(root, definition).error(
                (*at, "login"), error.message, hint=error.hint
            ) from None
        except OtherKey as error:
            raise _lines(root, definition).error(
                (*at, "fingerprint"), error.message, hint=error.hint
            ) from None


def containers(
    root: Path, definition: Definition, store: Store, progress: Progress
) -> list[LockedContainer]:
    """The images of `definition`, all their blobs in the store; BadInput with file and line where
    one is not what it is said to be."""
    if not definition.containers:
        return []
    source = _lines(root, definition)
    found = list[LockedContainer]()
    with progress.step("containers", ", ".join(one.name for one in definition.containers)):
        for index, wanted in enumerate(definition.containers):
            with _said_of(source, index):
                found.append(registries.resolve(wanted, definition.base.architecture, store))
    with progress.in_all():  # each blob is hashed
        sizes = {sha256: size for one in found for sha256, size in one.blobs.items()}
        lacking = sum(size for sha256, size in sizes.items() if not store.has(sha256, size))
    if lacking:
        with progress.download("layers", f"{lacking / 1e6:.0f} MB", lacking) as on_bytes:
            for index, one in enumerate(found):
                with _said_of(source, index):
                    registries.fetch([one], store, on_bytes)
    return found


@contextmanager
def _said_of(source: YamlFile, index: int) -> Iterator[None]:
    try:
        yield
    except (BadInput, NotThere, Replaced, Vanished) as error:
        raise source.error(("containers", index), error.message, hint=error.hint) from None


def told_of(found: list[LockedContainer]) -> list[dict[str, Any]]:
    """What the role is told."""
    return [
        {
            "name": f"{one.called}:latest" if one.called else one.name,
            "manifest": one.manifest.sha256,
            "config": one.config.sha256,
            "layers": [layer.sha256 for layer in one.layers],
        }
        for one in found
    ]


def with_line(root: Path, definition: Definition, apt: AptRoot, error: NoFit) -> NoFit:
    """`error`, with the line that names the package that no archive has, where that is why."""
    match = _NOWHERE.search(error.message)
    name = (match[1] or match[2]) if match else None
    source = _lines(root, definition)
    for key in source.lines if name else ():
        if key[0] == "roles" and _value(source, key) == name:
            archives = ", ".join(each.archive for each in apt.sources)
            told = source.error(key, f"no archive has the package `{name}`: looked in {archives}")
            return NoFit(
                told.message, hint="correct its name, or add its repository to `extra_repos`"
            )
    return error


def _lines(root: Path, definition: Definition) -> YamlFile:
    return yaml_lines.load(definition_file.path_of(root, definition.image))


def _value(source: YamlFile, key: Key) -> Any:
    found: Any = source.data
    for part in key:
        found = found[part]
    return found
