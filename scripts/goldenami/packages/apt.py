"""Dependency resolution by apt itself, in a private root that shares nothing with this machine. The
root's package database is empty, so `solve` returns all packages of an image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from debian.deb822 import Packages, Release
from debian.debian_support import Version

from goldenami.core import locks, shell
from goldenami.core.errors import NoFit, Unreachable
from goldenami.core.records import sha256_file
from goldenami.core.web_address import without_login
from goldenami.packages import mirrors, signing_keys
from goldenami.packages.download import StoreRequest
from goldenami.packages.mirrors import Source
from goldenami.packages.signing_keys import OtherKey

FETCH_TIMEOUT_S = 10
FETCH_RETRIES = 2
"""A mirror that hangs costs (1 + retries) x 2 timeouts for each suite, since apt's http method
connects anew once in each try. Suites follow each other: two minutes for Debian's two."""

_CONFIGURATION = """\
Dir "{folder}/";
Dir::Etc "{folder}/etc/";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{folder}/";
Dir::Etc::preferencesparts "{folder}/etc/preferences.d/";
Dir::State "{folder}/";
Dir::State::lists "{folder}/lists/";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache/";
Dir::Log "/dev/null";
APT::Architecture "{architecture}";
APT::Architectures {{"{architecture}";}};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::ForceHash "SHA256";
Acquire::Retries "{retries}";
Acquire::http::Timeout "{timeout_s}";
Acquire::https::Timeout "{timeout_s}";
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Update;
APT::Update::Error-Mode "any";
"""
"""Template of apt.conf. Without Sandbox::User, apt would become the user `_apt`, who cannot reach a
cache in root's home."""

_URI_LINE = re.compile(
    r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})"
)

_LOGIN_REFUSED = re.compile(r"\s40[13]\s")
_OTHER_KEY = re.compile("NO_PUBKEY|Missing key")
"""What apt says of an answer 401 or 403, and gpgv or sqv of a signature by none of the keys."""

_UNMET = re.compile(r"\S+ (: )?(Pre-?Depends|Depends|Conflicts|Breaks):? .*")
"""apt's line about an unmet dependency: `a : Depends: b (>= 2) but 1 is to be installed` of the
classic solver, `1. a:amd64 Depends b` of the solver of apt 3.0."""


BUILT, DOWNLOADED = "built", "downloads"
"""Stand in `Deb.archive` for packages of no archive: compiled here, and downloaded from an address
in the definition."""
LOOSE = (BUILT, DOWNLOADED)


@dataclass(frozen=True)
class Deb:
    """One package file. `archive` and `path` say where it is without naming a host; `path` of a
    DOWNLOADED one is its address. Sizes are in bytes."""

    name: str
    version: str
    architecture: str
    sha256: str
    size: int
    installed_size: int
    archive: str
    path: str
    source: str


def store_requests(debs: Iterable[Deb], uris: Mapping[str, str]) -> list[StoreRequest]:
    """Return requests for the packages that are in an archive; `uris` has the archives' URIs."""
    requests = []
    for deb in debs:
        if deb.archive not in LOOSE:
            url, title = f"{uris[deb.archive]}/{deb.path}", f"{deb.name} {deb.version}"
            requests.append(StoreRequest(deb.sha256, deb.size, url, title))
    return requests


@dataclass(frozen=True)
class IndexEntry:
    """One version of a package in an archive's suite."""

    version: str
    archive: str
    suite: str

    @property
    def place(self) -> str:
        if self.suite == "./":
            return self.archive
        return f"{self.archive} {self.suite}"

    @property
    def security(self) -> bool:
        """Whether it is a security update."""
        # Debian has an archive of its own for them, Ubuntu a suite.
        return self.archive.endswith("-security") or self.suite.endswith("-security")


