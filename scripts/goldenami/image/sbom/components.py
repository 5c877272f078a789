"""The parts of a build, from its lock: packages, wheels and what they were compiled from, the
loader of the host.

Where the build has the manifest of its tree, the parts are held equal to it: what a role purged
is no part, and what nobody locked is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from packageurl import PackageURL
from packaging.utils import canonicalize_name

from goldenami.core import records
from goldenami.core.errors import NotVerified
from goldenami.local.disk import grub
from goldenami.local.tree import owners
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
"""deb-src-control(5): the version stands there only where it is not the binary's."""
_SIGNED = re.compile(rf"^linux-signed(?:-(?:{'|'.join(ARCHITECTURES)})$|(?=-|$))")
"""Sources that only sign another's kernel, under versions of their own (Debian's `6.1.192+2` of
`6.1.192-2`): trackers know `linux` and Ubuntu's `linux-aws`."""
PRIVATE = "private"
"""The vendor of wheels of a company's index, of which no public list of vulnerabilities speaks."""
CONTAINER = "container"
"""The property of a part that is in a container, with the container's name."""
_WHEEL = re.compile(
    r"^/opt/ml/([^/]+)/lib/python3[^/]*/site-packages/([^/-]+)-([^/]+)\.dist-info/METADATA$"
)


@dataclass(frozen=True)
class SourcePackage:
    """The source of a package: scanners look vulnerabilities up by it."""

    name: str
    version: str


@dataclass(frozen=True)
class ImagePart:
    """One part of the image. `sha256` is of its file, `cpe` its name in the National
    Vulnerability Database, "" where it has none; `purl` is a package URL (ECMA-427)."""

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
    """An SPDX expression, a name, and the `ref`s of what it needs: empty where the build has no
    record of them."""
    url: str = ""
    """Where a file was that no archive has."""

    @property
    def ref(self) -> str:
        return (
            f"{re.sub('[^A-Za-z0-9.]+', '-', self.name)}-"
            f"{(self.sha256 or records.sha256_text(self.purl))[:16]}"
        )


@dataclass(frozen=True)
class Materials:
    """All parts of a build, by name. `whole` says that they were compared with the files of the
    tree."""

    lock: Lock
    lock_sha256: str
    build_id: str
    parts: tuple[ImagePart, ...]
    whole: bool


def distribution(lock: Lock) -> str:
    """The release of a lock as scanners name it: `debian-13`, `ubuntu-24.04`."""
    return RELEASES[lock.base.release].id


def of_build(build: BuildFolder, lock: Lock, store: Store) -> Materials:
    """The parts of a build; BadInput where the store lacks a package, NotVerified where the tree
    has other parts."""
    bake = build.read_bake()
    whole = build.manifest.exists() and bake.ami is None  # an AMI has the publisher's packages, too
    present = _in_tree(build.manifest, lock) if whole else lock.packages.keys()
    found = [
        *_debs(lock, store, present),
        *_wheels(lock),
        *_files(lock),
        *_loader(bake.host),
        *_containers(lock, store),
    ]
    kept = build.path / PARTS_FILE
    facts = records.read(kept, TreeFacts).parts if kept.exists() else {}
    parts = _with_facts(found, facts)
    return Materials(lock, bake.lock_sha256, build.build_id, _sorted(parts), whole)


def _with_facts(parts: list[ImagePart], facts: Mapping[str, PartFacts]) -> list[ImagePart]:
    # The loader, which has no SHA-256, is of another machine.
    keys = {
        wheel_key(part.name, part.version) if part.vendor in ("pypi", PRIVATE) else part.name: part
        for part in parts
        if part.sha256
    }
    known = {part.ref: facts[key] for key, part in keys.items() if key in facts}
    return [
        replace(
            part,
            licence=fact.licence,
            supplier=fact.supplier,
            depends=tuple(sorted(keys[key].ref for key in fact.depends if key in keys)),
        )
        if (fact := known.get(part.ref))
        else part
        for part in parts
    ]


