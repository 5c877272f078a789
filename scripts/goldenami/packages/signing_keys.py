"""Keys of vendors' archives, believed only by the fingerprint that a role or definition states."""

from __future__ import annotations

import base64
import re
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from goldenami.core import records, shell
from goldenami.core.errors import Unreachable
from goldenami.packages import http_documents, mirrors
from goldenami.packages.mirrors import Source, VendorArchive

LIMIT = 1 << 20
"""Bytes that a key may have: NVIDIA's have 1.7 KB."""


class OtherKey(Unreachable):
    """A key that has not the fingerprint that somebody states."""


def keyring(source: Source, uri: str, folder: Path) -> Path:
    """The file with which apt checks `source`. A vendor's key is one that this machine has as a
    keyring, else the one beside the index, kept in `folder`; Unreachable where it has not exactly
    the vendor's fingerprint."""
    vendor = source.vendor
    if vendor is None:
        return mirrors.keyring(source.keyring)
    if installed := mirrors.installed_keyring(source.keyring):
        _demand(
            vendor, installed.read_bytes(), str(installed), mirrors.keyring_variable(source.keyring)
        )
        return installed
    kept = folder / f"{vendor.name}.asc"
    if not kept.is_file() or fingerprints(kept.read_bytes()) != [vendor.fingerprint]:
        where = vendor.key if _is_whole(vendor.key) else f"{uri}/{vendor.key}"
        data = http_documents.read(_with_login(where, uri, vendor), limit=LIMIT).data
        _demand(vendor, data, where, mirrors.variable(vendor.name))
        records.write_text(kept, armored(data))  # apt takes .asc for armored text
    return kept


def _is_whole(key: str) -> bool:
    return "://" in key or key.startswith("/")


def _with_login(where: str, uri: str, vendor: VendorArchive) -> str:
    """With the repository's login where it is on the same server."""
    if urlsplit(where)[:2] != urlsplit(uri)[:2]:
        return where
    return mirrors.logged_in(where, vendor.name, vendor.login)


def armored(data: bytes) -> str:
    """As text, whichever of its two forms `data` has (RFC 9580, 6.2)."""
    if data.startswith(b"-----BEGIN"):
        return data.decode("ascii")
    return (
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n"
        + base64.encodebytes(data).decode("ascii")
        + "-----END PGP PUBLIC KEY BLOCK-----\n"
    )


def _demand(vendor: VendorArchive, data: bytes, where: str, variable: str) -> None:
    """One file could hold several keys, and apt would trust them all: so exactly one, the
    vendor's."""
    if (found := fingerprints(data)) != [vendor.fingerprint]:
        raise OtherKey(
            f"the key of the archive `{vendor.name}` is {' and '.join(found) or 'no key at all'}, "
            f"not {vendor.fingerprint} ({where})",
            hint=f"do not trust this source: check {variable}; if the vendor announced a new key, "
            "change the fingerprint",
        )


def demand_signature(file: Path, signature: bytes, key: bytes, fingerprint: str) -> None:
    """OtherKey where `key` has another fingerprint, or did not make the detached `signature`."""
    if (found := fingerprints(key)) != [fingerprint]:
        raise OtherKey(
            f"the key is {' and '.join(found) or 'no key at all'}, not {fingerprint}",
            hint="do not trust this file, unless the vendor announced a new key",
        )
    with tempfile.TemporaryDirectory(prefix="golden-gpg-") as home:
        for name, data in (("key", key), ("signature", signature)):
            (Path(home) / name).write_bytes(data)
        gpg = ["gpg", "--batch", "--quiet", "--no-autostart", "--trust-model", "always"]
        shell.output([*gpg, "--import", f"{home}/key"], env={"GNUPGHOME": home})
        told = shell.output(
            [*gpg, "--status-fd", "1", "--verify", f"{home}/signature", str(file)],
            env={"GNUPGHOME": home},
            check=False,
        )
    # VALIDSIG names the key that signed, and last the primary one that it belongs to.
    if not re.search(rf"^\[GNUPG:\] VALIDSIG .*\b{fingerprint}$", told, re.MULTILINE):
        raise OtherKey(
            f"the signature is none of this file by {fingerprint}",
            hint="do not trust this file: somebody replaced it, or its signature",
        )


def fingerprints(data: bytes) -> list[str]:
    """Of the primary keys in `data`, armored or not; none where it is no key."""
    with tempfile.TemporaryDirectory(prefix="golden-gpg-") as home:
        path = Path(home) / "key"
        path.write_bytes(data)
        text = shell.output(
            ["gpg", "--batch", "--quiet", "--with-colons", "--show-keys", str(path)],
            env={"GNUPGHOME": home},
            check=False,
        )
    found, primary = list[str](), False
    for line in text.splitlines():
        fields = line.split(":")
        primary = primary or fields[0] == "pub"
        if fields[0] == "fpr" and primary:
            found.append(fields[9])
            primary = False
    return found
