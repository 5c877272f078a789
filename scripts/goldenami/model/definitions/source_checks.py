"""Checks, without network, of a definition's sources beside the distribution's, and of the files of
the role `customize`."""

from __future__ import annotations

from collections.abc import Iterator
from os.path import normpath
from pathlib import Path

from cryptography import x509

from goldenami.core import clock
from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import Key, YamlFile, nearest
from goldenami.model.definitions.definition import Definition
from goldenami.model.roles import role_files

_TAKEN = ("debian", "ubuntu", "built", "downloads")
"""Beginnings of archives' names that mean something else in locks."""
ROLE, VARIABLE = "customize", "customize_downloads"
"""The role that installs downloads, and its variable with them, which the lock sets."""
FILES = f"roles/{ROLE}/files"
"""Folder of a repository's files. It is in the role, so that the role's digest in the lock covers
them."""
ENGINE = "container_runtime"


def mistakes(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """Yield the mistakes, each with its line in `source`."""
    for index, repo in enumerate(definition.extra_repos):
        key: Key = ("extra_repos", index)
        if repo.name.startswith(_TAKEN):
            yield source.error(
                (*key, "name"),
                f"`{repo.name}` would be taken for goldenami's own",
                hint="begin it with another word",
            )
        if problem := _no_key(root, repo.key):
            yield source.error((*key, "key"), f"`{repo.key}` {problem}")
    names = [repo.name for repo in definition.extra_repos]
    yield from source.repeated(("extra_repos",), names, "name")
    yield from _downloads(root, source, definition)
    images = [container.called or container.name for container in definition.containers]
    yield from source.repeated(
        ("containers",), images, hint="give each a tag of its own, or another `called`"
    )
    if images and ENGINE not in definition.roles:
        yield source.error(
            ("containers",),
            f"need the role `{ENGINE}`, which has an engine",
            hint=f"write `{ENGINE}:` under `roles`",
        )


def _downloads(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    places = list[str]()
    for index, download in enumerate(definition.downloads):
        key: Key = ("downloads", index)
        if download.key is not None and (problem := _no_key(root, download.key)):
            yield source.error((*key, "key"), f"`{download.key}` {problem}")
        for name, place in (("path", download.path), ("unpack", download.unpack)):
            if place is None:
                continue
            if problem := _no_place(place) or ("is given twice" if place in places else ""):
                yield source.error((*key, name), f"`{place}` {problem}")
            places.append(place)
    if definition.downloads and ROLE not in definition.roles:
        yield source.error(
            ("downloads",),
            f"need the role `{ROLE}`, which brings them",
            hint=f"write `{ROLE}:` under `roles`",
        )
    if VARIABLE in definition.variables(ROLE):
        yield source.error(
            ("roles", ROLE, VARIABLE), "is made by `lock`", hint="write `downloads:` beside `roles`"
        )


def _no_place(path: str) -> str:
    if "*" in path or path != normpath(path) or ".." in path.split("/"):
        return "is no plain path"
    return role_files.misplaced(path)


def _no_key(root: Path, key: str) -> str:
    if "://" in key:
        return ""
    path = (root / key).resolve()
    if not path.is_relative_to(root.resolve()):
        return "leads out of this repository: put a copy into it"
    return "" if path.is_file() else "is no address, and no file of this repository"


def customized(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """Yield the mistakes in the files of `customize`, each with its line in `source`."""
    settings = definition.variables(ROLE)
    for index, row in enumerate(settings.get("customize_files") or []):
        content, problem = _read(root, row["source"])
        if not problem and not _is_text(content):
            problem = "is no text: bring programs as a package"
        if problem:
            yield source.error(
                ("roles", ROLE, "customize_files", index, "source"), f"`{row['source']}` {problem}"
            )
    for index, name in enumerate(settings.get("customize_ca_certificates") or []):
        content, problem = _read(root, name)
        if problem := problem or _refusal(content):
            yield source.error(
                ("roles", ROLE, "customize_ca_certificates", index), f"`{name}` {problem}"
            )


def _read(root: Path, name: str) -> tuple[bytes, str]:
    """Return the bytes of a file and "", or no bytes and the problem."""
    folder = (root / FILES).resolve()
    path = (folder / name).resolve()
    if not path.is_relative_to(folder):
        return b"", f"leads out of {FILES}: put a copy there"
    if not path.is_file():
        files = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
        return b"", f"is no file of {FILES}; {nearest(name, files)}"
    return path.read_bytes(), ""


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def _refusal(content: bytes) -> str:
    if b"PRIVATE KEY" in content:
        return "holds a private key: take the certificate alone"
    try:
        certificates = x509.load_pem_x509_certificates(content)
    except ValueError:
        return "is no certificate in PEM: it begins with -----BEGIN CERTIFICATE-----"
    if len(certificates) != 1:
        return f"holds {len(certificates)} certificates: write each to a file of its own"
    ends = certificates[0].not_valid_after_utc
    return f"expired on {ends:%Y-%m-%d}: ask for its successor" if ends < clock.now() else ""