def of_lock(lock: Lock, store: Store) -> Materials:
    """The parts that a lock names: the loader, and what the tree has, are not known."""
    sha256 = records.sha256_text(lockfile.text_of(lock))
    found = [
        *_debs(lock, store, lock.packages),
        *_wheels(lock),
        *_files(lock),
        *_containers(lock, store),
    ]
    return Materials(lock, sha256, sha256[: lockfile.ID_LENGTH], _sorted(found), whole=False)


def of_container(
    lock: Lock, lock_sha256: str, store: Store, facts: Mapping[str, PartFacts]
) -> Materials:
    """The parts of a container image that has these packages and wheels."""
    found = [*_debs(lock, store, facts), *_wheels(lock), *_files(lock)]
    found = _with_facts(found, facts)
    return Materials(
        lock, lock_sha256, lock_sha256[: lockfile.ID_LENGTH], _sorted(found), whole=True
    )


def _sorted(parts: Iterable[ImagePart]) -> tuple[ImagePart, ...]:
    return tuple(sorted(parts, key=lambda part: (part.name, part.ref)))


def source_packages(lock: Lock, store: Store) -> dict[str, SourcePackage]:
    """The source of each package, from its own control data: the lock has no version of it."""
    found = {}
    for name, package in lock.packages.items():
        match = _SOURCE.search(local_repository.control(store, package.deb(name)))
        source, version = match.groups() if match else (name, None)
        if _SIGNED.match(source):
            source, version = _SIGNED.sub("linux", source), package.version
        found[name] = SourcePackage(source, version or package.version)
    return found


def _debs(lock: Lock, store: Store, names: Container[str]) -> Iterator[ImagePart]:
    sources = source_packages(lock, store)
    return (
        _deb(lock, name, package, sources[name])
        for name, package in lock.packages.items()
        if name in names
    )


def _deb(lock: Lock, name: str, package: Package, source: SourcePackage) -> ImagePart:
    for what, made in lock.compiled_modules().items():
        if name == made.package:
            return _modules(lock, what, made, package)
    if loose := next((file for file in lock.downloads if file.package == name), None):
        return replace(_file(loose, name), source=source)
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
    return (_file(file, file.name) for file in lock.downloads if not file.package)


def _file(file: LockedDownload, name: str) -> ImagePart:
    facts = {"checksum": f"sha256:{file.sha256}", "download_url": file.url}
    purl = PackageURL("generic", None, name, file.version, facts).to_string()
    signer = (("signed-by", file.signed_by),) if file.signed_by else ()
    return ImagePart(
        name, file.version, purl, file.sha256, file.host, properties=signer, url=file.url
    )


def _containers(lock: Lock, store: Store) -> Iterator[ImagePart]:
    homes, inside = dict[str, list[str]](), dict[str, ImagePart]()
    for one in lock.containers:
        path, _, tag = one.name.rpartition(":")
        held = list[str]()
        for found in container_layers.contents(one, store):
            source = SourcePackage(*found.source) if found.source else None
            part = ImagePart(found.name, found.version, found.purl, "", found.vendor, source)
            inside[found.purl] = part
            homes.setdefault(found.purl, []).append(one.name)
            held.append(part.ref)
        facts = {"arch": lock.base.architecture, "repository_url": path, "tag": tag}
        url = PackageURL(
            "oci", None, path.rpartition("/")[2], f"sha256:{one.manifest.sha256}", facts
        )
        yield ImagePart(
            one.name,
            tag,
            url.to_string(),
            one.manifest.sha256,
            path.partition("/")[0],
            depends=tuple(sorted(held)),
        )
    for key, each in inside.items():
        yield replace(each, properties=tuple((CONTAINER, name) for name in homes[key]))


def _deb_purl(lock: Lock, vendor: str, name: str, package: Package, source: SourcePackage) -> str:
    qualifiers = {"arch": package.architecture, "distro": distribution(lock)}
    if source != SourcePackage(name, package.version):
        qualifiers["upstream"] = source.name + (
            f"@{source.version}" if source.version != package.version else ""
        )
    return PackageURL("deb", vendor, name, package.version, qualifiers).to_string()


