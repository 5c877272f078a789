"""The state of a new lock: the image's archives in a private apt root, and the choices so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goldenami.core.terminal.progress import Progress
from goldenami.image.lock import frameworks
from goldenami.image.lock.addressed_files import AddressedFile
from goldenami.image.lock.compilation.driver_fit import FittedDriver, LockConstraints
from goldenami.model.definitions.definition import Definition
from goldenami.model.locked.lockfile import Choice, KernelModules, Suite
from goldenami.model.locked.python_packages import PythonPackages
from goldenami.model.roles import role_packages
from goldenami.model.supported.platforms import Platform
from goldenami.packages.apt import AptRoot, Deb, store_requests
from goldenami.packages.local_repository import LocalRepository
from goldenami.packages.registries import LockedContainer
from goldenami.packages.store import Store

BASE_PACKAGES = (
    "apt",
    "openssh-server",
    "python3",
    "python3-apt",
    "systemd-sysv",
    "dbus",
    "ca-certificates",
)
"""Packages that Ansible needs to reach and manage a tree, beyond the distribution's own base
set."""
LOCAL_SUITE = "golden"
"""The suite of local repositories, which hold packages that were compiled here or that the archives
have dropped."""
ESSENTIAL, *SEED = "?essential", "?priority(required)", "?priority(important)"
"""mmdebstrap's `important` variant, in apt's own pattern language."""


@dataclass
class Resolution:
    """The state of one lock in the making. `derived` are role variables that follow from choices,
    by role. `offered` are files of the store that the archives lack. `fitted` is None until the
    driver is chosen, and in an image without one."""

    root: Path
    definition: Definition
    store: Store
    progress: Progress
    log: Path
    platform: Platform
    apt: AptRoot
    derived: dict[str, dict[str, Any]] = field(default_factory=dict)
    choices: list[Choice] = field(default_factory=list)
    constraints: LockConstraints = field(default_factory=LockConstraints)
    offered: list[Deb] = field(default_factory=list)
    pins: dict[str, str] = field(default_factory=dict)
    fitted: FittedDriver | None = None
    kernel_modules: dict[str, KernelModules] = field(default_factory=dict)
    frameworks: frameworks.ResolvedFrameworks = frameworks.NO_FRAMEWORKS
    files: list[AddressedFile] = field(default_factory=list)
    containers: list[LockedContainer] = field(default_factory=list)
    python: PythonPackages | None = None

    def given(self, role: str) -> dict[str, Any]:
        """The variables of a role: the definition's, and those derived from choices."""
        return {**self.definition.variables(role), **self.derived.get(role, {})}

    def setting(self, role: str, name: str) -> Any:
        return role_packages.variables(self.root, role, self.given(role))[f"{role}_{name}"]

    def names(self, roles: Sequence[str], *, left_out: Sequence[str] = ()) -> list[str]:
        """The names that apt is asked for: the base system without `left_out`, and what `roles`
        install."""
        packages = list[str]()
        for role in roles:
            given, declared = self.given(role), self.definition.packages(role)
            packages += role_packages.packages(self.root, role, self.platform, given, declared)
        rest = "".join(f", ?not(?exact-name({name}))" for name in left_out)
        seed = [f"?and({pattern}{rest})" if rest else pattern for pattern in SEED]
        return list(dict.fromkeys([ESSENTIAL, *seed, *BASE_PACKAGES, *packages]))

    def driver_sources(self) -> list[str]:
        role = "nvidia_driver"
        if role not in self.definition.roles:
            return []
        facts = role_packages.facts(self.root, role, self.platform, self.given(role))
        return list(facts["__nvidia_driver_pinned_sources"])

    def archive_suites(self) -> list[Suite]:
        """The archives' suites as they are now, without the local repository's."""
        return [Suite(**entry) for entry in self.apt.releases() if entry["suite"] != LOCAL_SUITE]

    def fetch(self, debs: list[Deb], on_bytes: Callable[[int], None] = lambda _: None) -> None:
        self.store.fetch(store_requests(debs, self.apt.addresses), on_bytes)

    def offer_more(self, debs: list[Deb], pins: Mapping[str, str]) -> None:
        """Offer apt packages that were compiled here, beside those offered so far; `pins` join the
        pins."""
        self.offered, self.pins = [*debs, *self.offered], {**self.pins, **pins}
        self.offer(self.offered)
        self.apt.pin({**self.constraints.packages, **self.pins})
        self.apt.update()

    def offer(self, debs: list[Deb]) -> None:
        """Make `debs`, which are in the store, the whole content of the local repository."""
        repository = LocalRepository(debs, LOCAL_SUITE, epoch=0)
        repository.write(self.store, self.apt.folder / "built")
