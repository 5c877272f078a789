"""Drivers that an image's archives have, over all branches, and whether one compiles on the locked
kernel.

A pin in the image's definition or preferences never hides a version here: indexes are read, not
solved.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from goldenami.core.errors import BadInput, NoFit
from goldenami.image.lock.compilation import driver_fit, kernel_modules
from goldenami.image.lock.compilation.driver_fit import DriverCandidate
from goldenami.local import container, module_signing
from goldenami.model.builds.lockfile import Kernel, Lock
from goldenami.model.definitions.definition import Definition
from goldenami.model.definitions.update_policy import VersionOffer
from goldenami.model.supported import compatibility, driver_requests, hardware
from goldenami.model.supported.driver_requests import DriverRequest
from goldenami.packages.apt import AptRoot, IndexEntry, store_requests
from goldenami.packages.store import Store
from goldenami.watch.sources.archive_indexes import ReleasedOn
from goldenami.watch.sources.branches import Branches


def requests(root: Path, definition: Definition, names: Iterable[str]) -> list[DriverRequest]:
    """What the role would ask for; a branch that its platform file can't express is left out."""
    answered = []
    for branch in sorted(set(names), key=int):
        with contextlib.suppress(BadInput):
            answered += driver_requests.requests(root, definition,
                                                 definition.variables("nvidia_driver"),
                                                 branches=[branch])
    return answered


def offers(
    root: Path, definition: Definition, apt: AptRoot, branches: Branches,
    released_on: ReleasedOn | None = None,
) -> list[VersionOffer]:
    """Every driver version of the image's flavours in the indexes; where the list has no day
    `released_on` has."""
    role_requests = requests(root, definition,
                             {*compatibility.CUDA_OF_BRANCH, *(branches.types or {})})
    names = {name for request in role_requests
             for name in (request.dkms_package, request.userland_package)}
    entries = apt.entries(sorted(names))
    gpus = hardware.architectures(root, definition.hardware)
    offers_by_version: dict[str, VersionOffer] = {}
    for request in role_requests:
        refusal = compatibility.branch_refusal(request.branch, gpus)
        for offer in _offers(request, entries, refusal, branches, released_on):
            known = offers_by_version.get(offer.version)
            # One flavour's modules are enough.
            if known is None or (known.refusal and not offer.refusal):
                known = offer
            offers_by_version[offer.version] = replace(known,
                                                       security=known.security or offer.security)
    return list(offers_by_version.values())


def _offers(
    request: DriverRequest, entries: dict[str, list[IndexEntry]], refusal: str, branches: Branches,
    released_on: ReleasedOn | None,
) -> Iterator[VersionOffer]:
    """The versions of one branch and flavour; one whose modules are missing is refused, unless
    `refusal` is known."""
    userland, modules = ({compatibility.upstream(entry.version) for entry in entries.get(name, [])}
                         for name in (request.userland_package, request.dkms_package))
    for name in (request.userland_package, request.dkms_package):
        for entry in entries.get(name, []):
            version = compatibility.upstream(entry.version)
            if version.partition(".")[0] != request.branch or (
                    # The modules' row says it.
                    name == request.userland_package and version in modules):
                continue
            half = "" if version in userland & modules else driver_fit.half_a_driver(
                request, has_userland=version in userland)
            day = (branches.released or {}).get(version) or (
                released_on(name, entry.version) if released_on else None
            )
            yield VersionOffer(version, request.branch, entry.place, entry.security, day,
                               refusal or half)


@dataclass(frozen=True)
class Proof:
    """What is known of a driver on a kernel: `refusal` is why they do not fit, `tried` whether a
    compiler said so."""

    refusal: str = ""
    tried: bool = False


@dataclass(frozen=True)
class Prover:
    """Compiles pairs of driver and kernel. Results, failures included, are kept, so asking again is
    quick."""

    root: Path
    store: Store
    log: Path
    say: Callable[[str], None]

    def proof(
        self, definition: Definition, kernel: Kernel, apt: AptRoot, version: str, *, compiles: bool
    ) -> Proof:
        """Whether driver `version` compiles on `kernel` in a flavour of the image.

        Without `compiles` only what is known from an earlier try counts.
        """
        proofs = [self._proof(definition, kernel, apt, candidate, compiles)
                  for candidate in _candidates(self.root, definition, apt, version)]
        if not proofs:
            return Proof(f"no archive has the modules of {version}")
        taken = next((proof for proof in proofs if not proof.refusal), None)
        return taken or Proof("; ".join(dict.fromkeys(proof.refusal for proof in proofs)),
                              tried=True)

    def _proof(
        self, definition: Definition, kernel: Kernel, apt: AptRoot, driver: DriverCandidate,
        compiles: bool,
    ) -> Proof:
        signer = module_signing.configured()
        with apt.locked():
            try:
                build = driver_fit.module_build(apt, kernel, driver, suite=definition.base.release,
                                         signature=signer.signature if signer else None)
            except NoFit as error:
                return Proof(error.message, tried=True)
            finally:
                apt.pin({})
        outcome = kernel_modules.known(build, self.store)
        if outcome is None and compiles:
            container.check_host()
            self.say(f"trying driver {driver.version} ({driver.request.flavour}) on kernel "
                     f"{kernel.release}")
            self.store.fetch(store_requests([build.source, *build.toolchain], apt.uris))
            outcome = kernel_modules.compile_modules(build, self.store, log=self.log)
        if outcome is None or outcome.deb_sha256:
            return Proof(tried=outcome is not None)
        return Proof(f"driver {driver.version} does not compile on {kernel.release}: "
                     f"{outcome.first_error}", tried=True)


def _candidates(
    root: Path, definition: Definition, apt: AptRoot, version: str
) -> list[DriverCandidate]:
    """The flavours in which the archives have `version`."""
    try:
        drivers = driver_fit.candidates(apt,
                                        requests(root, definition, [version.partition(".")[0]]))
    except NoFit:
        return []
    return [candidate for candidate in drivers if candidate.version == version]


def kernel_for_driver(lock: Lock, definition: Definition, apt: AptRoot) -> Kernel:
    """The locked kernel while the archive has its headers, else the newest."""
    if apt.entries([f"linux-headers-{lock.kernel.release}"]):
        return lock.kernel
    return driver_fit.kernels(apt, definition.kernel)[0]
