"""The parts of a build, from its lock: packages, wheels with their sources, and the host's boot
loader.

If the build has the manifest of its tree, the parts are compared with it: a package that a role
purged is no part, and one that nobody locked is an error.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from packageurl import PackageURL

from goldenami.core import records
from goldenami.image.sbom import tree_contents
from goldenami.local.disk import grub
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import Host
from goldenami.model.builds.part_facts import PARTS_FILE, PartFacts, TreeFacts, wheel_key
from goldenami.model.definitions.definition import DRIVER_MODULES
from goldenami.model.locked import lockfile
from goldenami.model.locked.locked_downloads import LockedDownload
from goldenami.model.locked.lockfile import CompiledWheel, KernelModules, Lock, Package
from goldenami.model.supported.architectures import ARCHITECTURES
from goldenami.model.supported.platforms import RELEASES
from goldenami.packages import container_layers, local_repository
from goldenami.packages.pypi import Archive, PyFile
from goldenami.packages.store import Store

_SOURCE = re.compile(r"^Source: (\S+)(?: \((\S+)\))?$", re.MULTILINE)
"""The field Source of deb-src-control(5). It has a version only if that differs from the
binary's."""
_SIGNED = re.compile(rf"^linux-signed(?:-(?:{'|'.join(ARCHITECTURES)})$|(?=-|$))")
"""Sources that only sign another's kernel, under versions of their own (Debian's `6.1.192+2` of
`6.1.192-2`). Trackers know `linux` and Ubuntu's `linux-aws`."""
PRIVATE = "private"
"""The vendor of wheels from a company's index, which no public list of vulnerabilities covers."""
CONTAINER = "container"
"""The property of a part that is in a container: the container's name."""


@dataclass(frozen=True)
class SourcePackage:
    """The source of a package. Scanners look up vulnerabilities by it."""

    name: str
    version: str


@dataclass(frozen=True)
class ImagePart:
    """One part of the image. `sha256` is its file's, or ""; `cpe` is its name in the National
    Vulnerability Database, or ""; `purl` is a package URL (ECMA-427)."""

    name: str
    version: str
    purl: str
    sha256: str
    vendor: str
    source: SourcePackage | None = None
    cpe: str = ""
    properties: tuple[tuple[str, str], ...] = ()
    ancestors: tuple[ImagePart, ...] = ()
    licence: str = ""
    supplier: str = ""
    depends: tuple[str, ...] = ()
    """The licence is an SPDX expression, the supplier a name, `depends` are the `ref`s of the parts
    that it needs. Empty if the build has no record of them."""
    url: str = ""
    """The address of a file that is in no archive, else ""."""

    @property
    def ref(self) -> str:
        return (
            f"{re.sub('[^A-Za-z0-9.]+', '-', self.name)}-"
            f"{(self.sha256 or records.sha256_text(self.purl))[:16]}"
        )


@dataclass(frozen=True)
class Materials:
    """All parts of a build, sorted by name. `whole` says that they were compared with the files of
    the tree."""

    lock: Lock
    lock_sha256: str
    build_id: str
    parts: tuple[ImagePart, ...]
    whole: bool


def distribution(lock: Lock) -> str:
    """The release of a lock in the form of scanners: `debian-13`, `ubuntu-24.04`."""
    return RELEASES[lock.base.release].id


def of_build(build: BuildFolder, lock: Lock, store: Store) -> Materials:
    """The parts of a build. Raises BadInput if the store lacks a package, NotVerified if the tree
    has other parts."""
    bake = build.read_bake()
    # An AMI also has packages of its publisher, which the lock does not name.
    whole = build.manifest.exists() and bake.ami is None
    present = tree_contents.packages(build.manifest, lock) if whole else lock.packages.keys()
    facts_path = build.path / PARTS_FILE
    facts = records.read(facts_path, TreeFacts).parts if facts_path.exists() else {}
    if whole and facts:
        # By dpkg's status: of one that is removed and not purged, its file list stays.
        present = facts.keys() & present
    parts_of_lock = [
        *_debs(lock, store, present),
        *_wheels(lock),
        *_files(lock),
        *_loader(bake.host),
        *_containers(lock, store),
    ]
    parts = _with_facts(parts_of_lock, facts)
    return Materials(lock, bake.lock_sha256, build.build_id, _sorted(parts), whole)


def _with_facts(parts: list[ImagePart], facts: Mapping[str, PartFacts]) -> list[ImagePart]:
    # The boot loader, which has no SHA-256, is the host's: the tree has no facts about it.
    keys = {_key(part): part for part in parts if part.sha256}
    facts_by_ref = {part.ref: facts[key] for key, part in keys.items() if key in facts}
    parts_with_facts = list[ImagePart]()
    for part in parts:
        if fact := facts_by_ref.get(part.ref):
            depends = sorted(keys[key].ref for key in fact.depends if key in keys)
            part_with_facts = replace(
                part, licence=fact.licence, supplier=fact.supplier, depends=tuple(depends)
            )
            parts_with_facts.append(part_with_facts)
        else:
            parts_with_facts.append(part)
    return parts_with_facts


