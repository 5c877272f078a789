"""Checks of what a company adds by `customize`, `downloads` and the kernel's command line: mistakes
that a bake would find after minutes, or an instance after its boot."""

from __future__ import annotations

import json
import locale
import re
import tomllib
import zoneinfo
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from debian.deb822 import Deb822

from goldenami.core import clock, shell, yaml_lines
from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import Key, YamlFile, dotted, nearest
from goldenami.model.definitions.definition import Definition
from goldenami.model.definitions.source_checks import ROLE
from goldenami.model.roles import role_order

FILES = f"roles/{ROLE}/files"
"""Folder of a repository's files. A lock has the digests of those that its definition names."""
_AT = ("roles", ROLE)
_ROWS, _UNITS = "customize_files", r"service|socket|timer|path|mount|automount|target|slice|swap"
_NO_FILE = r"0{64}|e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""Digests that people write until they know the right one: zeros, and that of an empty file."""
_NO_PORT = r":(0|\d{6,}|[7-9]\d{4}|6[6-9]\d{3}|65[6-9]\d\d|655[4-9]\d|6553[6-9])(/|$)"
_SYSTEM = r"^(daemon|bin|sys|sync|games|man|lp|mail|news|proxy|www-data|backup|list|nobody|_.*)$"
_REFUSED = (
    ("downloads.sha256|kernel_modules.source.sha256", _NO_FILE, "is the digest of no file"),
    ("customize_no_proxy", "://", "is an address: name the host alone"),
    ("customize_(proxy|.*mirror|pip_index_url)", _NO_PORT, "has a port that is none"),
    ("customize_units.*", rf"\.(?!({_UNITS})$)[a-z]{{4,9}}$", "is no kind of unit"),
    ("customize_users.name", _SYSTEM, "is an account of the distribution"),
    ("customize_users.ssh_keys", "^ssh-dss ", "is of the kind DSA, which sshd refuses"),
)
"""Keys, what their values must not have, and why. Keys are without `roles`, role and numbers."""
_ROOTS = r"^/(etc/(sudoers|cron|systemd)|(usr/)?lib/systemd)\S* "
"""Files that only root may write, since root runs what they say."""
_PROGRAMS = r"^(/etc/cron\.\w+ly|(/usr(/local)?)?/s?bin)/"
_REFUSED_FILES = (
    ("path", r"^\S*(/\.{1,2}/|//|\*)", "is no plain path"),
    ("path", "^/(dev|proc|sys|tmp|var/tmp)/", "is in no image: each boot empties that folder"),
    ("path", r"^/etc/(sudoers\.d|cron\.\w+)/\S*[.~]", "is skipped by sudo and cron: no dot, no ~"),
    ("owner", rf"{_ROOTS}(?!root )", "has to be root's"),
    ("mode", r" [2-7]\d{3}$", "is text, which Linux does not run as its owner"),
    ("mode", r" \d{3}[2367]$", "is everybody's to write"),
    ("mode", rf"{_ROOTS}\S+ \d\d[2367]\d$", "is its group's to write"),
    ("mode", rf"{_PROGRAMS}\S+ \S+ \d[0246]\d\d$", "is nobody's to run: write 0755"),
)
"""Fields of a file, what `PATH OWNER MODE` must not have, and why."""
_PRIVATE = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY|AGE-SECRET-KEY-1|PuTTY-User-Key-File")
_APT_LINE = re.compile(r"(deb(-src)?\s+(\[[^]]*\]\s+)?\w+:\S+\s+\S+(\s.*|/))?(#.*)?")
_NO_DEB = re.compile(r"\.(rpm|apk|zip|tar|tgz|gz|xz|zst|bz2|sh|run|whl|exe|msi|dmg)$")
_ACCOUNTS = Path("/usr/share/base-passwd")
"""Users and groups of the distribution, by the package that each machine has."""
_MORE_ACCOUNTS = (
    "_apt _chrony _ssh crontab docker input kvm messagebus netdev render sgx sshd systemd-journal "
    "systemd-network systemd-resolve systemd-timesync"
)


def named_files(definition: Definition) -> list[str]:
    """Return the paths below FILES that a definition names."""
    settings = definition.variables(ROLE)
    sources = [row["source"] for row in settings.get(_ROWS) or []]
    return sorted({*sources, *(settings.get("customize_ca_certificates") or [])})


