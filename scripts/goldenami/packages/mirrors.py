"""Addresses, logins, proxies and keyrings of archives. A lock names no mirror's host, but an
archive and a path (`debian: pool/main/...`). This machine's apt sources or GOLDEN_MIRROR_<ARCHIVE>
give the archive's address. A vendor's archive has one address, which a role or a definition
names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import quote, urlsplit
from urllib.request import proxy_bypass

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from goldenami.core import shell
from goldenami.core.errors import BadInput, HostNotReady, Unreachable
from goldenami.core.records import Lax, Section
from goldenami.core.web_address import without_login

KEYRINGS = Path("/usr/share/keyrings")


def _as_gpg_shows(value: object) -> object:
    if isinstance(value, str):
        return value.replace(" ", "").upper()
    return value


Fingerprint = Annotated[
    str, BeforeValidator(_as_gpg_shows), Field(pattern=r"^([0-9A-F]{40}|[0-9A-F]{64})$")
]
"""A key's whole fingerprint: short forms are easily forged."""


def _as_several(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


def _as_written(value: tuple[str, ...]) -> str | list[str]:
    return value[0] if len(value) == 1 else list(value)


Fingerprints = Annotated[
    tuple[Fingerprint, ...],
    BeforeValidator(_as_several),
    Field(min_length=1, max_length=2, strict=False),
    PlainSerializer(_as_written),
    WithJsonSchema({"type": "string"}),
]
"""The fingerprint of a key, or while its vendor takes a new one those of both."""


def _without_login(value: str) -> str:
    if without_login(value)[1]:
        raise ValueError("holds a login: name an environment variable in `login` instead")
    return value.rstrip("/")


Address = Annotated[str, Field(pattern=r"^https?://\S+$"), AfterValidator(_without_login)]
LoginVariable = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
"""The name of an environment variable that holds `user:password`."""


class VendorArchive(Section):
    """An apt repository beside the distribution's own, as a role or a definition states it."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=41)]
    """its name in locks"""
    uri: Address
    """its address"""
    suites: Lax[tuple[str, ...]] = ()
    """its suites; without them it is flat"""
    components: Lax[tuple[str, ...]] = ()
    """the components of each suite"""
    key: str
    """its key: an address, a file of this repository, or one beside a flat index"""
    fingerprint: Fingerprints
    """of the key, whole; while a vendor changes keys a list of both"""
    login: LoginVariable | None = None
    """name of an environment variable that holds `user:password`"""

    @model_validator(mode="after")
    def _suites_have_components(self) -> Self:
        if bool(self.suites) != bool(self.components):
            raise ValueError(
                "`suites` and `components` need each other; a flat repository has neither"
            )
        return self


@dataclass(frozen=True)
class Source:
    """One apt source of an image: an archive by its key, not by its host."""

    archive: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    keyring: str
    vendor: VendorArchive | None = None

    @property
    def flat(self) -> bool:
        """Whether the archive has no suites, as NVIDIA's: its one suite is `./`."""
        return self.suites == ("./",)


_LABELS = {
    ("Debian", "Debian"): "debian",
    ("Debian", "Debian Backports"): "debian",
    ("Debian", "Debian-Security"): "debian-security",
    ("Ubuntu", "Ubuntu"): "ubuntu",
}
"""Archives by Origin and Label of their Release files
(https://wiki.debian.org/DebianRepository/Format)."""

_DEBIAN_COMPONENTS = ("main", "contrib", "non-free", "non-free-firmware")
_UBUNTU_COMPONENTS = ("main", "restricted", "universe", "multiverse")


def sources(
    distribution: str,
    release: str,
    *,
    backports: bool,
    vendors: Sequence[VendorArchive] = (),
) -> list[Source]:
    """Return the archives and suites from which an image of the release is resolved."""
    if distribution == "debian":
        suites: tuple[str, ...] = (release, f"{release}-updates")
        if backports:
            suites += (f"{release}-backports",)
        archives = [
            Source("debian", suites, _DEBIAN_COMPONENTS, "debian-archive-keyring"),
            Source(
                "debian-security",
                (f"{release}-security",),
                _DEBIAN_COMPONENTS,
                "debian-archive-keyring",
            ),
        ]
    else:
        suites = (release, f"{release}-updates", f"{release}-security")
        archives = [Source("ubuntu", suites, _UBUNTU_COMPONENTS, "ubuntu-archive-keyring")]
    for vendor in vendors:
        suites, key = vendor.suites or ("./",), f"golden-{vendor.name}"
        archives.append(Source(vendor.name, suites, vendor.components, key, vendor))
    return archives


# APT_CONFIG is the key of the cache only: another configuration has other sources.
@cache
def _configured(_configuration: str | None) -> dict[str, str]:
    text = shell.output(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(ORIGIN)|$(LABEL)|$(REPO_URI)",
            "Created-By: Packages",
        ]
    )
    uris: dict[str, str] = {}
    for line in text.splitlines():
        origin, label, uri = line.split("|", 2)
        archive = _LABELS.get((origin, label))
        if archive:
            uris.setdefault(archive, uri.rstrip("/"))
    return uris


