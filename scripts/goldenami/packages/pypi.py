"""Resolves Python packages with pip, for another machine's Python, and finds files on the package
index by SHA-256. Of this machine's pip configuration only the index is used, or GOLDEN_MIRROR_PYPI
instead: its constraints or folders of wheels would lead to other locks."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urljoin, urlsplit

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version
from pydantic import Field

from goldenami.core import process, shell
from goldenami.core.errors import NoFit, Unreachable, Vanished
from goldenami.core.records import Record, Section
from goldenami.core.web_address import without_login
from goldenami.packages import http_documents, mirrors, project_pages
from goldenami.packages.download import StoreRequest
from goldenami.packages.mirrors import LoginVariable
from goldenami.packages.project_pages import ACCEPTED
from goldenami.packages.store import Store

ARCHIVE = "pypi"
VARIABLE = "GOLDEN_MIRROR_PYPI"
_OLDEST_GLIBC = 5
"""manylinux_2_5 (manylinux1) is the oldest platform tag for Linux."""
_ALIASES = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}


_PIP = """
import fnmatch
import sys

from pip._internal.models.search_scope import SearchScope
from pip._vendor.packaging import markers, utils

release = sys.argv.pop(1)
patterns = sys.argv.pop(1).split()

own_environment = markers.default_environment
wanted = {"python_version": release, "python_full_version": f"{release}.0"}
markers.default_environment = lambda: {**own_environment(), **wanted}

all_pages = SearchScope.get_index_urls_locations

def pages_of_one_index(scope, project):
    pages = all_pages(scope, project)
    name = utils.canonicalize_name(project)
    for pattern in patterns:
        if fnmatch.fnmatchcase(name, pattern):
            return pages[1:]
    return pages[:1]

SearchScope.get_index_urls_locations = pages_of_one_index

from pip._internal.cli.main import main

