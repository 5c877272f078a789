"""Python packages: pip as resolver, for another machine's Python, and files of the package index by
SHA-256.

Which index that is, this machine's pip is configured to know, or GOLDEN_MIRROR_PYPI says (the
address of its simple API). Nothing else of the machine's configuration counts: constraints or
folders of wheels would make other locks.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from goldenami.core import shell
from goldenami.core.errors import NoFit, Unreachable, Vanished
from goldenami.core.records import Record
from goldenami.core.web_address import without_login
from goldenami.packages import http_documents, mirrors
from goldenami.packages.download import StoreRequest
from goldenami.packages.store import Store

ARCHIVE = "pypi"
VARIABLE = "GOLDEN_MIRROR_PYPI"
JSON = "application/vnd.pypi.simple.v1+json"
"""The simple repository API,
https://packaging.python.org/en/latest/specifications/simple-repository-api/."""
_OLDEST_GLIBC = 5
"""manylinux_2_5 (manylinux1) is the oldest platform tag for Linux."""
_ALIASES = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}


_PIP = """
import sys
from pip._vendor.packaging import markers
release, own = sys.argv.pop(1), markers.default_environment
markers.default_environment = lambda: {**own(), "python_version": release, "python_full_version": f"{release}.0"}
from pip._internal.cli.main import main
sys.exit(main())
"""
"""pip for another Python's markers (`setuptools; python_version >= "3.12"`): its own
--python-version chooses files by their tags, but asks the Python that it runs on what each file
requires. pip is pinned, so this is of one version."""


class PyFile(Record):
    """A wheel or sdist: the project on the index, version, file name, SHA-256 and bytes."""

    project: str
    version: str
    filename: str
    sha256: str
    size: int


class Archive(PyFile):
    """A source that is not on the index but at an address of its own."""

    url: str


@dataclass(frozen=True)
class Interpreter:
    """The Python that packages are for: (3, 11), and the minor version of its glibc 2."""

    version: tuple[int, int]
    glibc: int
    machine: str = "x86_64"

    @property
    def release(self) -> str:
        """Its version as in markers: "3.11"."""
        return ".".join(map(str, self.version))

    @property
    def options(self) -> list[str]:
        """pip's options by which it resolves for this interpreter instead of its own."""
        tag = f"cp{self.version[0]}{self.version[1]}"
        platforms = [f"linux_{self.machine}"]
        for minor in range(_OLDEST_GLIBC, self.glibc + 1):
            platforms.append(f"manylinux_2_{minor}_{self.machine}")
            platforms += [f"{_ALIASES[minor]}_{self.machine}"] if minor in _ALIASES else []
        return ["--python-version", self.release, "--implementation", "cp",
                *(word for abi in (tag, "abi3", "none") for word in ("--abi", abi)),
                *(word for name in platforms for word in ("--platform", name))]


