"""Models of image definitions, packer/images/*.yml: the only facts about an image that a person
writes."""

from __future__ import annotations

import re
from datetime import date
from enum import StrEnum
from itertools import chain
from typing import Annotated, Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, model_validator

from goldenami.core.records import Lax, Section, Sha256
from goldenami.model.definitions.update_policy import Watch
from goldenami.model.operation.cluster_section import ClusterSection
from goldenami.model.operation.publish_section import Publish
from goldenami.model.operation.residency import Residency
from goldenami.model.roles import role_order
from goldenami.model.roles.listening import Listen
from goldenami.model.supported.platforms import Distribution
from goldenami.model.supported.scales import HardeningLevel, Rating
from goldenami.packages.mirrors import Address, Fingerprints, LoginVariable, VendorArchive
from goldenami.packages.pypi import PythonIndex
from goldenami.packages.registries import WantedContainer

REQUIRED_ROLES = ("os_updates", "kernel", "provenance", "seal")
ADDED = (IMMUTABLE, CONTAINERS) = ("immutable", "containers")
"""Roles that a definition adds by keys of these names, and cannot list under `roles`."""
DRIVER_MODULES = "nvidia"
"""Name of the NVIDIA driver's modules among those that a lock compiles."""
NEWEST, ANY = "newest", "any"
"""Driver branch and flavour that leave the choice to `lock`, which compiles the candidates."""


class KernelFlavour(StrEnum):
    """Kernel packages by purpose: `cloud` is Debian's, `aws` is Ubuntu's."""

    CLOUD = "cloud"
    AWS = "aws"


class Base(Section):
    """The section `base`: the release that the image starts from."""

    distribution: Lax[Distribution]
    """Debian or Ubuntu"""
    release: str
    """its codename, such as trixie"""
    architecture: str = "amd64"
    """by Debian's name"""
    backports: bool = False
    """take kernels and drivers from the release's backports, too"""


class ModuleSource(Section):
    """A tarball by its address and SHA-256."""

    url: Annotated[str, Field(pattern=r"^https?://[^/\s@]+/\S*[^/\s]$")]
    """where it is"""
    sha256: Sha256
    """its SHA-256, in hex digits"""


class KernelModule(Section):
    """An out-of-tree kernel module, compiled from its DKMS source when the lock is made."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
    """what the lock calls it: `golden-NAME-modules-KERNEL` is the package in the image"""
    package: str | None = None
    """a DKMS package of the archives, such as v4l2loopback-dkms"""
    source: ModuleSource | None = None
    """or a tarball that holds a dkms.conf"""
    build_packages: list[str] = Field(default_factory=list)
    """what compiling needs besides gcc, make and the kernel's headers, such as cmake"""


class CveRule(Section):
    """The rule that a build is published and promoted only with a recent passing record of
    `cve`."""

    fail_on: Lax[Rating] = Rating.HIGH
    """the rating from which on also a vulnerability stops a build that nothing mends"""
    max_age_hours: Annotated[int, Field(ge=1, le=168)] = 24
    """hours ago that the lists may have been asked"""


class HardeningGate(Section):
    """The rule that a build is published and promoted only if enough rules of a hardening guide
    pass."""

    level: Lax[HardeningLevel] = HardeningLevel.INTERMEDIARY
    """level of ANSSI's BP-028"""
    minimum: Annotated[int, Field(ge=1, le=1000)]
    """rules of that level that have to pass; one that is waived does not count"""


class Security(Section):
    """Requirements on a build before others launch it. No part of it shapes the image."""

    cve: CveRule | None = None
    """vulnerabilities; without it nothing is asked for"""
    hardening: HardeningGate | None = None
    """rules of a guide; without it nothing is asked for"""
    signed: bool = False
    """nothing is published without signed provenance"""


class DriftAllowance(Section):
    """A path that may differ from the bake on an instance, until a day on which somebody reviews
    it."""

    path: str
    """the path; `*` is any name, `**` any path below"""
    reason: Annotated[str, Field(min_length=10)]
    """why it may"""
    until: date
    """the last day"""


class DriftSection(Section):
    """Paths that `golden drift` allows in addition to its own policy. No part of it shapes the
    image."""

    allow: list[DriftAllowance] = Field(default_factory=list)
    """paths that may differ from the bake"""

    @model_validator(mode="before")
    @classmethod
    def _has_no_ports(cls, data: Any) -> Any:
        if isinstance(data, dict) and "listen" in data:
            raise ValueError("`listen` stands beside `roles`, with `port` and `unit` of each row")
        return data


class Install(StrEnum):
    """Ways to install a downloaded file, other than copying it."""

    DEB = "deb"