def _key(part: ImagePart) -> str:
    """The key of a part in the tree's facts."""
    if part.vendor in ("pypi", PRIVATE):
        return wheel_key(part.name, part.version)
    return part.name


def of_lock(lock: Lock, store: Store) -> Materials:
    """The parts that a lock names. The boot loader and the tree's content are not known."""
    sha256 = records.sha256_text(lockfile.text_of(lock))
    parts = [
        *_debs(lock, store, lock.packages),
        *_wheels(lock),
        *_files(lock),
        *_containers(lock, store),
    ]
    return Materials(lock, sha256, sha256[: lockfile.ID_LENGTH], _sorted(parts), whole=False)


def of_container(
    lock: Lock, lock_sha256: str, store: Store, facts: Mapping[str, PartFacts]
) -> Materials:
    """The parts of a container image with the packages and wheels of `facts`."""
    parts = [*_debs(lock, store, facts), *_wheels(lock), *_files(lock)]
    parts = _with_facts(parts, facts)
    return Materials(
        lock, lock_sha256, lock_sha256[: lockfile.ID_LENGTH], _sorted(parts), whole=True
    )


def _sorted(parts: Iterable[ImagePart]) -> tuple[ImagePart, ...]:
    return tuple(sorted(parts, key=lambda part: (part.name, part.ref)))


def source_packages(lock: Lock, store: Store) -> dict[str, SourcePackage]:
    """The source of each package by the package's name."""
    by_name = {}
    for name, package in lock.packages.items():
        # The lock has no version of the source, so the package's own control data is read.
        source: str = name
        version: str | None = None
        if match := _SOURCE.search(local_repository.control(store, package.deb(name))):
            source, version = match.groups()
        if _SIGNED.match(source):
            source, version = _SIGNED.sub("linux", source), package.version
        by_name[name] = SourcePackage(source, version or package.version)
    return by_name


def _debs(lock: Lock, store: Store, names: Container[str]) -> Iterator[ImagePart]:
    sources = source_packages(lock, store)
    for name, package in lock.packages.items():
        if name in names:
            yield _deb(lock, name, package, sources[name])


def _deb(lock: Lock, name: str, package: Package, source: SourcePackage) -> ImagePart:
    for modules_name, modules in lock.compiled_modules().items():
        if name == modules.package:
            return _modules(lock, modules_name, modules, package)
    for download in lock.downloads:
        if download.package == name:
            return replace(_file(download, name), source=source)
    # The origin is an archive's name: `debian-security`, or a vendor's, such as `nvidia`.
    vendor = lock.base.distribution
    if not package.origin.startswith(vendor):
        vendor = package.origin.partition("-")[0]
    return ImagePart(
        name,
        package.version,
        _deb_purl(lock, vendor, name, package, source),
        package.sha256,
        vendor,
        source,
        properties=(("archive", package.origin),),
    )


def _files(lock: Lock) -> Iterator[ImagePart]:
    for file in lock.downloads:
        if not file.package:
            yield _file(file, file.name)


def _file(file: LockedDownload, name: str) -> ImagePart:
    facts = {"checksum": f"sha256:{file.sha256}", "download_url": file.url}
    purl = PackageURL("generic", None, name, file.version, facts).to_string()
    part = ImagePart(name, file.version, purl, file.sha256, file.host, url=file.url)
    if file.signed_by:
        return replace(part, properties=(("signed-by", file.signed_by),))
    return part


def _containers(lock: Lock, store: Store) -> Iterator[ImagePart]:
    """A part for each container, and one for each package in them, with the containers that hold
    it."""
    containers_by_purl, parts_by_purl = dict[str, list[str]](), dict[str, ImagePart]()
    for container in lock.containers:
        path, _, tag = container.name.rpartition(":")
        refs = list[str]()
        for package in container_layers.contents(container, store):
            source = SourcePackage(*package.source) if package.source else None
            part = ImagePart(
                package.name, package.version, package.purl, "", package.vendor, source
            )
            parts_by_purl[package.purl] = part
            containers_by_purl.setdefault(package.purl, []).append(container.name)
            refs.append(part.ref)
        facts = {"arch": lock.base.architecture, "repository_url": path, "tag": tag}
        url = PackageURL(
            "oci", None, path.rpartition("/")[2], f"sha256:{container.manifest.sha256}", facts
        )
        yield ImagePart(
            container.name,
            tag,
            url.to_string(),
            container.manifest.sha256,
            path.partition("/")[0],
            depends=tuple(sorted(refs)),
        )
    for purl, inner_part in parts_by_purl.items():
        owners_of_part = [(CONTAINER, name) for name in containers_by_purl[purl]]
        yield replace(inner_part, properties=tuple(owners_of_part))