@dataclass(frozen=True)
class Index:
    """A package index: the address of its simple API and the certificates to trust, if not the
    usual ones."""

    url: str
    certificates: str | None

    @classmethod
    def configured(cls) -> Index:
        """The index that this machine's pip uses."""
        lines = shell.output([sys.executable, "-m", "pip", "config", "list"]).splitlines()
        pairs = (line.partition("=") for line in lines)
        settings = {name.rpartition(".")[2]: value.strip("'\"") for name, _, value in pairs}
        return cls(
            url=(os.environ.get(VARIABLE) or settings.get("index-url") or _default()).rstrip("/"),
            certificates=settings.get("cert"),
        )

    def resolve(
        self, requirements: Sequence[str], constraints: Sequence[str], python: Interpreter,
    ) -> list[PyFile]:
        """Wheels of `requirements` and all that they need, by name; NoFit with pip's own reason if
        there are none."""
        with tempfile.TemporaryDirectory() as folder:
            limits, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
            limits.write_text("\n".join(constraints) + "\n", encoding="utf-8")
            argv = [sys.executable, "-c", _PIP, python.release, "install", "--quiet", "--dry-run",
                    "--ignore-installed",
                    "--no-cache-dir", "--only-binary=:all:", "--target", str(Path(folder, "none")),
                    *python.options,
                    "--constraint", str(limits), "--report", str(report), *requirements]
            try:
                shell.output(argv, env=self._environment())
            except shell.CommandFailed as error:
                raise self._refused(requirements, error) from None
            items = json.loads(report.read_text(encoding="utf-8"))["install"]
        return sorted((self._file(item) for item in items), key=lambda file: file.project)

    def _environment(self) -> dict[str, str]:
        """pip with this index and nothing of the machine's other settings."""
        cleared = dict.fromkeys((name for name in os.environ if name.startswith("PIP_")), "")
        environment = {**cleared, "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": self.url,
                       "PIP_NO_INPUT": "1",
                 "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_DEFAULT_TIMEOUT": "60"}
        more = {"PIP_CERT": self.certificates, "PIP_PROXY": mirrors.proxy(self.url)}
        return environment | {name: value for name, value in more.items() if value}

    def _refused(
        self, requirements: Sequence[str], error: shell.CommandFailed
    ) -> NoFit | Unreachable:
        lines = [line.removeprefix("ERROR: ") for line in error.output.splitlines()
                 if line.startswith("ERROR: ")]
        if re.search(r"Connection|Timeout|Temporary failure|Max retries", error.output):
            return Unreachable("pip could not reach the package index: "
                               f"{(lines or [error.message])[-1]}",
                               hint=f"check pip's index-url on this machine, or set {VARIABLE}",
                               tail=error.tail)
        hint = "another version in the recipe, or a release with a newer Python"
        if "ResolutionImpossible" in error.output and len(requirements) > 1:
            hint = "they share one choice of versions: give those that conflict images of their own, or other versions"
        return NoFit(f"pip finds no wheels for {', '.join(requirements)}: "
                     f"{(lines or [error.message])[-1]}",
                     hint=hint, tail=error.tail)

    def _file(self, item: dict[str, Any]) -> PyFile:
        info = item["download_info"]
        filename = info["url"].rpartition("/")[2].partition("#")[0]
        project, digest = (
            canonicalize_name(item["metadata"]["name"]),
            info["archive_info"]["hashes"]["sha256"],
        )
        entry = next((one for one in self._files(project) if one["hashes"].get("sha256") == digest),
                     None)
        if entry is None:
            raise Unreachable(f"the package index lists no {filename} with the SHA-256 that pip saw",
                              hint="it changed in between: run again")
        return PyFile(project=project, version=item["metadata"]["version"], filename=filename,
                      sha256=digest,
                      size=_size(entry))

    def versions(self, project: str) -> list[str]:
        """Every version of a project that has a wheel, oldest first; pre-releases are none."""
        found = set[Version]()
        for entry in self._files(canonicalize_name(project)):
            with contextlib.suppress(InvalidWheelFilename):
                found.add(parse_wheel_filename(entry["filename"])[1])
        return [str(version) for version in sorted(found) if not version.is_prerelease]

    def sdist(self, project: str, version: str) -> PyFile:
        """The source archive of one version; Vanished where the index has none."""
        stem = re.compile(rf"{re.sub(r'[-_.]+', '[-_.]', project)}-{re.escape(version)}\.tar\.gz",
                          re.IGNORECASE)
        for entry in self._files(canonicalize_name(project)):
            if stem.fullmatch(entry["filename"]):
                return PyFile(project=canonicalize_name(project), version=version,
                              filename=entry["filename"],
                              sha256=entry["hashes"].get("sha256", ""), size=_size(entry))
        raise Vanished(f"the package index has no sdist of {project} {version}",
                       hint="change the recipe's version")

    def store_requests(self, files: Iterable[PyFile]) -> list[StoreRequest]:
        """Where the files are today; Vanished names one that the index no longer has with this
        SHA-256."""
        requests = []
        for file in files:
            if isinstance(file, Archive):
                requests.append(StoreRequest(file.sha256, file.size, file.url, file.filename))
                continue
            entry = next((one for one in self._files(file.project) if one["filename"]
                          == file.filename), None)
            if entry is None:
                raise Vanished(f"{file.filename} is no longer on the package index",
                               hint="change the recipe's version, then `make lock`")
            if (there := entry["hashes"].get("sha256", "")) != file.sha256:
                raise Unreachable(
                    f"{file.filename}: the package index has SHA-256 {there[:12]}, the lock names "
                    f"{file.sha256[:12]}",
                    hint="the index serves something else than the lock names: find out why "
                         "before a new lock takes it")
            requests.append(StoreRequest(file.sha256, file.size, entry["url"], file.filename))
        return requests

    def fetch(
        self, files: Iterable[PyFile], store: Store,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Have the files in the store; those that are there, or were built here, are not asked
        for."""
        store.fetch(self.store_requests(file for file in files
                                        if not store.has(file.sha256, file.size)),
                    on_bytes)

    def page(self, project: str) -> tuple[str, http_documents.Document]:
        """The address of a project's page, without a login, and what is there: by apt's proxy, with
        this index's certificates."""
        address = f"{self.url}/{project}/"
        document = http_documents.read(address, headers={"Accept": JSON},
                                       certificates=self.certificates)
        return without_login(address)[0], document

    @cache  # noqa: B019 - an index is a value, and its listings do not change while a lock is made
    def _files(self, project: str) -> list[dict[str, Any]]:
        try:
            where, document = self.page(project)
        except http_documents.NotThere:
            raise Vanished(
                f"the package index has no project {project}", hint="change the recipe"
            ) from None
        files = entries(document, where)
        for entry in files:
            entry["url"] = urljoin(f"{self.url}/{project}/", entry["url"])
        return files


def entries(document: http_documents.Document, where: str) -> list[dict[str, Any]]:
    """The files of a project's page, each with `filename`, `url` and `hashes`; Unreachable where it
    is no such page."""
    data = document.json(where)
    files = data.get("files") if isinstance(data, dict) else None
    if not isinstance(files, list) or not all(map(_is_entry, files)):
        raise Unreachable(f"{where} is no project page in JSON",
                          hint="does the index speak PEP 691?")
    return files


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and [
        type(entry.get(key)) for key in ("filename", "url", "hashes")
    ] == [str, str, dict]


def _size(entry: dict[str, Any]) -> int:
    if not isinstance(size := entry.get("size"), int):
        raise Unreachable(f"the package index states no size of {entry['filename']}",
                          hint="it has to speak version 1.1 of the simple API, PEP 700")
    return size


def _default() -> str:
    """The index that pip uses where nobody configured one; pip's own help names it."""
    text = shell.output([sys.executable, "-m", "pip", "install", "--help"])
    match = re.search(r"\(default\s+(https://\S+?)\)", text)
    assert match is not None, "pip's help no longer names its default index"
    return match[1]
