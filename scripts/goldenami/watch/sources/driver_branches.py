"""The drivers that an image's archives offer, in all branches.

Pins in the image's definition or in apt's preferences hide no version here: indexes are read, not
resolved.
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


def requests(root: Path, definition: Definition, branches: Iterable[str]) -> list[DriverRequest]:
    """Return what the role would request for each branch."""
    branch_requests = []
    for branch in sorted(set(branches), key=int):
        # The role's file for a platform cannot express every branch.
        with contextlib.suppress(BadInput):
            branch_requests += driver_requests.requests(
                root, definition, definition.variables("nvidia_driver"), branches=[branch]
            )
    return branch_requests


def offers(
    root: Path,
    definition: Definition,
    apt: AptRoot,
    released_on: ReleasedOn,
) -> list[VersionOffer]:
    """Return every driver version of the image's flavours in the indexes."""
    drivers = compatibility.load(root)
    role_requests = requests(root, definition, drivers.branches)
    names = set[str]()
    for request in role_requests:
        names |= {request.dkms_package, request.userland_package}
    entries = apt.entries(sorted(names))
    families = hardware.load(root)
    by_version = dict[str, VersionOffer]()
    for request in role_requests:
        refusal = hardware.branch_refusal(families, definition.hardware, request.branch, drivers)
        for offer in _offers(request, entries, released_on):
            offer = replace(offer, refusal=refusal or offer.refusal)  # noqa: PLW2901 - the same offer
            earlier = by_version.get(offer.version, offer)
            # A version is refused only if both flavours are: the modules of one are enough.
            installable = earlier
            if earlier.refusal and not offer.refusal:
                installable = offer
            by_version[offer.version] = replace(
                installable, security=offer.security or earlier.security
            )
    return list(by_version.values())


def _offers(
    request: DriverRequest,
    entries: dict[str, list[IndexEntry]],
    released_on: ReleasedOn,
) -> Iterator[VersionOffer]:
    modules, userland = request.dkms_package, request.userland_package
    complete_versions = _upstream_versions(entries.get(modules, [])) & _upstream_versions(
        entries.get(userland, [])
    )
    for name in dict.fromkeys((modules, userland)):
        for entry in entries.get(name, []):
            version = compatibility.upstream(entry.version)
            if version.partition(".")[0] != request.branch:
                continue
            # Modules without the userland of that version, or the reverse, cannot be installed.
            refusal = ""
            if version not in complete_versions:
                refusal = driver_fit.half_a_driver(request, has_userland=name == userland)
            yield VersionOffer(
                version,
                request.branch,
                entry.place,
                entry.security,
                released_on(name, entry.version),
                refusal,
            )


def _upstream_versions(entries: Iterable[IndexEntry]) -> set[str]:
    return {compatibility.upstream(entry.version) for entry in entries}
