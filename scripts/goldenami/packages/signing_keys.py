"""Signing keys of vendors' archives. A key is trusted only if it has the fingerprint that a role or
a definition states."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from goldenami.core import process, records, shell
from goldenami.core.errors import Unreachable
from goldenami.packages import http_documents, mirrors
from goldenami.packages.mirrors import Source, VendorArchive

LIMIT = 1 << 20
"""Largest size of a key file in bytes. NVIDIA's keys have 1.7 KB."""


class OtherKey(Unreachable):
    """A key does not have the stated fingerprint, or did not make a signature."""


def keyring(source: Source, uri: str, folder: Path) -> Path:
    """Return the key file with which apt checks `source`, whose index is at `uri`. A vendor's key
    is a keyring of this machine, else it is downloaded once to `folder`. Raises OtherKey if the
    file does not hold exactly the key with the vendor's fingerprint."""
    vendor = source.vendor
    if vendor is None:
        return mirrors.keyring(source.keyring)
    if installed := mirrors.installed_keyring(source.keyring):
        _demand(
            vendor, installed.read_bytes(), str(installed), mirrors.keyring_variable(source.keyring)
        )
        return installed
    cached = folder / f"{vendor.name}.asc"
    if not cached.is_file() or not _are_stated(
        fingerprints(cached.read_bytes()), vendor.fingerprint
    ):
        where = vendor.key
        if not _is_whole(where):
            where = f"{uri}/{where}"
        data = http_documents.read(_with_login(where, uri, vendor), limit=LIMIT).data
        _demand(vendor, data, where, mirrors.variable(vendor.name))
        records.write_text(cached, armored(data))  # apt takes .asc for armored text
    return cached


def forget(sources: Iterable[Source], folder: Path) -> None:
    """Remove the downloaded keys of `sources` from `folder`, so that `keyring` fetches them
    anew."""
    for source in sources:
        (folder / f"{source.archive}.asc").unlink(missing_ok=True)


def unknown(source: Source, message: str) -> OtherKey:
    """Return the error of an index that a key signed which the keyring of `source` lacks; `message`
    names that key."""
    if source.vendor is None:
        return OtherKey(
            message,
            hint=f"install a newer {source.keyring}, or set "
            f"{mirrors.keyring_variable(source.keyring)}",
        )
    stated = source.vendor.fingerprint
    return OtherKey(
        f"{message} The archive `{source.archive}` states {' or '.join(stated)}, which is what "
        f"{source.vendor.key} has",
        hint="do not trust this source, unless its vendor's page announces the new key: then write "
        f"`fingerprint: [{stated[0]}, NEW]`, and where the new key is",
    )


def _are_stated(key_fingerprints: list[str], stated: Sequence[str]) -> bool:
    # apt would trust all keys of a file, so one that is not stated is refused, too.
    return bool(key_fingerprints) and {*key_fingerprints} <= {*stated}


def _is_whole(key: str) -> bool:
    return "://" in key or key.startswith("/")


def _with_login(where: str, uri: str, vendor: VendorArchive) -> str:
    # A key on another server must not get the repository's login.
    if urlsplit(where)[:2] != urlsplit(uri)[:2]:
        return where
    return mirrors.logged_in(where, vendor.name, vendor.login)


def armored(data: bytes) -> str:
    """Return a key, binary or armored, as armored text (RFC 9580, section 6.2)."""
    if data.startswith(b"-----BEGIN"):
        return data.decode("ascii")
    return (
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n"
        + base64.encodebytes(data).decode("ascii")
        + "-----END PGP PUBLIC KEY BLOCK-----\n"
    )


def _demand(vendor: VendorArchive, data: bytes, where: str, variable: str) -> None:
    """Raise OtherKey unless `data` holds the vendor's key, or both of them, and no other."""
    if not _are_stated(key_fingerprints := fingerprints(data), vendor.fingerprint):
        raise OtherKey(
            f"the key of the archive `{vendor.name}` is "
            f"{' and '.join(key_fingerprints) or 'no key at all'}, "
            f"not {' or '.join(vendor.fingerprint)} ({where})",
            hint=f"do not trust this source: check {variable}; if the vendor announced a new key, "
            f"write `fingerprint: [{vendor.fingerprint[0]}, NEW]` until the old one is gone",
        )


def demand_signature(file: Path, signature: bytes, key: bytes, stated: Sequence[str]) -> str:
    """Return the fingerprint that the detached `signature` of `file` is by. Raises OtherKey if
    `key` holds another one than those `stated`, or did not make it."""
    key_fingerprints, wanted = fingerprints(key), " or ".join(stated)
    if not _are_stated(key_fingerprints, stated):
        raise OtherKey(
            f"the key is {' and '.join(key_fingerprints) or 'no key at all'}, not {wanted}",
            hint="do not trust this file, unless the vendor announced a new key",
        )
    with process.scratch() as home:
        for name, data in (("key", key), ("signature", signature)):
            (Path(home) / name).write_bytes(data)
        gpg = ["gpg", "--batch", "--quiet", "--no-autostart", "--trust-model", "always"]
        shell.output([*gpg, "--import", f"{home}/key"], env={"GNUPGHOME": home})
        status = shell.output(
            [*gpg, "--status-fd", "1", "--verify", f"{home}/signature", str(file)],
            env={"GNUPGHOME": home},
            check=False,
        )
    # VALIDSIG names the signing key first, and last the primary key that it belongs to.
    signer = re.search(r"^\[GNUPG:\] VALIDSIG .*\b([0-9A-F]+)$", status, re.MULTILINE)
    if signer is None or signer[1] not in key_fingerprints:
        raise OtherKey(
            f"the signature is none of this file by {wanted}",
            hint="do not trust this file: somebody replaced it, or its signature",
        )
    return signer[1]


def fingerprints(data: bytes) -> list[str]:
    """Return the fingerprints of the primary keys in `data`, armored or not; [] if there is no
    key."""
    with process.scratch() as home:
        path = Path(home) / "key"
        path.write_bytes(data)
        text = shell.output(
            ["gpg", "--batch", "--quiet", "--with-colons", "--show-keys", str(path)],
            env={"GNUPGHOME": home},
            check=False,
        )
    primary_fingerprints, is_primary = list[str](), False
    for line in text.splitlines():
        fields = line.split(":")
        is_primary = is_primary or fields[0] == "pub"
        # A `fpr` line belongs to the key before it. Those of subkeys are not wanted.
        if fields[0] == "fpr" and is_primary:
            primary_fingerprints.append(fields[9])
            is_primary = False
    return primary_fingerprints
