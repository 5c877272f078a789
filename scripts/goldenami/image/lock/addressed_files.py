"""Files that a definition names by their address: fetched into the store, believed by SHA-256 and
signature, and told to the role `customize`."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from goldenami.core import shell, yaml_lines
from goldenami.core.errors import BadInput, Replaced, Vanished
from goldenami.core.terminal.progress import Progress
from goldenami.core.yaml_lines import Key, YamlFile
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.definition import Definition, Download
from goldenami.model.locked.locked_downloads import LockedDownload, store_requests
from goldenami.packages import http_documents, mirrors, signing_keys
from goldenami.packages.apt import DOWNLOADED, Deb
from goldenami.packages.http_documents import NotThere, Refused
from goldenami.packages.mirrors import NoLogin
from goldenami.packages.signing_keys import OtherKey
from goldenami.packages.store import Store

SAMPLE = 20
"""Files of a tarball that the image's checks read back: each costs a line of the lock."""
_VERSION = re.compile(r"(?:^|[-_]v?)(\d+(?:\.\d+)+[\w.+~]*?)(?=[-_]|\.[a-z]|$)")
_REPLACED = "find out why before you write the new one: a vendor announces new files"
_XZ = b"\xfd7zXZ\0"


@dataclass(frozen=True)
class AddressedFile:
    """One file in the store. `told` is what the role is told of it; `deb` is what apt installs."""

    locked: LockedDownload
    told: dict[str, Any]
    deb: Deb | None = None


def have(
    root: Path, definition: Definition, store: Store, progress: Progress
) -> list[AddressedFile]:
    """The files of `definition`, in the store; BadInput with file and line where one is not what
    it is said to be."""
    if not definition.downloads:
        return []
    source = yaml_lines.load(definition_file.path_of(root, definition.image))
    locked, files = list[LockedDownload](), list[AddressedFile]()
    with progress.in_all():  # each file is hashed, and its server asked
        for index, wanted in enumerate(definition.downloads):
            with by_line(source, ("downloads", index), _kind(wanted)):
                locked.append(_sized(wanted, store))
    lacking = sum(file.size for file in locked if not store.path(file.sha256).exists())
    names = ", ".join(file.name for file in locked)
    with progress.download("files", names, lacking) as on_bytes:
        for index, (wanted, file) in enumerate(zip(definition.downloads, locked, strict=True)):
            with by_line(source, ("downloads", index), _kind(wanted)):
                store.fetch(store_requests([file]), on_bytes)
                _demand_signature(root, wanted, store)
                files.append(_of(wanted, file, store.path(file.sha256)))
                _demand_architecture(definition, files[-1].deb)
    return files


@contextmanager
def by_line(source: YamlFile, at: Key, kind: str = "") -> Iterator[None]:
    """What is wrong with the file at the key `at` meanwhile is said with its line in the
    definition; `kind` is the key that says what it is."""
    try:
        yield
    except (Vanished, NotThere) as error:
        key, hint, why = "url", "write where it is now", error.message
    except Replaced as error:
        key, hint, why = "sha256", _REPLACED, error.message
    except OtherKey as error:
        key, hint, why = "fingerprint", error.hint, error.message
    except (NoLogin, Refused) as error:
        key, hint, why = "login", error.hint, error.message
    except BadInput as error:
        key, hint, why = kind, error.hint, error.message
    else:
        return
    raise source.error((*at, *filter(None, [key])), why, hint=hint)


def _sized(wanted: Download, store: Store) -> LockedDownload:
    path = store.path(wanted.sha256)
    address = mirrors.logged_in(wanted.url, wanted.name, wanted.login)
    there = store.check(wanted.sha256)
    size = path.stat().st_size if there else http_documents.look(address).size
    version = _VERSION.search(wanted.name)
    return LockedDownload(
        url=wanted.url,
        name=wanted.name,
        sha256=wanted.sha256,
        size=size,
        version=version[1] if version else wanted.sha256[:12],
        login=wanted.login,
        signed_by=wanted.fingerprint,
    )


