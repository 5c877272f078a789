"""Drivers that an image's archives have, over all branches, and whether one compiles on the locked kernel.

A pin in the image's definition or preferences never hides a version here: indexes are read, not solved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from goldenami import fit, hardware, materials, modules, policy, web
from goldenami.apt import AptRoot, Deb, Found
from goldenami.definition import PLATFORMS, Definition
from goldenami.errors import BadInput, NoFit
from goldenami.fit import Request
from goldenami.lockfile import Kernel, Lock
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
    root: Path, definition: Definition, apt: AptRoot, branches: Branches, *, dated: bool,
) -> list[Offer]:
    """Every driver version of the image's flavour in the indexes; `dated` asks for the day of each that lacks one."""
    known = requests(root, definition, {*policy.CUDA_OF_BRANCH, *(branches.types or {})})
    packages = {request.dkms_package for request in known.values()}
    found = apt.found(sorted(packages | {request.userland_package for request in known.values()}))
    gpus = hardware.architectures(root, definition.hardware)
    return [offer for branch, request in known.items()
            for offer in _of_branch(branch, request, found, gpus, branches, _ager(apt) if dated else None)]


def _of_branch(
    branch: str, request: Request, found: dict[str, list[Found]], gpus: list[str], branches: Branches,
    age: Callable[[str, str], date | None] | None,
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


def _ager(apt: AptRoot) -> Callable[[str, str], date | None]:
    """When the archive got a package file: the date of the file, which mirrors keep."""

    def age(name: str, version: str) -> date | None:
        deb = apt.file(name, version)
        return web.changed(f"{apt.uris[deb.archive]}/{deb.path}") if deb.archive in apt.uris else None

    return age


@dataclass(frozen=True)
class Prover:
    """Compiles candidates on the kernel of a lock. Results, failures included, are kept, so asking again is quick."""

    root: Path
    store: Store
    log: Path
    say: Callable[[str], None]

    def refusal(self, definition: Definition, lock: Lock, apt: AptRoot, version: str) -> str:
        """Why driver `version` does not compile on the kernel of `lock`, or an empty string."""
        request = requests(self.root, definition, [version.partition(".")[0]])[version.partition(".")[0]]
        candidate = next((one for one in fit.candidates(apt, request) if one.version == version), None)
        if candidate is None:
            return f"{request.dkms_package} has no version {version}"
        compile_pair = fit.compiler(
            apt, request, self.store, suite=definition.base.release, log=self.log, package_name=modules.package_name,
            on_try=self.say, fetch=lambda debs: self._fetch(apt, debs),
        )
        with apt.locked():
            try:
                kernel = _kernel(lock, definition, apt)
                outcome = compile_pair(kernel, candidate)[1]
            except NoFit as error:
                return error.message
            finally:
                apt.pin({})
        return "" if outcome.deb_sha256 else f"does not compile on {kernel.release}: {outcome.first_error}"

    def _fetch(self, apt: AptRoot, debs: list[Deb]) -> None:
        self.store.fetch(materials.wanted(debs, apt.uris))


def _kernel(lock: Lock, definition: Definition, apt: AptRoot) -> Kernel:
    """The locked kernel while the archive has its headers, else the newest."""
    if apt.found([f"linux-headers-{lock.kernel.release}"]):
        return lock.kernel
    return fit.kernels(apt, definition.kernel)[0]