def _modules(lock: Lock, what: str, made: KernelModules, package: Package) -> ImagePart:
    facts = [("compiled-with", made.compiler), ("kernel", lock.kernel.release)]
    vendor, cpe = "generic", ""
    if what == DRIVER_MODULES:
        assert lock.driver
        vendor = what
        facts.append(("flavour", lock.driver.flavour))
        cpe = f"cpe:2.3:a:nvidia:gpu_display_driver:{lock.driver.version}:*:*:*:*:linux:*:*"
    facts += [("signer", made.signature.signer)] if made.signature else []
    origin, ancestors = made.build.get(made.source_package), list[ImagePart]()
    if origin and "://" in origin.origin:
        facts_of = {
            "checksum": f"sha256:{origin.sha256}",
            "download_url": f"{origin.origin}/{origin.path}",
        }
        ancestors.append(
            ImagePart(
                origin.path,
                origin.version,
                PackageURL("generic", None, what, origin.version, facts_of).to_string(),
                origin.sha256,
                "generic",
            )
        )
    elif origin:
        ancestors.append(
            _deb(lock, made.source_package, origin, SourcePackage(origin.source, origin.version))
        )
    purl = PackageURL("generic", None, made.package, package.version).to_string()
    return ImagePart(
        made.package,
        package.version,
        purl,
        package.sha256,
        vendor,
        cpe=cpe,
        properties=tuple(facts),
        ancestors=tuple(ancestors),
    )


def _wheels(lock: Lock) -> Iterator[ImagePart]:
    homes: dict[str, list[str]] = {}
    files: dict[str, PyFile] = {}
    for environment, found in lock.environments().items():
        for file in found:
            files[file.sha256] = file
            homes.setdefault(file.sha256, []).append(environment)
    made = {one.wheel.sha256: one.made for one in lock.frameworks if one.made}
    for sha256, file in files.items():
        compiled = made.get(sha256)
        facts = [("environment", name) for name in sorted(homes[sha256])]
        facts += (
            [("compiled-for", compiled.target.cpu), ("compiled-with", compiled.compiler)]
            if compiled
            else []
        )
        vendor, where = _index(lock, file)
        purl = PackageURL("pypi", None, file.project, file.version, where).to_string()
        yield ImagePart(
            file.project,
            file.version,
            purl,
            sha256,
            vendor,
            properties=(("file", file.filename), *facts),
            ancestors=(_origin(compiled),) if compiled else (),
        )


def _index(lock: Lock, file: PyFile) -> tuple[str, dict[str, str]]:
    """The vendor of a wheel, and its index in the package URL: a public project of its name is
    another."""
    python = lock.python
    if python and python.index and python.is_private(file.project):
        return PRIVATE, {"repository_url": python.index.url}
    return "pypi", {}


def _origin(made: CompiledWheel) -> ImagePart:
    source, kind, facts = made.source, "pypi", {"file_name": made.source.filename}
    if isinstance(source, Archive):
        kind, facts = "generic", {"checksum": f"sha256:{source.sha256}", "download_url": source.url}
    purl = PackageURL(kind, None, source.project, source.version, facts).to_string()
    return ImagePart(source.project, source.version, purl, source.sha256, kind)


def _loader(host: Host) -> Iterator[ImagePart]:
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


def _in_tree(manifest: Path, lock: Lock) -> set[str]:
    paths = [entry["path"] for entry in json.loads(manifest.read_text(encoding="utf-8"))["entries"]]
    packages = owners.installed(paths)
    wheels = {
        (match[1], canonicalize_name(match[2]), match[3])
        for path in paths
        if (match := _WHEEL.match(path))
    }
    locked = {
        (environment, canonicalize_name(file.project), file.version)
        for environment, files in lock.environments().items()
        for file in files
    }
    wrong = [
        f"package {name} is in the image alone" for name in sorted(packages - lock.packages.keys())
    ]
    wrong += [f"wheel {' '.join(one)} is in the image alone" for one in sorted(wheels - locked)]
    wrong += [f"wheel {' '.join(one)} is in the lock alone" for one in sorted(locked - wheels)]
    if wrong:
        raise NotVerified(
            f"{manifest} and the lock differ: {'; '.join(wrong[:6])}",
            hint=f"`make bake IMAGE={lock.image} FORCE=1` makes the build again",
        )
    return packages
