"""Checks that sources and packages are what a definition states of them. Each error names the
definition's line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goldenami.core import units
from goldenami.core.errors import BadInput, NoFit, Replaced, Vanished, together
from goldenami.core.terminal.progress import Progress
from goldenami.core.yaml_lines import YamlFile, nearest
from goldenami.image.lock.resolution import Resolution
from goldenami.model.definitions import definition_file, package_requests
from goldenami.model.definitions.definition import Definition
from goldenami.model.locked.lockfile import Choice
from goldenami.packages import registries
from goldenami.packages.apt import AptRoot, Deb
from goldenami.packages.http_documents import NotThere
from goldenami.packages.mirrors import NoLogin, Refused
from goldenami.packages.registries import LockedContainer
from goldenami.packages.signing_keys import OtherKey
from goldenami.packages.store import Store

SHOWN = 6
"""Most versions or packages that a message names."""


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


def pins(resolution: Resolution) -> dict[str, str]:
    """The stated versions as apt's pins. Raises NoFit with the line of a package that no archive
    has, or not in that version."""
    apt, version_pins = resolution.apt, dict[str, str]()
    requests = package_requests.asked(resolution.definition)
    entries = apt.entries([name for _, name, _ in requests])
    for key, name, version in requests:
        there = {entry.version: entry.place for entry in entries.get(name, [])}
        known = there.keys() | resolution.constraints.stock.keys() & {name}
        if not known or (version and version not in there):
            offers = [f"{one} ({place})" for one, place in there.items()]
            archives = ", ".join(source.archive for source in apt.sources)
            problem = f"there is {units.some(offers, SHOWN)}" if offers else f"looked in {archives}"
            text = f"no archive has the package `{name}`{version and f' {version}'}: {problem}"
            raise NoFit(
                _lines(resolution.root, resolution.definition).error(key, text).message,
                hint="correct it, or add a repository that has it to `extra_repos`",
            )
        if version:
            # Packages of one source often need each other in the same version.
            source = apt.stanza(name, version).get("Source", name).partition(" ")[0]
            version_pins[f"src:{source}:any"] = version_pins[name] = version
    return version_pins


def demand_absent(resolution: Resolution, debs: list[Deb]) -> None:
    """Record what goes with the packages that the definition leaves out of `debs`. Raises BadInput
    with the line of each that stays, and why, or that would not be in the image anyway."""
    definition, apt, kept = resolution.definition, resolution.apt, {deb.name for deb in debs}
    if not (left_out := package_requests.absent(definition)):
        return
    usual = {deb.name for deb in apt.solve(resolution.names(definition.role_names))}
    source, mistakes = _lines(resolution.root, definition), list[BadInput]()
    for index, name in enumerate(left_out):
        problem = ""
        if name not in usual:
            problem = f"would not be in the image anyway; {nearest(name, usual)}"
        elif name in kept:
            needing = units.some(sorted(apt.needing(name) & kept), SHOWN)
            problem = f"is needed by {needing or 'every image'}"
        if problem:
            mistakes.append(source.error((*package_requests.ABSENT, index), f"`{name}` {problem}"))
    if mistakes:
        raise together(mistakes, source.path)
    others = units.some(sorted(usual - kept - set(left_out)), SHOWN) or "nothing else"
    choice = Choice(
        component="left out",
        taken=", ".join(left_out),
        why=f"the definition says so; {others} goes with it",
        passed_over=[],
    )
    resolution.choices.append(choice)
    resolution.progress.say(f"left out: {choice.taken} ({choice.why})")


def _lines(root: Path, definition: Definition) -> YamlFile:
    return definition_file.source_of(root, definition.image)
