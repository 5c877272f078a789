"""Drivers that an image's archives have, over all branches.

A pin in the image's definition or preferences never hides a version here: indexes are read, not
solved.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from goldenami.core.errors import BadInput
from goldenami.image.lock.compilation import driver_fit
from goldenami.model.definitions import driver_requests
from goldenami.model.definitions.definition import Definition
from goldenami.model.definitions.driver_requests import DriverRequest
from goldenami.model.definitions.update_policy import VersionOffer
from goldenami.model.supported import compatibility, hardware
from goldenami.packages.apt import AptRoot, IndexEntry
from goldenami.watch.sources.archive_indexes import ReleasedOn


def requests(root: Path, definition: Definition, names: Iterable[str]) -> list[DriverRequest]:
    """What the role would ask for; a branch that its platform file can't express is left out."""
    answered = []
    for branch in sorted(set(names), key=int):
        with contextlib.suppress(BadInput):
            answered += driver_requests.requests(
                root, definition, definition.variables("nvidia_driver"), branches=[branch]
            )
    return answered


def offers(
    root: Path,
    definition: Definition,
    apt: AptRoot,
    released_on: ReleasedOn,
) -> list[VersionOffer]:
    """Every driver version of the image's flavours in the indexes."""
    asked = requests(root, definition, compatibility.CUDA_OF_BRANCH)
    names = {name for request in asked for name in (request.dkms_package, request.userland_package)}
    entries = apt.entries(sorted(names))
    gpus = hardware.architectures(root, definition.hardware)
    known = dict[str, VersionOffer]()
    for request in asked:
        refusal = compatibility.branch_refusal(request.branch, gpus)
        for offer in _offers(request, entries, released_on):
            offer = replace(offer, refusal=refusal or offer.refusal)  # noqa: PLW2901 - the same offer
            other = known.get(offer.version, offer)
            # One flavour's modules are enough.
            taken = offer if other.refusal and not offer.refusal else other
            known[offer.version] = replace(taken, security=offer.security or other.security)
    return list(known.values())


def _offers(
    request: DriverRequest,
    entries: dict[str, list[IndexEntry]],
    released_on: ReleasedOn,
) -> Iterator[VersionOffer]:
    versions = {
        name: {compatibility.upstream(entry.version) for entry in entries.get(name, [])}
        for name in (request.dkms_package, request.userland_package)
    }
    whole = set.intersection(*versions.values())
    for name in versions:
        for entry in entries.get(name, []):
            version = compatibility.upstream(entry.version)
            if version.partition(".")[0] != request.branch:
                continue
            half = (
                ""
                if version in whole
                else driver_fit.half_a_driver(
                    request, has_userland=name == request.userland_package
                )
            )
            yield VersionOffer(
                version,
                request.branch,
                entry.place,
                entry.security,
                released_on(name, entry.version),
                half,
            )