def variable(archive: str) -> str:
    """Return the environment variable that overrides the address of `archive`."""
    return "GOLDEN_MIRROR_" + re.sub("[^A-Z0-9]", "_", archive.upper())


def locate(archives: Sequence[str], vendors: Sequence[VendorArchive] = ()) -> dict[str, str]:
    """Return the base URI of each archive, from the environment, this machine's apt sources or
    `vendors`. Raises Unreachable with the first archive that has none."""
    configured = {vendor.name: vendor.uri for vendor in vendors}
    configured |= _configured(os.environ.get("APT_CONFIG"))
    uris: dict[str, str] = {}
    for archive in archives:
        uri = os.environ.get(variable(archive)) or configured.get(archive)
        if not uri and "://" in archive:
            uri = archive
        if not uri:
            raise Unreachable(
                f"no mirror of the archive `{archive}` is known: this machine's apt sources have "
                "none",
                hint=f"set {variable(archive)} to the mirror's URI, or run `apt-get update` after "
                "adding it to apt",
            )
        uris[archive] = uri.rstrip("/")
    return uris


class Refused(Unreachable):
    """A server wants another login (401), or refuses what was asked for to this one (403)."""


REFUSALS = (401, 403)
"""HTTP's answers that become Refused."""


def refused(message: str, *, has_login: bool) -> Refused:
    """Return the error of a server that refuses what `message` says, with where a login is set."""
    if has_login:
        return Refused(
            message,
            hint="its login is wrong, or may not read this: correct the environment variable that "
            "`login` names, or that of a mirror in its address",
        )
    return Refused(
        message,
        hint="its login is missing: write `login: NAME` beside the address, and set NAME to "
        "`user:password` in the environment; a mirror's stands in its address",
    )


class NoLogin(BadInput):
    """The environment does not hold a login that a definition or a role names."""


def login(name: str, variable: str | None) -> tuple[str, str]:
    """Return user and password from the environment's `variable`, or two "" if that is None. Raises
    NoLogin, which names the archive `name`, if it is not set or apt could not parse it."""
    if variable is None:
        return "", ""
    user, colon, password = os.environ.get(variable, "").partition(":")
    # apt_auth.conf(5) has no quotes: a login with a space would be cut.
    if not user or not colon or len(f"{user}:{password}".split()) != 1:
        raise NoLogin(
            f"the login of `{name}` is missing: {variable} does not hold `user:password`",
            hint=f"set {variable} in the environment; no file needs it",
        )
    return user, password