def _demand_signature(root: Path, wanted: Download, store: Store) -> None:
    if wanted.signature is None or wanted.key is None or wanted.fingerprint is None:
        return
    address = mirrors.logged_in(wanted.signature, wanted.name, wanted.login)
    signature = http_documents.read(address, limit=signing_keys.LIMIT).data
    where = wanted.key if "://" in wanted.key else str(root / wanted.key)
    key = http_documents.read(where, limit=signing_keys.LIMIT).data
    signing_keys.demand_signature(store.path(wanted.sha256), signature, key, wanted.fingerprint)


def _kind(wanted: Download) -> str:
    return next(kind for kind in ("install", "path", "unpack") if getattr(wanted, kind) is not None)


def _of(wanted: Download, locked: LockedDownload, path: Path) -> AddressedFile:
    told: dict[str, Any]
    if wanted.path is not None:
        told = {
            "path": wanted.path,
            "owner": wanted.owner,
            "group": wanted.group,
            "mode": wanted.mode,
        }
    elif wanted.unpack is not None:
        with path.open("rb") as content:
            needs_xz = content.read(len(_XZ)) == _XZ
        told = {
            "unpack": wanted.unpack,
            "strip": wanted.strip,
            "brings": f"{wanted.unpack}/**",
            "sample": _sample(path, wanted.strip),
            **({"tool": "xz-utils"} if needs_xz else {}),
        }
    else:
        return _package(locked, path)
    return AddressedFile(locked, {"file": locked.file, "sha256": locked.sha256, **told})


def _package(locked: LockedDownload, path: Path) -> AddressedFile:
    names = ("Package", "Version", "Architecture", "Installed-Size", "Source")
    try:
        text = shell.output(["dpkg-deb", "--field", str(path), *names])
    except shell.CommandFailed:
        raise BadInput(
            f"{locked.name} is no Debian package",
            hint="take `path` for a file, `unpack` for a tarball",
        ) from None
    fields = dict(line.split(": ", 1) for line in text.splitlines())
    name, version = fields["Package"], fields["Version"]
    deb = Deb(
        name=name,
        version=version,
        architecture=fields["Architecture"],
        sha256=locked.sha256,
        size=locked.size,
        installed_size=int(fields.get("Installed-Size", "0")) * 1024,
        archive=DOWNLOADED,
        path=locked.url,
        source=fields.get("Source", name).partition(" ")[0],
    )
    locked = locked.model_copy(update={"package": name, "version": version})
    return AddressedFile(locked, {"package": name, "version": version}, deb)


def _demand_architecture(definition: Definition, deb: Deb | None) -> None:
    if deb and deb.architecture not in ("all", definition.base.architecture):
        raise BadInput(
            f"{deb.name} is for {deb.architecture}, the image for {definition.base.architecture}"
        )


def _sample(path: Path, strip: int) -> dict[str, str]:
    """Some files of a tarball with their SHA-256, by their names below the folder; BadInput where
    it is none, leads out of it, or has no file."""
    try:
        with tarfile.open(path) as archive:
            names = [member.name for member in _members(archive) if _below(member, strip)]
            chosen = set(names[:: -(-len(names) // SAMPLE) or 1])
        with tarfile.open(path) as archive:
            sample = {
                _below(member, strip): _digest(archive, member)
                for member in _members(archive)
                if member.name in chosen
            }
    except tarfile.FilterError as error:
        raise BadInput(
            f"the tarball leads out of its folder: {error}", hint="do not trust it"
        ) from None
    except (tarfile.TarError, EOFError) as error:
        raise BadInput(
            f"is no whole tarball of gzip, bzip2, xz or none: {error}",
            hint="take `path` for a single file",
        ) from None
    if not sample:
        raise BadInput(f"the tarball has no file below {strip} folders", hint="lower `strip`")
    return sample


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        tarfile.tar_filter(member, "/nowhere")
        yield member


def _below(member: tarfile.TarInfo, strip: int) -> str:
    parts = PurePosixPath(member.name.lstrip("/")).parts
    return "/".join(parts[strip:]) if member.isfile() else ""


def _digest(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = archive.extractfile(member)
    assert content is not None  # a file has some
    digest = hashlib.sha256()
    while chunk := content.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