class Download(Section):
    """A file by its address, with exactly one of `install`, `path` and `unpack` for its place."""

    url: Address
    """its address"""
    sha256: Sha256
    """of its bytes"""
    login: LoginVariable | None = None
    """name of an environment variable that holds `user:password`"""
    signature: Address | None = None
    """address of its detached signature"""
    key: str | None = None
    """the key of the signature: an address, or a file of this repository"""
    fingerprint: Fingerprints | None = None
    """of the key, whole; while a vendor changes keys a list of both"""
    install: Lax[Install] | None = None
    """a package, with what it depends on"""
    path: str | None = None
    """a single file: its place"""
    owner: str = "root"
    """of the single file"""
    group: str = "root"
    """of the single file"""
    mode: Annotated[str, Field(pattern=r"^[0-7]{4}$")] = "0644"
    """of the single file, in octal digits"""
    unpack: str | None = None
    """a tarball: the folder that it is unpacked into"""
    strip: Annotated[int, Field(ge=0, le=9)] = 0
    """folders that its names lose in front"""

    @property
    def name(self) -> str:
        last = unquote(urlsplit(self.url).path.rpartition("/")[2])
        return re.sub(r"[^\w.+~-]", "_", last) or "file"

    @model_validator(mode="after")
    def _goes_to_one_place(self) -> Self:
        if sum(place is not None for place in (self.install, self.path, self.unpack)) != 1:
            raise ValueError("wants one of `install: deb`, `path` and `unpack`")
        for kind, names in (("path", {"owner", "group", "mode"}), ("unpack", {"strip"})):
            if getattr(self, kind) is None and (stray := names & self.model_fields_set):
                raise ValueError(f"`{min(stray)}` is for `{kind}`")
        is_absent = {self.signature is None, self.key is None, self.fingerprint is None}
        if len(is_absent) != 1:
            raise ValueError("`signature`, `key` and `fingerprint` need each other")
        return self


class Definition(Section):
    """One image, as written by a person."""

    image: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]+$", max_length=63)]
    """its name, and that of the file"""
    extends: str | None = None
    """another image, whose values it inherits (docs/companies.md)"""
    description: str
    """one line, shown in EC2"""
    goldenami: str = ""
    """versions of goldenami that it is for, such as `>=1.2`; another one refuses it"""
    base: Base
    """what the image starts from"""
    kernel: Lax[KernelFlavour]
    """kernel packages by purpose: `cloud` is Debian's, `aws` is Ubuntu's"""
    disk_size_gib: Annotated[int, Field(ge=2, le=1024)]
    """GiB of the root disk"""
    hardware: Annotated[list[str], Field(min_length=1)]
    """instance families, rows of packer/hardware.yml"""
    frameworks: list[str] = Field(default_factory=list)
    """names of recipes, for the role `frameworks`"""
    extra_repos: list[VendorArchive] = Field(default_factory=list)
    """apt repositories beside the distribution's"""
    downloads: list[Download] = Field(default_factory=list)
    """files by their address, which the role `customize` brings"""
    containers: list[WantedContainer] = Field(default_factory=list)
    """images of containers, which the engine has at the first boot: names, or `image` and
    `login`"""
    python_packages: list[str] = Field(default_factory=list)
    """requirements of further Python packages, such as `transformers==4.57.0`"""
    python_index: PythonIndex | None = None
    """a company's package index beside the usual one"""
    kernel_modules: list[KernelModule] = Field(default_factory=list)
    """out-of-tree modules beside the driver: `name`, and a DKMS `package` of the archives, or the
    `source` (`url`, `sha256`) of a tarball with a dkms.conf; `build_packages` that it compiles
    with"""
    listen: list[Listen] = Field(default_factory=list)
    """ports that the image listens on beside those of goldenami's roles"""
    immutable: bool = False
    """the root is read-only and checked block by block; what an instance writes is kept apart"""
    roles: dict[str, dict[str, Any] | None]
    """roles in any order, each with its [variables](#variables-of-roles) or nothing"""
    publish: Publish | None = None
    """where and how it is published; without it the image stays here"""
    cluster: ClusterSection | None = None
    """machines that run before somebody needs them"""
    residency: Residency | None = None
    """regions that it may be in"""
    watch: Watch = Watch()
    """which new releases become a new lock"""
    security: Security = Security()
    """what has to be shown of a build before it is published"""
    drift: DriftSection = DriftSection()
    """what may differ on an instance"""

    def variables(self, role: str) -> dict[str, Any]:
        return {
            name: value
            for name, value in (self.roles.get(role) or {}).items()
            if name not in role_order.OWN_KEYS
        }

    def packages(self, role: str) -> list[str]:
        """Return the packages that the definition adds to a role of the company's own."""
        return list((self.roles.get(role) or {}).get("packages") or [])

    @property
    def regions(self) -> list[str]:
        return self.publish.regions if self.publish else []

    @property
    def steps(self) -> list[list[str]]:
        """The roles of each step of this image; a step without any is left out."""
        named = {*self.roles}
        if self.immutable:
            named.add(IMMUTABLE)
        if self.containers:
            named.add(CONTAINERS)
        present_steps = list[list[str]]()
        for step in role_order.steps(self.roles):
            if roles := [role for role in step if role in named]:
                present_steps.append(roles)
        return present_steps

    @property
    def role_names(self) -> list[str]:
        return list(chain.from_iterable(self.steps))
