"""Contents of an image's containers: packages of dpkg and apk, and Python's wheels."""

from __future__ import annotations

import gzip
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from debian.deb822 import Deb822
from packageurl import PackageURL
from packaging.utils import canonicalize_name

from goldenami.core import records, shell
from goldenami.core.errors import BadInput
from goldenami.core.records import Record
from goldenami.packages.registries import LockedContainer
from goldenami.packages.store import Store

_READ = re.compile(
    r"var/lib/dpkg/status(?:\.d/[^/]+)?|(?:usr/)?lib/apk/db/installed"
    r"|(?:etc|usr/lib)/os-release"
)
_WHEEL = re.compile(r"(?:.*/)?(?:site|dist)-packages/([^/-]+)-([^/-]+)\.dist-info/METADATA")
_ZSTD = b"\x28\xb5\x2f\xfd"
_GONE, _ALL_GONE = ".wh.", ".wh..wh..opq"
"""Whiteouts of the OCI image layout. They remove a path, or all that lower layers have in a
folder."""
_ENDS = (tarfile.ReadError, EOFError, zlib.error, gzip.BadGzipFile)
_LIMIT = 64 << 20
"""Largest file that is read, in bytes: the largest status file of dpkg has some MB."""


class LayerFacts(Record):
    """Facts of one layer: texts of the package databases by path, paths of the wheels' metadata,
    and paths of lower layers that it hides (a hidden folder's content ends with a slash)."""

    texts: dict[str, str]
    wheels: list[str]
    hidden: list[str]


class Contained(Record):
    """A package or a wheel in a container. `source` is name and version of the source package, or
    None for a wheel."""

    name: str
    version: str
    purl: str
    vendor: str
    source: tuple[str, str] | None = None


def contents(container: LockedContainer, store: Store) -> list[Contained]:
    """Return all packages and wheels of a container. Raises BadInput if the store lacks a layer."""
    texts, wheel_paths = dict[str, str](), set[str]()
    for layer in container.layers:
        facts = _facts(store, layer.sha256)
        texts = {path: text for path, text in texts.items() if not _hides(facts, path)}
        wheel_paths = {path for path in wheel_paths if not _hides(facts, path)} | {*facts.wheels}
        texts |= facts.texts
    release = _release(texts)
    return [*_debs(texts, release), *_apks(texts, release), *_wheels(wheel_paths)]


def _hides(facts: LayerFacts, path: str) -> bool:
    return any(
        path == hidden.rstrip("/") or path.startswith(f"{hidden.rstrip('/')}/")
        for hidden in facts.hidden
    )


def _facts(store: Store, sha256: str) -> LayerFacts:
    # Layers have gigabytes, so each is read once and its facts are kept beside the store.
    cached = store.cache.control / f"{sha256}.layer.json"
    if cached.exists():
        return records.read(cached, LayerFacts)
    path = store.path(sha256)
    if not path.is_file():
        raise BadInput(
            f"the store has no layer {sha256[:12]}",
            hint="`golden bake IMAGE --fetch-only` has it again",
        )
    facts = _read(path)
    records.write(cached, facts)
    return facts


def _read(path: Path) -> LayerFacts:
    with path.open("rb") as content:
        is_zstd = content.read(len(_ZSTD)) == _ZSTD
    if is_zstd:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".plain") as plain:
            shell.output(["zstd", "-dqf", str(path), "-o", plain.name])
            return _read(Path(plain.name))
    facts = LayerFacts(texts={}, wheels=[], hidden=[])
    # Some builders leave out the end of a layer's archive, and engines accept that.
    with suppress(*_ENDS), tarfile.open(path) as layer:
        for member in layer:
            _take(layer, member, facts)
    return facts


def _take(layer: tarfile.TarFile, member: tarfile.TarInfo, facts: LayerFacts) -> None:
    name = str(PurePosixPath(member.name.lstrip("/")))
    folder, _, last = name.rpartition("/")
    if last == _ALL_GONE:
        facts.hidden.append(f"{folder}/")
    elif last.startswith(_GONE):
        facts.hidden.append(f"{folder}/{last.removeprefix(_GONE)}".lstrip("/"))
    elif _WHEEL.fullmatch(name):
        facts.wheels.append(name)
    elif _READ.fullmatch(name) and member.isreg() and member.size <= _LIMIT:
        content = layer.extractfile(member)
        assert content is not None  # a file has some
        facts.texts[name] = content.read().decode(errors="replace")


def _release(texts: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables of os-release(5) without their quotes."""
    text = texts.get("etc/os-release") or texts.get("usr/lib/os-release") or ""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key: value.strip("\"'") for key, _, value in pairs}


def _debs(texts: Mapping[str, str], release: Mapping[str, str]) -> Iterator[Contained]:
    vendor = release.get("ID", "debian")
    distribution = f"{vendor}-{release.get('VERSION_ID', '')}".rstrip("-")
    for path in sorted(path for path in texts if "/dpkg/" in path):
        for fields in Deb822.iter_paragraphs(texts[path], use_apt_pkg=False):
            if "installed" not in fields.get("Status", "installed").split():
                continue
            name, version = fields["Package"], fields["Version"]
            source, _, source_version = fields.get("Source", name).partition(" ")
            origin = (source, source_version.strip("()") or version)
            qualifiers = {"arch": fields.get("Architecture", ""), "distro": distribution}
            # Lists of vulnerabilities name source packages, so the purl names one that differs.
            if origin[1] != version:
                qualifiers["upstream"] = "@".join(origin)
            elif source != name:
                qualifiers["upstream"] = source
            yield Contained(
                name=name,
                version=version,
                vendor=vendor,
                source=origin,
                purl=PackageURL("deb", vendor, name, version, qualifiers).to_string(),
            )


def _apks(texts: Mapping[str, str], release: Mapping[str, str]) -> Iterator[Contained]:
    vendor = release.get("ID", "alpine")
    distribution = f"{vendor}-{release.get('VERSION_ID', '')}"
    for path in sorted(path for path in texts if "/apk/" in path):
        for stanza in texts[path].strip().split("\n\n"):
            fields = dict(line.split(":", 1) for line in stanza.splitlines() if ":" in line)
            if {"P", "V"} <= fields.keys():
                qualifiers = {"arch": fields.get("A", ""), "distro": distribution}
                purl = PackageURL("apk", vendor, fields["P"], fields["V"], qualifiers).to_string()
                yield Contained(
                    name=fields["P"],
                    version=fields["V"],
                    vendor=vendor,
                    purl=purl,
                    source=(fields.get("o", fields["P"]), fields["V"]),
                )


def _wheels(paths: set[str]) -> Iterator[Contained]:
    for match in filter(None, map(_WHEEL.fullmatch, sorted(paths))):
        name, version = canonicalize_name(match[1]), match[2]
        yield Contained(
            name=name,
            version=version,
            vendor="pypi",
            purl=PackageURL("pypi", None, name, version).to_string(),
        )
