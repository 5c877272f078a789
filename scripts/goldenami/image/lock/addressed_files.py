"""Files that a definition names by their address: fetched into the store, checked by SHA-256 and
signature, and handed to the role `customize`."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from goldenami.core import shell
from goldenami.core.errors import BadInput, Replaced, Vanished
from goldenami.core.terminal.progress import Progress
from goldenami.core.yaml_lines import Key, YamlFile
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.definition import Definition, Download
from goldenami.model.locked.locked_downloads import LockedDownload, store_requests
from goldenami.packages import http_documents, mirrors, signing_keys
from goldenami.packages.apt import DOWNLOADED, Deb
from goldenami.packages.http_documents import NotThere
from goldenami.packages.mirrors import NoLogin, Refused
from goldenami.packages.signing_keys import OtherKey
from goldenami.packages.store import Store

SAMPLE = 20
"""Most files of a tarball that the image's checks read back: each costs a line of the lock."""
_VERSION = re.compile(r"(?:^|[-_]v?)(\d+(?:\.\d+)+[\w.+~]*?)(?=[-_]|\.[a-z]|$)")
_REPLACED = "find out why before you write the new one: a vendor announces new files"
_XZ = b"\xfd7zXZ\0"


@dataclass(frozen=True)
class AddressedFile:
    """One file in the store. `told` is its entry in the role's variable; `deb` is the package for
    apt, or None."""

    locked: LockedDownload
    told: dict[str, Any]
    deb: Deb | None = None


def have(
    root: Path, definition: Definition, store: Store, progress: Progress
) -> list[AddressedFile]:
    """The files of `definition`, in the store. Raises BadInput with file and line if one is not as
    stated."""
    if not definition.downloads:
        return []
    source = definition_file.source_of(root, definition.image)
    locked, files = list[LockedDownload](), list[AddressedFile]()
    with progress.in_all():  # each file is hashed, and its server asked
        for index, download in enumerate(definition.downloads):
            with by_line(source, ("downloads", index), _kind(download)):
                locked.append(_sized(download, store))
    lacking = sum(file.size for file in locked if not store.path(file.sha256).exists())
    names = ", ".join(file.name for file in locked)
    with progress.download("files", names, lacking) as on_bytes:
        for index, (download, file) in enumerate(zip(definition.downloads, locked, strict=True)):
            with by_line(source, ("downloads", index), _kind(download)):
                store.fetch(store_requests([file]), on_bytes)
                signed = file.model_copy(update={"signed_by": _signer(root, download, store)})
                files.append(_of(download, signed, store.path(file.sha256)))
                _demand_architecture(definition, files[-1].deb)
    return files


@contextmanager
def by_line(source: YamlFile, at: Key, kind: str = "") -> Iterator[None]:
    """Raise errors of the file at the key `at` within the block as BadInput with its line in the
    definition. `kind` is the key that says what the file is."""
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


def _sized(download: Download, store: Store) -> LockedDownload:
    path = store.path(download.sha256)
    address = mirrors.logged_in(download.url, download.name, download.login)
    is_stored = store.check(download.sha256)
    # A file that is in the store already needs no server, which may be gone.
    size = path.stat().st_size if is_stored else http_documents.remote_file(address).size
    version = download.sha256[:12]
    if match := _VERSION.search(download.name):
        version = match[1]
    return LockedDownload(
        url=download.url,
        name=download.name,
        sha256=download.sha256,
        size=size,
        version=version,
        login=download.login,
    )


def _signer(root: Path, download: Download, store: Store) -> str | None:
    if download.signature is None or download.key is None or download.fingerprint is None:
        return None
    address = mirrors.logged_in(download.signature, download.name, download.login)
    signature = http_documents.read(address, limit=signing_keys.LIMIT).data
    key_address = download.key if "://" in download.key else str(root / download.key)
    key = http_documents.read(key_address, limit=signing_keys.LIMIT).data
    path = store.path(download.sha256)
    return signing_keys.demand_signature(path, signature, key, download.fingerprint)


def _kind(download: Download) -> str:
    return next(
        kind for kind in ("install", "path", "unpack") if getattr(download, kind) is not None
    )


def _of(download: Download, locked: LockedDownload, path: Path) -> AddressedFile:
    variables: dict[str, Any]
    if download.path is not None:
        variables = {
            "path": download.path,
            "owner": download.owner,
            "group": download.group,
            "mode": download.mode,
        }
    elif download.unpack is not None:
        # tar calls xz, which an image need not have: the role installs it for such a tarball alone.
        with path.open("rb") as content:
            needs_xz = content.read(len(_XZ)) == _XZ
        variables = {
            "unpack": download.unpack,
            "strip": download.strip,
            "brings": f"{download.unpack}/**",
            "sample": _sample(path, download.strip),
        }
        if needs_xz:
            variables["tool"] = "xz-utils"
    else:
        return _package(locked, path)
    return AddressedFile(locked, {"file": locked.file, "sha256": locked.sha256, **variables})


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
    """Some files of a tarball, evenly chosen: name below the folder -> SHA-256. Raises BadInput if
    it is no tarball, leads out of its folder, or has no file."""
    try:
        with tarfile.open(path) as archive:
            names = [member.name for member in _members(archive) if _below(member, strip)]
            # Every n-th file, so that the sample reaches the end of the tarball.
            chosen = set(names[:: -(-len(names) // SAMPLE) or 1])
        with tarfile.open(path) as archive:
            sample = dict[str, str]()
            for member in _members(archive):
                if member.name in chosen:
                    sample[_below(member, strip)] = _digest(archive, member)
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
        # Raises FilterError for a member that would be written outside the folder; nothing is
        # written.
        tarfile.tar_filter(member, "/nowhere")
        yield member


def _below(member: tarfile.TarInfo, strip: int) -> str:
    if not member.isfile():
        return ""
    parts = PurePosixPath(member.name.lstrip("/")).parts
    return "/".join(parts[strip:])


def _digest(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = archive.extractfile(member)
    assert content is not None  # a file has some
    digest = hashlib.sha256()
    while chunk := content.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