@dataclass(frozen=True)
class AptRoot:
    """A private apt root in `folder` for `sources`, whose archives are at `uris`."""

    folder: Path
    sources: tuple[Source, ...]
    uris: Mapping[str, str]
    architecture: str = "amd64"
    local_repo: Path | None = None
    stock: Mapping[str, Deb] = field(default_factory=dict)
    """Packages of `local_repo` that come from an archive nevertheless, by SHA-256."""

    @cached_property
    def _env(self) -> dict[str, str]:
        return {"APT_CONFIG": str(self.folder / "apt.conf")}

    @contextmanager
    def locked(self) -> Iterator[None]:
        with locks.hold(self.folder / "lock"):
            yield

    def configure(self) -> None:
        """Write apt's configuration and sources. Idempotent; fetches a vendor's key if missing."""
        for part in (
            "etc/apt.conf.d",
            "etc/preferences.d",
            "lists/partial",
            "cache/archives/partial",
        ):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").write_text("", encoding="utf-8")
        (self.folder / "apt.conf").write_text(self._configuration(), encoding="utf-8")
        (self.folder / "golden.sources").write_text(self._sources(), encoding="utf-8")

    def _configuration(self) -> str:
        text = _CONFIGURATION.format(
            folder=self.folder,
            architecture=self.architecture,
            retries=FETCH_RETRIES,
            timeout_s=FETCH_TIMEOUT_S,
        )
        for name, value in mirrors.way_settings().items():
            text += f'{name} "{value}";\n'
        return text

    def _sources(self) -> str:
        stanzas = []
        for source in self.sources:
            lines = [
                "Types: deb",
                f"URIs: {self.uris[source.archive]}",
                f"Suites: {' '.join(source.suites)}",
            ]
            if not source.flat:
                lines.append(f"Components: {' '.join(source.components)}")
            keyring = signing_keys.keyring(source, self.uris[source.archive], self.folder)
            stanzas.append("\n".join([*lines, f"Signed-By: {keyring}"]))
        if self.local_repo is not None:
            stanzas.append(f"Types: deb\nURIs: file:{self.local_repo}\nSuites: ./\nTrusted: yes")
        return "\n\n".join(stanzas) + "\n"

    @cached_property
    def _all_names(self) -> list[str]:
        """Names of all packages, some 70,000."""
        return shell.output(["apt-cache", "pkgnames"], env=self._env).split()

    def update(self) -> None:
        """Read the indexes of all archives. Raises Unreachable, which names the mirror that
        refused, hung or served nonsense, and OtherKey if an index is signed by another key than the
        stated ones."""
        self.__dict__.pop("_all_names", None)
        try:
            self._update()
        except OtherKey:
            # The vendor may have a new key since this one was fetched.
            signing_keys.forget(self.sources, self.folder)
            self.configure()
            self._update()

    def _update(self) -> None:
        try:
            with self._logged_in():
                shell.output(["apt-get", "update", "-q"], env=self._env)
        except shell.CommandFailed as error:
            raise self._refusal(f"apt could not read the indexes: {_update_cause(error)}") from None

    def _refusal(self, message: str) -> Unreachable:
        source = self.named(message)
        if source and _LOGIN_REFUSED.search(message):
            uri = self.addresses[source.archive]
            return mirrors.refused(message, has_login=without_login(uri)[0] != uri)
        if source and _OTHER_KEY.search(message):
            return signing_keys.unknown(source, message)
        variables = ", ".join(mirrors.variable(source.archive) for source in self.sources)
        return Unreachable(
            message,
            hint="check that this mirror is reachable and current: the URIs come from this "
            f"machine's apt sources or from {variables}",
        )

    def named(self, message: str) -> Source | None:
        """Return the source that an error names, or one of whose addresses it has; else None."""
        found = list[Source]()
        for source in self.sources:
            uri = without_login(self.uris[source.archive])[0]
            places = [f"`{source.archive}`", f"{uri}/", f"{uri} "]
            if source.vendor and "://" in source.vendor.key:
                places.append(source.vendor.key)
            if any(place in message for place in places):
                found.append(source)
        # One archive's address may be below another's.
        return max(found, key=lambda source: len(self.uris[source.archive]), default=None)

    @contextmanager
    def _logged_in(self) -> Iterator[None]:
        """Give apt the logins of vendors' archives, during the block."""
        # In a file that only this user can read: every user can read arguments, and the sources
        # file stays after the run.
        path, lines = self.folder / "etc/auth.conf", list[str]()
        for source in self.sources:
            if source.vendor and source.vendor.login:
                user, password = mirrors.login(source.archive, source.vendor.login)
                place = without_login(self.uris[source.archive])[0]
                lines.append(f"machine {place} login {user} password {password}\n")
        path.unlink(missing_ok=True)  # a killed run's
        try:
            if lines:
                path.touch(mode=0o600)
                path.write_text("".join(lines), encoding="utf-8")
            yield
        finally:
            path.unlink(missing_ok=True)

    @property
    def addresses(self) -> dict[str, str]:
        """The archives' URIs with logins, to download from. Never show them."""
        return mirrors.with_logins(
            self.uris, [source.vendor for source in self.sources if source.vendor]
        )

    def pin(self, pins: Mapping[str, str]) -> None:
        """Prefer versions, by package (or `src:name:any`, or a glob) -> version pattern."""
        text = "\n\n".join(
            f"Package: {name}\nPin: version {version}\nPin-Priority: 1001"
            for name, version in sorted(pins.items())
        )
        (self.folder / "etc/preferences.d/golden").write_text(text + "\n", encoding="utf-8")

    def solve(self, names: Sequence[str]) -> list[Deb]:
        """Return the packages `names` with all dependencies on an empty system, sorted by name.
        Raises NoFit with apt's own reason if there is no solution."""
        try:
            text = shell.output(
                [
                    "apt-get",
                    "install",
                    "--print-uris",
                    "--yes",
                    "-q",
                    "--no-install-recommends",
                    *names,
                ],
                env=self._env,
            )
        except shell.CommandFailed as error:
            raise NoFit(
                _reason(error.output),
                tail=error.tail,
                hint="the names come from roles/*/vars and the definition",
            ) from None
        files = list(_uri_lines(text))
        stanzas = self._stanzas([_file_name(match["file"]) for match in files])
        return sorted((self._deb(match, stanzas) for match in files), key=lambda deb: deb.name)

    def _stanzas(self, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Packages]:
        wanted = [f"{name}={version}" for name, version in names]
        text = shell.output(["apt-cache", "show", *wanted], env=self._env)
        parsed = Packages.iter_paragraphs(text, use_apt_pkg=False)
        return {(stanza["Package"], stanza["Version"]): stanza for stanza in parsed}

    def _deb(self, match: re.Match[str], stanzas: Mapping[tuple[str, str], Packages]) -> Deb:
        if match["sha256"] in self.stock:
            return self.stock[match["sha256"]]
        name, version = _file_name(match["file"])
        stanza = stanzas[name, version]
        archive, path = self._place(match["uri"])
        return Deb(
            name=name,
            version=version,
            architecture=stanza["Architecture"],
            sha256=match["sha256"],
            size=int(match["size"]),
            installed_size=int(stanza.get("Installed-Size", "0")) * 1024,
            archive=archive,
            path=path,
            source=stanza.get("Source", name).partition(" ")[0],
        )

    def _place(self, uri: str) -> tuple[str, str]:
        # The longest URI first, since one archive's may be below another's.
        for archive, base in sorted(self.uris.items(), key=lambda place: -len(place[1])):
            if uri.startswith(f"{base}/"):
                return archive, unquote(uri.removeprefix(f"{base}/"))
        # Any other URI would get into a lock as `built`, though nobody builds it.
        assert uri.startswith("file:"), uri
        return BUILT, Path(unquote(uri)).name

    def versions(self, package: str) -> list[str]:
        """Return a package's versions, newest first in Debian's order."""
        entries = self.entries([package]).get(package, [])
        return list(dict.fromkeys(entry.version for entry in entries))

    def entries(self, names: Sequence[str]) -> dict[str, list[IndexEntry]]:
        """Return the entries of each package, newest first. Of equal versions that of the security
        updates comes first, because a point release takes those over later."""
        if not names:
            return {}
        text = shell.output(["apt-cache", "madison", *names], env=self._env, check=False)
        entries: dict[str, list[IndexEntry]] = {}
        for line in text.splitlines():
            columns = [part.strip() for part in line.split("|")]
            if len(columns) == 3:
                uri, suite = columns[2].split()[:2]
                if suite != "./":
                    suite = suite.partition("/")[0]
                entry = IndexEntry(columns[1], self._archive_at(uri), suite)
                entries.setdefault(columns[0], []).append(entry)
        for versions in entries.values():
            versions.sort(key=lambda entry: (Version(entry.version), entry.security), reverse=True)
        return entries

    def _archive_at(self, uri: str) -> str:
        for archive, base in self.uris.items():
            if uri.rstrip("/") == base:
                return archive
        return BUILT

    def preferred(self, names: Sequence[str]) -> dict[str, str]:
        """Return the versions that apt would install, by package; packages without one are left
        out."""
        if not names:
            return {}
        text = shell.output(["apt-cache", "policy", *names], env=self._env)
        pairs = re.findall(r"^(\S+):\n(?:  .*\n)*?  Candidate: (\S+)$", text, re.MULTILINE)
        return {name: version for name, version in pairs if version != "(none)"}

    def needing(self, name: str) -> set[str]:
        """Return the packages of all archives that depend on `name`."""
        argv = ["apt-cache", "rdepends", "--important", name]
        return {line.strip(" |") for line in shell.output(argv, env=self._env).splitlines()[2:]}

    def digests(self, names: Sequence[str]) -> dict[tuple[str, str], str]:
        """Return the SHA-256 of all versions of the packages, by name and version."""
        if not names:
            return {}
        text = shell.output(["apt-cache", "show", *names], env=self._env, check=False)
        parsed = Packages.iter_paragraphs(
            text, fields=["Package", "Version", "SHA256"], use_apt_pkg=False
        )
        return {
            (stanza["Package"], stanza["Version"]): stanza.get("SHA256", "") for stanza in parsed
        }

    def names(self, pattern: str) -> list[str]:
        """Return the sorted names that match the whole regular expression `pattern`."""
        return sorted(filter(re.compile(pattern).fullmatch, self._all_names))

    def stanza(self, package: str, version: str) -> Packages:
        return self._stanzas([(package, version)])[package, version]

    def file(self, package: str, version: str) -> Deb:
        """Return one package file without its dependencies."""
        text = shell.output(
            ["apt-get", "download", "--print-uris", "-qq", f"{package}={version}"], env=self._env
        )
        match = next(_uri_lines(text))
        return self._deb(match, self._stanzas([(package, version)]))

    def releases(self) -> list[dict[str, str]]:
        """Return suite, date and SHA-256 of each Release file that `update` read."""
        releases = []
        for path in (self.folder / "lists").glob("*Release"):
            release = Release(path.read_text(encoding="utf-8", errors="replace"))
            releases.append(
                {
                    "suite": self._of_vendor(path.name) or _suite(release),
                    "date": release["Date"],
                    "sha256": sha256_file(path),
                }
            )
        # Not by file name, which begins with the mirror's host: locks don't depend on it.
        return sorted(releases, key=lambda entry: (entry["suite"], entry["sha256"]))

    def _of_vendor(self, name: str) -> str:
        """Return a vendor's archive, and suite unless it is flat, of the file `name` in apt's
        lists; "" for a file of a distribution."""
        # The Release file doesn't tell: a flat archive's names no suite, others may name Debian's.
        for source in self.sources:
            if source.vendor is None:
                continue
            base = self.uris[source.archive].partition("://")[2]
            for suite in source.suites:
                place, title = f"{base}/dists/{suite}/", f"{source.archive} {suite}"
                if source.flat:
                    place, title = f"{base}/", source.archive
                if name.startswith(_in_lists(place)):
                    return title
        return ""


