"""Drivers that an image's archives have, over all branches, and whether one compiles on the locked kernel.

A pin in the image's definition or preferences never hides a version here: indexes are read, not solved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from goldenami import fit, hardware, materials, modules, policy
from goldenami.apt import AptRoot, Found
from goldenami.definition import PLATFORMS, Definition
from goldenami.errors import BadInput, NoFit
from goldenami.fit import Request
from goldenami.lockfile import Kernel, Lock
from goldenami.sources.archives import Age
from goldenami.sources.branches import Branches
from goldenami.store import Store
from goldenami.watch_policy import Offer


def requests(root: Path, definition: Definition, names: Iterable[str]) -> dict[str, Request]:
    """What the role would ask for, by branch; a branch that its platform file can't express is left out."""
    found = {}
    for branch in sorted(set(names), key=int):
        try:
            found[branch] = fit.request(root, PLATFORMS[definition.base.release], {
                **definition.variables("nvidia_driver"), "nvidia_driver_branch": branch})
        except BadInput:
            continue
    return found


def offers(
    root: Path, definition: Definition, apt: AptRoot, branches: Branches, age: Age | None = None,
) -> list[Offer]:
    """Every driver version of the image's flavour in the indexes; `age` tells the day where the list does not."""
    known = requests(root, definition, {*policy.CUDA_OF_BRANCH, *(branches.types or {})})
    packages = {request.dkms_package for request in known.values()}
    found = apt.found(sorted(packages | {request.userland_package for request in known.values()}))
    gpus = hardware.architectures(root, definition.hardware)
    return [offer for branch, request in known.items()
            for offer in _of_branch(branch, request, found, gpus, branches, age)]


def _of_branch(
    branch: str, request: Request, found: dict[str, list[Found]], gpus: list[str], branches: Branches,
    age: Age | None,
) -> list[Offer]:
    refusal, offered = policy.branch_refusal(branch, gpus), list[Offer]()
    modules = {policy.upstream(one.version) for one in found.get(request.dkms_package, [])}
    for name in (request.dkms_package, request.userland_package):
        for one in found.get(name, []):
            version = policy.upstream(one.version)
            if version.partition(".")[0] != branch or version in {offer.version for offer in offered}:
                continue
            half = "" if version in modules else (f"{request.userland_package} has it, but {request.dkms_package} "
                                                  f"does not: half a driver")
            day = (branches.released or {}).get(version) or (age(name, one.version) if age else None)
            offered.append(Offer(version, branch, f"{one.archive} {one.suite}", one.security, day, refusal or half))
    return offered


@dataclass(frozen=True)
class Prover:
    """Compiles candidates on the kernel of a lock. Results, failures included, are kept, so asking again is quick."""

    root: Path
    store: Store
    log: Path
    say: Callable[[str], None]

    def refusal(self, definition: Definition, lock: Lock, apt: AptRoot, version: str, *, compiles: bool) -> str:
        """Why driver `version` does not compile on the kernel of `lock`, or an empty string.

        Without `compiles` only what is known from an earlier try counts.
        """
        branch = version.partition(".")[0]
        request = requests(self.root, definition, [branch])[branch]
        candidate = next((one for one in fit.candidates(apt, request) if one.version == version), None)
        if candidate is None:
            return f"{request.dkms_package} has no version {version}"
        with apt.locked():
            try:
                kernel = _kernel(lock, definition, apt)
                recipe = fit.recipe_of(apt, request, kernel, candidate, suite=definition.base.release)
            except NoFit as error:
                return error.message
            finally:
                apt.pin({})
        outcome = modules.known(recipe, self.store)
        if outcome is None and compiles:
            self.say(f"trying driver {version} on kernel {kernel.release}")
            self.store.fetch(materials.wanted([recipe.source, *recipe.build], apt.uris))
            outcome = modules.compile_modules(recipe, self.store, log=self.log)
        if outcome is None or outcome.deb_sha256:
            return ""
        return f"does not compile on {kernel.release}: {outcome.first_error}"


def _kernel(lock: Lock, definition: Definition, apt: AptRoot) -> Kernel:
    """The locked kernel while the archive has its headers, else the newest."""
    if apt.found([f"linux-headers-{lock.kernel.release}"]):
        return lock.kernel
    return fit.kernels(apt, definition.kernel)[0]
