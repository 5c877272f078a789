"""The files and certificates of the role `customize` are there, and what they are said to be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cryptography import x509

from goldenami.core import clock
from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import YamlFile, nearest
from goldenami.model.definitions.definition import Definition

ROLE = "customize"
FOLDER = f"roles/{ROLE}/files"
"""In the role, so that the lock's digest of it has their bytes."""


def mistakes(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """Each with its line in `source`."""
    given = definition.variables(ROLE)
    for index, row in enumerate(given.get("customize_files") or []):
        content, problem = _read(root, row["source"])
        if not problem and not _is_text(content):
            problem = "is no text: bring programs as a package"
        if problem:
            yield source.error(("roles", ROLE, "customize_files", index, "source"),
                               f"`{row['source']}` {problem}")
    for index, name in enumerate(given.get("customize_ca_certificates") or []):
        content, problem = _read(root, name)
        if problem := problem or _refusal(content):
            yield source.error(("roles", ROLE, "customize_ca_certificates", index),
                               f"`{name}` {problem}")


def _read(root: Path, name: str) -> tuple[bytes, str]:
    """The bytes, or why there are none."""
    folder = (root / FOLDER).resolve()
    path = (folder / name).resolve()
    if not path.is_relative_to(folder):
        return b"", f"leads out of {FOLDER}: put a copy there"
    if not path.is_file():
        known = [str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()]
        return b"", f"is no file of {FOLDER}; {nearest(name, known)}"
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
        found = x509.load_pem_x509_certificates(content)
    except ValueError:
        return "is no certificate in PEM: it begins with -----BEGIN CERTIFICATE-----"
    if len(found) != 1:
        return f"holds {len(found)} certificates: write each to a file of its own"
    ends = found[0].not_valid_after_utc
    return f"expired on {ends:%Y-%m-%d}: ask for its successor" if ends < clock.now() else ""