sys.exit(main())
"""
"""pip with two changes. It evaluates markers (`setuptools; python_version >= "3.12"`) for another
Python, since --python-version chooses files by their tags only, and takes the requirements of the
Python that it runs on. And it asks one index for a project, since --extra-index-url takes the
highest version of all indexes. It uses internals of pip, whose version is pinned."""


class PyFile(Record):
    """A wheel or an sdist on the index. `size` is in bytes."""

    project: str
    version: str
    filename: str
    sha256: str
    size: int


class Archive(PyFile):
    """A source archive that is at an address of its own, not on the index."""

    url: str


@dataclass(frozen=True)
class Interpreter:
    """The Python for which packages are resolved, such as (3, 11). `glibc` is the minor version of
    its glibc 2."""

    version: tuple[int, int]
    glibc: int
    machine: str = "x86_64"

    @property
    def release(self) -> str:
        return ".".join(map(str, self.version))

    @property
    def options(self) -> list[str]:
        tag = f"cp{self.version[0]}{self.version[1]}"
        platforms = [f"linux_{self.machine}"]
        for minor in range(_OLDEST_GLIBC, self.glibc + 1):
            platforms.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _ALIASES:
                platforms.append(f"{_ALIASES[minor]}_{self.machine}")
        options = ["--python-version", self.release, "--implementation", "cp"]
        for abi in (tag, "abi3", "none"):
            options += ["--abi", abi]
        for platform in platforms:
            options += ["--platform", platform]
        return options


class PythonIndex(Section):
    """A company's package index beside the usual one. A project comes from a fixed one of the two.
    If the higher version won, anybody could have a public package of the same name installed."""

    url: Annotated[str, Field(pattern=r"^https?://[^/@\s]+(/\S*)?$")]
    """address of its simple API, without a login"""
    packages: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[a-z0-9*-]+$")], ...],
        Field(min_length=1, strict=False),
    ]
    """projects that come from it and from nowhere else, such as `company-*`"""
    login: LoginVariable = ""
    """environment variable that holds its `user:password`"""

    def has(self, project: str) -> bool:
        """Whether the project, by its normalised name, comes from this index."""
        return any(fnmatch.fnmatchcase(project, pattern) for pattern in self.packages)

    def opened(self) -> str:
        """Return the address with its login. Never show it."""
        return mirrors.logged_in(self.url.rstrip("/"), self.url, self.login or None)


@dataclass(frozen=True)
class Index:
    """A package index by the address of its simple API; `private` is a company's index beside
    it."""

    url: str
    private: PythonIndex | None = None

    @classmethod
    def configured(cls, private: PythonIndex | None = None) -> Index:
        """Return the index of GOLDEN_MIRROR_PYPI or of pip's configuration, else pip's default."""
        lines = shell.output([sys.executable, "-m", "pip", "config", "list"]).splitlines()
        settings = dict[str, str]()
        for line in lines:
            name, _, value = line.partition("=")
            settings[name.rpartition(".")[2]] = value.strip("'\"")
        return cls(
            url=(os.environ.get(VARIABLE) or settings.get("index-url") or _default()).rstrip("/"),
            private=private,
        )

    def resolve(
        self,
        requirements: Sequence[str],
        constraints: Sequence[str],
        python: Interpreter,
    ) -> list[PyFile]:
        """Return the wheels of `requirements` and of all their dependencies, sorted by name. Raises
        NoFit with pip's own reason if there is no solution."""
        with process.scratch() as folder:
            constraints_file, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
            constraints_file.write_text("\n".join(constraints) + "\n", encoding="utf-8")
            patterns = " ".join(self.private.packages) if self.private else ""
            argv = [
                sys.executable,
                "-c",
                _PIP,
                python.release,
                patterns,
                "install",
                "--dry-run",
                "--ignore-installed",
                "--progress-bar=off",
                "--no-cache-dir",
                "--only-binary=:all:",
                "--target",
                str(Path(folder, "none")),
                *python.options,
                "--constraint",
                str(constraints_file),
                "--report",
                str(report),
                *requirements,
            ]
            try:
                shell.output(argv, env=self._environment())
            except shell.CommandFailed as error:
                raise self._refused(requirements, error) from None
            installs = json.loads(report.read_text(encoding="utf-8"))["install"]
        return sorted((self._file(install) for install in installs), key=lambda file: file.project)

    def _environment(self) -> dict[str, str]:
        # Variables such as PIP_CONSTRAINT would change the answer: all of this machine's go.
        cleared = dict.fromkeys((name for name in os.environ if name.startswith("PIP_")), "")
        environment = {
            **cleared,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": self.url,
            "PIP_NO_INPUT": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_DEFAULT_TIMEOUT": "60",
        }
        environment |= self._proxies()
        if self.private:
            environment["PIP_EXTRA_INDEX_URL"] = self.private.opened()
        return environment

    def _proxies(self) -> dict[str, str]:
        """Return the variables of the proxy for both indexes; none if neither needs one."""
        # pip takes one proxy for all indexes. Hosts that need none are excluded by no_proxy.
        urls = [self.url]
        if self.private:
            urls.append(self.private.url)
        proxies = {urlsplit(url).hostname or "": mirrors.proxy(url) for url in urls}
        proxy = next(filter(None, proxies.values()), None)
        if proxy is None:
            return {}
        environment = {"http_proxy": proxy, "https_proxy": proxy}
        direct = [os.environ.get("no_proxy", ""), *(host for host in proxies if not proxies[host])]
        if no_proxy := ",".join(filter(None, direct)):
            environment["no_proxy"] = no_proxy
        return environment

    def _refused(
        self, requirements: Sequence[str], error: shell.CommandFailed
    ) -> NoFit | Unreachable:
        lines = [
            line.removeprefix("ERROR: ")
            for line in error.output.splitlines()
            if line.startswith("ERROR: ")
        ]
        reason = (lines or [error.message])[-1]
        # pip takes a page that it may not read for one without files.
        if unseen := re.search(r"No matching distribution found for ([\w.-]+)", reason):
            with contextlib.suppress(Vanished):
                self._files(canonicalize_name(unseen[1]))
        if re.search(r"Connection|Timeout|Temporary failure|Max retries", error.output):
            return Unreachable(
                f"pip could not reach the package index: {reason}",
                hint=f"check pip's index-url on this machine, or set {VARIABLE}",
                tail=error.tail,
            )
        hint = "another version in the recipe, or a release with a newer Python"
        if "ResolutionImpossible" in error.output and len(requirements) > 1:
            hint = (
                "they share one choice of versions: "
                "give those that conflict images of their own, or other versions"
            )
            reason = "; ".join(_conflict(error.output)) or reason
        return NoFit(
            f"pip finds no wheels for {', '.join(requirements)}: {reason}",
            hint=hint,
            tail=error.tail,
        )

    def _file(self, item: dict[str, Any]) -> PyFile:
        info = item["download_info"]
        filename = unquote(info["url"].rpartition("/")[2].partition("#")[0])
        project, digest = (
            canonicalize_name(item["metadata"]["name"]),
            info["archive_info"]["hashes"]["sha256"],
        )
        for entry in self._files(project):
            listed_digest = entry["hashes"].get("sha256", digest)
            if entry["filename"] == filename and listed_digest == digest:
                return PyFile(
                    project=project,
                    version=item["metadata"]["version"],
                    filename=filename,
                    sha256=digest,
                    size=self._size(entry),
                )
        raise Unreachable(
            f"the package index lists no {filename} with the SHA-256 that pip saw",
            hint="it changed in between: run again",
        )

    def versions(self, project: str, *, prereleases: bool = False) -> list[str]:
        """Return the versions of which there are wheels, oldest first."""
        versions = set[Version]()
        for entry in self._files(canonicalize_name(project)):
            with contextlib.suppress(InvalidWheelFilename):
                versions.add(parse_wheel_filename(entry["filename"])[1])
        return [
            str(version) for version in sorted(versions) if prereleases or not version.is_prerelease
        ]

    def sdist(self, project: str, version: str) -> PyFile:
        """Return the sdist of a version. Raises Vanished if there is none."""
        stem = re.compile(
            rf"{re.sub(r'[-_.]+', '[-_.]', project)}-{re.escape(version)}\.tar\.gz", re.IGNORECASE
        )
        for entry in self._files(canonicalize_name(project)):
            if stem.fullmatch(entry["filename"]):
                return PyFile(
                    project=canonicalize_name(project),
                    version=version,
                    filename=entry["filename"],
                    sha256=entry["hashes"].get("sha256", ""),
                    size=self._size(entry),
                )
        raise Vanished(
            f"the package index has no sdist of {project} {version}",
            hint="change the recipe's version",
        )

    def store_requests(self, files: Iterable[PyFile]) -> list[StoreRequest]:
        """Return requests for files. Raises Vanished if the index no longer has a file, and
        Unreachable if it has another SHA-256."""
        return [
            StoreRequest(file.sha256, file.size, self._url(file), file.filename) for file in files
        ]

    def _url(self, file: PyFile) -> str:
        if isinstance(file, Archive):
            return file.url
        for entry in self._files(file.project):
            if entry["filename"] == file.filename:
                break
        else:
            raise Vanished(
                f"{file.filename} is no longer on the package index",
                hint="change the recipe's version, then `make lock`",
            )
        if (index_sha256 := entry["hashes"].get("sha256", file.sha256)) != file.sha256:
            raise Unreachable(
                f"{file.filename}: the package index has SHA-256 {index_sha256[:12]}, "
                f"the lock names {file.sha256[:12]}",
                hint="the index serves something else than the lock names: find out why "
                "before a new lock takes it",
            )
        return str(entry["url"])

    def fetch(
        self,
        files: Iterable[PyFile],
        store: Store,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> None:
        store.fetch(
            self.store_requests(file for file in files if not store.has(file.sha256, file.size)),
            on_bytes,
        )

    def _size(self, entry: dict[str, Any]) -> int:
        """Return the file's size in bytes. Raises Unreachable if nobody states it."""
        # An index of the old API (before PEP 700) does not state it, so the file's server is asked.
        size = entry.get("size")
        if not isinstance(size, int):
            size = http_documents.length(entry["url"])
        if size is None:
            raise Unreachable(
                f"the package index states no size of {entry['filename']}",
                hint="it has to speak version 1.1 of the simple API (PEP 700), or "
                "to answer HEAD with a length",
            )
        return size

    def page(self, project: str) -> tuple[str, http_documents.Document]:
        """Return the address of a project's page without a login, and the page."""
        address = self._address(project)
        document = http_documents.read(address, headers={"Accept": ACCEPTED})
        return without_login(address)[0], document

    def _address(self, project: str) -> str:
        address = self.url
        if self.private and self.private.has(project):
            address = self.private.opened()
        return f"{address}/{project}/"

    @cache  # noqa: B019 - an index is a value, and its listings do not change while a lock is made
    def _files(self, project: str) -> list[dict[str, Any]]:
        try:
            where, document = self.page(project)
        except http_documents.NotThere as error:
            raise Vanished(
                f"the package index has no project {project}",
                hint=f"change the recipe, or the name ({error.message})",
            ) from None
        files, page = project_pages.entries(document, where), self._address(project)
        for entry in files:
            entry["url"] = _with_login_of(page, urljoin(page, entry["url"]))
        return files


def _with_login_of(page: str, address: str) -> str:
    """Return the address of a file with the login of its page, if both are on the same server."""
    page_parts, parts = urlsplit(page), urlsplit(address)
    server = page_parts.netloc.rpartition("@")[2]
    is_same_server = (page_parts.scheme, server) == (parts.scheme, parts.netloc)
    if not is_same_server:
        return address
    return parts._replace(netloc=page_parts.netloc).geturl()


def _conflict(output: str) -> list[str]:
    _, _, rest = output.partition("The conflict is caused by:\n")
    return [line.strip() for line in rest.partition("\n\n")[0].splitlines()]


def _default() -> str:
    # From pip's own help, so that the code names no index's host.
    text = shell.output([sys.executable, "-m", "pip", "install", "--help"])
    match = re.search(r"\(default\s+(https://\S+?)\)", text)
    assert match is not None, "pip's help no longer names its default index"
    return match[1]