def mistakes(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """Yield the mistakes, each with its line in `source`. The values have the right types."""
    settings = {name: value for name, value in definition.variables(ROLE).items() if value}
    texts = dict[str, str]()
    for index, row in enumerate(settings.get(_ROWS, [])):
        key: Key = (*_AT, _ROWS, index)
        content, problem = _read(root, row["source"])
        if problem := problem or _unfit(content):
            yield source.error((*key, "source"), f"`{row['source']}` {problem}")
            continue
        texts[row["path"]] = text = content.decode()
        if problem := _unread(root / FILES / row["source"], row["path"], text):
            yield source.error((*key, "source"), f"`{FILES}/{row['source']}` {problem}")
        subject = f"{row['path']} {row.get('owner') or 'root'} {row.get('mode') or '0644'}"
        for field, pattern, problem in _REFUSED_FILES:
            if re.search(pattern, subject):
                yield source.error((*key, field), f"`{row['path']}` {problem}")
    for index, name in enumerate(settings.get("customize_ca_certificates", [])):
        content, problem = _read(root, name)
        if problem := problem or _no_authority(content):
            yield source.error((*_AT, "customize_ca_certificates", index), f"`{name}` {problem}")
    for name, value in settings.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            yield from source.repeated((*_AT, name), value)
    yield from _values(source, _known(definition, settings))
    yield from _places(source, definition)
    yield from _units(source, settings, texts)


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


def _unfit(content: bytes) -> str:
    if _PRIVATE.search(content):
        return "holds a private key, which everybody on an instance could take"
    with suppress(UnicodeDecodeError):
        if "\0" not in content.decode():
            return ""
    return "is no text: bring programs as a package"


def _no_authority(content: bytes) -> str:
    if b"PRIVATE KEY" in content:
        return "holds a private key: take the certificate alone"
    try:
        certificates = x509.load_pem_x509_certificates(content)
    except ValueError:
        return "is no certificate in PEM: it begins with -----BEGIN CERTIFICATE-----"
    if len(certificates) != 1:
        return f"holds {len(certificates)} certificates: write each to a file of its own"
    is_authority = certificates[0].issuer == certificates[0].subject  # roots of old say no more
    with suppress(x509.ExtensionNotFound):
        extensions = certificates[0].extensions
        is_authority = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    if not is_authority:
        return "is no authority's: take the certificate of its issuer"
    ends = certificates[0].not_valid_after_utc
    return f"expired on {ends:%Y-%m-%d}: ask for its successor" if ends < clock.now() else ""


def _unread(file: Path, path: str, text: str) -> str:
    """Return why what reads `path` would refuse the `text` of `file`, or ""."""
    if "\r\n" in text and (text.startswith("#!") or re.match(_ROOTS, f"{path} ")):
        return "has the line ends of Windows (CRLF)"
    unit = re.match(r"/etc/systemd/system/[^/]+\.(service|socket|timer|path)$", path)
    if unit and (section := f"[{unit[1].capitalize()}]") not in text:
        return f"has no section {section}"
    try:
        if path.startswith("/etc/sudoers"):
            shell.output([shell.require("visudo", "sudo"), "-c", "-f", str(file)])
        elif path.startswith("/etc/apt/sources.list.d/"):
            return _no_sources(path, text)
        elif path.endswith(".json"):
            json.loads(text)
        elif path.endswith(".toml"):
            tomllib.loads(text)
        elif path.endswith((".yaml", ".yml")):
            list(yaml.compose_all(text, yaml_lines.LOADER))
    except shell.CommandFailed as error:
        found = re.search(r":(\d+)(?::\d+)?: (.*)", error.output)
        return f"line {found[1]}: {found[2]}" if found else f"is refused by visudo: {error.tail}"
    except (ValueError, yaml.YAMLError) as error:
        return f"is no {path.rpartition('.')[2].upper()}: {' '.join(str(error).split())}"
    return ""


def _no_sources(path: str, text: str) -> str:
    for number, line in enumerate(text.splitlines() if path.endswith(".list") else [], 1):
        if not _APT_LINE.fullmatch(line.strip()):
            return f"line {number} is no `deb [signed-by=KEY] ADDRESS SUITE COMPONENT`"
    blocks = Deb822.iter_paragraphs(text, use_apt_pkg=False) if path.endswith(".sources") else []
    for block in blocks:
        if missing := {"Types", "URIs", "Suites"} - set(block):
            return f"has a block without `{min(missing)}:`"
    return ""


def _known(definition: Definition, settings: dict[str, Any]) -> dict[str, Collection[str]]:
    """Return the words that a key may have, by key, where no bake is needed to know them."""
    # Python's table has all of glibc's.
    locales = {f"{name.partition('.')[0]}.UTF-8" for name in locale.locale_alias.values()}
    known: dict[str, Collection[str]] = {"customize_locale": locales}
    if zones := zoneinfo.available_timezones():  # this machine's, which may have none
        known["customize_timezone"] = zones
    # Packages and roles of others bring accounts.
    is_more = any(download.install for download in definition.downloads)
    is_more |= "customize_packages" in settings
    if is_more or {*definition.roles} - {*role_order.ROLE_ORDER}:
        return known
    own = [*settings.get("customize_groups", []), *_MORE_ACCOUNTS.split()]
    own += [user["name"] for user in settings.get("customize_users", [])]
    for key, kind in (("customize_files.owner", "passwd"), ("customize_users.groups", "group")):
        text = (_ACCOUNTS / f"{kind}.master").read_text(encoding="utf-8")
        known[key] = [*own, *(line.partition(":")[0] for line in text.splitlines())]
    return known


def _values(source: YamlFile, known: dict[str, Collection[str]]) -> Iterator[BadInput]:
    for key, value in yaml_lines.leaves(source.data):
        name = re.sub(rf"\.\d+|^roles\.({ROLE}\.)?", "", dotted(key))
        for where, pattern, problem in _REFUSED:
            if re.fullmatch(where, name) and re.search(pattern, str(value)):
                yield source.error(key, f"`{value}` {problem}")
        if name in known and value and value not in known[name]:
            yield source.error(key, f"unknown value `{value}`; {nearest(str(value), known[name])}")
        if name == "customize_users.ssh_keys" and _is_damaged(str(value)):
            yield source.error(key, "is damaged: take the whole line of the file `*.pub`")


def _is_damaged(line: str) -> bool:
    with suppress(UnsupportedAlgorithm):
        try:
            # The role refuses other forms.
            if found := re.search(r"(ssh-(?!dss)|ecdsa-|sk-)\S+ \S+", line):
                load_ssh_public_key(found[0].encode())
        except ValueError:
            return True
    return False


def _places(source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """Yield an error for what comes twice, lies below a file, or is no package."""
    rows = definition.variables(ROLE).get(_ROWS) or []
    brought = [download.path for download in definition.downloads if download.path]
    paths = [*brought, *(row["path"] for row in rows)]
    for index, row in enumerate(rows):
        key, path = (*_AT, _ROWS, index, "path"), row["path"]
        if path in paths[: len(brought) + index]:
            yield source.error(key, f"`{path}` is given twice")
        for above in paths:
            if path.startswith(f"{above}/"):
                yield source.error(key, f"`{path}` lies below `{above}`, which is a file")
    for index, download in enumerate(definition.downloads):
        if download.install and _NO_DEB.search(download.name):
            problem = f"`{download.name}` is no .deb: write `unpack` or `path`"
            yield source.error(("downloads", index, "install"), problem)
    for index, user in enumerate(definition.variables(ROLE).get("customize_users") or []):
        at: Key = (*_AT, "customize_users", index, "ssh_keys")
        yield from source.repeated(at, user.get("ssh_keys") or [])


def _units(source: YamlFile, settings: dict[str, Any], texts: dict[str, str]) -> Iterator[BadInput]:
    enabled = settings.get("customize_units_enabled", [])
    disabled = settings.get("customize_units_disabled", [])
    for index, unit in enumerate(disabled):
        if unit in enabled:
            key: Key = (*_AT, "customize_units_disabled", index)
            yield source.error(key, f"`{unit}` is in customize_units_enabled, too")
    for index, row in enumerate(settings.get(_ROWS, [])):
        folder, _, unit = row["path"].rpartition("/")
        # Instances of a template have names of their own.
        if folder != "/etc/systemd/system" or "@" in unit or row["path"] not in texts:
            continue
        is_named = not {unit, unit.removesuffix(".service")}.isdisjoint([*enabled, *disabled])
        if is_named != ("[Install]" in texts[row["path"]]):
            problem = "has no section [Install]: nothing can turn it on"
            if not is_named:
                problem = "is turned on by nothing: name it in customize_units_enabled or _disabled"
            yield source.error((*_AT, _ROWS, index, "path"), f"`{unit}` {problem}")