def _in_lists(place: str) -> str:
    """Return the start of the names of files of `place` in apt's lists (apt's URItoFileName)."""
    escaped = place.replace("%", "%25")
    for character in '\\|{}[]<>"^~_=!@#$&*':
        escaped = escaped.replace(character, f"%{ord(character):02x}")
    return escaped.replace("/", "_")


def _suite(release: Release) -> str:
    """Return the suite's name that does not change with the next release: Debian's codename
    (`trixie-updates`, whose suite is `stable-updates`), or Ubuntu's suite (`noble-updates`, whose
    codename is that of the release, `noble`)."""
    codename, suite = release.get("Codename", ""), release.get("Suite", "")
    if codename and suite.startswith(codename):
        return str(suite)
    return str(codename or suite or "./")


def _uri_lines(output: str) -> Iterator[re.Match[str]]:
    """Yield the parsed lines with addresses of apt's `--print-uris`. Raises Unreachable if one has
    no SHA-256."""
    for line in output.splitlines():
        if line.startswith("'"):
            yield _uri_line(line)


def _uri_line(line: str) -> re.Match[str]:
    # Skipping such a line would leave the package out of the lock unseen.
    match = _URI_LINE.match(line)
    if match is None:
        raise Unreachable(
            f"the index has no SHA-256 of {line.split(maxsplit=1)[0]}",
            hint="use a mirror whose indexes are those of the archive",
        )
    return match


def _file_name(text: str) -> tuple[str, str]:
    name, version, _ = unquote(text).split("_", 2)
    return name, version


def _errors(lines: Iterable[str]) -> list[str]:
    """Return apt's errors among the lines of its output."""
    return [line.removeprefix("E: ") for line in lines if line.startswith("E: ")]


def _update_cause(error: shell.CommandFailed) -> str:
    """Return why apt could not read the indexes: the first error that names an address, if any."""
    causes = _errors(error.output.splitlines())
    causes.sort(key=lambda line: "://" not in line)
    cause = [*causes, error.message][0]
    # Without the reason from the `Err:` line, apt says only: has no Release file.
    reason = re.search(r"^Err:.*\n +(\S.*)", error.output, re.MULTILINE)
    if reason and reason[1] not in cause:
        cause += f" ({reason[1]})"
    return cause


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines()]
    for line in lines:
        if unmet := _UNMET.search(line):
            return f"apt finds no solution: {unmet[0]}"
    cause = [*_errors(lines), "no reason given"][0]
    return f"apt finds no solution: {cause}"