def _deb_purl(lock: Lock, vendor: str, name: str, package: Package, source: SourcePackage) -> str:
    qualifiers = {"arch": package.architecture, "distro": distribution(lock)}
    if source != SourcePackage(name, package.version):
        qualifiers["upstream"] = source.name
        if source.version != package.version:
            qualifiers["upstream"] += f"@{source.version}"
    return PackageURL("deb", vendor, name, package.version, qualifiers).to_string()


def _modules(lock: Lock, modules_name: str, modules: KernelModules, package: Package) -> ImagePart:
    facts = [("compiled-with", modules.compiler), ("kernel", lock.kernel.release)]
    vendor, cpe = "generic", ""
    if modules_name == DRIVER_MODULES:
        assert lock.driver
        vendor = modules_name
        facts.append(("flavour", lock.driver.flavour))
        cpe = f"cpe:2.3:a:nvidia:gpu_display_driver:{lock.driver.version}:*:*:*:*:linux:*:*"
    if modules.signature:
        facts.append(("signer", modules.signature.signer))
    source_package, ancestors = modules.build.get(modules.source_package), list[ImagePart]()
    if source_package and "://" in source_package.origin:
        qualifiers = {
            "checksum": f"sha256:{source_package.sha256}",
            "download_url": f"{source_package.origin}/{source_package.path}",
        }
        ancestors.append(
            ImagePart(
                source_package.path,
                source_package.version,
                PackageURL(
                    "generic", None, modules_name, source_package.version, qualifiers
                ).to_string(),
                source_package.sha256,
                "generic",
            )
        )
    elif source_package:
        ancestors.append(
            _deb(
                lock,
                modules.source_package,
                source_package,
                SourcePackage(source_package.source, source_package.version),
            )
        )
    purl = PackageURL("generic", None, modules.package, package.version).to_string()
    return ImagePart(
        modules.package,
        package.version,
        purl,
        package.sha256,
        vendor,
        cpe=cpe,
        properties=tuple(facts),
        ancestors=tuple(ancestors),
    )


def _wheels(lock: Lock) -> Iterator[ImagePart]:
    environments_by_sha256: dict[str, list[str]] = {}
    files: dict[str, PyFile] = {}
    for environment, environment_files in lock.environments().items():
        for file in environment_files:
            files[file.sha256] = file
            environments_by_sha256.setdefault(file.sha256, []).append(environment)
    compiled_by_sha256 = {
        framework.wheel.sha256: framework.made for framework in lock.frameworks if framework.made
    }
    for sha256, file in files.items():
        compiled = compiled_by_sha256.get(sha256)
        facts = [("environment", name) for name in sorted(environments_by_sha256[sha256])]
        ancestors = list[ImagePart]()
        if compiled:
            facts.append(("compiled-for", compiled.target.cpu))
            facts.append(("compiled-with", compiled.compiler))
            ancestors.append(_origin(compiled))
        vendor, qualifiers = _index(lock, file)
        purl = PackageURL("pypi", None, file.project, file.version, qualifiers).to_string()
        yield ImagePart(
            file.project,
            file.version,
            purl,
            sha256,
            vendor,
            properties=(("file", file.filename), *facts),
            ancestors=tuple(ancestors),
        )


def _index(lock: Lock, file: PyFile) -> tuple[str, dict[str, str]]:
    """The vendor of a wheel, and the package URL's qualifiers that name its index."""
    python = lock.python
    if python and python.index and python.is_private(file.project):
        # A public project with the same name is another one.
        return PRIVATE, {"repository_url": python.index.url}
    return "pypi", {}


def _origin(compiled: CompiledWheel) -> ImagePart:
    source, kind, facts = compiled.source, "pypi", {"file_name": compiled.source.filename}
    if isinstance(source, Archive):
        kind, facts = "generic", {"checksum": f"sha256:{source.sha256}", "download_url": source.url}
    purl = PackageURL(kind, None, source.project, source.version, facts).to_string()
    return ImagePart(source.project, source.version, purl, source.sha256, kind)


def _loader(host: Host) -> Iterator[ImagePart]:
    """The packages of the boot loader, which the host of the bake had."""
    vendor, _, _ = host.distribution.partition("-")
    for name in sorted(grub.PACKAGES.values()):
        if version := host.tools.get(name, ""):
            qualifiers = {"arch": "amd64", "distro": host.distribution, "upstream": "grub2"}
            kind, facts = ("deb", qualifiers) if vendor else ("generic", None)
            purl = PackageURL(kind, vendor, name, version, facts).to_string()
            yield ImagePart(
                name,
                version,
                purl,
                "",
                vendor or "GNU",
                SourcePackage("grub2", version),
                properties=(("from", "the host that baked"),),
            )
