"""The tags of an image's container: `publish` pushes it under the build's id, and `latest` moves
together with the AMIs'.

The container of `latest` must never need a newer driver than an AMI of `latest` has. So it moves
after the AMIs when they go forward, and before them when they go back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from goldenami.aws.channels.channels import ImageInAccount
from goldenami.aws.regions import RegionResults, all_or_none, for_each_region
from goldenami.aws.session import Account
from goldenami.core import records
from goldenami.core.errors import BadInput, Busy, NotVerified
from goldenami.core.terminal.progress import Progress
from goldenami.local.tree.oci_layout import OciLayout
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.container_records import DRIVER_LABEL, LOCK_LABEL, ContainerRecord
from goldenami.model.definitions.definition import Definition
from goldenami.model.locked import lockfile
from goldenami.model.supported import compatibility
from goldenami.packages.registries import LEAST_DRIVER_LABEL
from goldenami.release.publish import registry_pushes
from goldenami.release.publish.registry_pushes import Registry

LATEST = "latest"
_ID = re.compile(rf"[0-9a-f]{{{lockfile.ID_LENGTH}}}")


@dataclass(frozen=True)
class RegistryTags:
    """The digests of a build's container and of `latest` in a registry, or None. `latest_build` is
    the build that `latest` is, or "" if it is none of ours."""

    pushed: str | None
    latest: str | None
    latest_build: str = ""


def _tags(registry: Registry, build_id: str) -> RegistryTags:
    latest, lock = registry.find(LATEST), ""
    if latest:
        lock = registry.annotations(latest).get(LOCK_LABEL, "")
    return RegistryTags(
        pushed=registry.find(build_id), latest=latest, latest_build=lock[: lockfile.ID_LENGTH]
    )


@dataclass(frozen=True)
class ContainerTags:
    """The tags of a build's container in its registries, with their `states` before anything is
    done. Without registries there is nothing to do."""

    registries: Mapping[str, Registry]
    states: Mapping[str, RegistryTags]
    build_id: str
    digest: str
    progress: Progress

    def show(self, *, moves: bool) -> Iterator[str]:
        for name, state in self.states.items():
            verb = "push"
            if state.pushed:
                verb = "has"
            yield f"  {name}: {verb} {self.digest[:19]}"
            if moves and state.latest != self.digest:
                before = state.latest_build or state.latest or "nothing"
                yield f"  {name}: latest {before} -> {self.build_id}"

    def push(self, build: BuildFolder) -> None:
        """Push the image to every registry."""
        # One after the other, since they share this machine's line.
        for name, registry in self.registries.items():
            with self.progress.step("push", name):
                registry.push(OciLayout(build.layout, self.build_id))
            tagged = registry.find(self.build_id)
            if tagged not in (None, self.digest):
                raise Busy(
                    f"{name}:{self.build_id} was moved to {tagged} after the plan was made",
                    hint="who pushes there? Run again: the plan is made anew",
                )
            if tagged is None:
                registry.tag(self.digest, self.build_id)

    def move(self, builds: Iterable[str]) -> None:
        """Move `latest` to the build's image in every registry or in none. `builds` are those of
        the AMIs that `latest` names before or after.

        Raises Busy if somebody else has moved the tag since the plan was made, NotVerified if the
        image needs a newer driver than one of these AMIs has.
        """
        if not self.registries:
            return
        ami_builds = {*builds, self.build_id}
        with self.progress.step("container's latest"):
            all_or_none(
                self.registries,
                lambda name: self._forward(name, ami_builds),
                self._back,
                "run again",
            )

    def _forward(self, name: str, builds: set[str]) -> None:
        registry, digest = self.registries[name], self.digest
        if least := registry.annotations(digest).get(LEAST_DRIVER_LABEL):
            _check_driver(registry, least, builds)
        current = registry.find(LATEST)
        if current not in (self.states[name].latest, digest):
            raise Busy(
                f"{name}:{LATEST} was moved to {current} after the plan was made",
                hint="run again: the plan is made anew",
            )
        if current != digest:
            registry.tag(digest, LATEST)

    def _back(self, name: str) -> None:
        # Not if the tag is another image by now: then somebody else has moved it.
        registry, before = self.registries[name], self.states[name].latest
        if before and registry.find(LATEST) == self.digest:
            registry.tag(before, LATEST)


def _check_driver(registry: Registry, least: str, builds: Iterable[str]) -> None:
    for build in sorted(builds):
        driver = ""
        if digest := registry.find(build):
            driver = registry.annotations(digest).get(DRIVER_LABEL, "")
        if not compatibility.runs_on(least, driver):
            raise NotVerified(
                f"the container asks for driver {least} or newer, and the AMI of "
                f"`latest`, build {build}, has {driver or 'an unknown one'}",
                hint="promote an AMI with a newer driver first",
            )


@contextmanager
def planned(
    image: ImageInAccount,
    build_id: str,
    progress: Progress,
    *,
    build: BuildFolder | None = None,
) -> Iterator[ContainerTags]:
    """Yield the tags of a build's container as they are, after checks that they may move. `build`
    is given if the container is to be pushed from this machine."""
    names, digest = image.section.registries, ""
    if names and build:
        digest = _local_digest(build, image.name)
    with registry_pushes.opened(image.account, names) as registries:
        states = dict[str, RegistryTags]()
        if names:
            with progress.step("look at the registries"):
                states = for_each_region(
                    registries, lambda name: _tags(registries[name], build_id)
                ).require_all("no tag has moved")
            digest = digest or _pushed_digest(states, build_id)
        _check_ours(states, build_id, digest)
        yield ContainerTags(registries, states, build_id, digest, progress)


def _local_digest(build: BuildFolder, image: str) -> str:
    """The digest of the build's container image on this machine. Raises BadInput if there is
    none."""
    if not build.container.exists() or not build.layout.exists():
        raise BadInput(
            f"{build.path} has no container image, which `publish: registries:` wants",
            hint=f"`golden container {image}` makes it",
        )
    return f"sha256:{records.read(build.container, ContainerRecord).digest}"


def _pushed_digest(states: Mapping[str, RegistryTags], build_id: str) -> str:
    """The digest of the build's image in all registries. Raises BadInput if one lacks it or they
    differ."""
    digests = {state.pushed for state in states.values()}
    if len(digests) != 1 or None in digests:
        raise BadInput(
            f"build {build_id} has no container image in each of {', '.join(states)}, "
            "or not the same one",
            hint="`golden publish IMAGE` pushes it",
        )
    return str(digests.pop())


def _check_ours(states: Mapping[str, RegistryTags], build_id: str, digest: str) -> None:
    """Raise BadInput if a registry has another image under the build's id, or a `latest` that is no
    build of ours."""
    for name, state in states.items():
        if state.pushed not in (None, digest):
            raise BadInput(
                f"{name}:{build_id} is another image: {state.pushed}",
                hint="who pushed it? Remove that tag, or bake again",
            )
        if state.latest and not state.latest_build:
            raise BadInput(
                f"{name}:{LATEST} is no build of goldenami: {state.latest}",
                hint="who pushed it? Remove that tag, then run again",
            )


def standing(
    account: Account,
    definitions: Iterable[Definition],
) -> RegionResults[tuple[str, RegistryTags]]:
    """The state of `latest` in each registry of these images: the image's name, and the tags."""
    image_of = dict[str, str]()
    for definition in definitions:
        if definition.publish:
            image_of |= dict.fromkeys(definition.publish.registries, definition.image)
    with registry_pushes.opened(account, list(image_of)) as registries:
        return for_each_region(
            registries, lambda name: (image_of[name], _tags(registries[name], LATEST))
        )


def show_standing(tags_by_registry: Mapping[str, tuple[str, RegistryTags]]) -> Iterator[str]:
    """A line for each registry, from the results of `standing`."""
    for name, (image, tags) in tags_by_registry.items():
        build = tags.latest_build or "no build of ours"
        if not tags.latest:
            build = "nothing"
        yield f"container of {image}: {name} latest {build} {(tags.latest or '')[:19]}".rstrip()


def gone(registries: Mapping[str, Registry], kept: set[str]) -> dict[str, dict[str, str]]:
    """The digests of images of builds that are not in `kept`, by registry and tag. Those that
    `latest` names, and those of other people, are left out."""
    return {name: _gone(registry, kept) for name, registry in registries.items()}


def _gone(registry: Registry, kept: set[str]) -> dict[str, str]:
    ids = [tag for tag in registry.tags() if _ID.fullmatch(tag) and tag not in kept]
    latest, removable = registry.find(LATEST), dict[str, str]()
    for tag in ids:
        digest = registry.find(tag)
        if digest is None or digest == latest:
            continue
        # The label with the lock proves that the image is a build of ours.
        if registry.annotations(digest).get(LOCK_LABEL, "").startswith(tag):
            removable[tag] = digest
    return removable
