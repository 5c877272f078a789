"""Checks that sources and packages are what a definition states of them. Each error names the
definition's line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goldenami.core import units, yaml_lines
from goldenami.core.errors import BadInput, NoFit, Replaced, Vanished, together
from goldenami.core.terminal.progress import Progress
from goldenami.core.yaml_lines import Key, YamlFile, nearest
from goldenami.image.lock.resolution import BASE_PACKAGES, Resolution
from goldenami.model.definitions import definition_file, package_requests
from goldenami.model.definitions.definition import Definition
from goldenami.model.locked.lockfile import Choice
from goldenami.packages import mirrors, registries, signing_keys
from goldenami.packages.apt import AptRoot, Deb
from goldenami.packages.http_documents import NotThere, Refused
from goldenami.packages.registries import LockedContainer
from goldenami.packages.signing_keys import OtherKey
from goldenami.packages.store import Store

_NOWHERE = re.compile(r"Unable to locate package (\S+)|Package '?(\S+?)'? has no installation cand")
SHOWN = 6
"""Most versions or packages that a message names."""


def demand(root: Path, definition: Definition, apt: AptRoot) -> None:
    """Raise BadInput if a login of `extra_repos` is missing, or a key does not have the stated
    fingerprint."""
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
    except (BadInput, NotThere, Replaced, Vanished) as error:
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


def pins(root: Path, definition: Definition, apt: AptRoot) -> dict[str, str]:
    """The stated versions as apt's pins. Raises NoFit with the line of one that no archive has."""
    requests = [request for request in package_requests.asked(definition) if request.version]
    entries, version_pins = apt.entries([request.name for request in requests]), dict[str, str]()
    for request in requests:
        offered = {entry.version: entry.place for entry in entries.get(request.name, [])}
        if request.version not in offered:
            there = [f"{version} ({place})" for version, place in offered.items()]
            mistake = _lines(root, definition).error(
                request.key,
                f"no archive has `{request.text}`: there is {units.some(there, SHOWN) or 'none'}",
            )
            raise NoFit(
                mistake.message,
                hint="take one that is there, or add an archive that has it to `extra_repos`",
            )
        # Packages of one source often need each other in the same version.
        stanza = apt.stanza(request.name, request.version)
        source = stanza.get("Source", request.name).partition(" ")[0]
        version_pins[f"src:{source}:any"] = version_pins[request.name] = request.version
    return version_pins


def demand_absent(resolution: Resolution, debs: list[Deb]) -> None:
    """Record what goes with the packages that the definition leaves out of `debs`. Raises BadInput
    with the line of one that stays, and why, or that would not be in the image anyway."""
    definition, apt = resolution.definition, resolution.apt
    left_out, kept = package_requests.absent(definition), {deb.name: deb for deb in debs}
    if not left_out:
        return
    usual = {deb.name for deb in apt.solve(resolution.names(definition.role_names))}
    source, mistakes = _lines(resolution.root, definition), list[BadInput]()
    for index, name in enumerate(left_out):
        problem = ""
        if name not in usual:
            problem = f"`{name}` would not be in the image anyway; {nearest(name, usual)}"
        elif name in BASE_PACKAGES:
            problem = f"`{name}` is needed to bake and check an image"
        elif name in kept:
            needing = units.some(sorted(apt.needing(name) & kept.keys()), SHOWN)
            problem = f"`{name}` is needed by {needing or 'a role'}"
            if apt.stanza(name, kept[name].version).get("Essential") == "yes":
                problem = f"`{name}` is essential: dpkg and apt count on it"
        if problem:
            key = (*package_requests.ABSENT, index)
            mistakes.append(source.error(key, problem, hint="take it out of the list"))
    if mistakes:
        raise together(mistakes, source.path)
    others = units.some(sorted(usual - kept.keys() - set(left_out)), SHOWN) or "nothing else"
    choice = Choice(
        component="left out",
        taken=", ".join(left_out),
        why=f"the definition says so; {others} goes with it",
        passed_over=[],
    )
    resolution.choices.append(choice)
    resolution.progress.say(f"left out: {choice.taken} ({choice.why})")


def _lines(root: Path, definition: Definition) -> YamlFile:
    return yaml_lines.load(definition_file.path_of(root, definition.image))


def _value(source: YamlFile, key: Key) -> Any:
    value: Any = source.data
    for part in key:
        value = value[part]
    return value