def logged_in(address: str, name: str, variable: str | None) -> str:
    """Return `address` with the login from `variable`, to download from. Never show it."""
    user, password = (quote(part, safe="") for part in login(name, variable))
    scheme, _, rest = address.partition("://")
    if not user:
        return address
    return f"{scheme}://{user}:{password}@{rest}"


def with_logins(uris: Mapping[str, str], vendors: Sequence[VendorArchive]) -> dict[str, str]:
    """Return the addresses with the logins that `vendors` name, to download from. Never show
    them."""
    variables = {vendor.name: vendor.login for vendor in vendors}
    return {name: logged_in(uri, name, variables.get(name)) for name, uri in uris.items()}


@cache
def _proxy_settings(_configuration: str | None) -> dict[str, str]:
    text = shell.output(
        ["apt-config", "dump", "--format", "%f=%v%n", "Acquire::http", "Acquire::https"]
    )
    pairs = (line.partition("=") for line in text.splitlines() if "::proxy" in line.lower())
    return {name: value for name, _, value in pairs if value}


def way_settings() -> dict[str, str]:
    """Return apt's settings of the way to mirrors: those of proxies, and the authorities of https
    that SSL_CERT_FILE names."""
    settings = proxy_settings()
    # An apt with OpenSSL reads the variable by itself, as other programs do; one with GnuTLS does
    # not.
    if trusted := os.environ.get("SSL_CERT_FILE"):
        settings = {**settings, "Acquire::https::CaInfo": trusted}
    return settings


def proxy_settings() -> dict[str, str]:
    """Return apt's settings of proxies: `Acquire::http::Proxy`, `Acquire::http::Proxy::<host>` and
    so on."""
    return _proxy_settings(os.environ.get("APT_CONFIG"))


def proxy(url: str) -> str | None:
    """Return the proxy through which apt would fetch `url`, or None. The order of the settings is
    that of apt-transport-http(1)."""
    scheme, host = urlsplit(url).scheme, urlsplit(url).hostname or ""
    if proxy_bypass(host):  # no_proxy
        return None
    address = _proxy_setting(scheme, f"proxy::{host}")
    if not address and (program := _proxy_setting(scheme, "proxy-auto-detect")):
        address = _detected(program, f"{scheme}://{host}/")
    address = address or _proxy_setting(scheme, "proxy") or os.environ.get(f"{scheme}_proxy", "")
    if address.upper() in ("", "DIRECT"):
        return None
    return address


def _proxy_setting(scheme: str, name: str) -> str:
    """Return the value of apt's setting, or "". Settings of https fall back to those of http."""
    settings = {key.lower(): value for key, value in proxy_settings().items()}
    for level in (scheme, "http"):
        if value := settings.get(f"acquire::{level}::{name}"):
            return value
    return ""


@cache
def _detected(program: str, url: str) -> str:
    """Return the output of apt's program for detecting proxies, called once for each host."""
    return shell.output([program, url]).strip()


def keyring(name: str) -> Path:
    """Return a distribution's archive keyring. Raises HostNotReady if it is not installed."""
    if path := installed_keyring(name):
        return path
    raise HostNotReady(
        f"the keyring {name} is not installed ({_keyrings(name)[0]})",
        hint=f"run `make setup`, or set {keyring_variable(name)}",
    )


def installed_keyring(name: str) -> Path | None:
    """Return the keyring that the environment names or this machine has, or None."""
    return next((path for path in _keyrings(name) if path.is_file()), None)


def keyring_variable(name: str) -> str:
    """Return the environment variable that overrides the keyring's path."""
    return f"GOLDEN_KEYRING_{name.upper().replace('-', '_')}"


def _keyrings(name: str) -> list[Path]:
    # Newer releases of keyring packages end in .pgp, older ones in .gpg.
    override = os.environ.get(keyring_variable(name))
    if override:
        return [Path(override)]
    return [KEYRINGS / f"{name}{suffix}" for suffix in (".pgp", ".gpg", ".asc")]
